"""Puts the parts together and leads them through their life: listen, load, serve, drain, end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright_runtime import __version__
from modelwright_runtime.dataplane import DataPlane, ServedModel
from modelwright_runtime.errors import StartupError
from modelwright_runtime.http_server import Exchange, HttpServer
from modelwright_runtime.limits import observe_cpu_limit
from modelwright_runtime.metrics import CONTENT_TYPE, Metrics
from modelwright_runtime.rest_api import RestApi
from modelwright_runtime.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelwright_runtime.grpc_server import GrpcServer
    from modelwright_runtime.loader import Loaded
    from modelwright_runtime.settings import Settings

LOG = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_USAGE = 2
PORT_IN_USE = "PortInUse"
_LEAVE_SECONDS = 1.0  # for idle worker threads to end


@dataclass(frozen=True, slots=True)
class Serving:
    """What `announce` is told once the first request can be answered."""

    loaded: Loaded
    start_seconds: float


async def serve(settings: Settings, announce: Callable[[Serving], None]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, raises StartupError."""
    server = _Server(settings, asyncio.get_running_loop())
    try:
        return await server.live(announce)
    finally:
        await server.close()


class _Server:
    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._stop = asyncio.Event()
        self._metrics = Metrics(settings.model_name, __version__)
        self._dataplane = DataPlane(settings.model_name, self._metrics)
        self._rest = RestApi(
            loop,
            self._dataplane,
            self._metrics,
            version=__version__,
            max_body_bytes=settings.http.max_body_bytes,
            decode_limit=settings.queue_limit,
        )
        self._http = HttpServer(
            loop, self._rest.handle, settings.http, self._metrics.count_http_error
        )
        self._metrics_http = HttpServer(
            loop, self._answer_metrics, settings.http, self._metrics.count_http_error
        )
        self._grpc: GrpcServer | None = None
        self._workers: WorkerPool | None = None

    async def live(self, announce: Callable[[Serving], None]) -> int:
        """From the first open port to the last answer."""
        self._watch_signals()
        await self._listen()
        await self._start_grpc()
        loading = self._loop.run_in_executor(None, self._load)
        stopping = self._loop.create_task(self._stop.wait())
        either: set[asyncio.Future[Any]] = {loading, stopping}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            LOG.info("stopped while loading")
            os._exit(EXIT_OK)  # the loading thread can not be interrupted, and owes nothing
        serving = self._activate(loading.result())
        announce(serving)
        await stopping
        await self._drain()
        return EXIT_OK

    async def close(self) -> None:
        """Free ports and threads."""
        self._http.close()
        self._metrics_http.close()
        self._rest.close()
        await self._stop_grpc(0)
        if self._workers is not None:
            self._workers.close(_LEAVE_SECONDS)

    # --- start --------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, partial(self._on_signal, number))

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            LOG.warning("stopped at once by a second %s", number.name)
            os._exit(128 + number)
        LOG.info("%s: draining", number.name)
        self._stop.set()

    async def _listen(self) -> None:
        settings = self._settings
        await _listen(self._http, settings.host, settings.http_port, "--http-port")
        if settings.metrics_port:
            await _listen(
                self._metrics_http, settings.host, settings.metrics_port, "--metrics-port"
            )
        self._metrics.set_gauge("modelwright_model_ready", "1 when the model answers.", self._ready)
        self._metrics.set_gauge("modelwright_queue_depth", "Requests that wait.", self._waiting)
        self._metrics.set_gauge(
            "modelwright_queue_limit", "Requests that may wait.", lambda: settings.queue_limit
        )
        self._metrics.set_gauge(
            "modelwright_connections",
            "Open connections of the HTTP port.",
            lambda: len(self._http.connections),
        )

    async def _start_grpc(self) -> None:
        settings = self._settings
        if not settings.grpc_port:
            return
        try:
            from modelwright_runtime.grpc_server import GrpcServer  # optional
        except ImportError as error:
            message = f"gRPC needs grpcio ({error}): install modelwright[runtime] or --grpc-port 0"
            raise StartupError("UsageError", message, EXIT_USAGE) from error
        grpc = GrpcServer(
            self._dataplane,
            self._metrics,
            version=__version__,
            max_message_bytes=settings.http.max_body_bytes,
        )
        try:
            await grpc.listen(settings.host, settings.grpc_port)
        except OSError as error:
            raise _port_error(settings.host, settings.grpc_port, "--grpc-port", error) from error
        self._grpc = grpc

    def _load(self) -> Loaded:
        """In the loading thread: ONNX Runtime is imported here, behind open ports."""
        from modelwright_runtime.loader import LoadOrder, load_model

        settings = self._settings
        cpu_limit = settings.cpus or observe_cpu_limit()
        return load_model(
            LoadOrder(settings.artifacts, settings.model_name, settings.variant, cpu_limit)
        )

    def _activate(self, loaded: Loaded) -> Serving:
        workers = WorkerPool(self._loop, loaded.threads.workers, self._settings.queue_limit)
        self._workers = workers
        self._dataplane.activate(ServedModel(loaded.description, loaded.engine, workers))
        gc.collect()
        gc.freeze()  # what lives now lives to the end: keep it out of every later collection
        start_seconds = observe_process_age()
        self._metrics.set_attestations(loaded.attestations)
        info = {
            "version": loaded.description.version,
            "profile": loaded.manifest.profile.name,
            "request_key": loaded.manifest.request_key,
        }
        self._metrics.set_serving(loaded.variant.name, info, start_seconds)
        LOG.info(
            "ready after %.2f s: model %s serves variant %s (%s) with %d worker(s) of %d thread(s)",
            start_seconds,
            loaded.description.name,
            loaded.variant.name,
            loaded.why,
            loaded.threads.workers,
            loaded.threads.intra_op,
        )
        return Serving(loaded, start_seconds)

    def _ready(self) -> int:
        return int(self._dataplane.is_ready)

    def _waiting(self) -> int:
        return 0 if self._workers is None else self._workers.waiting

    # --- end ----------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Not ready at once; go on answering while others learn it; then finish what is begun."""
        settings = self._settings
        self._dataplane.start_draining()
        self._http.start_draining()
        await asyncio.sleep(settings.drain_seconds)
        stopping_grpc = self._loop.create_task(self._stop_grpc(settings.shutdown_seconds))
        answered = await self._http.drain(settings.shutdown_seconds)
        await stopping_grpc
        if answered:
            LOG.info("every request is answered")
        else:
            LOG.warning("%d requests left unanswered", self._http.unanswered)

    async def _stop_grpc(self, grace_seconds: float) -> None:
        if self._grpc is not None:
            await self._grpc.stop(grace_seconds)

    # --- metrics port -------------------------------------------------------------------------

    def _answer_metrics(self, exchange: Exchange) -> None:
        path = exchange.target.partition(b"?")[0]
        if path != b"/metrics":
            exchange.reply_error(404, "no such path, see GET /metrics")
        elif exchange.method not in (b"GET", b"HEAD"):
            exchange.reply_error(405, "this path takes GET", b"allow: GET\r\n")
        else:
            exchange.reply(200, CONTENT_TYPE, [self._metrics.render()])


async def _listen(server: HttpServer, host: str, port: int, flag: str) -> None:
    try:
        await server.listen(host, port)
    except OSError as error:
        raise _port_error(host, port, flag, error) from error


def _port_error(host: str, port: int, flag: str, error: OSError) -> StartupError:
    message = f"Can not listen on {host}:{port} ({error.strerror or error}): choose with {flag}."
    return StartupError(PORT_IN_USE, message, EXIT_USAGE)


def observe_process_age() -> float:
    """Seconds since the kernel started this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
