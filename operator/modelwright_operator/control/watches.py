"""The watches: kopf as a watcher and nothing else, in a thread and an event loop of its own.

Of its own, because kopf ends on ordinary trouble (an error in a stream, a rejected token) and
cancels every task of its loop when it does. A supervisor starts it again, also when it lives but a
stream has gone silent. kopf writes nothing: no handler with state, no finalizer, no Event.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import kopf

from modelwright_operator.kube.client import user_agent
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan.types import Manifest

if TYPE_CHECKING:
    from modelwright_operator.control.contract import Watched
    from modelwright_operator.kube.config import ClusterConfig

log = logging.getLogger(__name__)

# Bookmarks come about every 60 s; kopf itself reconnects a stream that is silent for 70 s.
SILENCE_SECONDS = 150.0
# kopf may hang on its way out; nothing is open then, and nothing opens any more.
CLOSED_SECONDS = 30.0
_INACTIVITY_SECONDS = 70.0
_STREAM_SECONDS = 300
_STREAM_JITTER_SECONDS = 60
_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 60.0
_CHUNK = 500
_LONGEST_BACKOFF_SECONDS = 15.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_CALM_SECONDS = 60.0
_STOP_SECONDS = 15.0
_END_SECONDS = 0.5
_END_ATTEMPTS = 10
_LOOK_SECONDS = 1.0
_PREFIX = "kopf.modelwright.dev"
_HTTP_OK = 200

# (type of the event or None for the initial list, the object)
EventHook = Callable[[str | None, Manifest], None]


class EndlessBackoffs:
    """Growing pauses that never end, each time anew: kopf gives up when its list is through."""

    def __iter__(self) -> Iterator[float]:
        """Yield 1, 2, 4 … up to the cap, for ever."""
        pause = 1.0
        while True:
            yield pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, keeps no secret
            pause = min(pause * 2, _LONGEST_BACKOFF_SECONDS)


class Beats:
    """When each watched collection last showed a sign of life: a list, an event, a bookmark."""

    def __init__(
        self, paths: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Follow these URL paths, each of a kind."""
        self._kinds = dict(paths)
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = dict.fromkeys(paths, clock())
        self._streams = Counter[str]()

    def note(self, path: str, opened: int = 0) -> None:
        """Take in a sign of life; `opened` is 1 for a stream that begins, -1 for one that ends."""
        if path in self._kinds:
            with self._lock:
                self._seen[path] = self._clock()
                self._streams[path] += opened

    def reset(self) -> None:
        """Give every collection its time from now: the watcher starts again."""
        with self._lock:
            self._seen = dict.fromkeys(self._kinds, self._clock())

    def silence_seconds(self) -> dict[str, float]:
        """For how long each kind has shown nothing; the worst of its namespaces."""
        now = self._clock()
        with self._lock:
            seen = dict(self._seen)
        silences: dict[str, float] = {}
        for path, at in seen.items():
            kind = self._kinds[path]
            silences[kind] = max(silences.get(kind, 0.0), now - at)
        return silences

    def find_dead(self, silent_seconds: float, closed_seconds: float) -> set[str]:
        """Kinds with a stream that says nothing for too long, or with none for too long."""
        now = self._clock()
        with self._lock:
            return {
                self._kinds[path]
                for path, at in self._seen.items()
                if now - at > (silent_seconds if self._streams[path] > 0 else closed_seconds)
            }


def watched_paths(kinds: Sequence[Watched], namespaces: Sequence[str]) -> dict[str, str]:
    """The URL path of every collection that is watched, with its kind."""
    paths = {}
    for watched in kinds:
        resource = resource_of(watched.kind)
        for namespace in namespaces if namespaces and resource.namespaced else (None,):
            paths[resource.path(namespace)] = watched.kind
    return paths


@dataclass(slots=True)
class _Run:
    """One life of kopf: its thread, how to stop it, and what it died of."""

    thread: threading.Thread
    done: threading.Event
    stop: Callable[[], None]
    started: float = field(default_factory=time.monotonic)
    error: BaseException | None = None


class Watcher:
    """Keeps kopf running and hands its events to the event loop that started it."""

    def __init__(
        self,
        config: ClusterConfig,
        kinds: Sequence[Watched],
        *,
        namespaces: Sequence[str],
        on_event: EventHook,
        on_restart: Callable[[str], None],
        silence_limit_seconds: float = SILENCE_SECONDS,
        closed_limit_seconds: float = CLOSED_SECONDS,
    ) -> None:
        """Watch `kinds` in `namespaces` (none: in all)."""
        self._config = config
        self._kinds = tuple(kinds)
        self._namespaces = tuple(namespaces)
        self._on_event = on_event
        self._on_restart = on_restart
        self._limits_seconds = (silence_limit_seconds, closed_limit_seconds)
        self.beats = Beats(watched_paths(kinds, namespaces))

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self.beats.reset()
            run = self._start(asyncio.get_running_loop())
            try:
                why = await self._wait_until_over(run)
            finally:
                await asyncio.shield(self._stop(run))
            self._on_restart(why)
            if time.monotonic() - run.started > _CALM_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            extra = {"why": why, "error": str(run.error or ""), "again": pause}
            log.warning("watcher restarts", extra=extra)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _start(self, home: asyncio.AbstractEventLoop) -> _Run:
        loop = asyncio.new_event_loop()
        stopping = asyncio.Event()
        done = threading.Event()

        def deliver(kind: str | None, obj: Manifest) -> None:
            if not home.is_closed():
                home.call_soon_threadsafe(self._on_event, kind, obj)

        def work() -> None:
            try:
                with asyncio.Runner(loop_factory=lambda: loop) as runner:
                    runner.run(self._watch(deliver, stopping))
            except BaseException as error:  # noqa: BLE001 - whatever ends it, the supervisor decides
                run.error = error
            finally:
                done.set()

        def stop() -> None:
            if not done.is_set():
                loop.call_soon_threadsafe(stopping.set)

        run = _Run(threading.Thread(target=work, name="watcher", daemon=True), done, stop)
        run.thread.start()
        return run

    async def _wait_until_over(self, run: _Run) -> str:
        """Wait until kopf ends or falls silent; returns why."""
        while not run.done.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
            dead = self.beats.find_dead(*self._limits_seconds)
            if dead and not run.done.is_set():
                log.warning("watches are dead", extra={"kinds": ",".join(sorted(dead))})
                return "silent"
        return "ended"

    async def _stop(self, run: _Run) -> None:
        """Ask kopf to end; one that does not is left behind, its thread ends with the process."""
        run.stop()
        if not await asyncio.to_thread(run.done.wait, _STOP_SECONDS):
            log.error("watcher does not end", extra={"seconds": _STOP_SECONDS})

    async def _watch(
        self, deliver: Callable[[str | None, Manifest], None], stopping: asyncio.Event
    ) -> None:
        """Run kopf's tasks in this loop until one of them ends, or until told to stop.

        They are ended here and not by kopf: its own way out takes seconds, and hangs when a
        stream swallows its cancellation.
        """
        login = _Login(self._config, self.beats.note)
        told = asyncio.create_task(stopping.wait())
        roots = await kopf.spawn_tasks(
            registry=self._build_registry(deliver, login),
            settings=build_kopf_settings(self._kinds),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )
        done, _ = await asyncio.wait((*roots, told), return_when=asyncio.FIRST_COMPLETED)
        await _end_other_tasks()
        await login.close()
        for task in done:
            task.result()

    def _build_registry(
        self, deliver: Callable[[str | None, Manifest], None], login: _Login
    ) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def on_event(event: Mapping[str, Any], **_: Any) -> None:
            deliver(event["type"], event["object"])

        for watched in self._kinds:
            resource = resource_of(watched.kind)
            kopf.on.event(
                group=resource.group,
                version=resource.version,
                plural=resource.plural,
                id=resource.plural,
                registry=registry,
            )(on_event)
        kopf.on.login(registry=registry, id="login")(login.log_in)
        return registry


async def _end_other_tasks() -> None:
    """Cancel every task of this loop but the own, as often as it takes within reason."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(_END_ATTEMPTS):
        if not others:
            return
        for task in others:
            task.cancel()
        _, others = await asyncio.wait(others, timeout=_END_SECONDS)
        others |= asyncio.all_tasks() - {asyncio.current_task()}
    log.warning("watcher leaves tasks", extra={"count": len(others)})


def build_kopf_settings(kinds: Sequence[Watched]) -> kopf.OperatorSettings:
    """The settings under which kopf only watches, and does not give up on a server in trouble."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.request_timeout = _REQUEST_SECONDS
    settings.networking.connect_timeout = _CONNECT_SECONDS
    settings.queueing.error_delays = (1, 2, 5, 10, 30)
    settings.queueing.worker_limit = None
    settings.queueing.exit_timeout = _END_SECONDS
    settings.watching.chunk_size = _CHUNK
    settings.watching.inactivity_timeout = _INACTIVITY_SECONDS
    stream = _STREAM_SECONDS + random.randrange(_STREAM_JITTER_SECONDS)  # noqa: S311
    settings.watching.server_timeout = stream
    settings.watching.client_timeout = stream + _CONNECT_SECONDS
    settings.watching.connect_timeout = _CONNECT_SECONDS
    # Never written, as nothing here has state; named so that it could be told apart if it were.
    settings.persistence.finalizer = f"{_PREFIX}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    settings.persistence.diffbase_storage = _NoDifferences()
    for watched in kinds:
        if watched.label_selector:
            resource = resource_of(watched.kind)
            key = (resource.group, resource.version, resource.plural)
            settings.watching.label_selectors[key] = watched.label_selector
    return settings


class _NoDifferences(kopf.DiffBaseStorage):
    """Compares nothing: kopf would copy and compare every object for handlers that do not exist."""

    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None
    ) -> kopf.BodyEssence:
        del body, extra_fields
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        del body, patch, essence


class _Login:
    """Gives kopf an HTTP session of ours: fresh tokens on every request, signs of life noted."""

    def __init__(self, config: ClusterConfig, note: Callable[[str, int], None]) -> None:
        self._config = config
        self._note = note
        self._pause = 0.0
        self._sessions: list[aiohttp.ClientSession] = []

    async def close(self) -> None:
        """Close what was opened."""
        for session in self._sessions:
            await session.close()

    async def log_in(self, **_: Any) -> kopf.AiohttpSession:
        """Log in; asked again after a refusal, it takes its time."""
        if self._pause:
            self._config.tokens.invalidate()
            await asyncio.sleep(self._pause)
        self._pause = min(max(self._pause * 2, 1.0), _LONGEST_BACKOFF_SECONDS)
        session = self._build_session()
        self._sessions.append(session)
        return kopf.AiohttpSession(
            server=self._config.server,
            default_namespace=self._config.namespace,
            aiohttp_session=session,
        )

    def _build_session(self) -> aiohttp.ClientSession:
        config = self._config
        uses_tls = config.server.startswith("https://")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=config.build_ssl_context() if uses_tls else False
            ),
            headers={"User-Agent": user_agent()},
            middlewares=(self._authenticate,),
            response_class=_noting_response(self._note),
            trust_env=False,
        )

    async def _authenticate(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        token = await self._config.tokens.read()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)


def _noting_response(note: Callable[[str, int], None]) -> type[aiohttp.ClientResponse]:
    """A response that notes every piece of a good answer's body as a sign of life."""

    class NotingResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            if self.status == _HTTP_OK:
                note(self.url.path, 0)
                self.content = _NotingContent(  # type: ignore[assignment]
                    self.content, note, self.url.path
                )
            return self

    return NotingResponse


class _NotingContent:
    """A body whose chunks are noted as they pass."""

    def __init__(
        self, content: aiohttp.StreamReader, note: Callable[[str, int], None], path: str
    ) -> None:
        self._content = content
        self._note = note
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Pass the chunks on; only streams are read so, an ordinary answer is read whole."""
        self._note(self._path, 1)
        try:
            async for chunk in self._content.iter_chunked(size):
                self._note(self._path, 0)
                yield chunk
        finally:
            self._note(self._path, -1)
