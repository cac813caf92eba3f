"""Writes an artifact's tree: graphs, weights shared between them, goldens, manifest, report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import onnx
from onnx.external_data_helper import set_external_data

from modelwright_artifact.attestation import INPUT_PREFIX, OUTPUT_PREFIX, save_arrays
from modelwright_artifact.digests import build_file_entry
from modelwright_artifact.manifest import FileEntry, Golden

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from modelwright_optimizer.goldens import GoldenOutputs

GOLDEN_INPUTS: Final = "golden/inputs.npz"
# Smaller tensors cost more as files than they save.
MIN_SHARED_BYTES: Final = 1024
_RAW_TYPES: Final = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.INT16,
        onnx.TensorProto.UINT16,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }
)


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A graph on disk, and how many bytes it and its weights take."""

    file: str
    size_bytes: int


def serialize(proto: onnx.ModelProto) -> bytes:
    """The graph with its weights as one byte string; equal graphs give equal bytes."""
    return proto.SerializeToString(deterministic=True)


def write_graph(directory: Path, name: str, proto: onnx.ModelProto) -> WrittenGraph:
    """Write `<name>.onnx`, its larger weights as files named by their SHA-256."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.producer_name, copy.producer_version = "modelwright", ""
    del copy.metadata_props[:]
    shared = {}
    for tensor in copy.graph.initializer:
        if tensor.data_type in _RAW_TYPES:
            shared.update(_share(tensor, directory))
    file = f"{name}.onnx"
    content = serialize(copy)
    (directory / file).write_bytes(content)
    return WrittenGraph(file, len(content) + sum(shared.values()))


def write_golden_inputs(directory: Path, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Write the inputs that all variants answer at start."""
    (directory / GOLDEN_INPUTS).parent.mkdir(parents=True, exist_ok=True)
    save_arrays(directory / GOLDEN_INPUTS, INPUT_PREFIX, inputs)


def write_golden_outputs(directory: Path, name: str, golden: GoldenOutputs) -> Golden:
    """Write what a variant answers."""
    path = f"golden/{name}.npz"
    save_arrays(directory / path, OUTPUT_PREFIX, golden.outputs)
    return Golden(inputs=GOLDEN_INPUTS, outputs=path, atol=golden.atol, rtol=golden.rtol)


def list_files(directory: Path) -> dict[str, FileEntry]:
    """The manifest's entries for everything written so far."""
    return {
        path.relative_to(directory).as_posix(): build_file_entry(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _share(tensor: onnx.TensorProto, directory: Path) -> dict[str, int]:
    if not tensor.raw_data:
        raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        tensor.CopyFrom(raw)
    content = tensor.raw_data
    if len(content) < MIN_SHARED_BYTES:
        return {}
    location = f"tensors/{hashlib.sha256(content).hexdigest()}.bin"
    path = directory / location
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
    set_external_data(tensor, location, offset=0, length=len(content))
    tensor.ClearField("raw_data")
    return {location: len(content)}
