from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright_artifact.request import Budget, Metric
from modelwright_optimizer.intervals import bound_paired_drop
from modelwright_optimizer.judge import Judgement, Within, find_rows_needed, judge
from modelwright_optimizer.metrics import Classes, Energies, Errors, Hits, Scores, Similarities

ACCURACY = Metric(name="Accuracy")


def budget(value: str, kind: str = "AbsoluteDrop") -> Budget:
    return Budget(type=kind, value=value)


def hits(rows: int, *, wrong: int = 0, start: int = 0) -> Hits:
    right = np.ones(rows, np.bool_)
    right[start : start + wrong] = False
    return Hits(right)


def judge_hits(rows: int, lost: int, gained: int, limit: Budget) -> Judgement:
    return judge(ACCURACY, limit, hits(rows, wrong=lost), hits(rows, wrong=gained, start=lost))


CASES: dict[str, tuple[tuple[int, int, int], Budget, Within]] = {
    "no disagreement in 598 rows holds half a point": ((598, 0, 0), budget("0.5"), Within.YES),
    "no disagreement in 597 rows does not": ((597, 0, 0), budget("0.5"), Within.UNDECIDED),
    "897 rows with 3 lost and 1 gained hold a point": ((897, 3, 1), budget("1.0"), Within.YES),
    "897 rows with 6 lost hold no point": ((897, 6, 0), budget("1.0"), Within.UNDECIDED),
    "897 rows with 20 lost are over a point": ((897, 20, 0), budget("1.0"), Within.NO),
    "a better variant of many rows holds": ((5000, 10, 40), budget("0.5"), Within.YES),
    "a budget of nothing is never shown by rows": ((5000, 0, 0), budget("0"), Within.UNDECIDED),
    "a relative drop counts percent": ((2000, 4, 0), budget("1", "RelativeDrop"), Within.YES),
    "a value above the minimum holds": ((1000, 10, 0), budget("97", "Minimum"), Within.YES),
    "a value below it does not": ((1000, 40, 0), budget("97", "Minimum"), Within.NO),
    "a value near it is undecided": ((1000, 28, 0), budget("97", "Minimum"), Within.UNDECIDED),
}


@pytest.mark.parametrize(("counts", "limit", "want"), CASES.values(), ids=CASES.keys())
def test_accuracy(counts: tuple[int, int, int], limit: Budget, want: Within) -> None:
    judgement = judge_hits(*counts, limit)
    assert judgement.within is want
    assert judgement.why.endswith(".")
    accuracy = judgement.accuracy
    assert accuracy.drop_low is not None
    assert accuracy.drop is not None
    assert accuracy.drop_high is not None
    assert accuracy.drop_low <= accuracy.drop <= accuracy.drop_high


def test_figures_are_in_points_of_percent() -> None:
    accuracy = judge_hits(1000, 20, 10, budget("1")).accuracy
    assert (accuracy.value, accuracy.reference, accuracy.unit) == (98.0, 99.0, "points")
    assert accuracy.drop == pytest.approx(1.0)
    assert (accuracy.metric, accuracy.rows) == ("Accuracy", 1000)


def test_a_relative_drop_is_in_percent_of_the_reference() -> None:
    reference = hits(1000, wrong=500)
    judgement = judge(ACCURACY, budget("5", "RelativeDrop"), hits(1000, wrong=510), reference)
    assert judgement.accuracy.unit == "percent"
    assert judgement.accuracy.drop == pytest.approx(2.0)


def test_undecided_names_the_rows_that_would_do() -> None:
    why = judge_hits(300, 0, 0, budget("0.5")).why
    assert "300 rows cannot show" in why
    assert int(re.findall(r"About (\d+) rows", why)[0]) == 598


@given(st.integers(0, 6), st.integers(0, 6), st.integers(50, 900), st.floats(0.002, 0.05))
def test_the_rows_named_would_do_indeed(lost: int, gained: int, rows: int, limit: float) -> None:
    needed = find_rows_needed(lost, gained, rows, limit)
    if needed is None:
        assert (lost - gained) / rows > limit * 0.99
    else:
        factor = needed / rows
        drop = bound_paired_drop(round(lost * factor), round(gained * factor), needed)
        assert drop.high <= limit


def test_a_drop_as_large_as_the_budget_has_no_number_of_rows() -> None:
    assert "No number of rows" in judge_hits(200, 2, 0, budget("1")).why


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["0.5", "1", "3"]))
def test_a_larger_budget_never_turns_yes_into_no(lost: int, gained: int, value: str) -> None:
    tight, wide = budget(value), budget(str(float(value) + 1))
    order = [Within.NO, Within.UNDECIDED, Within.YES]
    first = judge_hits(600, lost, gained, tight).within
    assert order.index(judge_hits(600, lost, gained, wide).within) >= order.index(first)


def a_spread(scale: float, rows: int = 400) -> np.ndarray:
    return np.random.default_rng(2).exponential(scale, rows)


def classes(flip: int, rows: int = 500) -> Classes:
    true = np.arange(rows, dtype=np.int64) % 5
    given = true.copy()
    given[:flip] = (given[:flip] + 1) % 5
    return Classes(given, true)


OTHERS: dict[str, tuple[str, Budget, Scores, Scores, Within]] = {
    "F1 without disagreement in 500 rows holds a point": (
        "F1",
        budget("1"),
        classes(0),
        classes(0),
        Within.YES,
    ),
    "F1 without disagreement in 50 rows does not": (
        "F1",
        budget("1"),
        classes(0, 50),
        classes(0, 50),
        Within.UNDECIDED,
    ),
    "F1 of many wrong rows is over": ("F1", budget("1"), classes(30), classes(0), Within.NO),
    "RMSE within its unit": (
        "RMSE",
        budget("0.1"),
        Errors(a_spread(1.0) + 0.01),
        Errors(a_spread(1.0)),
        Within.YES,
    ),
    "RMSE beyond its unit": (
        "RMSE",
        budget("0.1"),
        Errors(a_spread(2.0)),
        Errors(a_spread(1.0)),
        Within.NO,
    ),
    "RMSE must not exceed its minimum": (
        "RMSE",
        budget("5", "Minimum"),
        Errors(a_spread(1.0)),
        Errors(a_spread(1.0)),
        Within.YES,
    ),
    "RMSE of equal numbers holds a budget of nothing": (
        "RMSE",
        budget("0"),
        Errors(a_spread(1.0)),
        Errors(a_spread(1.0)),
        Within.YES,
    ),
    "similar outputs hold": (
        "CosineSimilarity",
        budget("0.01"),
        Similarities(1 - a_spread(0.001)),
        Similarities(np.ones(400)),
        Within.YES,
    ),
    "other outputs do not": (
        "CosineSimilarity",
        budget("0.01"),
        Similarities(1 - a_spread(0.05)),
        Similarities(np.ones(400)),
        Within.NO,
    ),
    "SQNR above its minimum holds": (
        "SQNR",
        budget("30", "Minimum"),
        Energies(np.ones(400), a_spread(1e-4)),
        Energies(np.ones(400), np.zeros(400)),
        Within.YES,
    ),
    "SQNR below it does not": (
        "SQNR",
        budget("30", "Minimum"),
        Energies(np.ones(400), a_spread(1e-2)),
        Energies(np.ones(400), np.zeros(400)),
        Within.NO,
    ),
}


@pytest.mark.parametrize(
    ("metric", "limit", "scores", "reference", "want"), OTHERS.values(), ids=OTHERS.keys()
)
def test_other_metrics(
    metric: str, limit: Budget, scores: Any, reference: Any, want: Within
) -> None:
    judgement = judge(Metric(name=metric), limit, scores, reference)
    assert judgement.within is want, judgement.why


def test_sqnr_has_a_value_and_no_drop() -> None:
    scores = Energies(np.ones(400), np.full(400, 1e-3))
    reference = Energies(np.ones(400), np.zeros(400))
    accuracy = judge(Metric(name="SQNR"), budget("20", "Minimum"), scores, reference).accuracy
    assert accuracy.value == pytest.approx(30.0)
    assert (accuracy.drop, accuracy.reference, accuracy.unit) == (None, None, "dB")


def test_sqnr_of_the_reference_itself_is_finite() -> None:
    scores = Energies(np.ones(400), np.zeros(400))
    accuracy = judge(Metric(name="SQNR"), budget("20", "Minimum"), scores, scores).accuracy
    assert accuracy.value == 200.0
