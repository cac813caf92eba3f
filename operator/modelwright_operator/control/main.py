"""The composition root: settings, logging, client, store, lease, lists, watches, workers.

A replica that does not hold the lease serves its probes and waits; nothing else is running then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright_operator.apply.applier import Applier
from modelwright_operator.apply.events import EventRecorder
from modelwright_operator.apply.status import StatusWriter
from modelwright_operator.control.contract import Assembly, Context
from modelwright_operator.control.health import (
    MAX_LOOP_LAG_SECONDS,
    LoopLag,
    Probes,
    check_below,
    check_each_below,
    serve_metrics,
    serve_probes,
)
from modelwright_operator.control.lease import Elector, LeadershipLostError, LeaseTiming
from modelwright_operator.control.logs import configure_logging
from modelwright_operator.control.metrics import Metrics
from modelwright_operator.control.queue import WorkQueue
from modelwright_operator.control.resync import Resync
from modelwright_operator.control.wakeups import connect_wakeups, wake_all
from modelwright_operator.control.watches import SILENCE_SECONDS, Watcher
from modelwright_operator.control.workers import Workers
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.client import REQUEST_SECONDS, ApiClient
from modelwright_operator.kube.config import ClusterConfig, ConfigError, load_config
from modelwright_operator.settings import DEFAULT_PATH, Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from modelwright_operator.plan.types import Manifest

log = logging.getLogger(__name__)

LEASE_NAME = "modelwright-operator"
EXIT_USAGE = 2
EXIT_LOST = 1
_DRAIN_SECONDS = 20.0
_MAX_QUEUE_AGE_SECONDS = 600.0
# The watcher restarts itself at SILENCE_SECONDS; the probe speaks when that did not help.
_MAX_SILENCE_SECONDS = 2 * SILENCE_SECONDS
_WAKE_SPREAD_SECONDS = 30.0


@dataclass(frozen=True)
class Endpoints:
    """Where probes and metrics are served."""

    host: str = "0.0.0.0"  # noqa: S104 - in a pod, the kubelet and Prometheus come from outside
    health_port: int = 8081
    metrics_port: int = 8080


@dataclass(frozen=True, slots=True)
class Installation:
    """What this process is given from outside."""

    settings: Settings
    config: ClusterConfig
    namespace: str
    identity: str
    endpoints: Endpoints = Endpoints()


def main(assemble: Assembly) -> int:
    """Run the operator until it is told to stop; returns the exit code."""
    try:
        installation = read_installation()
    except (SettingsError, ConfigError) as error:
        configure_logging("INFO")
        log.error("cannot start", extra={"error": str(error)})  # noqa: TRY400 - a sentence is enough
        return EXIT_USAGE
    configure_logging(installation.settings.log_level)
    return asyncio.run(Operator(installation, assemble).run())


def read_installation() -> Installation:
    """Read settings, cluster and identity from the environment.

    Raises:
        SettingsError: the settings are missing or wrong.
        ConfigError: there is no way to an API server.
    """
    settings = load_settings(Path(os.environ.get("MODELWRIGHT_SETTINGS", DEFAULT_PATH)))
    config = load_config()
    host = os.environ.get("POD_NAME") or socket.gethostname()
    return Installation(
        settings=settings,
        config=config,
        namespace=os.environ.get("POD_NAMESPACE") or config.namespace,
        identity=f"{host}_{uuid.uuid4().hex[:8]}",
        endpoints=Endpoints(
            host=os.environ.get("MODELWRIGHT_BIND", Endpoints.host),
            health_port=int(os.environ.get("MODELWRIGHT_HEALTH_PORT", Endpoints.health_port)),
            metrics_port=int(os.environ.get("MODELWRIGHT_METRICS_PORT", Endpoints.metrics_port)),
        ),
    )


class Operator:
    """One process of the operator."""

    def __init__(
        self,
        installation: Installation,
        assemble: Assembly,
        *,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        """Put the parts together; nothing is opened before `run`."""
        settings = installation.settings
        self._installation = installation
        self._settings = settings
        self._end_process = end_process
        self._metrics = Metrics()
        self._lag = LoopLag()
        self._elector: Elector | None = None
        self._client = ApiClient(
            installation.config, fence=self._remaining, on_request=self._metrics.count_request
        )
        self._store = Store()
        self._queue = WorkQueue()
        self._wiring = assemble(self._build_context())
        self._elector = self._build_elector() if settings.leader_election.enabled else None
        self._resync = self._build_resync()
        self._watcher = Watcher(
            installation.config,
            self._wiring.kinds,
            namespaces=settings.watch_namespaces,
            on_event=self._take_in,
            on_restart=self._metrics.count_restart,
        )
        self._workers = Workers(
            self._queue,
            self._wiring.reconcilers,
            count=settings.workers,
            on_pass=self._metrics.count_pass,
            on_crash=self._wiring.on_crash,
        )
        self._is_primed = False
        self._is_leading = False

    async def run(self) -> int:
        """Serve probes, wait for the lease, lead until told to stop; returns the exit code."""
        stop = _stop_on_signals()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._client.close)
            stack.push_async_callback(self._wiring.close)
            await stack.enter_async_context(self._serve())
            await stack.enter_async_context(_background(self._lag.run()))
            if not await _finishes_before(stop, self._acquire()):
                return 0
            stack.push_async_callback(self._release)
            await stack.enter_async_context(_background(self._hold()))
            self._is_leading = True
            await self._lead(stop)
        log.info("stopped")
        return 0

    async def _lead(self, stop: asyncio.Event) -> None:
        """Prime, watch, work; on stop, finish what is being worked on."""
        connect_wakeups(self._store, self._queue, self._wiring.wake)
        if not await _finishes_before(stop, self._resync.prime()):
            return
        self._is_primed = True
        counts = {watched.kind: self._store.count(watched.kind) for watched in self._wiring.kinds}
        log.info("primed", extra=counts)
        for key in self._wiring.singletons:
            self._queue.add(key)
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._watcher.run(), name="watcher"),
                group.create_task(self._resync.run(), name="resync"),
            ]
            work = group.create_task(self._workers.run(), name="workers")
            await stop.wait()
            self._workers.stop()
            await _drain(work)
            for helper in helpers:
                helper.cancel()

    async def _acquire(self) -> None:
        if self._elector is not None:
            await self._elector.acquire()

    async def _hold(self) -> None:
        """Renew the lease; without it the process must not live on."""
        if self._elector is None:
            return
        try:
            await self._elector.hold()
        except LeadershipLostError as error:
            log.critical("leadership lost", extra={"error": str(error)})
        except Exception:
            log.exception("the lease is not held any more")
        logging.shutdown()
        self._end_process(EXIT_LOST)

    async def _release(self) -> None:
        if self._elector is not None:
            await self._elector.release()

    def _remaining(self) -> float:
        """The fence: seconds for which this process may still write."""
        return self._elector.remaining_seconds() if self._elector else REQUEST_SECONDS

    def _take_in(self, kind: str | None, obj: Manifest) -> None:
        """Take a watch event into the store, which wakes whom it concerns."""
        self._metrics.count_event(obj["kind"])
        if kind == "DELETED":
            self._store.remove(obj)
        else:
            self._store.put(obj)

    def _on_listed(self, kind: str, differing: int) -> None:
        """After a resync, look at every object of ours again: the world outside moves too."""
        self._metrics.count_differences(kind, differing)
        if kind in self._wiring.primary:
            wake_all(self._store, self._queue, kind, self._wiring.wake, _WAKE_SPREAD_SECONDS)
            for key in self._wiring.singletons:
                self._queue.add_after(key, _WAKE_SPREAD_SECONDS)

    def _build_context(self) -> Context:
        return Context(
            settings=self._settings,
            client=self._client,
            store=self._store,
            applier=Applier(self._client, self._store),
            status=StatusWriter(self._client, self._store),
            events=EventRecorder(
                self._client,
                instance=self._installation.identity,
                now=_now,
                monotonic=time.monotonic,
            ),
            namespace=self._installation.namespace,
            now=_now,
        )

    def _build_elector(self) -> Elector:
        timing = self._settings.leader_election
        return Elector(
            self._client.unfenced(),
            namespace=self._installation.namespace,
            name=LEASE_NAME,
            identity=self._installation.identity,
            timing=LeaseTiming(
                duration=timing.lease_duration_seconds,
                renew_deadline=timing.renew_deadline_seconds,
                retry_period=timing.retry_period_seconds,
            ),
            monotonic=time.monotonic,
            now=_now,
        )

    def _build_resync(self) -> Resync:
        return Resync(
            self._client,
            self._store,
            self._wiring.kinds,
            namespaces=self._settings.watch_namespaces,
            interval_seconds=self._settings.resync_seconds,
            on_listed=self._on_listed,
        )

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        self._follow()
        endpoints = self._installation.endpoints
        probes = Probes(alive=self._alive_checks(), ready=(self._check_ready,))
        async with (
            serve_probes(probes, endpoints.host, endpoints.health_port),
            serve_metrics(self._metrics.registry, endpoints.host, endpoints.metrics_port),
        ):
            yield

    def _alive_checks(self) -> Sequence[Callable[[], str | None]]:
        list_limit = 3 * self._settings.resync_seconds
        return (
            check_below("event loop lag", self._lag.seconds, MAX_LOOP_LAG_SECONDS),
            check_below("oldest key waits", self._queue.oldest_seconds, _MAX_QUEUE_AGE_SECONDS),
            check_each_below("watches silent", self._silences, _MAX_SILENCE_SECONDS),
            check_each_below("lists old", self._list_ages, list_limit),
        )

    def _check_ready(self) -> str | None:
        """A standby is ready to take over; a leader once it has the whole picture."""
        if self._is_leading and not self._is_primed:
            return "not all kinds are listed yet"
        return None

    def _silences(self) -> dict[str, float]:
        return self._watcher.beats.silence_seconds() if self._is_primed else {}

    def _list_ages(self) -> dict[str, float]:
        return self._resync.ages_seconds() if self._is_primed else {}

    def _follow(self) -> None:
        """Show the numbers that are read when somebody looks."""
        follow = self._metrics.follow
        follow("queue_depth", "Keys ready for a worker", self._queue.depth)
        follow("queue_delayed", "Keys that wait for their time", self._queue.delayed)
        follow("queue_age_seconds", "Wait of the oldest ready key", self._queue.oldest_seconds)
        follow("leader", "1 while this process holds the lease", self._leading)
        follow("lease_remaining_seconds", "Time for which writes are allowed", self._remaining)
        follow("event_loop_lag_seconds", "Worst recent lag of the event loop", self._lag.seconds)
        self._metrics.follow_by_kind(
            "watch_silence_seconds", "Time since a watch showed a sign of life", self._silences
        )
        self._metrics.follow_by_kind(
            "resync_age_seconds", "Time since a kind was listed", self._list_ages
        )
        self._metrics.follow_objects(self._store)

    def _leading(self) -> float:
        return float(self._is_leading and self._remaining() > 0)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _finishes_before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Whether `work` came to its end; told to stop first, it is cancelled."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        await _cancel(working)
        await _cancel(stopping)


@asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run something beside the block, and end it with the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await _cancel(task)


async def _drain(work: asyncio.Task[None]) -> None:
    """Let running passes come to their end, but not for ever."""
    _, late = await asyncio.wait((work,), timeout=_DRAIN_SECONDS)
    if late:
        log.warning("passes are cut short", extra={"seconds": _DRAIN_SECONDS})
        work.cancel()


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def _now() -> datetime:
    return datetime.now(UTC)
