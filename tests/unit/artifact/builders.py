"""Small valid artifacts, requests and reports for tests of any room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelwright_artifact.attestation import INPUT_PREFIX, OUTPUT_PREFIX, save_arrays
from modelwright_artifact.digests import build_file_entry
from modelwright_artifact.manifest import (
    Golden,
    Manifest,
    TensorSpec,
    Variant,
    write_json,
    write_manifest,
)
from modelwright_artifact.measurements import Figures, Recipe
from modelwright_artifact.request import (
    Budget,
    BuildRequest,
    Metric,
    Profile,
    Resources,
    SourceRef,
)

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'a' * 64}"
OTHER_DIGEST = f"sha256:{'b' * 64}"
KEY = "c" * 64
AVX2 = Profile(name="x86-avx2", architecture="amd64", features=("avx2", "fma"))


def a_request(**changes: object) -> BuildRequest:
    """A valid request, with changes."""
    values: dict[str, object] = {
        "model": SourceRef(uri=f"oci://registry.example/digits@{DIGEST}", digest=DIGEST),
        "evaluation": SourceRef(uri="https://data.example/digits.npz", digest=OTHER_DIGEST),
        "metric": Metric(name="Accuracy"),
        "budget": Budget(type="AbsoluteDrop", value="1.0"),
        "objective": "Latency",
        "techniques": ("Fusion", "StaticInt8", "DynamicInt8"),
        "resources": Resources(cpu="1", memory="1Gi"),
        "profile": AVX2,
    }
    return BuildRequest(**(values | changes))  # type: ignore[arg-type]


def a_variant(name: str, **changes: object) -> Variant:
    """A valid variant whose files are named after it."""
    values: dict[str, object] = {
        "name": name,
        "file": f"{name}.onnx",
        "precision": "fp32" if name == "fp32" else "int8",
        "recipe": Recipe(name=name, passes=({"name": "fuse"},)),
        "golden": Golden(
            inputs="golden/inputs.npz", outputs=f"golden/{name}.npz", atol=1e-5, rtol=0.0
        ),
        "figures": Figures(size_bytes=3),
    }
    return Variant(**(values | changes))  # type: ignore[arg-type]


def write_artifact(
    directory: Path, *, key: str = KEY, names: tuple[str, ...] = ("fp32", "int8"), weights: int = 3
) -> Manifest:
    """Write a consistent artifact whose graphs are not graphs."""
    for folder in ("tensors", "golden"):
        (directory / folder).mkdir(parents=True)
    (directory / "tensors" / f"{'d' * 64}.bin").write_bytes(b"w" * weights)
    rows = {"x": np.zeros((2, 3), np.float32)}
    save_arrays(directory / "golden" / "inputs.npz", INPUT_PREFIX, rows)
    for name in names:
        (directory / f"{name}.onnx").write_bytes(name.encode())
        save_arrays(directory / "golden" / f"{name}.npz", OUTPUT_PREFIX, rows)
    files = {
        path.relative_to(directory).as_posix(): build_file_entry(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    manifest = Manifest(
        request_key=key,
        model_digest=DIGEST,
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),),
        profile=AVX2,
        tools={"modelwright": "0.1.0", "onnxruntime": "1.32.0", "onnx": "1.23.2"},
        threads=1,
        chosen=names[-1],
        variants=tuple(a_variant(name) for name in names),
        files=files,
    )
    write_json(directory / "report.json", {"schemaVersion": 1, "requestKey": key})
    write_manifest(directory, manifest)
    return manifest
