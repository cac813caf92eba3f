"""What the operator is given to do: models, nodes, and the artifacts that their builds give."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_artifact.attestation import INPUT_PREFIX, OUTPUT_PREFIX, save_arrays
from modelwright_artifact.digests import build_file_entry
from modelwright_artifact.hardware import PROFILES
from modelwright_artifact.manifest import (
    REPORT_FILE,
    Golden,
    Manifest,
    TensorSpec,
    Variant,
    write_json,
    write_manifest,
)
from modelwright_artifact.measurements import Accuracy, Figures, Latency, Recipe, Speedup
from modelwright_artifact.oci import RegistryOptions, build_tag, push_artifact
from modelwright_artifact.report import Candidate, Report, RowCounts
from modelwright_operator.api.inference_model import InferenceModelSpec
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import ProfileView
from modelwright_operator.plan.resolve import resolve_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modelwright_artifact.request import BuildRequest
    from modelwright_operator.settings import Settings

STAGES: Final = Path(__file__).parent / "stages"
# The profile that stages/probe-pods.yaml tells.
PROFILE: Final = next(profile for profile in PROFILES if profile.name == "x86-avx2")
VARIANTS: Final = ("fp32", "static-int8")
_TOOLS: Final = {"modelwright": "0.1.0", "onnxruntime": "1.32.0", "onnx": "1.23.2"}
_MODEL_DIGEST: Final = "a" * 64
_DATA_DIGEST: Final = "b" * 64


@dataclass(frozen=True, slots=True)
class Model:
    """One InferenceModel; its token makes its request unlike all others."""

    namespace: str
    name: str
    token: str

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "model": {"uri": f"oci://registry.example/digits@sha256:{_MODEL_DIGEST}"},
            "evaluation": {
                "uri": f"oci://registry.example/digits-data@sha256:{_DATA_DIGEST}",
                "metric": "Accuracy",
            },
            "rebuildToken": self.token,
        }

    def manifest(self) -> dict[str, Any]:
        return {
            "apiVersion": names.API_VERSION,
            "kind": "InferenceModel",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": self.spec,
        }

    def request(self, settings: Settings) -> BuildRequest:
        """The build request the operator will make of it, by the operator's own code."""
        view = ProfileView(PROFILE.name, PROFILE.architecture, PROFILE.features)
        return resolve_request(InferenceModelSpec.model_validate(self.spec), view, settings)

    def repository(self, settings: Settings) -> str:
        return f"{settings.artifact_repository}/{self.namespace}/{names.child_name(self.name)}"


def build_models(count: int, namespaces: int) -> list[Model]:
    """Spread `count` models over the namespaces in turn."""
    return [
        Model(f"scale-{index % namespaces}", f"digits-{index:04}", f"scale-{index}")
        for index in range(count)
    ]


def build_namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def build_nodes(count: int) -> list[dict[str, Any]]:
    """Nodes that KWOK plays."""
    return [_build_node(f"played-{index}") for index in range(count)]


def build_list(items: Iterable[dict[str, Any]]) -> str:
    """One document for `kubectl apply`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def push_builds(models: Sequence[Model], settings: Settings, scratch: Path) -> dict[str, Any]:
    """Push one artifact per model; returns the last words of each build by ModelBuild name."""
    options = RegistryOptions(insecure_hosts=frozenset(settings.insecure_registries))
    writer = _ArtifactWriter(scratch)
    words = {}
    for model in models:
        request = model.request(settings)
        key = request.key()
        writer.write(request)
        digest = push_artifact(scratch, model.repository(settings), build_tag(key), options)
        words[names.build_name(key)] = {"requestKey": key, "digest": digest, "reused": False}
    return words


def write_stages(folder: Path, words: dict[str, Any]) -> tuple[Path, ...]:
    """Write the stage files with the builds' last words in them."""
    folder.mkdir(parents=True, exist_ok=True)
    results = json.dumps(words, separators=(",", ":"), sort_keys=True)
    written = []
    for stage in sorted(STAGES.glob("*.yaml")):
        comment, _, stages = stage.read_text().partition("apiVersion:")
        path = folder / stage.name
        path.write_text(f"{comment}apiVersion:{stages.replace('RESULTS', results)}")
        written.append(path)
    return tuple(written)


class _ArtifactWriter:
    """Small but whole artifacts; of one to the next only manifest and report change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "golden").mkdir(parents=True)
        (folder / "tensors").mkdir()
        (folder / "tensors" / f"{'d' * 64}.bin").write_bytes(b"weights")
        rows = {"x": np.zeros((2, 3), np.float32)}
        save_arrays(folder / "golden" / "inputs.npz", INPUT_PREFIX, rows)
        for name in VARIANTS:
            (folder / f"{name}.onnx").write_bytes(name.encode())
            save_arrays(folder / "golden" / f"{name}.npz", OUTPUT_PREFIX, rows)
        self._files = {
            path.relative_to(folder).as_posix(): build_file_entry(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def write(self, request: BuildRequest) -> None:
        write_json(self._folder / REPORT_FILE, _build_report(request).to_json())
        write_manifest(self._folder, self._build_manifest(request))

    def _build_manifest(self, request: BuildRequest) -> Manifest:
        return Manifest(
            request_key=request.key(),
            model_digest=request.model.digest,
            inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 3)),),
            outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),),
            profile=PROFILE,
            tools=_TOOLS,
            threads=1,
            chosen=VARIANTS[-1],
            variants=tuple(_build_variant(name) for name in VARIANTS),
            files=self._files,
        )


def _build_variant(name: str) -> Variant:
    golden = Golden(inputs="golden/inputs.npz", outputs=f"golden/{name}.npz", atol=1e-5, rtol=0.0)
    return Variant(
        name=name,
        file=f"{name}.onnx",
        precision=_precision(name),
        recipe=_recipe(name),
        golden=golden,
        figures=_build_figures(name),
    )


def _build_report(request: BuildRequest) -> Report:
    return Report(
        request_key=request.key(),
        model_digest=request.model.digest,
        evaluation_digest=request.evaluation.digest,
        profile=PROFILE,
        chosen=VARIANTS[-1],
        metric=request.metric,
        budget=request.budget,
        variants=(
            _build_candidate("fp32", "Reference", "The model as it came."),
            _build_candidate("static-int8", "Chosen", "Twice as fast inside the budget."),
        ),
        rows=RowCounts(calibration=100, search=100, gate=900),
        noise={},
        start_time="2026-01-02T03:04:05Z",
        duration_seconds=1.0,
        tools=_TOOLS,
        reproduce="modelwright optimize digits.onnx --data digits.npz",
    )


def _build_candidate(name: str, verdict: str, why: str) -> Candidate:
    return Candidate(
        name=name,
        precision=_precision(name),
        recipe=_recipe(name),
        kept=True,
        verdict=verdict,
        why=why,
        figures=_build_figures(name),
    )


def _build_figures(name: str) -> Figures:
    factor = 1.0 if name == "fp32" else 2.0
    p50 = 4200.0 / factor
    return Figures(
        accuracy=Accuracy(
            metric="Accuracy",
            value=98.2,
            reference=98.2,
            rows=900,
            unit="points",
            drop=0.0,
            drop_low=-0.2,
            drop_high=0.4,
        ),
        latency=Latency(p50_micros=p50, p99_micros=p50 * 1.2, mean_micros=p50, rounds=20),
        speedup=Speedup(value=factor, low=factor * 0.95, high=factor * 1.05),
        size_bytes=1000,
        peak_memory_bytes=2000,
    )


def _precision(variant: str) -> str:
    return "fp32" if variant == "fp32" else "int8"


def _recipe(variant: str) -> Recipe:
    return Recipe(name=variant, passes=({"name": "fuse"},))


def _build_node(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
            },
        },
    }
