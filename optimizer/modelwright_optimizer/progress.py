"""How far a build is: one value that the terminal, the HTTP answer and tests read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Shares of the whole in percent, from builds of small models: an estimate, nothing depends on it.
STEPS: Final = {
    "Look": 1,
    "Fetch": 4,
    "Inspect": 5,
    "Quantize": 20,
    "Judge": 20,
    "Measure": 35,
    "Write": 10,
    "Push": 5,
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a build; `remaining_seconds` is an estimate, None while there is none."""

    step: str
    percent: int
    message: str
    elapsed_seconds: int
    remaining_seconds: int | None

    def to_json(self) -> dict[str, Any]:
        """The body of `GET /progress`."""
        document: dict[str, Any] = {
            "step": self.step,
            "percent": self.percent,
            "message": self.message,
            "elapsedSeconds": self.elapsed_seconds,
        }
        if self.remaining_seconds is not None:
            document["remainingSeconds"] = self.remaining_seconds
        return document


class Progress:
    """Written by the build, read from other threads; never goes backwards."""

    def __init__(
        self,
        on_change: Callable[[Snapshot], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._step, self._message, self._percent = "Look", "", 0.0

    def report(self, step: str, share: float, message: str) -> None:
        """Say that `share` (0 to 1) of a step is done, and what is being done now."""
        before = sum(weight for name, weight in STEPS.items() if _comes_before(name, step))
        percent = before + STEPS[step] * min(max(share, 0.0), 1.0)
        with self._lock:
            self._step, self._message = step, message
            self._percent = max(self._percent, percent)
        if self._on_change is not None:
            self._on_change(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Where the build is now."""
        with self._lock:
            step, message, percent = self._step, self._message, self._percent
        elapsed = self._clock() - self._start
        remaining = elapsed * (100 - percent) / percent if percent >= 5 else None
        return Snapshot(
            step=step,
            percent=int(percent),
            message=message,
            elapsed_seconds=int(elapsed),
            remaining_seconds=None if remaining is None else int(remaining),
        )


def _comes_before(name: str, step: str) -> bool:
    order = list(STEPS)
    return order.index(name) < order.index(step)
