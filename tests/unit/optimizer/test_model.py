"""Every model that cannot be built, and the sentence it ends with."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from modelwright_optimizer.engine import Graph, open_graph
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.model import Model, load_model, read_opset
from tests.unit.optimizer.models import CLASSES, SIDE, make_classifier, make_model, make_rows

DYNAMIC: dict[str, list[int | str]] = {"x": ["n", 3]}
GOOD = make_classifier().SerializeToString()


def relu(**changes: object) -> onnx.ModelProto:
    return make_model(
        [helper.make_node("Relu", ["x"], ["y"])], inputs=DYNAMIC, outputs={"y": ["n", 3]}
    )


def save(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def with_external_data(folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(
        make_classifier(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return path


def stored(path: Path) -> Path:
    """A folder of its own for the checked model."""
    return Path(tempfile.mkdtemp(dir=path.parent))


def loaded(path: Path) -> Model:
    return load_model(path, stored(path), 1)


def opened(model: Model) -> Graph:
    return open_graph(model.path, 1)


# Each takes a folder, writes a bad model into it, and returns its path.


def empty(folder: Path) -> Path:
    (folder / "m.onnx").touch()
    return folder / "m.onnx"


def text(folder: Path) -> Path:
    (folder / "m.onnx").write_text("this is no model, whatever its name says\n" * 5)
    return folder / "m.onnx"


def truncated(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(GOOD[: len(GOOD) * 2 // 3])
    return folder / "m.onnx"


def without_graph(folder: Path) -> Path:
    return save(folder / "m.onnx", onnx.ModelProto(ir_version=8))


def old_opset(folder: Path) -> Path:
    proto = relu()
    proto.opset_import[0].version = 5
    return save(folder / "m.onnx", proto)


def future_opset(folder: Path) -> Path:
    proto = relu()
    proto.opset_import[0].version = 900
    return save(folder / "m.onnx", proto)


def cyclic(folder: Path) -> Path:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
    ]
    return save(folder / "m.onnx", make_model(nodes, inputs=DYNAMIC, outputs={"b": ["n", 3]}))


def custom_operator(folder: Path) -> Path:
    node = helper.make_node("Magic", ["x"], ["y"], domain="com.example")
    proto = make_model([node], inputs=DYNAMIC, outputs={"y": ["n", 3]}, domains=("com.example",))
    return save(folder / "m.onnx", proto)


def hidden_operator(folder: Path) -> Path:
    """A custom operator inside a branch of an If."""
    branch = helper.make_graph(
        [helper.make_node("Magic", ["x"], ["z"], domain="com.example")],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", 9, [], [True])),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    proto = make_model(nodes, inputs=DYNAMIC, outputs={"y": ["n", 3]}, domains=("com.example",))
    return save(folder / "m.onnx", proto)


def engine_context(folder: Path) -> Path:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=1)
    proto = make_model([node], inputs=DYNAMIC, outputs={"y": ["n", 3]}, domains=("com.microsoft",))
    return save(folder / "m.onnx", proto)


def doubling_functions(folder: Path) -> Path:
    """Functions that call the one before twice: 2^18 operators in a kilobyte."""
    functions = []
    for level in range(18):
        kind, domain = ("Relu", "") if level == 0 else (f"F{level - 1}", "local")
        nodes = [
            helper.make_node(kind, ["a"], ["b"], domain=domain),
            helper.make_node(kind, ["b"], ["c"], domain=domain),
        ]
        functions.append(
            helper.make_function(
                "local",
                f"F{level}",
                ["a"],
                ["c"],
                nodes,
                [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
            )
        )
    proto = make_model(
        [helper.make_node("F17", ["x"], ["y"], domain="local")],
        inputs=DYNAMIC,
        outputs={"y": ["n", 3]},
        domains=("local",),
    )
    proto.functions.extend(functions)
    return save(folder / "m.onnx", proto)


def recursive_function(folder: Path) -> Path:
    proto = make_model(
        [helper.make_node("F", ["x"], ["y"], domain="local")],
        inputs=DYNAMIC,
        outputs={"y": ["n", 3]},
        domains=("local",),
    )
    node = helper.make_node("F", ["a"], ["b"], domain="local")
    proto.functions.append(
        helper.make_function("local", "F", ["a"], ["b"], [node], [helper.make_opsetid("local", 1)])
    )
    return save(folder / "m.onnx", proto)


def engine_metadata(folder: Path) -> Path:
    proto = relu()
    proto.metadata_props.add(key="ort_config", value="{}")
    return save(folder / "m.onnx", proto)


def missing_weights(folder: Path) -> Path:
    path = with_external_data(folder)
    (folder / "w.bin").unlink()
    return path


def short_weights(folder: Path) -> Path:
    path = with_external_data(folder)
    (folder / "w.bin").write_bytes((folder / "w.bin").read_bytes()[:100])
    return path


def linked_weights(folder: Path) -> Path:
    path = with_external_data(folder)
    (folder / "w.bin").rename(folder / "elsewhere")
    (folder / "w.bin").symlink_to(folder / "elsewhere")
    return path


def hard_linked_weights(folder: Path) -> Path:
    path = with_external_data(folder)
    os.link(folder / "w.bin", folder / "other")
    return path


def escaping_weights(folder: Path) -> Path:
    path = with_external_data(folder)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/hostname"
    return save(path, proto)


def wrong_shapes(folder: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    proto = make_model(
        [node],
        inputs=DYNAMIC,
        outputs={"y": ["n", 3]},
        weights={"w": np.zeros((5, 3), np.float32)},
    )
    return save(folder / "m.onnx", proto)


def without_input(folder: Path) -> Path:
    node = helper.make_node("Relu", ["w"], ["y"])
    proto = make_model(
        [node], inputs={}, outputs={"y": [3]}, weights={"w": np.zeros(3, np.float32)}
    )
    return save(folder / "m.onnx", proto)


def scalar_input(folder: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"])
    return save(folder / "m.onnx", make_model([node], inputs={"x": []}, outputs={"y": []}))


def string_output(folder: Path) -> Path:
    proto = relu()
    proto.graph.node[0].op_type = "Cast"
    proto.graph.node[0].attribute.append(helper.make_attribute("to", TensorProto.STRING))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    return save(folder / "m.onnx", proto)


BAD = {
    "0 bytes": (empty, r"empty \(0 bytes\): export it again"),
    "a text file": (text, "not an ONNX model, or it is truncated"),
    "a truncated file": (truncated, "truncated"),
    "no graph": (without_graph, "holds no ONNX graph"),
    "an opset too old to convert": (old_opset, "opset 5; export it with opset 13 or later"),
    "an opset from the future": (future_opset, "opset 900; opsets up to"),
    "a cycle": (cyclic, "The ONNX checker refuses the model"),
    "a custom operator": (custom_operator, "Magic from the domain 'com.example'"),
    "a custom operator in a branch": (hidden_operator, "Magic from the domain 'com.example'"),
    "native code": (engine_context, "compiled EPContext node, which is native code"),
    "functions that explode": (doubling_functions, "expands to 262144 operators"),
    "a function that calls itself": (recursive_function, "calls itself"),
    "settings for the engine": (engine_metadata, "carries ort_config metadata"),
    "missing external data": (missing_weights, "'w.bin', which is missing: bring the model as an"),
    "truncated external data": (short_weights, "reach beyond the end of 'w.bin'"),
    "external data behind a link": (linked_weights, "not a plain file of its own"),
    "external data with a second name": (hard_linked_weights, "not a plain file of its own"),
    "external data elsewhere": (escaping_weights, "plain relative path"),
    "shapes that do not fit": (wrong_shapes, "ONNX Runtime cannot load|checker refuses"),
    "no input": (without_input, "takes no input"),
    "a scalar input": (scalar_input, "needs an axis for rows"),
    "an output of strings": (string_output, "only tensors of numbers can be served"),
}


@pytest.mark.parametrize(("write", "want"), BAD.values(), ids=BAD.keys())
def test_a_model_is_invalid_with(write: object, want: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = write(folder)  # type: ignore[operator]
    with pytest.raises(BuildFailure, match=want) as caught:
        load_model(path, stored(path), 1)
    assert caught.value.reason == Reason.MODEL_INVALID
    assert caught.value.exit_code == 42
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_an_older_opset_is_converted_and_answers_the_same(opset: int, tmp_path: Path) -> None:
    images, _ = make_rows(5)
    new = loaded(save(tmp_path / "new.onnx", make_classifier()))
    old = loaded(save(tmp_path / "old.onnx", make_classifier(opset=opset)))
    assert (old.source_opset, read_opset(onnx.load(old.path))) == (opset, 13)
    np.testing.assert_allclose(
        opened(old).run({"x": images})["y"], opened(new).run({"x": images})["y"], 1e-5, 1e-5
    )


def test_inputs_and_outputs_are_told_in_protocol_terms(tmp_path: Path) -> None:
    interface = loaded(save(tmp_path / "m.onnx", make_classifier())).interface
    (x,), (y,) = interface.inputs, interface.outputs
    assert (x.name, x.datatype, x.shape) == ("x", "FP32", (-1, 1, SIDE, SIDE))
    assert (y.name, y.datatype, y.shape) == ("y", "FP32", (-1, CLASSES))


def test_external_data_beside_the_model_is_loaded(tmp_path: Path) -> None:
    model = loaded(with_external_data(tmp_path))
    proto = onnx.load(model.path, load_external_data=False)
    assert all(tensor.raw_data for tensor in proto.graph.initializer)


def test_a_fixed_number_of_rows_is_filled_up_and_cut(tmp_path: Path) -> None:
    images, _ = make_rows(7)
    free = opened(loaded(save(tmp_path / "free.onnx", make_classifier())))
    fixed = opened(loaded(save(tmp_path / "fixed.onnx", make_classifier(rows=4))))
    assert (free.fixed_rows, fixed.fixed_rows) == (None, 4)
    want = free.run_rows({"x": images})["y"]
    np.testing.assert_allclose(fixed.run_rows({"x": images})["y"], want, rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_damaged_byte_never_ends_without_a_sentence(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    path.write_bytes(GOOD[:position] + bytes([value]) + GOOD[position + 1 :])
    try:
        load_model(path, stored(path), 1)
    except BuildFailure as failure:
        assert failure.reason == Reason.MODEL_INVALID  # noqa: PT017 - both outcomes are right
        assert failure.message.endswith(".")  # noqa: PT017
