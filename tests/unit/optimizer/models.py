"""Tiny real models: convolution, ReLU and a linear layer fitted in closed form."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelwright_optimizer.passes import apply_passes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from modelwright_optimizer.dataset import Dataset

CLASSES = 4
SIDE = 8
CHANNELS = 16


def make_rows(
    count: int, *, seed: int = 0, spread: float = 0.3
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noisy copies of one pattern per class: [count, 1, 8, 8] float32 and [count] int64."""
    patterns = np.random.default_rng(99).uniform(0, 1, (CLASSES, 1, SIDE, SIDE))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    noise = generator.normal(0, spread, (count, 1, SIDE, SIDE))
    return (patterns[labels] + noise).astype(np.float32), labels.astype(np.int64)


def write_rows(path: Path, count: int, *, name: str = "x", **changes: Any) -> Path:
    """Write an evaluation set; `changes` replace or (None) remove arrays."""
    rows, labels = make_rows(count)
    arrays: dict[str, Any] = {f"inputs/{name}": rows, "labels": labels}
    arrays |= changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def make_classifier(
    *, opset: int = 17, rows: int | str = "rows", side: int = SIDE
) -> onnx.ModelProto:
    """A classifier of `make_rows`; its last layer is fitted by least squares."""
    generator = np.random.default_rng(5)
    kernel = generator.normal(0, 0.4, (CHANNELS, 1, 3, 3)).astype(np.float32)
    images, labels = make_rows(600, seed=1)
    features = _convolve(images, kernel)
    targets = np.eye(CLASSES)[labels]
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    solution = np.linalg.solve(
        design.T @ design + 1.0 * np.eye(design.shape[1]), design.T @ targets
    ).astype(np.float32)
    weights = {"kernel": kernel, "w": solution[:-1], "b": solution[-1]}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 1, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write_classifier(path: Path, **options: Any) -> Path:
    """Write the classifier and return its path."""
    onnx.save(make_classifier(**options), path)
    return path


def apply_to(
    proto: onnx.ModelProto, steps: tuple[Mapping[str, Any], ...], calibration: Dataset
) -> onnx.ModelProto:
    """The graph after a recipe's passes."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        onnx.save(proto, source)
        apply_passes(source, target, steps, calibration)
        return onnx.load(target)


def make_model(
    nodes: list[onnx.NodeProto],
    *,
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: dict[str, NDArray[Any]] | None = None,
    opset: int = 17,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model of the given nodes over float tensors."""

    def values(specs: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in specs.items()
        ]

    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            values(inputs),
            values(outputs),
            [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        ),
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, 1) for domain in domains),
        ],
        ir_version=8,
    )


def _convolve(images: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    maps = np.einsum("nijkl,ckl->ncij", windows, kernel[:, 0])
    return np.maximum(maps, 0).reshape(len(images), -1).astype(np.float64)
