"""Tiny artifacts for the server's tests, written through the artifact package itself."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from modelwright_artifact.attestation import INPUT_PREFIX, OUTPUT_PREFIX, save_arrays
from modelwright_artifact.digests import build_file_entry
from modelwright_artifact.hardware import detect
from modelwright_artifact.manifest import (
    Golden,
    Manifest,
    TensorSpec,
    Variant,
    load_manifest,
    write_manifest,
)
from modelwright_artifact.measurements import Figures, Latency, Recipe
from modelwright_artifact.request import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

REQUEST_KEY = "0123456789abcdef" * 4
VERSION = REQUEST_KEY[:12]

_ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    shape = [f"d{axis}" if size < 0 else size for axis, size in enumerate(tensor.shape)]
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.datatype], shape)


def build_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [_value_info(one) for one in inputs],
        [_value_info(one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


CLASSIFIER_INPUTS = (spec("x", "FP32", -1, 4),)
CLASSIFIER_OUTPUTS = (spec("probs", "FP32", -1, 3), spec("label", "INT64", -1))
CLASSIFIER_WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def build_classifier(bias: float = 0.0) -> onnx.ModelProto:
    """4 numbers in, softmax of 3 classes and their argmax out."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=-1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=-1, keepdims=0),
    ]
    weights: dict[str, NDArray[Any]] = {
        "w": CLASSIFIER_WEIGHTS,
        "b": np.array([0, bias, 0], np.float32),
    }
    return build_graph(nodes, CLASSIFIER_INPUTS, CLASSIFIER_OUTPUTS, weights)


def build_echo(datatypes: Sequence[str]) -> tuple[onnx.ModelProto, tuple[TensorSpec, ...]]:
    """Every datatype straight through: input `in_x` to output `out_x`."""
    inputs = tuple(spec(f"in_{one.lower()}", one, -1, -1) for one in datatypes)
    outputs = tuple(spec(f"out_{one.lower()}", one, -1, -1) for one in datatypes)
    nodes = [
        helper.make_node("Identity", [one.name], [two.name])
        for one, two in zip(inputs, outputs, strict=True)
    ]
    return build_graph(nodes, inputs, outputs), (*inputs, *outputs)


def build_slow(steps: int, size: int) -> onnx.ModelProto:
    """A chain of matrix products that keeps a CPU busy for a while: x [-1, size] to y."""
    weights = {"w": np.eye(size, dtype=np.float32)}
    names = ["x", *(f"h{step}" for step in range(steps - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[step], "w"], [names[step + 1]]) for step in range(steps)
    ]
    return build_graph(nodes, [spec("x", "FP32", -1, size)], [spec("y", "FP32", -1, size)], weights)


def write_artifact(
    directory: Path,
    models: Mapping[str, onnx.ModelProto],
    golden_inputs: Mapping[str, NDArray[Any]],
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    chosen: str = "fp32",
    profile: Profile | None = None,
    requires: Mapping[str, tuple[str, ...]] | None = None,
    p50_micros: Mapping[str, float] | None = None,
) -> Manifest:
    """An artifact of these variants whose golden outputs are what ONNX Runtime gives here."""
    (directory / "golden").mkdir(parents=True)
    save_arrays(directory / "golden/inputs.npz", INPUT_PREFIX, _plain(golden_inputs))
    variants = []
    for name, model in models.items():
        onnx.save(model, directory / f"{name}.onnx")
        golden = _run(model, golden_inputs)
        save_arrays(directory / f"golden/{name}.npz", OUTPUT_PREFIX, _plain(golden))
        micros = (p50_micros or {}).get(name)
        variants.append(
            Variant(
                name=name,
                file=f"{name}.onnx",
                precision="fp32",
                recipe=Recipe(name=name, passes=()),
                requires=(requires or {}).get(name, ()),
                figures=Figures(
                    latency=None
                    if micros is None
                    else Latency(p50_micros=micros, p99_micros=micros, mean_micros=micros, rounds=1)
                ),
                golden=Golden(
                    inputs="golden/inputs.npz",
                    outputs=f"golden/{name}.npz",
                    atol=1e-6,
                    rtol=1e-5,
                ),
            )
        )
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = Manifest(
        request_key=REQUEST_KEY,
        model_digest=f"sha256:{'0' * 64}",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        profile=profile or Profile(name="test", architecture=detect().architecture),
        tools={"modelwright": "test"},
        threads=1,
        chosen=chosen,
        variants=tuple(variants),
        files={path.relative_to(directory).as_posix(): build_file_entry(path) for path in files},
    )
    write_manifest(directory, manifest)
    return load_manifest(directory)


def write_classifier(directory: Path, **settings: Any) -> Manifest:
    """The classifier as `fp32` (and any `models` given instead)."""
    models = settings.pop("models", None) or {"fp32": build_classifier()}
    rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    return write_artifact(
        directory,
        models,
        {"x": rows},
        inputs=CLASSIFIER_INPUTS,
        outputs=CLASSIFIER_OUTPUTS,
        **settings,
    )


def write_echo(directory: Path) -> Manifest:
    """One tensor of every datatype through."""
    kinds = list(_ONNX_TYPES)
    model, specs = build_echo(kinds)
    golden: dict[str, NDArray[Any]] = {
        one.name: np.zeros((1, 1), onnx.helper.tensor_dtype_to_np_dtype(_ONNX_TYPES[one.datatype]))
        for one in specs[: len(kinds)]
    }
    golden["in_bytes"] = np.array([["é"]], dtype=object)
    return write_artifact(
        directory,
        {"fp32": model},
        golden,
        inputs=specs[: len(kinds)],
        outputs=specs[len(kinds) :],
    )


def replace_file(directory: Path, name: str, content: bytes) -> None:
    """Change a file and list its new digest: an honest manifest of something wrong."""
    (directory / name).write_bytes(content)
    manifest = load_manifest(directory)
    files = {**manifest.files, name: build_file_entry(directory / name)}
    document = manifest.to_json()
    document["files"] = {path: entry.to_json() for path, entry in sorted(files.items())}
    write_manifest(directory, Manifest.from_json(document))


def classify(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the classifier answers, by numpy."""
    logits = rows @ CLASSIFIER_WEIGHTS
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)


def _run(model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _plain(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Without objects, which would need a pickle."""
    return {
        name: array.astype(str) if array.dtype.hasobject else array
        for name, array in arrays.items()
    }
