"""Latency: interleaved rounds against the reference, with an interval and a word on the noise.

One round calls every variant in turn and the reference at both ends. A round whose two
readings of the reference disagree was disturbed: it is dropped and repeated. Ratios are taken
within a round, of CPU time where one thread computes (preemption does not count in it), of
wall time otherwise; p50 and p99 are wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_artifact.measurements import BatchPoint, Latency, Speedup
from modelwright_optimizer.noise import Noise, build_noise, observe_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modelwright_optimizer.engine import Graph

Call = Callable[[], object]

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
_BOOTSTRAP_SAMPLES: Final = 4000
_SEED: Final = 7
_MICROS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """How long to measure, and what counts as a quiet round."""

    wanted_rounds: int = 30
    most_rounds: int = 120
    least_rounds: int = 15
    seconds: float = 180.0
    slice_seconds: float = 0.02
    least_calls: int = 3
    most_calls: int = 200
    quiet_spread: float = 0.10


@dataclass(frozen=True, slots=True)
class Timing:
    """One variant's figures; `speedup` is against the reference of the same rounds."""

    latency: Latency
    speedup: Speedup


@dataclass(frozen=True, slots=True)
class Timings:
    """All figures of one measurement; empty where the machine was too noisy to say anything."""

    by_name: Mapping[str, Timing]
    quiet_rounds: int
    disturbed_rounds: int
    noise: Noise

    @property
    def is_quiet(self) -> bool:
        """Whether there were enough undisturbed rounds."""
        return bool(self.by_name)


@dataclass(slots=True)
class _Readings:
    ratios: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


def measure_latency(
    calls: Mapping[str, Call],
    reference: str,
    threads: int,
    plan: RoundPlan | None = None,
    on_round: Callable[[float], None] | None = None,
) -> Timings:
    """Measure every call in interleaved rounds; `on_round` hears the share that is done."""
    plan = plan or RoundPlan()
    clock = time.thread_time if threads == 1 else time.perf_counter
    counts = {name: _choose_count(call, plan) for name, call in calls.items()}
    others = [name for name in calls if name != reference]
    readings = {name: _Readings() for name in calls}
    quiet = disturbed = 0
    before, deadline = observe_noise(), time.monotonic() + plan.seconds
    while quiet < plan.wanted_rounds and quiet + disturbed < plan.most_rounds:
        if time.monotonic() > deadline:
            break
        shift = (quiet + disturbed) % max(len(others), 1)
        order = [reference, *others[shift:], *others[:shift]]
        taken = {name: _take(calls[name], counts[name], clock) for name in order}
        again = _take(calls[reference], counts[reference], clock)
        first, last = taken[reference][0], again[0]
        if abs(first - last) > plan.quiet_spread * min(first, last):
            disturbed += 1
            continue
        quiet += 1
        base = (first + last) / 2
        for name, (mean, walls) in taken.items():
            readings[name].ratios.append(1.0 if name == reference else base / mean)
            readings[name].calls.extend(walls)
        if on_round is not None:
            on_round(quiet / plan.wanted_rounds)
    enough = quiet >= plan.least_rounds
    return Timings(
        by_name={name: _build_timing(r, quiet) for name, r in readings.items()} if enough else {},
        quiet_rounds=quiet,
        disturbed_rounds=disturbed,
        noise=build_noise(before, observe_noise()),
    )


def measure_batches(
    graph: Graph, row: Mapping[str, NDArray[Any]], sizes: Sequence[int] = BATCH_SIZES
) -> tuple[BatchPoint, ...]:
    """The batch curve c(b): median wall time of a call with b rows, where b is free."""
    if graph.fixed_rows is not None:
        sizes = [graph.fixed_rows]
    points = []
    for size in sizes:
        rows = {name: np.repeat(array[:1], size, axis=0) for name, array in row.items()}
        call = partial(graph.run, rows)
        call()
        walls = [_time_wall(call) for _ in range(7)]
        points.append(BatchPoint(rows=size, micros=float(np.median(walls)) * _MICROS))
    return tuple(points)


def _choose_count(call: Call, plan: RoundPlan) -> int:
    for _ in range(3):
        call()
    seconds = max(min(_time_wall(call) for _ in range(3)), 1e-7)
    return int(np.clip(plan.slice_seconds / seconds, plan.least_calls, plan.most_calls))


def _take(call: Call, count: int, clock: Callable[[], float]) -> tuple[float, list[float]]:
    """Mean time per call by `clock`, and the wall time of each."""
    start = clock()
    walls = [_time_wall(call) for _ in range(count)]
    return (clock() - start) / count, walls


def _time_wall(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _build_timing(readings: _Readings, rounds: int) -> Timing:
    walls = np.array(readings.calls) * _MICROS
    latency = Latency(
        p50_micros=round(float(np.quantile(walls, 0.5)), 3),
        p99_micros=round(float(np.quantile(walls, 0.99)), 3),
        mean_micros=round(float(walls.mean()), 3),
        rounds=rounds,
    )
    return Timing(latency, _build_speedup(np.array(readings.ratios)))


def _build_speedup(ratios: NDArray[np.float64]) -> Speedup:
    """Median of the rounds' ratios with its two-sided 95 % percentile bootstrap interval."""
    generator = np.random.default_rng(_SEED)
    picks = generator.integers(0, len(ratios), size=(_BOOTSTRAP_SAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
    return Speedup(
        value=round(float(np.median(ratios)), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
    )
