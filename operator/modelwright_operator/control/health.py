"""Probes and metrics over HTTP: is the process alive, is it ready, what is it doing?

A probe that only says "the process runs" is worthless: this one looks at the event loop, the
watches, the lists and the queue, and says in words what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

MAX_LOOP_LAG_SECONDS = 5.0
_BEAT_SECONDS = 0.5

# A check returns what is wrong, or None.
Check = Callable[[], str | None]


class LoopLag:
    """How late the event loop is: blocked, it can neither renew a lease nor answer a probe."""

    def __init__(self) -> None:
        """Nothing was late yet."""
        self._worst = 0.0

    async def run(self) -> None:
        """Measure until cancelled; the worst of the recent lags fades away slowly."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self._worst = max(loop.time() - due, self._worst * 0.9)

    def seconds(self) -> float:
        """The worst recent lag."""
        return self._worst


@dataclass(frozen=True, slots=True)
class Probes:
    """What `/healthz` and `/readyz` look at."""

    alive: Sequence[Check]
    ready: Sequence[Check]


def check_below(what: str, read: Callable[[], float], limit: float) -> Check:
    """A check that a number stays below a limit."""

    def check() -> str | None:
        value = read()
        return f"{what} {value:.1f} s, limit {limit:.0f} s" if value > limit else None

    return check


def check_each_below(what: str, read: Callable[[], dict[str, float]], limit: float) -> Check:
    """A check that the number of every kind stays below a limit."""

    def check() -> str | None:
        late = [f"{kind} {value:.0f} s" for kind, value in read().items() if value > limit]
        return f"{what}: {', '.join(sorted(late))}, limit {limit:.0f} s" if late else None

    return check


@asynccontextmanager
async def serve_probes(probes: Probes, host: str, port: int) -> AsyncIterator[int]:
    """Serve `/healthz` and `/readyz`; gives the port."""
    application = web.Application()
    application.router.add_get("/healthz", _probe_handler(probes.alive))
    application.router.add_get("/readyz", _probe_handler(probes.ready))
    async with _serve(application, host, port) as bound:
        yield bound


@asynccontextmanager
async def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> AsyncIterator[int]:
    """Serve `/metrics`; gives the port."""

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    async with _serve(application, host, port) as bound:
        yield bound


def _probe_handler(
    checks: Sequence[Check],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def probe(_request: web.Request) -> web.Response:
        problems = [problem for check in checks if (problem := check()) is not None]
        if not problems:
            return web.Response(text="ok\n")
        log.warning("probe fails", extra={"problems": "; ".join(problems)})
        return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))

    return probe


@asynccontextmanager
async def _serve(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
