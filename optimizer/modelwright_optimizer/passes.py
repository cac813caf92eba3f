"""Applies a recipe's passes to a graph, from file to file.

Equal input bytes give equal output bytes. Files, because weights in memory are what a build is
limited by.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx
import onnxslim
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from modelwright_optimizer.engine import ENGINE_ERRORS, describe_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_optimizer.dataset import Dataset

# Reads the first file, writes the second.
Pass = Callable[[Path, Path, Mapping[str, Any], "Dataset"], None]

# How many calls a calibrator holds all activations of at once. Not CalibMaxIntermediateOutputs:
# ONNX Runtime 1.32 forgets each full chunk instead of merging it.
_CALLS_PER_CHUNK: Final = 1


class PassFailed(Exception):  # noqa: N818
    """A pass could not be applied to this graph; the message is a sentence."""


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """Calibration rows, one per call, in the order of the dataset."""

    def __init__(self, dataset: Dataset, fixed_rows: int | None) -> None:
        self._dataset = dataset
        self._step = fixed_rows or 1
        self._next, self._end = 0, len(self)

    def __len__(self) -> int:
        return self._dataset.rows // self._step

    def set_range(self, start_index: int, end_index: int) -> None:
        """Serve these calls next; ONNX Runtime asks chunk by chunk."""
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, Any] | None:
        """The next call's inputs, or None at the end of the range."""
        if self._next >= self._end:
            return None
        start = self._next * self._step
        self._next += 1
        inputs = self._dataset.inputs.items()
        return {name: array[start : start + self._step] for name, array in inputs}


def apply_passes(
    source: Path, target: Path, steps: tuple[Mapping[str, Any], ...], calibration: Dataset
) -> None:
    """Write the graph after all passes; `PassFailed` names the one that does not work for it."""
    with tempfile.TemporaryDirectory(prefix="passes-") as scratch:
        last = source
        for index, step in enumerate(steps):
            following = Path(scratch, f"{index}.onnx")
            _apply(last, following, step, calibration)
            last = following
        shutil.copyfile(last, target)


def count_operators(proto: onnx.ModelProto) -> Counter[str]:
    """How often each operator stands in the main graph."""
    return Counter(node.op_type for node in proto.graph.node)


def _apply(source: Path, target: Path, step: Mapping[str, Any], calibration: Dataset) -> None:
    name = str(step["name"])
    try:
        with _silenced():
            PASSES[name](source, target, step, calibration)
    except (*ENGINE_ERRORS, onnx.checker.ValidationError, KeyError, TypeError) as error:
        raise PassFailed(
            f"The pass {name} cannot be applied to this graph: {describe_error(error)}."
        ) from error


def _simplify(source: Path, target: Path, step: Mapping[str, Any], calibration: Dataset) -> None:
    del step, calibration
    slim = onnxslim.slim(onnx.load(source))
    if not isinstance(slim, onnx.ModelProto):
        raise TypeError("onnxslim returned no model")
    onnx.save(slim, target)


def _fuse(source: Path, target: Path, step: Mapping[str, Any], calibration: Dataset) -> None:
    """Fold constants and batch normalization, as quantization needs it, on any hardware."""
    del step, calibration
    quant_pre_process(source, target, skip_symbolic_shape=True)


def _quantize_static(
    source: Path, target: Path, step: Mapping[str, Any], calibration: Dataset
) -> None:
    options: dict[str, Any] = {"CalibStridedMinMax": _CALLS_PER_CHUNK}
    if step["calibration"] != "MinMax":
        # ONNX Runtime's histograms are of absolute values: only symmetric ranges are right.
        options |= {"CalibTensorRangeSymmetric": True, "CalibPercentile": step["percentile"]}
    quantize_static(
        source,
        target,
        Rows(calibration, _read_fixed_rows(source)),
        quant_format=QuantFormat.QDQ,
        per_channel=step["perChannel"],
        reduce_range=step["reduceRange"],
        activation_type=QuantType[step["activations"]],
        weight_type=QuantType[step["weights"]],
        calibrate_method=CalibrationMethod[step["calibration"]],
        extra_options=options,
    )
    _check_quantized(target, {"QuantizeLinear"})


def _quantize_dynamic(
    source: Path, target: Path, step: Mapping[str, Any], calibration: Dataset
) -> None:
    del calibration
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(step["operators"]),
        per_channel=step["perChannel"],
        reduce_range=step["reduceRange"],
        weight_type=QuantType[step["weights"]],
    )
    _check_quantized(target, {"MatMulInteger", "DynamicQuantizeLSTM", "QAttention"})


PASSES: Final[Mapping[str, Pass]] = {
    "simplify": _simplify,
    "fuse": _fuse,
    "quantize-static": _quantize_static,
    "quantize-dynamic": _quantize_dynamic,
}


def _check_quantized(path: Path, signs: set[str]) -> None:
    if not signs & set(count_operators(onnx.load(path))):
        raise PassFailed("No operator of this graph could be quantized.")


def _read_fixed_rows(path: Path) -> int | None:
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims and dims[0].dim_value > 0:
            return int(dims[0].dim_value)
    return None


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """The libraries below print and warn about their own insides."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
