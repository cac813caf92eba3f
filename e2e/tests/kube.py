"""The installed product on the real cluster, as the tests use it: apply, wait, look, ask."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from e2e.cluster import Cluster
    from modelwright_artifact.oci import RegistryOptions

PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.5

Object = dict[str, Any]


class Late(AssertionError):  # noqa: N818 - what a test report should say
    """Something did not happen in time; the message ends with what did."""


@dataclass(frozen=True)
class Kube:
    """One namespace of the cluster."""

    cluster: Cluster
    namespace: str

    def apply(self, document: Mapping[str, Any] | str) -> str:
        """`kubectl apply`; returns what it said.

        Raises:
            ClusterError: the API server refused it.
        """
        text = document if isinstance(document, str) else yaml.safe_dump(dict(document))
        return self.run("apply", "-f", "-", stdin=text)

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """`kubectl` in this namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, input=stdin)

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None."""
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def need(self, kind: str, name: str) -> Object:
        """One object that exists."""
        found = self.get(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """All objects of a kind."""
        options = ("-l", selector) if selector else ()
        items: list[Object] = json.loads(self.run("get", kind, "-o", "json", *options))["items"]
        return items

    def patch(self, kind: str, name: str, changes: Mapping[str, Any]) -> None:
        """A merge patch."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(changes))

    def wait(self, what: str, check: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        """Poll until `check` returns something true, and return that.

        Raises:
            Late: it did not in time; the message holds models, pods and events.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := check():
                return result
            time.sleep(POLL_SECONDS)
        raise Late(f"not in {seconds:.0f} s: {what}\n{self.dump()}")

    def model(self, name: str) -> Object:
        """An InferenceModel that exists."""
        return self.need("inferencemodel", name)

    def wait_ready(self, name: str, seconds: float = PATIENCE_SECONDS) -> Object:
        """Wait until a model is Ready at its current generation."""

        def check() -> Object | None:
            model = self.model(name)
            return model if is_current(model) and status_of(model, "Ready") == "True" else None

        found: Object = self.wait(f"{name} Ready", check, seconds)
        return found

    def wait_reason(self, name: str, reason: str, kind: str = "Ready") -> Object:
        """Wait until a condition of a model has this reason at its current generation."""

        def check() -> Object | None:
            model = self.model(name)
            said = condition(model, kind).get("reason")
            return model if is_current(model) and said == reason else None

        found: Object = self.wait(f"{name} {kind}={reason}", check)
        return found

    def dump(self) -> str:
        """What a person would look at first when something is late."""
        parts = [
            self._try("get", "inferencemodels,modelbuilds,jobs,deployments,pods", "-o", "wide"),
            self._try("get", "events", "--sort-by=.lastTimestamp"),
            self._try(
                "-n", "modelwright-system", "logs", "deploy/modelwright-operator", "--tail=40"
            ),
        ]
        return "\n".join(parts)

    def _try(self, *arguments: str) -> str:
        try:
            return self.run(*arguments)
        except ClusterError as error:
            return str(error)


@dataclass(frozen=True)
class Sources:
    """Publishes models and data as OCI artifacts, and names them as the cluster does."""

    push: str
    pull: str
    options: RegistryOptions
    folder: Path

    def publish(self, name: str, content: bytes, file: str) -> str:
        """Push one file; returns its pinned URI."""
        from samples.publish import push_file

        path = self.folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = push_file(path, f"{self.push}/e2e/{name}", self.options)
        return f"oci://{self.pull}/e2e/{name}@{digest}"


def inference_model(name: str, model: str, data: str, **spec: Any) -> Object:
    """A small InferenceModel with requests that fit two busy cores."""
    resources = {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},
    }
    serving = {"resources": resources, **spec.pop("serving", {})}
    return {
        "apiVersion": "modelwright.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": model},
            "evaluation": {"uri": data, "metric": "Accuracy"},
            "serving": serving,
            **spec,
        },
    }


def condition(model: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition, or nothing."""
    conditions = model.get("status", {}).get("conditions", [])
    found: Mapping[str, Any] = next((item for item in conditions if item["type"] == kind), {})
    return found


def status_of(model: Mapping[str, Any], kind: str) -> str:
    """A condition's status; empty when it is absent."""
    return str(condition(model, kind).get("status", ""))


def is_current(model: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the spec as it is now."""
    observed = model.get("status", {}).get("observedGeneration")
    return bool(observed == model["metadata"]["generation"])
