"""Writes the trained network as ONNX, and the data sets beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samples.digits.data import SIDE, Rows, Split
from samples.digits.network import Array, Classifier, Convolution, Hidden, Network, Residual

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 17
IR_VERSION = 9
EXAMPLES = 5


def write_sample(out: Path, network: Network, split: Split) -> None:
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(build_model(network), out / "model.onnx")
    write_rows(out / "calibration.npz", split.calibration)
    write_rows(out / "evaluation.npz", split.unseen)
    (out / "examples.json").write_text(json.dumps(pick_examples(split.unseen)) + "\n")


def write_rows(path: Path, rows: Rows) -> None:
    with path.open("wb") as file:
        arrays: dict[str, Any] = {"inputs/image": _channels_first(rows.images())}
        np.savez(file, labels=rows.labels, **arrays)


def pick_examples(rows: Rows) -> list[dict[str, object]]:
    """A few unseen rows, no digit twice: what the server is asked, and what is right."""
    _, first = np.unique(rows.labels, return_index=True)
    chosen = rows.take(np.sort(first)[:EXAMPLES])
    return [
        {"label": int(label), "image": np.round(image, 4).tolist()}
        for image, label in zip(
            _channels_first(chosen.images()).astype(float), chosen.labels, strict=True
        )
    ]


def build_model(network: Network) -> onnx.ModelProto:
    """The network as it predicts: normalization folded into the convolutions."""
    builder = _GraphBuilder()
    value = "image"
    for layer in network.layers:
        match layer:
            case Convolution():
                value = builder.add_convolution(value, layer)
            case Residual():
                value = builder.add_residual(value, layer)
            case Hidden():
                value = builder.add_hidden(value, layer)
            case Classifier():
                value = builder.add_classifier(value, layer)
            case _:
                raise TypeError(f"no ONNX form for {type(layer).__name__}")
    graph = builder.build_graph(classes=network.classes)
    model = helper.make_model(
        graph,
        producer_name="modelwright-samples",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _GraphBuilder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add_convolution(self, value: str, layer: Convolution) -> str:
        weight, bias = layer.folded()
        number = sum(node.op_type == "Conv" for node in self.nodes)
        inputs = [
            value,
            self._add_tensor(f"conv{number}.weight", weight),
            self._add_tensor(f"conv{number}.bias", bias),
        ]
        output = self._add_node(
            "Conv",
            inputs,
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[layer.stride, layer.stride],
        )
        return self._add_node("Relu", [output]) if layer.normalization.rectified else output

    def add_residual(self, value: str, layer: Residual) -> str:
        inner = self.add_convolution(self.add_convolution(value, layer.first), layer.second)
        return self._add_node("Relu", [self._add_node("Add", [inner, value])])

    def add_hidden(self, value: str, layer: Hidden) -> str:
        flat = self._add_node("Flatten", [value], axis=1)
        return self._add_node("Relu", [self._add_linear(flat, "hidden", *layer.folded())])

    def add_classifier(self, value: str, layer: Classifier) -> str:
        return self._add_linear(value, "classifier", layer.weight.value, layer.bias.value)

    def build_graph(self, *, classes: int) -> onnx.GraphProto:
        self.nodes[-1].output[0] = "logits"
        return helper.make_graph(
            self.nodes,
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self.tensors,
        )

    def _add_linear(self, value: str, name: str, weight: Array, bias: Array) -> str:
        tensors = [
            self._add_tensor(f"{name}.weight", weight),
            self._add_tensor(f"{name}.bias", bias),
        ]
        return self._add_node("Gemm", [value, *tensors])

    def _add_node(self, operation: str, inputs: list[str], **attributes: int | list[int]) -> str:
        name = f"{operation.lower()}{len(self.nodes)}"
        node = helper.make_node(operation, inputs, [name], name=name)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return name

    def _add_tensor(self, name: str, value: Array) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _channels_first(images: Array) -> Array:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
