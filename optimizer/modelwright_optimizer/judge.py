"""Decides whether a variant keeps its accuracy: paired, with confidence, never by a point.

A bound holds with 95 % confidence on its side. A variant is within the budget only when the
whole interval is; where too few rows were judged to say so, the verdict is undecided and the
sentence names how many rows would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np

from modelwright_artifact.measurements import Accuracy
from modelwright_optimizer.intervals import (
    Bounds,
    bootstrap,
    bound_paired_drop,
    lower_share,
    rows_to_prove,
    upper_share,
)
from modelwright_optimizer.metrics import (
    SQNR_CEILING_DB,
    Classes,
    Energies,
    Errors,
    Hits,
    Scores,
    Similarities,
    macro_f1,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from modelwright_artifact.request import Budget, Metric

MOST_ROWS_NAMED: Final = 10_000_000
_PERCENT: Final = 100.0
# Shares closer than this to the budget are the budget: decimal budgets meet binary floats.
_EQUAL: Final = 1e-9


class Within(Enum):
    """Whether the budget is held."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The accuracy of a variant on the gate rows, and what that means for the budget."""

    accuracy: Accuracy
    within: Within
    why: str


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A variant against the reference: values and drop, larger drop = worse, in `unit`."""

    rows: int
    unit: str
    value: Bounds
    reference: float | None
    drop: Bounds | None
    smaller_is_better: bool = False


def judge(metric: Metric, budget: Budget, scores: Scores, reference: Scores) -> Judgement:
    """Judge a variant's scores against the reference's on the same rows."""
    comparison = _compare(scores, reference)
    if budget.type == "RelativeDrop":
        comparison = _relative(comparison)
    within, why = _decide(budget, comparison, scores, reference)
    return Judgement(_build_accuracy(metric, comparison), within, why)


def _compare(scores: Scores, reference: Scores) -> _Comparison:
    match scores, reference:
        case Hits(), Hits():
            return _compare_hits(scores, reference)
        case Classes(), Classes():
            return _compare_classes(scores, reference)
        case Errors(), Errors():
            return _compare_errors(scores, reference)
        case Similarities(), _:
            return _compare_similarities(scores)
        case Energies(), _:
            return _compare_energies(scores)
        case _:
            raise TypeError("scores of two different metrics cannot be compared")


def _compare_hits(scores: Hits, reference: Hits) -> _Comparison:
    rows, right = len(scores.right), int(scores.right.sum())
    lost = int((reference.right & ~scores.right).sum())
    gained = int((scores.right & ~reference.right).sum())
    value = Bounds(right / rows, lower_share(right, rows), upper_share(right, rows))
    return _Comparison(
        rows=rows,
        unit="points",
        value=_scaled(value, _PERCENT),
        reference=float(reference.right.mean()) * _PERCENT,
        drop=_scaled(bound_paired_drop(lost, gained, rows), _PERCENT),
    )


def _compare_classes(scores: Classes, reference: Classes) -> _Comparison:
    rows = len(scores.true)

    def f1_of(given: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        return lambda samples: np.array(
            [macro_f1(given[sample], scores.true[sample]) for sample in samples]
        )

    ours, theirs = f1_of(scores.given), f1_of(reference.given)
    drop = bootstrap(lambda samples: theirs(samples) - ours(samples), rows)
    # Resampling rows that all agree proves nothing: unseen disagreements count as for Accuracy.
    right, was_right = scores.given == scores.true, reference.given == scores.true
    pairs = bound_paired_drop(
        int((was_right & ~right).sum()), int((right & ~was_right).sum()), rows
    )
    drop = Bounds(drop.value, min(drop.low, pairs.low), max(drop.high, pairs.high))
    return _Comparison(
        rows=rows,
        unit="points",
        value=_scaled(bootstrap(ours, rows), _PERCENT),
        reference=macro_f1(reference.given, reference.true) * _PERCENT,
        drop=_scaled(drop, _PERCENT),
    )


def _compare_errors(scores: Errors, reference: Errors) -> _Comparison:
    def rmse_of(errors: Errors) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        return lambda samples: np.sqrt(errors.squared[samples].mean(axis=1))

    ours, theirs = rmse_of(scores), rmse_of(reference)
    rows = len(scores.squared)
    return _Comparison(
        rows=rows,
        unit="rmse",
        value=bootstrap(ours, rows),
        reference=float(np.sqrt(reference.squared.mean())),
        drop=bootstrap(lambda samples: ours(samples) - theirs(samples), rows),
        smaller_is_better=True,
    )


def _compare_similarities(scores: Similarities) -> _Comparison:
    rows = len(scores.cosine)
    value = bootstrap(lambda samples: scores.cosine[samples].mean(axis=1), rows)
    drop = Bounds(1 - value.value, 1 - value.high, 1 - value.low)
    return _Comparison(rows=rows, unit="cosine", value=value, reference=1.0, drop=drop)


def _compare_energies(scores: Energies) -> _Comparison:
    def ratio(samples: NDArray[np.int64]) -> NDArray[np.float64]:
        signal = scores.signal[samples].sum(axis=1)
        noise = scores.noise[samples].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(signal / noise)
        return np.where(noise == 0, SQNR_CEILING_DB, np.minimum(decibels, SQNR_CEILING_DB))

    rows = len(scores.signal)
    value = bootstrap(ratio, rows)
    return _Comparison(rows=rows, unit="dB", value=value, reference=None, drop=None)


def _relative(comparison: _Comparison) -> _Comparison:
    """The drop as percent of the reference's value, which is taken as it was measured."""
    if comparison.drop is None or not comparison.reference:
        return comparison
    return _Comparison(
        rows=comparison.rows,
        unit="percent",
        value=comparison.value,
        reference=comparison.reference,
        drop=_scaled(comparison.drop, _PERCENT / comparison.reference),
        smaller_is_better=comparison.smaller_is_better,
    )


def _decide(
    budget: Budget, comparison: _Comparison, scores: Scores, reference: Scores
) -> tuple[Within, str]:
    limit = float(budget.amount)
    if budget.type == "Minimum":
        return _decide_minimum(limit, comparison)
    drop = comparison.drop
    if drop is None:
        raise TypeError("this metric has no drop, so its budget must be a Minimum")
    unit, rows = comparison.unit, comparison.rows
    if drop.high <= limit + _EQUAL or _is_equal(scores, reference):
        return Within.YES, (
            f"The drop is at most {min(drop.high, limit):.3g} {unit} with 95 % confidence "
            f"({rows} rows)."
        )
    if drop.value > limit:
        return Within.NO, f"The drop of {drop.value:.3g} {unit} is over the budget of {limit:g}."
    return Within.UNDECIDED, (
        f"{rows} rows cannot show that the drop stays within {limit:g} {unit}: it may reach "
        f"{drop.high:.3g}. {_name_rows(comparison, scores, reference, limit)}"
    )


def _decide_minimum(limit: float, comparison: _Comparison) -> tuple[Within, str]:
    value, rows = comparison.value, comparison.rows
    if comparison.smaller_is_better:
        sure, point, word = value.high <= limit, value.value <= limit, "at most"
        bound = value.high
    else:
        sure, point, word = value.low >= limit, value.value >= limit, "at least"
        bound = value.low
    if sure:
        return Within.YES, f"The value is {word} {bound:.4g} with 95 % confidence ({rows} rows)."
    if not point:
        return Within.NO, f"The value {value.value:.4g} is not {word} {limit:g}."
    return Within.UNDECIDED, (
        f"{rows} rows cannot show a value of {word} {limit:g}: it may be {bound:.4g}. "
        "Bring more rows."
    )


def _is_equal(scores: Scores, reference: Scores) -> bool:
    """Whether not a single number differs: then no row was needed to prove anything."""
    match scores, reference:
        case Similarities(), _:
            return bool((scores.cosine == 1.0).all())
        case Errors(), Errors():
            return bool((scores.squared == reference.squared).all())
        case _:
            return False


def _name_rows(comparison: _Comparison, scores: Scores, reference: Scores, limit: float) -> str:
    """How many rows would do if the further ones disagreed as often as these."""
    match scores, reference:
        case Hits(), Hits():
            right, was_right = scores.right, reference.right
        case Classes(), Classes():
            right, was_right = scores.given == scores.true, reference.given == reference.true
        case _:
            return "Bring more rows."
    share = limit / _PERCENT
    if comparison.unit == "percent" and comparison.reference:
        share *= comparison.reference / _PERCENT
    lost, gained = int((was_right & ~right).sum()), int((right & ~was_right).sum())
    needed = find_rows_needed(lost, gained, comparison.rows, share)
    if needed is None:
        return "No number of rows would: the drop is as large as the budget."
    return f"About {needed} rows to judge would do, if the others agree as these do."


def find_rows_needed(lost: int, gained: int, rows: int, limit: float) -> int | None:
    """A number of rows that would prove the limit at these rates, close to the least one."""

    def proves(count: int) -> bool:
        factor = count / rows
        drop = bound_paired_drop(round(lost * factor), round(gained * factor), count)
        return drop.high <= limit

    if limit <= 0 or (lost - gained) / rows >= limit:
        return None
    enough = max(rows, rows_to_prove(limit))
    too_few = rows
    while not proves(enough):
        too_few, enough = enough, enough + enough // 4 + 1
        if enough > MOST_ROWS_NAMED:
            return None
    while enough - too_few > max(1, enough // 50):
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if proves(middle) else (middle, enough)
    return enough


def _build_accuracy(metric: Metric, comparison: _Comparison) -> Accuracy:
    drop = comparison.drop
    return Accuracy(
        metric=metric.name,
        value=comparison.value.value,
        rows=comparison.rows,
        unit=comparison.unit,
        reference=comparison.reference,
        drop=None if drop is None else drop.value,
        drop_low=None if drop is None else drop.low,
        drop_high=None if drop is None else drop.high,
        value_low=comparison.value.low,
        value_high=comparison.value.high,
    )


def _scaled(bounds: Bounds, factor: float) -> Bounds:
    return Bounds(bounds.value * factor, bounds.low * factor, bounds.high * factor)
