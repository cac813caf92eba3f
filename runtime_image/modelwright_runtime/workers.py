"""Threads that run jobs from one bounded queue, and hand the results back to the event loop.

`submit`, `cancel` and the callbacks belong to the loop's thread; `run` happens in a worker.
A later batcher takes this place: it decides which waiting jobs run together.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from modelwright_runtime.errors import Cancelled, InferenceFault, ModelFailed, Overloaded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from modelwright_runtime.protocol.messages import Tensor


class Job:
    """One piece of work: set up by the loop, filled in by a worker, finished on the loop."""

    __slots__ = ("cancelled", "fault", "finish", "finished", "outputs", "queued", "run", "started")

    def __init__(self, run: Callable[[], Sequence[Tensor]], finish: Callable[[Job], None]) -> None:
        self.run = run
        self.finish = finish
        self.cancelled = False
        self.outputs: Sequence[Tensor] = ()
        self.fault: InferenceFault | None = None
        self.queued = self.started = self.finished = 0  # nanoseconds, monotonic

    def cancel(self) -> None:
        """Nobody waits for it any more: it is dropped unless it already runs."""
        self.cancelled = True


class WorkerPool:
    """`workers` threads, at most `queue_limit` jobs waiting for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: int, queue_limit: int) -> None:
        self.queue_limit = queue_limit
        self.unfinished = 0  # waiting and running, seen from the loop
        self._workers = workers
        self._loop = loop
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{index}", daemon=True)
            for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return max(0, self.unfinished - self._workers)

    def submit(self, job: Job) -> None:
        """Queue a job; raises Overloaded when as many wait as may."""
        if self.waiting >= self.queue_limit:
            raise Overloaded(f"{self.queue_limit} requests already wait for this model")
        self.unfinished += 1
        job.queued = time.monotonic_ns()
        self._jobs.put(job)

    def close(self, seconds: float) -> None:
        """Let the workers end once the queue is empty; wait so long for each."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.started = time.monotonic_ns()
            _run(job)
            job.finished = time.monotonic_ns()
            try:
                self._loop.call_soon_threadsafe(self._finish, job)
            except RuntimeError:  # the loop is closed: the process is ending
                return

    def _finish(self, job: Job) -> None:
        self.unfinished -= 1
        job.finish(job)


def _run(job: Job) -> None:
    if job.cancelled:
        job.fault = Cancelled("the caller went away")
        return
    try:
        job.outputs = job.run()
    except InferenceFault as fault:
        job.fault = fault
    except Exception as error:  # noqa: BLE001  # a worker must outlive any job
        job.fault = ModelFailed(f"the model failed on this input: {error}")
