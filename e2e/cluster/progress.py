"""One line per step: what, how long it took, how long it took last time."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from e2e.cluster.files import locked, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEARTBEAT_SECONDS = 15.0
NAME_WIDTH = 34


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds that each step took last time, kept in a file."""

    path: Path

    def last_seconds(self, step: str) -> float | None:
        return self._read().get(step)

    def record(self, step: str, seconds: float) -> None:
        with locked(self.path.with_suffix(".lock")):
            known = {**self._read(), step: round(seconds, 2)}
            write_atomically(self.path, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(step): float(seconds) for step, seconds in content.items()}


@dataclass(slots=True)
class Step:
    """What a running step may say about itself."""

    note: str = ""
    worked: bool = True

    def was_done(self, note: str = "already running") -> None:
        """Say that there was nothing to do, so that its time does not count."""
        self.note, self.worked = note, False


@dataclass(slots=True)
class Progress:
    """Prints steps as they end, and a sign of life while a long one runs."""

    durations: Durations
    out: TextIO = field(default_factory=lambda: sys.stderr)
    prefix: str = ""

    @contextmanager
    def step(self, name: str, *, key: str | None = None) -> Iterator[Step]:
        """Time the block; `key` names it among the durations kept."""
        key = key or f"{self.prefix}{name}"
        last = self.durations.last_seconds(key)
        ended = threading.Event()
        begun = time.monotonic()
        beat = threading.Thread(target=self._beat, args=(name, begun, last, ended), daemon=True)
        beat.start()
        step = Step()
        try:
            yield step
        except BaseException:
            self._print("✗", name, time.monotonic() - begun, last, "")
            raise
        finally:
            ended.set()
            beat.join()
        seconds = time.monotonic() - begun
        self._print("✓", name, seconds, last if step.worked else None, step.note)
        if step.worked:
            self.durations.record(key, seconds)

    def say(self, sentence: str) -> None:
        print(sentence, file=self.out, flush=True)

    def _beat(self, name: str, begun: float, last: float | None, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            self._print("…", name, time.monotonic() - begun, last, "")

    def _print(self, mark: str, name: str, seconds: float, last: float | None, note: str) -> None:
        before = "" if last is None else f"  last time {last:.1f} s"
        remark = f"  {note}" if note else ""
        self.say(f" {mark} {name:<{NAME_WIDTH}} {seconds:6.1f} s{before}{remark}")
