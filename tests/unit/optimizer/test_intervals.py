from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from modelwright_optimizer.intervals import (
    Bounds,
    bootstrap,
    bound_paired_drop,
    lower_share,
    rows_to_prove,
    upper_share,
)


def test_no_disagreement_proves_half_a_point_from_598_rows() -> None:
    assert rows_to_prove(0.005) == 598
    assert bound_paired_drop(0, 0, 598).high <= 0.005 < bound_paired_drop(0, 0, 597).high
    assert rows_to_prove(0.01) == 299
    assert bound_paired_drop(0, 0, 299).high <= 0.01 < bound_paired_drop(0, 0, 298).high


pairs = st.integers(1, 2000).flatmap(
    lambda rows: st.tuples(st.integers(0, rows), st.just(rows)).flatmap(
        lambda part: st.tuples(st.just(part[0]), st.integers(0, rows - part[0]), st.just(rows))
    )
)


@given(pairs)
def test_bounds_hold_the_estimate_and_stay_in_range(pair: tuple[int, int, int]) -> None:
    lost, gained, rows = pair
    bounds = bound_paired_drop(lost, gained, rows)
    assert bounds.value == (lost - gained) / rows
    assert -1 <= bounds.low <= bounds.value <= bounds.high <= 1


@given(pairs)
def test_swapping_the_sides_mirrors_the_bounds(pair: tuple[int, int, int]) -> None:
    lost, gained, rows = pair
    there, back = bound_paired_drop(lost, gained, rows), bound_paired_drop(gained, lost, rows)
    assert there.low == pytest.approx(-back.high, abs=1e-9)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(100, 3000))
def test_one_more_lost_row_never_lowers_the_bound(lost: int, gained: int, rows: int) -> None:
    first = bound_paired_drop(lost, gained, rows).high
    assert bound_paired_drop(lost + 1, gained, rows).high >= first - 1e-9


@pytest.mark.parametrize(
    ("lost_share", "gained_share", "rows"),
    [(0.01, 0.0, 300), (0.02, 0.01, 300), (0.005, 0.005, 600), (0.05, 0.04, 200), (0.0, 0.02, 300)],
)
def test_the_bound_covers_the_truth_as_often_as_it_says(
    lost_share: float, gained_share: float, rows: int
) -> None:
    """Exact coverage, summed over all outcomes that are not absurdly rare."""
    truth = lost_share - gained_share
    covered = total = 0.0
    top_lost = int(binom.ppf(1 - 1e-7, rows, lost_share)) + 1
    top_gained = int(binom.ppf(1 - 1e-7, rows, gained_share)) + 1
    shares = [lost_share, gained_share, 1 - lost_share - gained_share]
    for lost in range(top_lost + 1):
        for gained in range(top_gained + 1):
            chance = float(multinomial.pmf([lost, gained, rows - lost - gained], rows, shares))
            total += chance
            if bound_paired_drop(lost, gained, rows).high >= truth - 1e-12:
                covered += chance
    assert total > 0.9999
    # The score interval is approximate: a little below its 95 % for some truths.
    assert covered >= 0.94


@given(st.integers(1, 500), st.data())
def test_a_share_is_bounded_exactly(rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    low, high = lower_share(hits, rows), upper_share(hits, rows)
    assert 0 <= low <= hits / rows <= high <= 1
    if hits < rows:
        assert binom.cdf(hits, rows, high) == pytest.approx(0.05, abs=1e-6)
    if hits > 0:
        assert binom.sf(hits - 1, rows, low) == pytest.approx(0.05, abs=1e-6)


def test_the_bootstrap_finds_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(3).normal(10, 2, 400)
    bounds = bootstrap(lambda samples: values[samples].mean(axis=1), 400)
    margin = 1.645 * values.std() / math.sqrt(400)
    assert bounds.value == pytest.approx(values.mean())
    assert bounds.high - bounds.value == pytest.approx(margin, rel=0.1)
    assert bounds.value - bounds.low == pytest.approx(margin, rel=0.1)


def test_the_bootstrap_gives_the_same_bounds_again() -> None:
    values = np.arange(50.0)

    def run() -> Bounds:
        return bootstrap(lambda samples: values[samples].mean(axis=1), 50)

    assert run() == run()
