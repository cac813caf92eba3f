"""The workers: take a key, run one pass, say when to look again. The one place that catches all.

A pass ends well, with a fault of the API server, or with an error nobody expected; in each case
the key comes back and the worker lives on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from modelwright_operator.kube.faults import KubeFault

if TYPE_CHECKING:
    from modelwright_operator.control.contract import Crash, Reconciler
    from modelwright_operator.control.queue import WorkQueue
    from modelwright_operator.plan.types import Key

log = logging.getLogger(__name__)

PASS_SECONDS = 120.0

# (kind of the key, result, seconds)
PassHook = Callable[[str, str, float], None]


class Workers:
    """A fixed number of workers on one queue."""

    def __init__(
        self,
        queue: WorkQueue,
        reconcilers: Mapping[str, Reconciler],
        *,
        count: int,
        on_pass: PassHook,
        on_crash: Crash,
    ) -> None:
        """Reconcile a key by the reconciler of its kind."""
        self._queue = queue
        self._reconcilers = reconcilers
        self._count = count
        self._on_pass = on_pass
        self._on_crash = on_crash

    async def run(self) -> None:
        """Work until the queue is closed; passes that run are finished."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"worker-{number}")

    def stop(self) -> None:
        """Take no more keys."""
        self._queue.close(self._count)

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            started = time.monotonic()
            result = await self._pass(key)
            self._on_pass(key.kind, result, time.monotonic() - started)

    async def _pass(self, key: Key) -> str:
        """Run one pass and return how it ended."""
        try:
            async with asyncio.timeout(PASS_SECONDS):
                again = await self._reconcilers[key.kind].reconcile(key)
        except KubeFault as fault:
            pause = self._queue.fail(key, fault.retry_after_seconds)
            log.warning(
                "pass failed",
                extra={
                    "key": str(key),
                    "fault": fault.kind,
                    "error": fault.message,
                    "again": pause,
                },
            )
            return fault.kind
        except Exception as error:
            await self._tell(key, error)
            pause = self._queue.fail(key)
            log.exception("pass crashed", extra={"key": str(key), "again": pause})
            return "InternalError"
        self._queue.finish(key, again)
        return "Done"

    async def _tell(self, key: Key, error: Exception) -> None:
        try:
            await self._on_crash(key, error)
        except Exception:
            log.exception("crash not told", extra={"key": str(key)})
