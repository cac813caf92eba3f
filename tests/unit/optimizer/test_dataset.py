"""Every dataset that cannot be used, the sentence it ends with, and how rows are divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_artifact.manifest import TensorSpec
from modelwright_artifact.request import Metric
from modelwright_optimizer.dataset import (
    Dataset,
    check_inputs,
    check_labels,
    check_row_count,
    hash_rows,
    load_dataset,
    split_rows,
)
from modelwright_optimizer.failures import BuildFailure, Reason
from tests.unit.optimizer.models import SIDE, make_rows, write_rows

SPECS = (TensorSpec(name="x", datatype="FP32", shape=(-1, 1, SIDE, SIDE)),)
ROWS, LABELS = make_rows(40)
WITH_NAN, WITH_INFINITY = ROWS.copy(), ROWS.copy()
WITH_NAN[3, 0, 2, 2], WITH_INFINITY[5, 0, 0, 0] = np.nan, np.inf


def read(path: Path, metric: Metric) -> Dataset:
    """What the build does with an evaluation set."""
    dataset = load_dataset(path, Reason.EVALUATION_INVALID)
    check_inputs(dataset, SPECS, Reason.EVALUATION_INVALID)
    dataset = check_labels(dataset, metric)
    check_row_count(dataset, 20, Reason.EVALUATION_INVALID, " to judge")
    return dataset


ACCURACY, RMSE = Metric(name="Accuracy"), Metric(name="RMSE")
BAD: dict[str, tuple[Metric, dict[str, Any], str]] = {
    "a wrong shape": (
        ACCURACY,
        {"inputs/x": ROWS.reshape(40, SIDE, SIDE)},
        r"takes the shape \[any, 1, 8, 8\]; the dataset holds \[40, 8, 8\]",
    ),
    "a wrong size": (
        ACCURACY,
        {"inputs/x": np.zeros((40, 1, 8, 9), np.float32)},
        r"holds \[40, 1, 8, 9\]",
    ),
    "a wrong dtype": (
        ACCURACY,
        {"inputs/x": ROWS.astype(np.float64)},
        r"takes float32; the dataset holds float64. Convert it with .astype\(numpy.float32\)",
    ),
    "NaN": (ACCURACY, {"inputs/x": WITH_NAN}, "NaN or infinity, first in row 3"),
    "infinity": (ACCURACY, {"inputs/x": WITH_INFINITY}, "NaN or infinity, first in row 5"),
    "no labels": (ACCURACY, {"labels": None}, "holds none: add an array named labels"),
    "labels for other rows": (ACCURACY, {"labels": LABELS[:30]}, "30 labels for 40 rows"),
    "a scalar label": (ACCURACY, {"labels": np.int64(1)}, "no labels for 40 rows"),
    "labels that are no classes": (
        ACCURACY,
        {"labels": LABELS.astype(np.float32)},
        "one integer class per row; the labels are float32",
    ),
    "labels of two axes": (ACCURACY, {"labels": np.zeros((40, 2), np.int64)}, "int64\\[40, 2\\]"),
    "a negative class": (ACCURACY, {"labels": LABELS - 1}, "negative class"),
    "targets that are NaN": (RMSE, {"labels": np.full(40, np.nan)}, "labels hold NaN"),
    "targets that are text": (RMSE, {"labels": np.array(["a"] * 40)}, "takes numbers as labels"),
    "another input": (
        ACCURACY,
        {"inputs/x": None, "inputs/image": ROWS},
        "inputs are 'x'; the dataset holds 'image'",
    ),
    "no input": (ACCURACY, {"inputs/x": None}, "the dataset holds none"),
    "an array nobody asked for": (ACCURACY, {"weights": LABELS}, "holds 'weights'"),
    "3 rows": (
        ACCURACY,
        {"inputs/x": ROWS[:3], "labels": LABELS[:3]},
        "has 3 rows; at least 20 are needed to judge",
    ),
    "no rows": (ACCURACY, {"inputs/x": ROWS[:0], "labels": LABELS[:0]}, "has 0 rows"),
    "the same row again and again": (
        ACCURACY,
        {"inputs/x": np.repeat(ROWS[:2], 20, axis=0)},
        "Only 2 of the 40 rows differ",
    ),
}


@pytest.mark.parametrize(("metric", "changes", "want"), BAD.values(), ids=BAD.keys())
def test_an_evaluation_set_is_invalid_with(
    metric: Metric, changes: dict[str, Any], want: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.npz", 40, **changes)
    with pytest.raises(BuildFailure, match=want) as caught:
        read(path, metric)
    assert (caught.value.reason, caught.value.exit_code) == (Reason.EVALUATION_INVALID, 42)


def pickled(path: Path) -> None:
    np.savez(path, **{"inputs/x": np.array([{}], dtype=object)})


def no_archive(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 and then nothing")


def one_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, ROWS)


def truncated(path: Path) -> None:
    write_rows(path, 40)
    path.write_bytes(path.read_bytes()[:500])


FILES = {
    "a pickle": pickled,
    "no archive": no_archive,
    "an .npy": one_array,
    "a truncated archive": truncated,
    "0 bytes": Path.touch,
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("reason", [Reason.EVALUATION_INVALID, Reason.CALIBRATION_INVALID])
def test_a_file_is_no_dataset(write: Any, reason: Reason, tmp_path: Path) -> None:
    write(tmp_path / "rows.npz")
    with pytest.raises(BuildFailure, match=r"write it with numpy\.savez") as caught:
        load_dataset(tmp_path / "rows.npz", reason)
    assert caught.value.reason == reason


def test_a_good_set_is_read_whole(tmp_path: Path) -> None:
    dataset = read(write_rows(tmp_path / "rows.npz", 40), ACCURACY)
    assert np.array_equal(dataset.inputs["x"], ROWS)
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels, LABELS)


def test_labels_may_stand_in_a_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.npz", 40, labels=LABELS[:, None])
    labels = read(path, ACCURACY).labels
    assert labels is not None
    assert labels.shape == (40,)


def test_metrics_without_labels_need_none(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.npz", 40, labels=None)
    assert read(path, Metric(name="CosineSimilarity")).labels is None


def test_rows_of_several_inputs_belong_together() -> None:
    specs = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, 2)) for name in ("a", "b"))
    dataset = Dataset({"a": np.zeros((5, 2), np.int64), "b": np.zeros((4, 2), np.int64)})
    with pytest.raises(BuildFailure, match="a 5, b 4"):
        check_inputs(dataset, specs, Reason.EVALUATION_INVALID)


# --- dividing ---------------------------------------------------------------------------------

# Few different values, so that many rows are copies of each other.
columns = st.lists(st.integers(0, 30), min_size=5, max_size=120).map(
    lambda values: np.array(values, np.int64)[:, None]
)


def numbered(values: np.ndarray) -> Dataset:
    return Dataset({"x": values}, np.arange(len(values)))


@given(columns)
def test_no_row_and_no_copy_of_it_is_on_two_sides(values: np.ndarray) -> None:
    dataset = numbered(values)
    split = split_rows(dataset)
    parts = (split.calibration, split.search, split.gate)
    hashes = [set(hash_rows(part)) for part in parts]
    assert not hashes[0] & hashes[1]
    assert not hashes[0] & hashes[2]
    assert not hashes[1] & hashes[2]
    back = sorted(int(label) for part in parts for label in part.labels)  # type: ignore[union-attr]
    assert back == list(range(dataset.rows))


@given(columns, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(values: np.ndarray, random: Any) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    first, second = split_rows(Dataset({"x": values})), split_rows(Dataset({"x": values[order]}))
    assert np.array_equal(first.gate.inputs["x"], second.gate.inputs["x"])
    assert np.array_equal(first.calibration.inputs["x"], second.calibration.inputs["x"])


@given(columns, columns)
def test_a_judged_row_never_calibrates(values: np.ndarray, others: np.ndarray) -> None:
    split = split_rows(numbered(values), Dataset({"x": others}))
    assert not set(hash_rows(split.calibration)) & set(hash_rows(split.gate))


def test_the_sample_keeps_almost_nine_hundred_rows_to_judge() -> None:
    rows, labels = make_rows(1097)
    split = split_rows(Dataset({"x": rows}, labels))
    assert (split.calibration.rows, split.search.rows, split.gate.rows) == (150, 50, 897)
    with_set = split_rows(Dataset({"x": rows}, labels), Dataset({"x": make_rows(200, seed=9)[0]}))
    assert (with_set.calibration.rows, with_set.search.rows, with_set.gate.rows) == (200, 200, 897)


def test_labels_do_not_move_a_row() -> None:
    rows, labels = make_rows(100)
    first, second = split_rows(Dataset({"x": rows}, labels)), split_rows(Dataset({"x": rows}))
    assert np.array_equal(first.gate.inputs["x"], second.gate.inputs["x"])
