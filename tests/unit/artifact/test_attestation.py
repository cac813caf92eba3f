from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelwright_artifact.attestation import (
    INPUT_PREFIX,
    OUTPUT_PREFIX,
    compare_outputs,
    load_arrays,
    load_golden_inputs,
    load_golden_outputs,
    save_arrays,
)
from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.manifest import Golden

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN = {"y": np.array([[1.0, -2.0], [0.0, 100.0]], np.float32), "k": np.array([3, 1])}
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e6, 1e6, width=32)
)


@given(arrays)
def test_equal_outputs_agree_at_no_tolerance(values: np.ndarray) -> None:
    assert compare_outputs({"y": values}, {"y": values.copy()}, atol=0, rtol=0) == ()


@given(arrays, st.floats(1e-3, 10))
def test_outputs_agree_exactly_up_to_the_tolerance(values: np.ndarray, atol: float) -> None:
    wide = values.astype(np.float64)
    inside, outside = wide.copy(), wide.copy()
    inside.flat[0] += 0.99 * atol
    outside.flat[0] += 1.01 * atol
    assert not compare_outputs({"y": inside}, {"y": wide}, atol=atol, rtol=0)
    assert compare_outputs({"y": outside}, {"y": wide}, atol=atol, rtol=0)


def changed(name: str, value: object) -> dict[str, object]:
    return {**GOLDEN, name: value}


WRONG = {
    "a value off": (changed("y", GOLDEN["y"] + np.float32(0.1)), "4 of 4 elements.*by up to 0.1"),
    "one NaN": (changed("y", np.where(GOLDEN["y"] == 0, np.nan, GOLDEN["y"])), "1 of 4"),
    "infinity": (changed("y", np.where(GOLDEN["y"] == 1, np.inf, GOLDEN["y"])), "1 of 4"),
    "another integer": (changed("k", np.array([3, 2])), "1 of 2"),
    "another shape": (changed("y", GOLDEN["y"][:1]), r"float32\[1, 2\]"),
    "another type": (changed("y", GOLDEN["y"].astype(np.float64)), "float64"),
    "a missing output": ({"y": GOLDEN["y"]}, "'k' is missing"),
}


@pytest.mark.parametrize(("outputs", "want"), WRONG.values(), ids=WRONG.keys())
def test_outputs_are_not_attested_with(outputs: dict[str, np.ndarray], want: str) -> None:
    if outputs.get("y") is not None and outputs["y"].dtype != np.float64:
        outputs = {**outputs, "y": outputs["y"].astype(np.float32)}
    (mismatch,) = compare_outputs(outputs, GOLDEN, atol=1e-3, rtol=0)
    with pytest.raises(AssertionError, match=want):
        raise AssertionError(mismatch.sentence)


def test_a_relative_tolerance_scales_with_the_golden_value() -> None:
    golden = {"y": np.array([1000.0, 1.0])}
    assert not compare_outputs({"y": golden["y"] + [5, 0]}, golden, atol=0, rtol=0.01)
    assert compare_outputs({"y": golden["y"] + [0, 5]}, golden, atol=0, rtol=0.01)


def test_nan_agrees_with_nan_only() -> None:
    golden = {"y": np.array([np.nan, np.inf])}
    assert not compare_outputs({"y": np.array([np.nan, np.inf])}, golden, atol=1, rtol=1)
    assert compare_outputs({"y": np.array([0.0, np.inf])}, golden, atol=1, rtol=1)
    assert compare_outputs({"y": np.array([np.nan, -np.inf])}, golden, atol=1, rtol=1)


def test_golden_files_are_read_as_written_and_stable(tmp_path: Path) -> None:
    inputs = {"a:0": np.arange(6, dtype=np.float32).reshape(3, 2), "b/c": np.array([1, 2, 3])}
    (tmp_path / "golden").mkdir()
    golden = Golden(inputs="golden/inputs.npz", outputs="golden/v.npz", atol=0, rtol=0)
    save_arrays(tmp_path / golden.inputs, INPUT_PREFIX, inputs)
    save_arrays(tmp_path / golden.outputs, OUTPUT_PREFIX, dict(reversed(inputs.items())))
    first = (tmp_path / golden.inputs).read_bytes()
    save_arrays(tmp_path / golden.inputs, INPUT_PREFIX, dict(reversed(inputs.items())))
    assert (tmp_path / golden.inputs).read_bytes() == first
    for read in (load_golden_inputs, load_golden_outputs):
        back = read(tmp_path, golden)
        assert set(back) == set(inputs)
        assert all(np.array_equal(back[name], inputs[name]) for name in inputs)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{"outputs/y": np.array([{}], dtype=object)})
    with pytest.raises(ArtifactError, match="cannot be read as golden data"):
        load_arrays(tmp_path / "bad.npz", OUTPUT_PREFIX)
