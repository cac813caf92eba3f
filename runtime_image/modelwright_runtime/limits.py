"""How much CPU this process may use: cgroup quota and affinity, never the host's core count."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def observe_cpu_limit() -> int:
    """Whole CPUs this process may use, at least 1; a broken quota file counts as none."""
    usable = len(os.sched_getaffinity(0))
    quotas = [
        quota
        for quota in (*_list_v2_quotas(), _get_v1_quota(CGROUP_ROOT / "cpu"))
        if quota is not None
    ]
    return resolve_cpu_limit(usable, quotas)


def resolve_cpu_limit(usable: int, quotas: list[float]) -> int:
    """The smallest of the limits; part of a CPU counts as one, so that work can start at all."""
    return max(1, min([usable, *(math.ceil(quota) for quota in quotas)]))


def parse_cpu_max(text: str) -> float | None:
    """CPUs granted by a cgroup v2 `cpu.max` line; None for `max` or anything unreadable."""
    fields = text.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or fields[1] == "0":
        return None
    return int(fields[0]) / int(fields[1])


def _list_v2_quotas() -> list[float | None]:
    """The quotas of this process's cgroup and of all above it that can be seen."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = CGROUP_ROOT / own.strip("/")
    return [
        parse_cpu_max(_read(level / "cpu.max"))
        for level in (folder, *folder.parents)
        if level.is_relative_to(CGROUP_ROOT)
    ]


def _get_v1_quota(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return parse_cpu_max(f"{quota.strip()} {period.strip()}")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
