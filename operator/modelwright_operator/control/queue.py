"""Which keys wait for a worker: each at most once, never two passes of one key at a time.

Namespaces take turns, so that a busy one does not starve the others. Failing keys come back after
a growing pause; a key that wakes itself over and over is slowed down. Lives in one event loop.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelwright_operator.plan.types import Key

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_JITTER = 0.2
# A burst of events about one key becomes one pass.
_SPACING_SECONDS = 0.1
# After so many passes in a row a key gets one a second: a loop must not become a flood.
_BURST = 30.0
_REFILL_PER_SECOND = 1.0
# News may cut a failing key's pause short, but not below this.
_SHORTEST_PAUSE_SECONDS = 1.0
_MAX_IDLE = 10_000


class _Phase(enum.Enum):
    IDLE = enum.auto()
    DELAYED = enum.auto()
    READY = enum.auto()
    ACTIVE = enum.auto()


@dataclass(slots=True)
class _Entry:
    phase: _Phase = _Phase.IDLE
    is_dirty: bool = False
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0
    not_before: float = 0.0
    ready_since: float = 0.0
    failures: int = 0
    tokens: float = _BURST
    tokens_at: float = 0.0


class WorkQueue:
    """Keys to reconcile."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        """Start empty; `jitter` gives numbers from 0 to 1."""
        self._entries: dict[Key, _Entry] = {}
        self._ready: OrderedDict[str, deque[Key]] = OrderedDict()
        self._available = asyncio.Semaphore(0)
        self._jitter = jitter
        self._is_closed = False

    def add(self, key: Key) -> None:
        """Have a key looked at as soon as its turn comes."""
        self.add_after(key, 0.0)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key looked at in `seconds` at the latest."""
        if self._is_closed:
            return
        entry = self._entry(key)
        due = max(_now() + seconds, entry.not_before)
        match entry.phase:
            case _Phase.READY:
                return
            case _Phase.ACTIVE:
                # A wish for later is overruled by what the running pass says at its end.
                entry.is_dirty = entry.is_dirty or seconds <= 0
            case _Phase.DELAYED if entry.due <= due:
                return
            case _:
                self._schedule(key, entry, due)

    async def get(self) -> Key | None:
        """Wait for the next key; None when the queue is closed."""
        await self._available.acquire()
        if self._is_closed:
            return None
        namespace, keys = next(iter(self._ready.items()))
        key = keys.popleft()
        del self._ready[namespace]
        if keys:
            self._ready[namespace] = keys
        self._entries[key].phase = _Phase.ACTIVE
        return key

    def finish(self, key: Key, again_after_seconds: float | None) -> None:
        """A pass ended well; look again after a while, or only on news."""
        entry = self._entries[key]
        entry.failures = 0
        entry.not_before = _now() + self._pace(entry)
        self._rest(key, entry, again_after_seconds)

    def fail(self, key: Key, at_least_seconds: float = 0.0) -> float:
        """A pass failed; look again after a growing pause, which is returned."""
        entry = self._entries[key]
        pause = min(FIRST_PAUSE_SECONDS * 2.0**entry.failures, LONGEST_PAUSE_SECONDS)
        entry.failures += 1
        pause = max(pause * (1 + _JITTER * self._jitter()), at_least_seconds)
        entry.not_before = _now() + max(self._pace(entry), min(pause, _SHORTEST_PAUSE_SECONDS))
        self._rest(key, entry, pause)
        return pause

    def close(self, waiting: int) -> None:
        """Give out no more keys; `waiting` workers are told so."""
        self._is_closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        for _ in range(waiting):
            self._available.release()

    def depth(self) -> int:
        """How many keys are ready and wait for a worker."""
        return sum(len(keys) for keys in self._ready.values())

    def delayed(self) -> int:
        """How many keys wait for their time."""
        return sum(entry.phase is _Phase.DELAYED for entry in self._entries.values())

    def oldest_seconds(self) -> float:
        """How long the key that waits longest has been ready."""
        since = [self._entries[keys[0]].ready_since for keys in self._ready.values()]
        return _now() - min(since) if since else 0.0

    def _entry(self, key: Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            self._forget_idle()
            entry = self._entries[key] = _Entry(tokens_at=_now())
        return entry

    def _schedule(self, key: Key, entry: _Entry, due: float) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if due <= _now():
            self._make_ready(key, entry)
            return
        entry.phase = _Phase.DELAYED
        entry.due = due
        entry.timer = asyncio.get_running_loop().call_at(due, self._make_ready, key, entry)

    def _make_ready(self, key: Key, entry: _Entry) -> None:
        entry.timer = None
        entry.phase = _Phase.READY
        entry.ready_since = _now()
        self._ready.setdefault(key.namespace, deque()).append(key)
        self._available.release()

    def _rest(self, key: Key, entry: _Entry, again_after_seconds: float | None) -> None:
        entry.phase = _Phase.IDLE
        if entry.is_dirty:
            again_after_seconds = 0.0
        entry.is_dirty = False
        if again_after_seconds is not None and not self._is_closed:
            self._schedule(key, entry, max(_now() + again_after_seconds, entry.not_before))

    def _pace(self, entry: _Entry) -> float:
        """Spend one token and say how far away the next pass must be."""
        now = _now()
        entry.tokens = min(_BURST, entry.tokens + (now - entry.tokens_at) * _REFILL_PER_SECOND)
        entry.tokens_at = now
        entry.tokens -= 1
        if entry.tokens >= 0:
            return _SPACING_SECONDS
        return -entry.tokens / _REFILL_PER_SECOND

    def _forget_idle(self) -> None:
        """Keys of deleted objects rest for ever; drop them once there are many."""
        if len(self._entries) < _MAX_IDLE:
            return
        for key, entry in list(self._entries.items()):
            if entry.phase is _Phase.IDLE and entry.failures == 0:
                del self._entries[key]


def _now() -> float:
    return asyncio.get_running_loop().time()
