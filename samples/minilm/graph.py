"""MiniLM as an ONNX graph: the BERT encoder, the mean over its tokens, unit length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samples.minilm.weights import HEADS, HIDDEN, NORM_EPSILON, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET: Final = 17
IR_VERSION: Final = 9
MASKED: Final = -10_000.0  # as a score: its softmax is zero


def build_model(weights: Weights) -> onnx.ModelProto:
    """Inputs `input_ids`, `attention_mask` (batch, sequence); output `embedding` (batch, 384)."""
    builder = _GraphBuilder(weights)
    hidden = builder.add_embeddings()
    mask = builder.add_score_mask()
    for layer in range(weights.layers):
        hidden = builder.add_layer(hidden, mask, f"encoder.layer.{layer}")
    builder.add_pooling(hidden)
    model = helper.make_model(
        builder.build_graph(),
        producer_name="modelwright-samples",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _GraphBuilder:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    # --- parts of the model, in the order of the data --------------------------------------------

    def add_embeddings(self) -> str:
        words = self._constant("embeddings.words", self.weights.embedding("word"))
        # Every sentence here is a first one: its token type is a constant.
        positions = self.weights.embedding("position") + self.weights.embedding("token_type")[0]
        length = self._node("Shape", ["input_ids"], "length", start=1, end=2)
        placed = self._node(
            "Slice",
            [self._constant("embeddings.positions", positions), self._integers(0), length],
            "embeddings.placed",
        )
        chosen = self._node("Gather", [words, "input_ids"], "embeddings.chosen")
        total = self._node("Add", [chosen, placed], "embeddings.sum")
        return self._norm(total, "embeddings.LayerNorm")

    def add_score_mask(self) -> str:
        """Zero where there is a token, a huge debt where there is padding."""
        real = self._node("Cast", ["attention_mask"], "mask.real", to=int(TensorProto.FLOAT))
        padding = self._node("Sub", [self._scalar(1.0), real], "mask.padding")
        debt = self._node("Mul", [padding, self._scalar(MASKED)], "mask.debt")
        return self._node("Unsqueeze", [debt, self._integers(1, 2)], "mask.scores")

    def add_layer(self, hidden: str, mask: str, name: str) -> str:
        attended = self._attention(hidden, mask, name)
        rejoined = self._node("Add", [attended, hidden], f"{name}.attention.residual")
        middle = self._norm(rejoined, f"{name}.attention.output.LayerNorm")
        wide = self._gelu(self._linear(middle, f"{name}.intermediate.dense"), name)
        narrow = self._linear(wide, f"{name}.output.dense")
        rejoined = self._node("Add", [narrow, middle], f"{name}.output.residual")
        return self._norm(rejoined, f"{name}.output.LayerNorm")

    def add_pooling(self, hidden: str) -> None:
        """The mean over real tokens, then unit length."""
        column = self._node("Unsqueeze", ["mask.real", self._integers(2)], "pool.mask")
        kept = self._node("Mul", [hidden, column], "pool.kept")
        total = self._node("ReduceSum", [kept, self._integers(1)], "pool.sum", keepdims=0)
        count = self._node("ReduceSum", ["mask.real", self._integers(1)], "pool.count")
        some = self._node("Max", [count, self._scalar(1e-9)], "pool.some")
        mean = self._node("Div", [total, some], "pool.mean")
        length = self._node("ReduceL2", [mean], "pool.length", axes=[1])
        nonzero = self._node("Max", [length, self._scalar(1e-12)], "pool.nonzero")
        self._node("Div", [mean, nonzero], "embedding")

    def build_graph(self) -> onnx.GraphProto:
        rows = ["batch", "sequence"]
        return helper.make_graph(
            self.nodes,
            "minilm",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, rows),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, rows),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
            list(self.tensors.values()),
        )

    # --- pieces ----------------------------------------------------------------------------------

    def _attention(self, hidden: str, mask: str, name: str) -> str:
        block = f"{name}.attention"
        query = self._heads(hidden, f"{block}.self.query", order=[0, 2, 1, 3])
        key = self._heads(hidden, f"{block}.self.key", order=[0, 2, 3, 1])
        value = self._heads(hidden, f"{block}.self.value", order=[0, 2, 1, 3])
        products = self._node("MatMul", [query, key], f"{block}.products")
        scale = self._scalar(math.sqrt(HIDDEN // HEADS))
        scaled = self._node("Div", [products, scale], f"{block}.scaled")
        masked = self._node("Add", [scaled, mask], f"{block}.masked")
        shares = self._node("Softmax", [masked], f"{block}.shares", axis=-1)
        mixed = self._node("MatMul", [shares, value], f"{block}.mixed")
        turned = self._node("Transpose", [mixed], f"{block}.turned", perm=[0, 2, 1, 3])
        joined = self._node("Reshape", [turned, self._integers(0, 0, HIDDEN)], f"{block}.joined")
        return self._linear(joined, f"{block}.output.dense")

    def _heads(self, hidden: str, name: str, *, order: list[int]) -> str:
        shape = self._integers(0, 0, HEADS, HIDDEN // HEADS)
        split = self._node("Reshape", [self._linear(hidden, name), shape], f"{name}.split")
        return self._node("Transpose", [split], f"{name}.heads", perm=order)

    def _gelu(self, value: str, name: str) -> str:
        """In the form that engines know and fuse."""
        root = self._node("Div", [value, self._scalar(math.sqrt(2))], f"{name}.gelu.root")
        error = self._node("Erf", [root], f"{name}.gelu.erf")
        raised = self._node("Add", [error, self._scalar(1.0)], f"{name}.gelu.raised")
        double = self._node("Mul", [value, raised], f"{name}.gelu.double")
        return self._node("Mul", [double, self._scalar(0.5)], f"{name}.gelu")

    def _linear(self, value: str, name: str) -> str:
        weight, bias = self.weights.linear(name)
        product = self._node(
            "MatMul", [value, self._constant(f"{name}.weight", weight)], f"{name}.product"
        )
        return self._node("Add", [self._constant(f"{name}.bias", bias), product], name)

    def _norm(self, value: str, name: str) -> str:
        scale, shift = self.weights.norm(name)
        inputs = [
            value,
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.shift", shift),
        ]
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=NORM_EPSILON)

    def _node(
        self, operation: str, inputs: list[str], output: str, **attributes: float | list[int]
    ) -> str:
        node = helper.make_node(operation, inputs, [output], name=output)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return output

    def _integers(self, *values: int) -> str:
        return self._constant(f"integers.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _scalar(self, value: float) -> str:
        return self._constant(f"scalar.{value:g}", np.array(value, np.float32))

    def _constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name
