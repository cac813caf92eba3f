from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from modelwright_artifact.hardware import PROFILES
from modelwright_artifact.request import TECHNIQUES
from modelwright_optimizer.dataset import Dataset
from modelwright_optimizer.engine import open_graph
from modelwright_optimizer.passes import PassFailed, Rows, count_operators
from modelwright_optimizer.recipes import plan_variants
from modelwright_optimizer.writer import serialize
from tests.unit.optimizer.models import apply_to, make_classifier, make_model, make_rows

ROWS, LABELS = make_rows(100)
CALIBRATION = Dataset({"x": make_rows(40, seed=8)[0]})
PLANNED = plan_variants(
    next(p for p in PROFILES if p.name == "x86-avx2"), TECHNIQUES, {"Conv", "Gemm"}
)


def apply(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    (planned,) = [one for one in PLANNED if one.name == name]
    return apply_to(proto, planned.recipe.passes, CALIBRATION)


def answers(proto: onnx.ModelProto) -> np.ndarray:
    return open_graph(serialize(proto), 1).run_rows({"x": ROWS})["y"]


@pytest.mark.parametrize("name", [one.name for one in PLANNED])
def test_a_recipe_keeps_what_the_model_says(name: str) -> None:
    before, after = answers(make_classifier()), answers(apply(name, make_classifier()))
    assert np.mean(before.argmax(1) == after.argmax(1)) >= 0.99
    signal, noise = (before**2).sum(), ((before - after) ** 2).sum()
    assert noise == 0 or 10 * np.log10(signal / noise) > 20


@pytest.mark.parametrize("name", [one.name for one in PLANNED])
def test_equal_inputs_give_equal_bytes(name: str) -> None:
    first, second = apply(name, make_classifier()), apply(name, make_classifier())
    assert serialize(first) == serialize(second)


@pytest.mark.parametrize("name", ["static-int8", "static-int8-percentile"])
def test_static_quantization_uses_all_the_rows(name: str) -> None:
    """Ranges of one row and of forty differ; ONNX Runtime's own chunking forgot most of them."""
    (planned,) = [one for one in PLANNED if one.name == name]
    few = Dataset({"x": CALIBRATION.inputs["x"][:1]})
    first = apply_to(make_classifier(), planned.recipe.passes, few)
    assert serialize(first) != serialize(apply(name, make_classifier()))
    doubled = Dataset({"x": np.concatenate([CALIBRATION.inputs["x"], 5 * ROWS[:8]])})
    second = apply_to(make_classifier(), planned.recipe.passes, doubled)
    assert serialize(second) != serialize(apply(name, make_classifier()))


def test_seven_bit_weights_stay_in_their_range() -> None:
    for name in ("static-int8", "dynamic-int8"):
        quantized = [
            onnx.numpy_helper.to_array(tensor)
            for tensor in apply(name, make_classifier()).graph.initializer
            if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
        ]
        assert quantized
        assert all(np.abs(array.astype(int)).max() <= 64 for array in quantized)


def test_a_batch_normalization_is_folded_into_its_convolution() -> None:
    four = np.ones(4, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    weights = {
        "k": np.ones((4, 1, 1, 1), np.float32),
        "s": four * 2,
        "b": four,
        "m": four * 0,
        "v": four,
    }
    proto = make_model(
        nodes, inputs={"x": ["n", 1, 8, 8]}, outputs={"y": ["n", 4, 8, 8]}, weights=weights
    )
    assert set(count_operators(apply("fp32", proto))) == {"Conv"}


def test_a_graph_without_anything_to_quantize_fails_with_a_sentence() -> None:
    proto = make_model(
        [helper.make_node("Sin", ["x"], ["y"])],
        inputs={"x": ["n", 1, 8, 8]},
        outputs={"y": ["n", 1, 8, 8]},
    )
    for name in ("static-int8", "dynamic-int8"):
        with pytest.raises(PassFailed, match="No operator of this graph could be quantized"):
            apply(name, proto)


def test_a_graph_with_a_fixed_number_of_rows_is_calibrated() -> None:
    quantized = apply("static-int8", make_classifier(rows=4))
    assert count_operators(quantized)["QuantizeLinear"] > 0


@pytest.mark.parametrize(("rows", "step", "want"), [(40, None, 40), (45, 4, 11), (3, 4, 0)])
def test_rows_are_served_in_whole_calls(rows: int, step: int | None, want: int) -> None:
    reader = Rows(Dataset({"x": np.arange(rows)[:, None]}), step)
    assert len(reader) == want
    calls = []
    while (call := reader.get_next()) is not None:
        calls.append(call["x"])
    assert len(calls) == want
    served = [int(value) for call in calls for value in call.ravel()]
    assert served == list(range(want * (step or 1)))
