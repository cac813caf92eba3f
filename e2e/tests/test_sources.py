"""Sources on a claim: read only when its owner released it, and only if it is the named file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from e2e.tests import models
from e2e.tests.kube import condition, inference_model

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.tests.conftest import Perceptron
    from e2e.tests.kube import Kube


@pytest.fixture
def claim(kube: Kube, perceptron: Perceptron, tmp_path: Path) -> Path:
    """A volume of this machine that holds the model and its rows, claimed but not released."""
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    (volume / "model.onnx").write_bytes(perceptron.content)
    (volume / "rows.npz").write_bytes(models.build_dataset(perceptron.content, seed=3))
    for folder in (volume, *volume.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": kube.namespace},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "claimRef": {"namespace": kube.namespace, "name": "models"},
                "hostPath": {"path": str(volume)},
            },
        }
    )
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": kube.namespace,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    return volume


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_claim_is_read_only_once_it_is_released(kube: Kube, claim: Path) -> None:
    document = inference_model("claimed", "pvc://models/model.onnx", "pvc://models/rows.npz")
    document["spec"]["model"]["sha256"] = sha256(claim / "model.onnx")
    document["spec"]["evaluation"]["sha256"] = sha256(claim / "rows.npz")
    kube.apply(document)
    refused = kube.wait_reason("claimed", "SourceDenied")
    assert "modelwright.dev/source=true" in condition(refused, "Ready")["message"]

    kube.run("label", "persistentvolumeclaim", "models", "modelwright.dev/source=true")
    kube.wait_ready("claimed")
    kube.run("delete", "inferencemodel", "claimed")
    kube.run("delete", "persistentvolumeclaim", "models", "--wait=false")
    kube.run("delete", "persistentvolume", kube.namespace, "--wait=false")


def test_a_file_that_is_not_the_one_named_is_refused(kube: Kube, claim: Path) -> None:
    kube.run("label", "persistentvolumeclaim", "models", "modelwright.dev/source=true")
    document = inference_model("swapped", "pvc://models/model.onnx", "pvc://models/rows.npz")
    document["spec"]["model"]["sha256"] = "0" * 64
    document["spec"]["evaluation"]["sha256"] = sha256(claim / "rows.npz")
    kube.apply(document)
    model = kube.wait_reason("swapped", "DigestMismatch")
    assert condition(model, "SourceVerified")["status"] == "False"
    kube.run("delete", "inferencemodel", "swapped")
    kube.run("delete", "persistentvolume", kube.namespace, "--wait=false")
