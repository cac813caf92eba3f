"""HTTP/1.1 on uvloop and httptools: the hot path's wire, and nothing of inference.

One `HttpConnection` per client reads requests, keeps their answers in order, enforces limits
and times. What a request means is the handler's business: it gets an `Exchange` and calls
`reply` once, now or later, on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

import httptools
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelwright_runtime.settings import HttpLimits

LOG = logging.getLogger(__name__)

JSON = b"application/json"
BINARY = b"application/octet-stream"

_VERSIONS = frozenset({"1.0", "1.1"})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LENGTH_DIGITS = 15  # of a Content-Length: a petabyte is too large whatever the limit
_PIPELINE_LIMIT = 64  # unanswered requests per connection before reading pauses
_JOIN_BYTES = 65_536  # smaller answers leave as one buffer
_SILENT_BYTES = 262_144  # bytes of a body's framing (chunk headers, trailers) without content
_LINGER_SECONDS = 2.0  # how long a refused client may go on sending before the socket closes
_QUIET_SECONDS = 1.0  # unused for so long, a connection has no request on its way
_DRAIN_LOOK_SECONDS = 0.01
_LAST_ACCEPTS = 3  # turns of the loop: at least one of them polls the port
_STALLED_WRITE_SECONDS = 30.0  # a client that reads nothing for so long is dropped

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
} | {499: b"HTTP/1.1 499 Client Closed Request\r\n"}


class Cancellable(Protocol):
    """Work that can be told that nobody waits for it."""

    def cancel(self) -> None:
        """Stop if it is not too late."""


class Exchange:
    """One request and the place of its answer in the connection's order."""

    __slots__ = (
        "_answer",
        "_connection",
        "body",
        "content_encoding",
        "json_length",
        "keep_alive",
        "method",
        "started",
        "staying",
        "target",
        "work",
    )

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._answer: Sequence[bytes] | None = None
        self.started = time.monotonic()  # the loop's own clock is too coarse to measure with
        self.method = b""
        self.target = b""
        self.content_encoding = b""
        self.json_length: bytes | None = None  # Inference-Header-Content-Length as it came
        self.keep_alive = True
        self.staying = b""  # what HTTP/1.0 must be told when the connection stays open
        self.body: bytes = b""
        self.work: Cancellable | None = None  # set by the handler

    @property
    def answer(self) -> Sequence[bytes] | None:
        """The bytes to send; None while the handler works."""
        return self._answer

    def reply(
        self,
        status: int,
        content_type: bytes,
        body: Sequence[bytes],
        headers: bytes = b"",
    ) -> None:
        """Answer, once; `headers` are complete lines."""
        if self._answer is not None:
            raise RuntimeError("an exchange is answered once")
        length = sum(map(len, body))
        connection = self._connection
        closing = not self.keep_alive or connection.should_close_after(self)
        if closing:
            self.keep_alive = False
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n" % (
            _STATUS_LINES[status],
            content_type,
            length,
            headers,
            b"connection: close\r\n" if closing else self.staying,
        )
        self._answer = [head] if self.method == b"HEAD" else [head, *body]
        self.work = None
        connection.flush()

    def reply_json(self, status: int, document: object, headers: bytes = b"") -> None:
        """Answer with a JSON document."""
        self.reply(status, JSON, [orjson.dumps(document)], headers)

    def reply_error(self, status: int, message: str, headers: bytes = b"") -> None:
        """Answer with the protocol's error object."""
        self.reply_json(status, {"error": message}, headers)

    def cancel(self) -> None:
        """The client is gone: tell the work."""
        if self.work is not None:
            self.work.cancel()


class HttpServer:
    """The connections of one listening port."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Callable[[Exchange], None],
        limits: HttpLimits,
        on_refused: Callable[[int], None],
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.limits = limits
        self.on_refused = on_refused  # status of an answer that no handler saw
        self.draining = False
        self.connections: set[HttpConnection] = set()
        self._listener: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on."""
        self._listener = await self.loop.create_server(
            lambda: HttpConnection(self), host, port, backlog=1024
        )
        self._schedule_sweep()

    @property
    def unanswered(self) -> int:
        """Requests in work."""
        return sum(connection.unanswered for connection in self.connections)

    def start_draining(self) -> None:
        """Mark each further answer as its connection's last one; go on accepting."""
        self.draining = True

    async def drain(self, seconds: float) -> bool:
        """Close the port, answer what was asked, close what asks no more; False if time ran out."""
        self.draining = True
        for _ in range(_LAST_ACCEPTS):
            await asyncio.sleep(0)  # what waits to be accepted would be reset with the port
        self._close_listener()
        deadline = self.loop.time() + seconds
        while self.connections and self.loop.time() < deadline:
            for connection in list(self.connections):
                connection.close_if_quiet()
            await asyncio.sleep(_DRAIN_LOOK_SECONDS)
        return not self.unanswered

    def close(self) -> None:
        """Drop everything."""
        self._close_listener()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.abort()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _schedule_sweep(self) -> None:
        period = min(1.0, self.limits.header_seconds / 4, self.limits.idle_seconds / 4)
        self._sweep = self.loop.call_later(period, self._sweep_expired)

    def _sweep_expired(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            if now > connection.deadline:
                connection.expire()
        self._schedule_sweep()


class _Refused(Exception):  # noqa: N818  # leaves a parser callback, never this module
    """The request is answered by the connection itself and reading ends."""


class HttpConnection(asyncio.Protocol):
    """One client: requests in, answers out in the same order."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._pending: deque[Exchange] = deque()
        self._exchange: Exchange | None = None  # being read
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._silent_bytes = 0
        self._body_started = 0.0
        self._expects_continue = False
        self._in_headers = True
        self._read_closed = False  # end of input, a refusal, or the last answer is decided
        self._lingering = False  # the last answer is sent, the client may still be sending
        self._write_paused = False
        self._reading_paused = False
        self._last_used = 0.0  # loop time of the connection's start or last answer
        self.deadline = 0.0  # loop time at which patience ends

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own shares no base
        if len(self._server.connections) >= self._limits.max_connections:
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._last_used = self._server.loop.time()
        self.deadline = self._last_used + self._limits.header_seconds

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        self._server.connections.discard(self)
        self._transport = None
        for exchange in self._pending:
            exchange.cancel()
        self._pending.clear()

    def data_received(self, data: bytes) -> None:
        if self._read_closed:
            return
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                LOG.exception("request handling broke", exc_info=error.__context__)
                self._refuse(500, "internal error")
        except httptools.HttpParserError as error:
            self._refuse(400, f"malformed HTTP request: {error}")
        if self._silent_bytes > _SILENT_BYTES + self._limits.max_header_bytes:
            self._refuse(431, "too many bytes without content")

    def eof_received(self) -> bool:
        self._read_closed = True
        self._exchange = None
        return bool(self._pending)  # a half-closed client still gets its answers

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._server.loop.time() + _STALLED_WRITE_SECONDS
        self._pause_or_resume_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        patience = float("inf") if self._pending else self._limits.idle_seconds
        self.deadline = self._server.loop.time() + patience
        self._pause_or_resume_reading()

    # --- parser callbacks ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._read_closed:
            raise _Refused
        now = self._server.loop.time()
        self._exchange = Exchange(self)
        self._in_headers = True
        self._header_bytes = 0
        self._expects_continue = False
        self.deadline = now + self._limits.header_seconds

    def on_url(self, url: bytes) -> None:
        exchange = self._reading()
        exchange.target += url
        self._count_header_bytes(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header_bytes(len(name) + len(value) + 4)
        if not self._in_headers:
            return  # a trailer
        exchange = self._reading()
        match name.lower():
            case b"content-length":
                if len(value) > _LENGTH_DIGITS or int(value) > self._limits.max_body_bytes:
                    self._refuse_and_stop(413, self._too_large())
            case b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    self._refuse_and_stop(501, "the only transfer encoding here is chunked")
            case b"content-encoding":
                exchange.content_encoding = value.strip().lower()
            case b"inference-header-content-length":
                exchange.json_length = value.strip()
            case b"expect":
                if value.strip().lower() != b"100-continue":
                    self._refuse_and_stop(417, "only 100-continue can be expected")
                self._expects_continue = True
            case _:
                pass

    def on_headers_complete(self) -> None:
        exchange = self._reading()
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            self._refuse_and_stop(505, "this server speaks HTTP/1.1 and HTTP/1.0")
        exchange.method = self._parser.get_method()
        exchange.keep_alive = self._parser.should_keep_alive()
        if version == "1.0":
            exchange.staying = b"connection: keep-alive\r\n"
        self._in_headers = False
        self._body_started = self._server.loop.time()
        self.deadline = self._body_started + self._limits.body_seconds
        if self._expects_continue and not self._pending and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        self._silent_bytes = 0
        if self._body_bytes > self._limits.max_body_bytes:
            self._refuse_and_stop(413, self._too_large())
        self._chunks.append(chunk)
        earned = self._body_bytes / self._limits.body_bytes_per_second
        self.deadline = self._body_started + self._limits.body_seconds + earned

    def on_message_complete(self) -> None:
        exchange = self._reading()
        self._exchange = None
        exchange.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._body_bytes = self._silent_bytes = 0
        self._read_closed = not exchange.keep_alive
        self.deadline = float("inf")  # ours to answer
        self._pending.append(exchange)
        if len(self._pending) >= _PIPELINE_LIMIT:
            self._pause_or_resume_reading()
        try:
            self._server.handler(exchange)
        except Exception:
            LOG.exception("handling a request broke")
            if exchange.answer is None:
                exchange.reply_error(500, "internal error")

    # --- answers ------------------------------------------------------------------------------

    @property
    def unanswered(self) -> int:
        """Requests whose answer is not written."""
        return len(self._pending)

    def should_close_after(self, exchange: Exchange) -> bool:
        """Whether this answer is the connection's last: while draining, if no other is owed."""
        return (
            self._server.draining
            and self._exchange is None
            and len(self._pending) == 1
            and self._pending[0] is exchange
        )

    def flush(self) -> None:
        """Write the answers that are next in order."""
        transport, pending = self._transport, self._pending
        if transport is None:
            return
        parts: list[bytes] = []
        last = False
        while pending and (answer := pending[0].answer) is not None and not last:
            parts += answer
            last = not pending.popleft().keep_alive
        if not parts:
            return
        if len(parts) <= 2 or sum(map(len, parts)) <= _JOIN_BYTES:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)
        self._last_used = self._server.loop.time()
        if last:
            self._finish(transport)
            return
        if not pending:
            if self._read_closed:
                transport.close()
            elif not self._write_paused and self._exchange is None:
                self.deadline = self._last_used + self._limits.idle_seconds
        if self._reading_paused:
            self._pause_or_resume_reading()

    def close_if_quiet(self) -> None:
        """Close if nothing is owed or being read, and nothing may be on its way."""
        busy = self._pending or self._exchange is not None or self._lingering
        if self._transport is None or busy:
            return
        if self._server.loop.time() - self._last_used > _QUIET_SECONDS:
            self._transport.close()

    def expire(self) -> None:
        """Patience has ended: say so if a request was half sent, and close."""
        if self._transport is None or (self._reading_paused and not self._write_paused):
            return
        if self._exchange is not None and not self._read_closed and not self._write_paused:
            self._refuse(408, "the request took too long to arrive")
        else:
            self._transport.abort()

    def abort(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()

    # --- inside -------------------------------------------------------------------------------

    def _reading(self) -> Exchange:
        if self._exchange is None or self._read_closed:
            raise _Refused
        return self._exchange

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > self._limits.max_header_bytes:
            limit = self._limits.max_header_bytes
            self._refuse_and_stop(431, f"the request's headers are larger than {limit} bytes")

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.max_body_bytes} bytes"

    def _refuse_and_stop(self, status: int, message: str) -> None:
        self._refuse(status, message)
        raise _Refused

    def _refuse(self, status: int, message: str) -> None:
        """Answer the request being read with an error, after those before it; then close."""
        if self._read_closed:
            return
        self._server.on_refused(status)
        exchange = self._exchange or Exchange(self)
        self._exchange = None
        self._read_closed = True
        self._chunks = []
        exchange.keep_alive = False
        self._pending.append(exchange)
        exchange.reply_error(status, message)

    def _finish(self, transport: asyncio.Transport) -> None:
        """Close after the last answer, but let the client read it: no reset by unread input."""
        self._read_closed = self._lingering = True
        self._pending.clear()
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        self.deadline = self._server.loop.time() + _LINGER_SECONDS

    def _ignore_upgrade(self, rest: bytes) -> None:
        """An Upgrade may be ignored: the request was answered as it stands, the next may come."""
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.data_received(rest)

    def _pause_or_resume_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        pause = self._write_paused or len(self._pending) >= _PIPELINE_LIMIT
        if pause and not self._reading_paused:
            self._transport.pause_reading()
        elif not pause and self._reading_paused:
            self._transport.resume_reading()
        self._reading_paused = pause
