"""Measuring with calls whose cost is known: no test here looks at how fast the machine is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from modelwright_optimizer.engine import open_graph
from modelwright_optimizer.measure import RoundPlan, measure_batches, measure_latency
from modelwright_optimizer.noise import NoiseSample, build_noise, observe_noise
from tests.unit.optimizer.models import make_classifier, make_rows

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = RoundPlan(
    wanted_rounds=5, least_rounds=3, most_rounds=20, slice_seconds=1e-6, quiet_spread=1e9
)


def burn(loops: int) -> Callable[[], object]:
    """A call that costs CPU time in proportion to `loops`."""
    return lambda: sum(range(loops))


def test_a_call_of_a_quarter_of_the_work_is_seen_as_faster() -> None:
    calls = {"fp32": burn(20000), "fast": burn(5000), "slow": burn(80000)}
    timings = measure_latency(calls, "fp32", 1, PLAN)
    fast, slow = timings.by_name["fast"].speedup, timings.by_name["slow"].speedup
    assert fast.low > 1 > slow.high
    assert timings.by_name["fp32"].speedup.value == 1
    assert (timings.quiet_rounds, timings.disturbed_rounds) == (5, 0)
    latency = timings.by_name["slow"].latency
    assert 0 < latency.p50_micros <= latency.p99_micros
    assert latency.rounds == 5


def test_a_restless_reference_leaves_no_figures() -> None:
    loops = iter(range(10**9))

    def restless() -> object:
        # Every call costs more than the one before: the two readings of a round never agree.
        return sum(range(50 * next(loops)))

    plan = RoundPlan(
        wanted_rounds=5, least_rounds=3, most_rounds=6, slice_seconds=1e-6, quiet_spread=1e-9
    )
    timings = measure_latency({"fp32": restless, "v": burn(10)}, "fp32", 1, plan)
    assert timings.by_name == {}
    assert not timings.is_quiet
    assert timings.quiet_rounds + timings.disturbed_rounds == 6


def test_the_rounds_are_interleaved_with_the_reference_at_both_ends() -> None:
    seen: list[str] = []
    calls = {name: (lambda name=name: seen.append(name)) for name in ("fp32", "a", "b")}
    plan = RoundPlan(
        wanted_rounds=2,
        least_rounds=1,
        most_rounds=2,
        least_calls=1,
        most_calls=1,
        quiet_spread=1e9,
    )
    measure_latency(calls, "fp32", 2, plan)
    assert seen[-8:] == ["fp32", "a", "b", "fp32", "fp32", "b", "a", "fp32"]


def test_progress_ends_with_all_rounds() -> None:
    heard: list[float] = []
    measure_latency({"fp32": burn(10)}, "fp32", 1, PLAN, heard.append)
    assert heard == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_batch_curve_has_every_size_where_rows_are_free() -> None:
    row = {"x": make_rows(1)[0]}
    free = open_graph(make_classifier().SerializeToString(), 1)
    curve = measure_batches(free, row, (1, 4))
    assert [point.rows for point in curve] == [1, 4]
    assert all(point.micros > 0 for point in curve)
    fixed = open_graph(make_classifier(rows=4).SerializeToString(), 1)
    assert [point.rows for point in measure_batches(fixed, row, (1, 4, 8))] == [4]


def test_noise_is_the_difference_of_two_samples() -> None:
    before = NoiseSample(10.0, 1.0, 2.0, 3)
    after = NoiseSample(20.0, 1.0, 2.5, 8)
    noise = build_noise(before, after)
    assert (noise.wall_seconds, noise.stolen_percent) == (10.0, 0.0)
    assert (noise.throttled_percent, noise.throttled_periods) == (5.0, 5)


def test_the_counters_of_this_system_can_be_read() -> None:
    sample = observe_noise()
    assert np.isfinite([sample.stolen_seconds, sample.throttled_seconds]).all()
