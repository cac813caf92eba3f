"""Pods for tests, in one namespace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2e.cluster.probes import wait_until

if TYPE_CHECKING:
    from e2e.cluster import Cluster

DEADLINE_SECONDS = 180.0
SERVED = "/served"


@dataclass(frozen=True, slots=True)
class Workload:
    cluster: Cluster
    namespace: str
    image: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, input=stdin)

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def serve(
        self, name: str, volume: dict[str, Any], *, deadline: str = "120s", **spec: Any
    ) -> None:
        """Run a web server over a volume, and wait until it is ready."""
        container = {
            "name": "web",
            "image": self.image,
            "args": ["serve", ":8080", SERVED],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            "volumeMounts": [{"name": "served", "mountPath": SERVED, "readOnly": True}],
        }
        self._run(name, container, volumes=[{"name": "served", **volume}], **spec)
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={deadline}")

    def expose(self, name: str) -> None:
        ports = [{"port": 80, "targetPort": 8080}]
        spec = {"selector": {"app": name}, "ports": ports}
        metadata = {"name": name}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def fetch(self, name: str, url: str, **spec: Any) -> tuple[str, str]:
        """Get a URL from a pod; return the pod's phase and what it printed."""
        container = {"name": "web", "image": self.image, "args": ["get", url]}
        self._run(name, container, restartPolicy="Never", **spec)
        wait_until(
            f"pod {name} ended", lambda: self.has_ended(name), deadline_seconds=DEADLINE_SECONDS
        )
        return self.phase(name), self.kubectl("logs", name)

    def phase(self, name: str) -> str:
        return self.kubectl("get", "pod", name, "--output=jsonpath={.status.phase}")

    def has_ended(self, name: str) -> bool:
        return self.phase(name) in ("Succeeded", "Failed")

    def _run(self, name: str, container: dict[str, Any], **spec: Any) -> None:
        account = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {**account, "containers": [container], **spec},
            }
        )
