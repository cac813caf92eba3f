"""From `kubectl apply` to an answer over HTTP, and what a person sees on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import yaml

from e2e.tests import models
from e2e.tests.kube import Kube, condition, inference_model

if TYPE_CHECKING:
    from e2e.tests.conftest import Perceptron
    from e2e.tests.kube import Object

MODELWRIGHT = Path(sys.executable).with_name("modelwright")


@pytest.fixture(scope="module")
def served(shared_kube: Kube, perceptron: Perceptron) -> Object:
    shared_kube.apply(inference_model("small", perceptron.model, perceptron.data))
    return shared_kube.wait_ready("small")


@pytest.fixture(scope="module")
def url(shared_kube: Kube, served: Object) -> str:
    return f"http://127.0.0.1:{shared_kube.cluster.forward(f'{shared_kube.namespace}/small:80')}"


def test_every_candidate_is_measured_and_judged(served: Object) -> None:
    rows = served["status"]["variants"]
    assert {"fp32"} < {row["name"] for row in rows}
    assert all(row["why"] for row in rows)
    assert [row["verdict"] for row in rows].count("Chosen") + 1 >= 1
    assert served["status"]["serving"][0]["digest"].startswith("sha256:")


def test_kubectl_get_says_what_is_happening(shared_kube: Kube, served: Object) -> None:
    header, line = shared_kube.run("get", "mwm").strip().splitlines()
    assert header.split() == [
        *("NAME", "READY", "REASON", "VARIANT", "SPEEDUP", "DROP", "P99", "REPLICAS", "AGE")
    ]
    assert line.split()[:4] == ["small", "True", "Serving", served["status"]["summary"]["variant"]]
    described = shared_kube.run("describe", "inferencemodel", "small")
    assert "BuildSucceeded" in described
    assert "Serving" in described


def test_the_answer_is_the_models_own(url: str, perceptron: Perceptron) -> None:
    inputs = models.build_inputs(seed=9, rows=4)
    tensor = {"name": "x", "shape": [4, 64], "datatype": "FP32", "data": inputs.ravel().tolist()}
    answer = httpx.post(f"{url}/v2/models/small/infer", json={"inputs": [tensor]}, timeout=30)
    answer.raise_for_status()
    scores = np.array(answer.json()["outputs"][0]["data"]).reshape(4, 10)
    want = models.run(perceptron.content, inputs)
    assert np.abs(scores - want).max() < 0.2 * np.abs(want).max()
    assert answer.headers["modelwright-variant"]


def test_pods_run_locked_down_and_pinned_by_digest(shared_kube: Kube, served: Object) -> None:
    (pod,) = shared_kube.list("pods", "app.kubernetes.io/component=server")
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    images = [volume["image"]["reference"] for volume in spec["volumes"] if "image" in volume]
    assert images == [
        f"{entry['repository']}@{entry['digest']}" for entry in served["status"]["serving"]
    ]


def test_a_hardware_profile_was_found_and_no_probe_is_left(shared_kube: Kube) -> None:
    (profile,) = shared_kube.list("hardwareprofiles")
    assert [node["name"] for node in profile["status"]["nodes"]] == ["n1"]
    probes = shared_kube.run(
        *("get", "pods", "-A", "-l", "app.kubernetes.io/component=probe", "-o", "name")
    )
    assert probes == ""


def test_the_report_opens_from_the_cluster(
    shared_kube: Kube, served: Object, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [
            *(str(MODELWRIGHT), "report", "small", "-n", shared_kube.namespace),
            *("--kubeconfig", str(shared_kube.cluster.kubeconfig)),
            *("--registry", shared_kube.cluster.host_registry, "--html", str(page)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert served["status"]["summary"]["variant"] in done.stdout
    assert "<html" in page.read_text()


def test_the_offline_plan_is_what_stands_in_the_cluster(
    shared_kube: Kube, served: Object, perceptron: Perceptron, tmp_path: Path
) -> None:
    manifest = tmp_path / "model.yaml"
    manifest.write_text(yaml.safe_dump(inference_model("small", perceptron.model, perceptron.data)))
    done = subprocess.run(
        [
            *(str(MODELWRIGHT), "plan", "-f", str(manifest), "-n", shared_kube.namespace),
            *("--diff", "--kubeconfig", str(shared_kube.cluster.kubeconfig)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "# small: nothing changes"


def test_applying_the_same_file_changes_nothing_after_many_reconciles(
    shared_kube: Kube, served: Object, perceptron: Perceptron
) -> None:
    document = inference_model("small", perceptron.model, perceptron.data)
    before = shared_kube.model("small")
    for number in range(100):
        # Each change of a child is a reconcile of its model.
        shared_kube.run("label", "service", "small", f"probe=n{number}", "--overwrite")
    assert shared_kube.apply(document).strip().endswith("unchanged")
    after = shared_kube.model("small")
    assert json.dumps(after["spec"]) == json.dumps(before["spec"])
    assert _stable(after["metadata"]) == _stable(before["metadata"])
    assert condition(after, "Ready") == condition(before, "Ready")


def test_the_server_tells_its_numbers(shared_kube: Kube, served: Object, url: str) -> None:
    port = shared_kube.cluster.forward(f"{shared_kube.namespace}/small:8082")
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    assert "modelwright_" in text
    assert httpx.get(f"{url}/v2/health/ready", timeout=30).status_code == 200


def _stable(metadata: Object) -> Object:
    return {k: v for k, v in metadata.items() if k not in ("resourceVersion", "managedFields")}
