"""Small real models and datasets, good and bad, made on the spot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FEATURES, HIDDEN, CLASSES = 64, 512, 10
ROWS = 1600


def build_model(seed: int = 0, opset: int = 17) -> bytes:
    """A two-layer perceptron with random weights: 64 numbers in, 10 scores out."""
    random = np.random.default_rng(seed)
    first = random.standard_normal((FEATURES, HIDDEN)).astype(np.float32) / 8
    second = random.standard_normal((HIDDEN, CLASSES)).astype(np.float32) / 16
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["scores"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", CLASSES])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def build_inputs(seed: int = 1, rows: int = ROWS) -> NDArray[np.float32]:
    """Rows [N, 64] float32."""
    return np.random.default_rng(seed).standard_normal((rows, FEATURES)).astype(np.float32)


def build_dataset(model: bytes, seed: int = 1, rows: int = ROWS) -> bytes:
    """Rows labelled by what the model itself says: its own accuracy is 100 %."""
    inputs = build_inputs(seed, rows)
    return pack({"inputs/x": inputs, "labels": predict(model, inputs)})


def predict(model: bytes, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Classes [N] by ONNX Runtime in this process."""
    classes: NDArray[np.int64] = run(model, inputs).argmax(axis=1).astype(np.int64)
    return classes


def run(model: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores [N, 10] by ONNX Runtime in this process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(["scores"], {"x": inputs})[0]
    return scores


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """An .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()
