from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from modelwright_artifact.attestation import compare_outputs
from modelwright_artifact.hardware import PROFILES
from modelwright_artifact.request import TECHNIQUES
from modelwright_optimizer.dataset import Dataset
from modelwright_optimizer.engine import open_graph
from modelwright_optimizer.goldens import (
    GOLDEN_ROWS,
    Probe,
    build_golden_outputs,
    choose_candidates,
    choose_rows,
    probe_variant,
)
from modelwright_optimizer.recipes import plan_variants
from modelwright_optimizer.writer import serialize
from tests.unit.optimizer.models import apply_to, make_classifier, make_rows

INPUTS = {"x": make_rows(40)[0]}
PLANNED = plan_variants(
    next(p for p in PROFILES if p.name == "x86-avx2"), TECHNIQUES, {"Conv", "Gemm"}
)


def quantized(name: str) -> onnx.ModelProto:
    (planned,) = [one for one in PLANNED if one.name == name]
    calibration = Dataset({"x": make_rows(40, seed=8)[0]})
    return apply_to(make_classifier(), planned.recipe.passes, calibration)


VARIANTS = {one.name: quantized(one.name) for one in PLANNED}


@pytest.mark.parametrize("name", VARIANTS)
def test_another_thread_count_and_no_fusion_are_attested(name: str) -> None:
    content = serialize(VARIANTS[name])
    candidates = choose_candidates(INPUTS, None)
    probe = probe_variant(content, candidates, 1)
    rows = choose_rows([probe], None)
    golden = build_golden_outputs(probe, rows)
    inputs = {key: array[rows] for key, array in candidates.items()}
    for graph in (open_graph(content, 2), open_graph(content, 1, optimize=False)):
        outputs = graph.run_rows(inputs)
        assert not compare_outputs(outputs, golden.outputs, atol=golden.atol, rtol=golden.rtol)


def scale_weights(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and tensor.name.endswith("_scale") and array.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(array * np.float32(1.5), tensor.name))
            return


def swap_channels(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim >= 2 and array.shape[0] > 1:
            tensor.CopyFrom(numpy_helper.from_array(array[::-1].copy(), tensor.name))
            return


def shift_zero_point(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.uint8 and tensor.name.endswith("_zero_point"):
            moved = (array.astype(int) + 20).clip(0, 255).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
            return


FAULTS = {
    "scaled scales": ("static-int8", scale_weights),
    "swapped channels": ("static-int8", swap_channels),
    "a shifted zero point": ("static-int8", shift_zero_point),
    "swapped channels in fp32": ("fp32", swap_channels),
    "swapped channels in dynamic": ("dynamic-int8", swap_channels),
}


@pytest.mark.parametrize(("name", "damage"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_graph_is_not_attested(name: str, damage: object) -> None:
    good = serialize(VARIANTS[name])
    candidates = choose_candidates(INPUTS, None)
    probe = probe_variant(good, candidates, 1)
    rows = choose_rows([probe], None)
    golden = build_golden_outputs(probe, rows)
    broken = onnx.ModelProto()
    broken.ParseFromString(good)
    damage(broken)  # type: ignore[operator]
    assert serialize(broken) != good
    outputs = open_graph(serialize(broken), 1).run_rows({"x": candidates["x"][rows]})
    assert compare_outputs(outputs, golden.outputs, atol=golden.atol, rtol=golden.rtol)


def test_the_tolerance_is_far_below_the_values() -> None:
    for proto in VARIANTS.values():
        probe = probe_variant(serialize(proto), choose_candidates(INPUTS, None), 1)
        golden = build_golden_outputs(probe, choose_rows([probe], None))
        assert 0 < golden.atol < 0.2 * np.abs(golden.outputs["y"]).max()


def test_rows_whose_class_moves_are_left_out() -> None:
    first = {"k": np.arange(6)}
    moved = {"k": np.array([0, 1, 9, 3, 9, 5])}
    probe = Probe(first, (first, moved))
    assert choose_rows([probe], None).tolist() == [0, 1, 3, 5]
    assert choose_rows([Probe(first, ({"k": first["k"] + 1},))], None).tolist() == list(range(6))


def test_rows_fit_the_graph_and_the_size() -> None:
    assert len(choose_candidates(INPUTS, None)["x"]) == 2 * GOLDEN_ROWS
    assert len(choose_candidates(INPUTS, 3)["x"]) == 15
    assert len(choose_candidates({"x": INPUTS["x"][:2]}, None)["x"]) == 2
    assert len(choose_candidates({"x": INPUTS["x"][:2]}, 4)["x"]) == 4
    large = {"x": np.zeros((20, 1 << 20), np.float32)}
    assert len(choose_candidates(large, None)["x"]) == 1
