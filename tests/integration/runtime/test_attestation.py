"""Nothing serves that is not what was built, or that this CPU does not reproduce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import numpy as np
import onnx
import pytest

from modelwright_artifact.attestation import OUTPUT_PREFIX, load_arrays, save_arrays
from modelwright_artifact.hardware import detect
from modelwright_artifact.request import Profile
from tests.integration.runtime import artifacts
from tests.integration.runtime.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

ZEROS = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.0, 0.0, 0.0, 0.0]}]
}


def write_two_variants(folder: Path) -> Path:
    """fp32 and a chosen, faster `biased` whose answers can be told apart."""
    models = {"fp32": artifacts.build_classifier(), "biased": artifacts.build_classifier(bias=5)}
    artifacts.write_classifier(
        folder / "artifact", models=models, chosen="biased", p50_micros={"fp32": 9, "biased": 3}
    )
    return folder / "artifact"


def ask(server: ServerProcess) -> tuple[str, float]:
    """Which variant answers, and its second probability."""
    answer = httpx.post(f"{server.url}/v2/models/model/infer", json=ZEROS, timeout=30)
    assert answer.status_code == 200
    variant = answer.headers["modelwright-variant"]
    assert answer.json()["parameters"]["variant"] == variant
    return variant, answer.json()["outputs"][0]["data"][1]


def damage_golden(artifact: Path, variant: str) -> None:
    """Golden outputs of another machine: honest digests, other values."""
    name = f"golden/{variant}.npz"
    outputs = load_arrays(artifact / name, OUTPUT_PREFIX)
    save_arrays(artifact / "other.npz", OUTPUT_PREFIX, outputs | {"probs": outputs["probs"] + 0.01})
    content = (artifact / "other.npz").read_bytes()
    (artifact / "other.npz").unlink()
    artifacts.replace_file(artifact, name, content)


def test_the_chosen_variant_serves(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, write_two_variants(tmp_path)) as server:
        variant, second = ask(server.wait_ready())
        assert variant == "biased"
        assert second > 0.9
        metrics = server.metrics()
    assert 'attestation_result{model="model",variant="biased",result="passed"} 1' in metrics
    assert 'modelwright_model_info{model="model",variant="biased"' in metrics


def test_a_pinned_variant_serves(tmp_path: Path) -> None:
    arguments = ("--variant", "fp32")
    with ServerProcess(tmp_path, write_two_variants(tmp_path), arguments=arguments) as server:
        variant, second = ask(server.wait_ready())
    assert variant == "fp32"
    assert second == pytest.approx(1 / 3)


def test_a_variant_that_misses_its_golden_outputs_gives_way_to_the_next(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    damage_golden(artifact, "biased")
    with ServerProcess(tmp_path, artifact) as server:
        assert ask(server.wait_ready())[0] == "fp32"
        metrics = server.metrics()
        assert server.stop() == 0
    assert 'attestation_result{model="model",variant="biased",result="failed"} 1' in metrics
    assert 'attestation_result{model="model",variant="fp32",result="passed"} 1' in metrics
    assert "variant biased is not used: Output 'probs' differs" in server.logs()
    assert server.termination_log.read_text() == ""


def test_a_graph_that_is_no_graph_gives_way_to_the_next(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    artifacts.replace_file(artifact, "biased.onnx", b"not a model")
    with ServerProcess(tmp_path, artifact) as server:
        assert ask(server.wait_ready())[0] == "fp32"
    assert "can not load biased.onnx" in server.logs()


def test_foreign_weights_with_honest_digests_are_caught(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    other = artifacts.build_classifier(bias=5.001).SerializeToString()
    artifacts.replace_file(artifact, "biased.onnx", other)
    with ServerProcess(tmp_path, artifact) as server:
        assert ask(server.wait_ready())[0] == "fp32"


def test_when_no_variant_is_attested_the_server_says_so_and_ends(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    damage_golden(artifact, "biased")
    damage_golden(artifact, "fp32")
    with ServerProcess(tmp_path, artifact) as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "AttestationFailed"
    assert "biased, fp32" in server.termination()["message"]
    assert server.termination()["message"] in server.logs()


def test_golden_outputs_that_are_not_there_attest_nothing(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    for variant in ("biased", "fp32"):
        save_arrays(artifact / "empty.npz", OUTPUT_PREFIX, {})
        content = (artifact / "empty.npz").read_bytes()
        (artifact / "empty.npz").unlink()
        artifacts.replace_file(artifact, f"golden/{variant}.npz", content)
    with ServerProcess(tmp_path, artifact) as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "AttestationFailed"


@pytest.mark.parametrize("name", ["fp32.onnx", "biased.onnx", "golden/inputs.npz"])
def test_a_changed_byte_ends_the_start(tmp_path: Path, name: str) -> None:
    artifact = write_two_variants(tmp_path)
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(bytes(content))
    with ServerProcess(tmp_path, artifact) as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "DigestMismatch"
    assert name in server.termination()["message"]


def test_a_missing_or_added_file_ends_the_start(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    (artifact / "golden/fp32.npz").unlink()
    with ServerProcess(tmp_path, artifact) as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "DigestMismatch"
    assert "golden/fp32.npz" in server.termination()["message"]


def test_a_manifest_that_breaks_its_contract_ends_the_start(tmp_path: Path) -> None:
    artifact = write_two_variants(tmp_path)
    document = json.loads((artifact / "manifest.json").read_text())
    (artifact / "manifest.json").write_text(json.dumps(document | {"schemaVersion": 99}))
    with ServerProcess(tmp_path, artifact) as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "ArtifactInvalid"
    assert "schemaVersion" in server.termination()["message"]


def test_no_artifact_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with ServerProcess(tmp_path, tmp_path / "empty") as server:
        assert server.wait_exit() == 2
    assert server.termination()["reason"] == "ArtifactMissing"
    assert str(tmp_path / "empty") in server.termination()["message"]


def test_an_empty_folder_beside_a_good_artifact_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with ServerProcess(tmp_path, tmp_path / "empty", write_two_variants(tmp_path)) as server:
        assert ask(server.wait_ready())[0] == "biased"
    assert "no artifact in" in server.logs()


def test_a_variant_nobody_kept_is_wrong_usage(tmp_path: Path) -> None:
    arguments = ("--variant", "int4")
    with ServerProcess(tmp_path, write_two_variants(tmp_path), arguments=arguments) as server:
        assert server.wait_exit() == 2
    assert "kept are: biased, fp32" in server.termination()["message"]


def test_hardware_decides_between_artifacts_and_variants(tmp_path: Path) -> None:
    here = detect()
    other = "arm64" if here.architecture == "amd64" else "amd64"
    wanted = {
        "best": Profile(
            name="best", architecture=here.architecture, features=("quantum_accelerator",)
        ),
        "own": Profile(name="own", architecture=here.architecture, features=here.features),
        "plain": Profile(name="plain", architecture=here.architecture),
        "other": Profile(name="other", architecture=other),
    }
    for name, profile in wanted.items():
        models = {"fp32": artifacts.build_classifier(), name: artifacts.build_classifier(bias=5)}
        artifacts.write_classifier(tmp_path / name, models=models, chosen=name, profile=profile)
    with ServerProcess(tmp_path, *(tmp_path / name for name in wanted)) as server:
        assert ask(server.wait_ready())[0] == "own"
    with ServerProcess(tmp_path, tmp_path / "best") as server:
        assert ask(server.wait_ready())[0] == "fp32"
    assert "this CPU lacks quantum_accelerator" in server.logs()
    with ServerProcess(tmp_path, tmp_path / "other") as server:
        assert server.wait_exit() == 3
    assert server.termination()["reason"] == "UnsupportedHardware"


def test_a_variant_that_requires_what_this_cpu_lacks_is_not_run(tmp_path: Path) -> None:
    models = {"fp32": artifacts.build_classifier(), "exotic": artifacts.build_classifier(bias=5)}
    artifacts.write_classifier(
        tmp_path / "artifact",
        models=models,
        chosen="exotic",
        requires={"exotic": ("quantum_accelerator",)},
    )
    with ServerProcess(tmp_path, tmp_path / "artifact") as server:
        assert ask(server.wait_ready())[0] == "fp32"
        metrics = server.metrics()
    assert 'attestation_result{model="model",variant="exotic",result="excluded"} 1' in metrics


def test_graphs_of_fixed_rows_are_attested_by_as_many_rows(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    inputs, outputs = (artifacts.spec("x", "FP32", 2, 3),), (artifacts.spec("y", "FP32", 2, 3),)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = artifacts.build_graph([node], inputs, outputs)
    artifacts.write_artifact(
        tmp_path / "artifact",
        {"fp32": graph},
        {"x": rows},
        inputs=inputs,
        outputs=outputs,
    )
    with ServerProcess(tmp_path, tmp_path / "artifact") as server:
        server.wait_ready()
