"""What runs: one line per component, as a table for people."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.cluster.processes import Identity, Supervisor

HEADER: Final = ("COMPONENT", "STATE", "PID", "UP", "MEMORY", "LOG")


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    name: str
    log: Path
    pid: int | None = None
    up_seconds: float | None = None
    memory_bytes: int | None = None

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    def row(self) -> tuple[str, ...]:
        state = "running" if self.is_running else "dead"
        up = "" if self.up_seconds is None else format_seconds(self.up_seconds)
        memory = "" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f} MiB"
        return (self.name, state, str(self.pid or ""), up, memory, str(self.log))


def observe_components(supervisor: Supervisor) -> list[ComponentStatus]:
    """Look at every component that was started and not stopped."""
    return [_observe(supervisor, name) for name in supervisor.names()]


def render_table(statuses: Sequence[ComponentStatus]) -> str:
    rows = [HEADER, *(status.row() for status in statuses)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def format_seconds(seconds: float) -> str:
    """Write a duration in its largest two units."""
    whole = int(seconds)
    for unit, size, smaller, small_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small_size} {smaller}"
    return f"{whole} s"


def _observe(supervisor: Supervisor, name: str) -> ComponentStatus:
    identity, log = supervisor.identity(name), supervisor.log(name)
    if identity is None or not identity.is_alive():
        return ComponentStatus(name, log)
    return ComponentStatus(
        name,
        log,
        pid=identity.pid,
        up_seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - _start_seconds(identity),
        memory_bytes=_resident_bytes(identity.pid),
    )


def _start_seconds(identity: Identity) -> float:
    return identity.start_ticks / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
