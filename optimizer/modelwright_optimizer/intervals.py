"""Confidence bounds for paired comparisons. All bounds are one-sided; drops are fractions.

Sources: T. Tango, "Equivalence test and confidence interval for the difference in proportions
for the paired-sample design", Statistics in Medicine 17 (1998) 891-908; C. Clopper and
E. Pearson, Biometrika 26 (1934) 404-413; percentile bootstrap: B. Efron and R. Tibshirani,
"An Introduction to the Bootstrap" (1993), chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
BOOTSTRAP_SAMPLES: Final = 4000
_BOOTSTRAP_SEED: Final = 20240607

# Statistic of a resample: row indices [samples, rows] -> [samples].
Statistic = Callable[["NDArray[np.int64]"], "NDArray[np.float64]"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """An estimate, and the bounds that each hold with the confidence asked for."""

    value: float
    low: float
    high: float


def bound_paired_drop(lost: int, gained: int, rows: int, confidence: float = CONFIDENCE) -> Bounds:
    """Drop in the share of right answers: `lost` rows only the reference has right.

    The score interval on the discordant pairs, widened where it is too sure of itself: with few
    discordant pairs the exact binomial bound on the net difference counts, so that no
    disagreement in n rows proves a drop below x only where (1 - x)^n <= 1 - confidence.
    """
    return Bounds(
        (lost - gained) / rows,
        -_limit_drop(gained, lost, rows, confidence),
        _limit_drop(lost, gained, rows, confidence),
    )


def upper_share(hits: int, rows: int, confidence: float = CONFIDENCE) -> float:
    """Clopper-Pearson: the share is not larger than this."""
    return 1.0 if hits >= rows else float(beta.ppf(confidence, hits + 1, rows - hits))


def lower_share(hits: int, rows: int, confidence: float = CONFIDENCE) -> float:
    """Clopper-Pearson: the share is not smaller than this."""
    return 0.0 if hits <= 0 else float(beta.ppf(1 - confidence, hits, rows - hits + 1))


def bootstrap(statistic: Statistic, rows: int, confidence: float = CONFIDENCE) -> Bounds:
    """Percentile bootstrap over rows; the same rows give the same bounds."""
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    samples = []
    chunk = max(1, min(BOOTSTRAP_SAMPLES, 4_000_000 // max(rows, 1)))
    for start in range(0, BOOTSTRAP_SAMPLES, chunk):
        count = min(chunk, BOOTSTRAP_SAMPLES - start)
        samples.append(statistic(generator.integers(0, rows, size=(count, rows))))
    low, high = np.quantile(np.concatenate(samples), [1 - confidence, confidence])
    value = float(statistic(np.arange(rows)[None, :])[0])
    return Bounds(value, min(float(low), value), max(float(high), value))


def rows_to_prove(limit: float, confidence: float = CONFIDENCE) -> int:
    """How many rows without one disagreement prove a drop of at most `limit` (a fraction)."""
    if limit >= 1:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log(1 - limit))


def _limit_drop(lost: int, gained: int, rows: int, confidence: float) -> float:
    limit = _score_limit(lost, gained, rows, confidence)
    if lost < gained:
        return max(limit, -lower_share(gained - lost, rows, confidence))
    return max(limit, upper_share(lost - gained, rows, confidence))


def _score_limit(lost: int, gained: int, rows: int, confidence: float) -> float:
    """Tango's upper score limit for (lost - gained) / rows."""
    wanted = float(norm.ppf(confidence))
    drop = (lost - gained) / rows

    def excess(delta: float) -> float:
        return _score(lost, gained, rows, delta) + wanted

    nearly_one = 1 - 1e-12
    if drop >= nearly_one or excess(nearly_one) > 0:
        return 1.0
    return float(brentq(excess, drop + 1e-12, nearly_one, xtol=1e-9))


def _score(lost: int, gained: int, rows: int, delta: float) -> float:
    a = 2 * rows
    b = -lost - gained + (2 * rows - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = rows * (2 * share + delta * (1 - delta))
    if variance <= 0:
        return 0.0
    return (lost - gained - rows * delta) / math.sqrt(variance)
