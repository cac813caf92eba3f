"""What disturbed a measurement: time stolen by the host, time withheld by the CPU quota."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC_STAT: Final = Path("/proc/stat")
_CGROUP_STATS: Final = (
    Path("/sys/fs/cgroup/cpu.stat"),
    Path("/sys/fs/cgroup/cpu/cpu.stat"),
    Path("/sys/fs/cgroup/cpu,cpuacct/cpu.stat"),
)
_STEAL_FIELD: Final = 8


@dataclass(frozen=True, slots=True)
class NoiseSample:
    """Counters at one moment; two samples make a reading."""

    wall_seconds: float
    stolen_seconds: float
    throttled_seconds: float
    throttled_periods: int


@dataclass(frozen=True, slots=True)
class Noise:
    """What happened between two samples."""

    wall_seconds: float
    stolen_percent: float
    throttled_percent: float
    throttled_periods: int


def observe_noise() -> NoiseSample:
    """Read the counters; what this system does not count is zero."""
    throttled = _read_cgroup()
    return NoiseSample(
        wall_seconds=time.monotonic(),
        stolen_seconds=_read_stolen_seconds(),
        throttled_seconds=throttled.get("throttled_usec", 0) / 1e6
        + throttled.get("throttled_time", 0) / 1e9,
        throttled_periods=throttled.get("nr_throttled", 0),
    )


def build_noise(before: NoiseSample, after: NoiseSample) -> Noise:
    """The difference of two samples; percent of one CPU over the wall time."""
    wall = max(after.wall_seconds - before.wall_seconds, 1e-9)
    cpus = os.cpu_count() or 1
    return Noise(
        wall_seconds=wall,
        stolen_percent=100 * (after.stolen_seconds - before.stolen_seconds) / wall / cpus,
        throttled_percent=100 * (after.throttled_seconds - before.throttled_seconds) / wall,
        throttled_periods=after.throttled_periods - before.throttled_periods,
    )


def _read_stolen_seconds() -> float:
    try:
        fields = _PROC_STAT.read_text().partition("\n")[0].split()
        return int(fields[_STEAL_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def _read_cgroup() -> dict[str, int]:
    for path in _CGROUP_STATS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        return {name: int(value) for name, value in (line.split() for line in lines)}
    return {}
