"""Three servers, handed from us to an autoscaler and back: never fewer, in either direction."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from e2e.tests.kube import condition, inference_model

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.tests.conftest import Perceptron
    from e2e.tests.kube import Kube, Object

SCALING: dict[str, dict[str, Any]] = {
    "fixed": {"minReplicas": 3, "maxReplicas": 3},
    "automatic": {"minReplicas": 3, "maxReplicas": 4, "target": {"cpuUtilizationPercent": 80}},
}


class Watch:
    """Every version of the Deployment that the API server reports, from now on."""

    def __init__(self, kube: Kube, path: Path) -> None:
        self._path = path
        command = [
            *kube.cluster.kubectl_command(),
            *("-n", kube.namespace, "get", "deployment", "small-default", "--watch", "-o", "json"),
        ]
        self._file = path.open("w")
        self._process = subprocess.Popen(command, stdout=self._file, text=True)

    def stop(self) -> list[Object]:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._file.close()
        decoder, text, found = json.JSONDecoder(), self._path.read_text(), []
        while text := text.lstrip():
            try:
                document, end = decoder.raw_decode(text)
            except ValueError:
                break  # the last one, cut off
            found.append(document)
            text = text[end:]
        return found


def small(perceptron: Perceptron, mode: str) -> Object:
    scaling = SCALING[mode]
    document = inference_model("small", perceptron.model, perceptron.data, scaling=scaling)
    document["spec"]["serving"]["resources"]["requests"] = {"cpu": "50m", "memory": "96Mi"}
    return document


def test_the_number_of_servers_never_drops_when_its_owner_changes(
    kube: Kube, perceptron: Perceptron, tmp_path: Path
) -> None:
    kube.apply(small(perceptron, "fixed"))
    kube.wait_ready("small")
    assert kube.need("pdb", "small-default")["spec"]["maxUnavailable"] == 1
    watch = Watch(kube, tmp_path / "watch.json")

    kube.apply(small(perceptron, "automatic"))
    kube.wait_reason("small", "AutoscalerActive", "ScalingReady")
    # As the autoscaler does it: through the scale subresource.
    kube.run("scale", "deployment/small-default", "--replicas=4")
    kube.wait("the operator lets the number go", lambda: not _owns_replicas(kube))
    kube.apply(small(perceptron, "fixed"))
    model = kube.wait_reason("small", "FixedReplicas", "ScalingReady")
    assert condition(model, "ScalingReady")["status"] == "True"
    kube.wait("the autoscaler is gone", lambda: kube.get("hpa", "small-default") is None)
    kube.wait_ready("small")

    single = small(perceptron, "fixed")
    versions = watch.stop()
    assert len(versions) > 3
    assert min(item["spec"]["replicas"] for item in versions) >= 3
    assert min(item["status"].get("availableReplicas", 0) for item in versions) >= 3

    del single["spec"]["scaling"]
    kube.apply(single)
    kube.wait("one server needs no budget", lambda: kube.get("pdb", "small-default") is None)


def _owns_replicas(kube: Kube) -> bool:
    text = kube.run("get", "deployment", "small-default", "-o", "json", "--show-managed-fields")
    fields = json.loads(text)["metadata"]["managedFields"]
    return any(
        entry["manager"] == "modelwright" and "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        for entry in fields
    )
