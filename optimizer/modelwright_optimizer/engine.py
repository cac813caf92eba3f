"""ONNX Runtime, as the server will run it: so many threads, one call after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime as ort

from modelwright_artifact.manifest import TensorSpec
from modelwright_optimizer.datatypes import DATATYPE_OF_ORT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Tensors = dict[str, "NDArray[Any]"]

PROVIDERS: Final = ("CPUExecutionProvider",)
_FATAL_ONLY: Final = 4

# Everything ONNX Runtime can raise: its errors are siblings under Exception, by status code.
ENGINE_ERRORS: Final = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NoModel,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.EPFail,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    RuntimeError,
    ValueError,
)


# What ONNX Runtime puts before its sentence: status, source file, C++ signature.
_PREAMBLE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:(?:\S*/)?\S+\.(?:cc|h):\d+ .*?\)(?: const)? )?"
)


class UnsupportedTensor(Exception):  # noqa: N818
    """An input or output is no plain tensor of a known type; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def fixed_rows(self) -> int | None:
        """The size of the first axis where the graph fixes it."""
        sizes = {spec.shape[0] for spec in self.inputs if spec.shape}
        return max(sizes) if sizes and -1 not in sizes else None


@dataclass(frozen=True, slots=True)
class Graph:
    """An open session; it holds the weights in memory."""

    session: ort.InferenceSession
    interface: Interface

    @property
    def fixed_rows(self) -> int | None:
        """The size of the first axis where the graph fixes it."""
        return self.interface.fixed_rows

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """One call."""
        names = [spec.name for spec in self.interface.outputs]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))

    def run_rows(self, inputs: Mapping[str, NDArray[Any]], rows_per_call: int = 1) -> Tensors:
        """All rows, so many per call; the last call is filled up where the graph fixes them."""
        step = self.fixed_rows or rows_per_call
        rows = min(len(array) for array in inputs.values())
        parts: list[Tensors] = []
        for start in range(0, rows, step):
            part = {name: array[start : start + step] for name, array in inputs.items()}
            missing = step - min(len(array) for array in part.values())
            if missing and self.fixed_rows is not None:
                part = {name: _fill_up(array, missing) for name, array in part.items()}
            parts.append(self.run(part))
        return {
            spec.name: np.concatenate([part[spec.name] for part in parts])[:rows]
            for spec in self.interface.outputs
        }


def describe_error(error: Exception) -> str:
    """The first line of what ONNX Runtime or ONNX says, without its insides or a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _PREAMBLE.sub("", lines[0]) if lines else type(error).__name__
    return text[:300].strip(" .:")


def open_graph(model: bytes | Path, threads: int, *, optimize: bool = True) -> Graph:
    """Open a model with `threads` compute threads; `optimize=False` runs it as it is written."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=list(PROVIDERS))
    interface = Interface(
        inputs=tuple(_build_spec(node) for node in session.get_inputs()),
        outputs=tuple(_build_spec(node) for node in session.get_outputs()),
    )
    return Graph(session, interface)


def _build_spec(node: Any) -> TensorSpec:
    datatype = DATATYPE_OF_ORT.get(node.type)
    if datatype is None:
        raise UnsupportedTensor(
            f"{node.name!r} is a {node.type}; only tensors of numbers can be served. Export the "
            "model without maps, sequences and strings (scikit-learn: options zipmap=False)."
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _fill_up(array: NDArray[Any], missing: int) -> NDArray[Any]:
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
