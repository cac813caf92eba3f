"""The REST face of the data plane: exchanges in, Open Inference Protocol v2 answers out.

The one place that gives faults their HTTP status.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from modelwright_runtime import errors
from modelwright_runtime.dataplane import DataPlane, Phase, ServedModel
from modelwright_runtime.http_server import BINARY, JSON, Exchange
from modelwright_runtime.protocol import rest_codec
from modelwright_runtime.protocol.compression import decompress, is_compressed
from modelwright_runtime.protocol.rest_codec import AnswerEncoder, RestInferRequest
from modelwright_runtime.protocol.rest_routes import Endpoint, Route, parse_target

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

    from modelwright_runtime.dataplane import Outcome
    from modelwright_runtime.metrics import Metrics
    from modelwright_runtime.protocol.messages import InferResult

_STATUSES: tuple[tuple[type[errors.InferenceFault], int], ...] = (
    (errors.InvalidRequest, 400),
    (errors.NotServed, 404),
    (errors.TooLarge, 413),
    (errors.Cancelled, 499),
    (errors.Unsupported, 501),
    (errors.NotReady, 503),
    (errors.Overloaded, 503),
)
_ROUTE_LIMIT = 256  # targets remembered
_ASIDE_BYTES = 262_144  # bigger (or compressed) bodies are decoded beside the loop
_NOT_READY_RETRY_SECONDS = 1


def resolve_status(fault: errors.InferenceFault) -> int:
    """The HTTP status of a fault."""
    return next((status for kind, status in _STATUSES if isinstance(fault, kind)), 500)


def build_fault_headers(fault: errors.InferenceFault) -> bytes:
    """`Retry-After` where coming back helps."""
    match fault:
        case errors.Overloaded():
            return b"retry-after: %d\r\n" % fault.retry_after_seconds
        case errors.NotReady():
            return b"retry-after: %d\r\n" % _NOT_READY_RETRY_SECONDS
        case _:
            return b""


class RestApi:
    """Handler of the serving port; called on the loop's thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dataplane: DataPlane,
        metrics: Metrics,
        *,
        version: str,
        max_body_bytes: int,
        decode_limit: int,
    ) -> None:
        self._loop = loop
        self._dataplane = dataplane
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._server_metadata = rest_codec.build_server_metadata(version)
        self._routes: dict[bytes, Route | None] = {}
        self._face: _ModelFace | None = None
        self._decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
        self._decoding = 0
        self._decode_limit = decode_limit

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, now or when its inference is done."""
        route = self._find_route(exchange.target)
        if route is None:
            self._metrics.count_http_error(404)
            exchange.reply_error(404, "no such path, see GET /v2")
            return
        endpoint = route.endpoint
        method = b"GET" if exchange.method == b"HEAD" else exchange.method
        if method != endpoint.method:
            self._metrics.count_http_error(405)
            allow = b"allow: %s\r\n" % endpoint.method
            exchange.reply_error(405, f"this path takes {endpoint.method.decode()}", allow)
            return
        if endpoint is Endpoint.MODEL_INFER:
            self._infer(exchange, route)
        else:
            self._inform(exchange, route)

    def close(self) -> None:
        """Let the decoding thread end."""
        self._decoder.shutdown(wait=False, cancel_futures=True)

    def _find_route(self, target: bytes) -> Route | None:
        try:
            return self._routes[target]
        except KeyError:
            route = parse_target(target)
            if len(self._routes) < _ROUTE_LIMIT:
                self._routes[target] = route
            return route

    # --- health and metadata ------------------------------------------------------------------

    def _inform(self, exchange: Exchange, route: Route) -> None:
        ready = self._dataplane.is_ready
        match route.endpoint:
            case Endpoint.SERVER_LIVE:
                exchange.reply_json(200, {"live": True})
            case Endpoint.SERVER_READY:
                document = {"live": True, "ready": ready}
                exchange.reply_json(200 if ready else 503, document, self._variant_header())
            case Endpoint.SERVER_METADATA:
                exchange.reply_json(200, self._server_metadata, self._variant_header())
            case Endpoint.MODEL_READY | Endpoint.MODEL_METADATA | Endpoint.MODEL_INFER:
                self._inform_of_model(exchange, route)

    def _inform_of_model(self, exchange: Exchange, route: Route) -> None:
        try:
            model = self._dataplane.find_model(route.model, route.version)
        except errors.NotReady as fault:
            if route.endpoint is Endpoint.MODEL_READY:
                exchange.reply_json(503, {"name": route.model, "ready": False})
            else:
                self._reply_fault(exchange, fault)
            return
        except errors.InferenceFault as fault:
            self._reply_fault(exchange, fault)
            return
        if route.endpoint is Endpoint.MODEL_METADATA:
            document = rest_codec.build_model_metadata(model.description)
            exchange.reply_json(200, document, self._variant_header())
            return
        ready = self._dataplane.phase is Phase.SERVING
        document = {"name": route.model, "ready": ready}
        exchange.reply_json(200 if ready else 503, document, self._variant_header())

    def _variant_header(self) -> bytes:
        model = self._dataplane.model
        return b"" if model is None else self._face_of(model).header

    def _reply_fault(self, exchange: Exchange, fault: errors.InferenceFault) -> int:
        status = resolve_status(fault)
        headers = self._variant_header() + build_fault_headers(fault)
        exchange.reply_error(status, fault.message, headers)
        return status

    # --- inference ----------------------------------------------------------------------------

    def _infer(self, exchange: Exchange, route: Route) -> None:
        try:
            model = self._dataplane.find_model(route.model, route.version)
            json_length = _parse_json_length(exchange.json_length)
            if len(exchange.body) > _ASIDE_BYTES or is_compressed(exchange.content_encoding):
                self._decode_aside(exchange, model, json_length)
                return
            asked = rest_codec.decode_infer_request(exchange.body, json_length)
            self._submit(exchange, model, asked)
        except errors.InferenceFault as fault:
            self._finish_fault(exchange, fault)

    def _submit(self, exchange: Exchange, model: ServedModel, asked: RestInferRequest) -> None:
        def deliver(outcome: Outcome) -> None:
            if isinstance(outcome, errors.InferenceFault):
                self._finish_fault(exchange, outcome)
            else:
                self._finish_result(exchange, model, asked, outcome)

        exchange.work = self._dataplane.submit(model, asked.request, deliver)

    def _decode_aside(
        self, exchange: Exchange, model: ServedModel, json_length: int | None
    ) -> None:
        if self._decoding >= self._decode_limit:
            raise errors.Overloaded(f"{self._decode_limit} large requests already wait")
        self._decoding += 1
        future = self._decoder.submit(
            _decode, exchange.body, exchange.content_encoding, self._max_body_bytes, json_length
        )
        exchange.work = aside = _Aside(future)
        exchange.body = b""

        def resume() -> None:
            self._decoding -= 1
            if aside.cancelled:
                self._finish_fault(exchange, errors.Cancelled("the caller went away"))
                return
            try:
                self._submit(exchange, model, future.result())
            except errors.InferenceFault as fault:
                self._finish_fault(exchange, fault)
            except Exception as error:  # noqa: BLE001  # answered, whatever it is
                self._finish_fault(exchange, errors.ModelFailed(f"decoding broke: {error}"))

        future.add_done_callback(lambda _: self._call_on_loop(resume))

    def _call_on_loop(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _finish_result(
        self,
        exchange: Exchange,
        model: ServedModel,
        asked: RestInferRequest,
        result: InferResult,
    ) -> None:
        face = self._face_of(model)
        try:
            body = face.encoder.encode(result, asked)
        except errors.InferenceFault as fault:
            self._finish_fault(exchange, fault)
            return
        if body.json_length is None:
            exchange.reply(200, JSON, body.parts, face.header)
        else:
            lengths = b"inference-header-content-length: %d\r\n" % body.json_length
            exchange.reply(200, BINARY, body.parts, face.header + lengths)
        self._observe(exchange, 200)

    def _finish_fault(self, exchange: Exchange, fault: errors.InferenceFault) -> None:
        self._observe(exchange, self._reply_fault(exchange, fault))

    def _observe(self, exchange: Exchange, status: int) -> None:
        self._metrics.observe_request("http", status, time.monotonic() - exchange.started)

    def _face_of(self, model: ServedModel) -> _ModelFace:
        face = self._face
        if face is None or face.model is not model:
            face = self._face = _ModelFace(model)
        return face


class _ModelFace:
    """What answers of one served model have in common."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.encoder = AnswerEncoder(model.description)
        self.header = b"modelwright-variant: %s\r\n" % model.description.variant.encode()


class _Aside:
    """Decoding that nobody may wait for any more."""

    def __init__(self, future: Future[RestInferRequest]) -> None:
        self._future = future
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self._future.cancel()


def _decode(body: bytes, encoding: bytes, limit: int, json_length: int | None) -> RestInferRequest:
    if is_compressed(encoding):
        body = decompress(body, encoding, limit)
    return rest_codec.decode_infer_request(body, json_length)


def _parse_json_length(header: bytes | None) -> int | None:
    if header is None:
        return None
    if not header.isdigit() or len(header) > 15:
        raise errors.InvalidRequest("Inference-Header-Content-Length must be a number of bytes")
    return int(header)
