"""HTTP/1.1 framing against bytes in memory: no sockets, a clock of our own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_runtime.http_server import Exchange, HttpConnection, HttpServer
from modelwright_runtime.settings import HttpLimits

if TYPE_CHECKING:
    import asyncio

GET = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"


class Clock:
    """The part of an event loop that a connection uses."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


class Transport:
    """Keeps what is written; says how the connection was ended."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self.reading = True

    def is_open(self) -> bool:
        return not self.ended

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"

    def is_closing(self) -> bool:
        return self.ended in {"close", "abort"}

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class Client:
    """One connection, the exchanges that reached the handler, and what was refused."""

    limits: HttpLimits = field(default_factory=HttpLimits)
    answer_at_once: bool = True

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.exchanges: list[Exchange] = []
        self.refused: list[int] = []
        self.transport = Transport()
        self.server = HttpServer(
            cast("asyncio.AbstractEventLoop", self.clock),
            self._handle,
            self.limits,
            self.refused.append,
        )
        self.connection = HttpConnection(self.server)
        self.connection.connection_made(cast("asyncio.BaseTransport", self.transport))

    def _handle(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if self.answer_at_once:
            echo(exchange)

    def send(self, *pieces: bytes) -> list[dict[str, Any]]:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        return parse_answers(self.transport.written)

    def statuses(self) -> list[int]:
        return [one["status"] for one in self.answers()]

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        if self.clock.now > self.connection.deadline:
            self.connection.expire()


def echo(exchange: Exchange) -> None:
    document = {"method": exchange.method.decode(), "target": exchange.target.decode()}
    exchange.reply_json(200, document | {"body": exchange.body.decode("latin-1")})


def parse_answers(data: bytes) -> list[dict[str, Any]]:
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0)) if status >= 200 else 0
        found.append({"status": status, "headers": headers, "body": rest[:length]})
        data = rest[length:]
    return found


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def bodies(client: Client) -> list[str]:
    return [json.loads(one["body"])["body"] for one in client.answers()]


def test_pipelined_requests_are_answered_in_order_whatever_is_done_first() -> None:
    client = Client(answer_at_once=False)
    client.send(post(b"one") + post(b"two") + post(b"three"))
    for exchange in (client.exchanges[2], client.exchanges[0], client.exchanges[1]):
        echo(exchange)
    assert bodies(client) == ["one", "two", "three"]
    assert client.transport.is_open()


@given(st.lists(st.integers(1, 400), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_requests(cuts: list[int]) -> None:
    chunked = (
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n"
    )
    stream = post(b"first") + chunked + GET + post(b"last")
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    client = Client()
    client.send(*(stream[a:b] for a, b in pairwise(edges)))
    assert bodies(client) == ["first", "abcdefgh", "", "last"]
    assert not client.refused


@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_awaited_but_never_break(noise: bytes) -> None:
    client = Client()
    client.send(noise)
    for status in client.statuses():
        assert status in {100, 200, 400, 413, 417, 431, 501, 505}


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damaged_requests_are_answered_or_awaited_but_never_break(at: int, noise: bytes) -> None:
    good = post(b"hello", b"Inference-Header-Content-Length: 3") + GET
    client = Client()
    client.send(good[:at] + noise + good[at + len(noise) :])
    assert len(client.statuses()) <= 9


def test_continue_is_sent_before_the_body_is() -> None:
    client = Client()
    request = post(b"hello", b"Expect: 100-continue")
    assert [one["status"] for one in client.send(request[:-5])] == [100]
    assert [one["status"] for one in client.send(request[-5:])] == [100, 200]


def test_a_body_too_large_is_refused_before_it_is_sent() -> None:
    client = Client(HttpLimits(max_body_bytes=4))
    head = post(b"hello", b"Expect: 100-continue")[:-5]
    assert [one["status"] for one in client.send(head)] == [413]
    assert client.transport.ended == "eof"
    assert client.refused == [413]


def test_a_chunked_body_too_large_is_refused_where_it_grows_too_large() -> None:
    client = Client(HttpLimits(max_body_bytes=4))
    head = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert not client.send(head, b"3\r\nabc\r\n")
    (answer,) = client.send(b"2\r\nde\r\n")
    assert answer["status"] == 413
    assert answer["headers"]["connection"] == "close"
    assert not client.exchanges


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    ],
)
def test_bad_requests_get_their_status_and_the_connection_ends(
    request_bytes: bytes, status: int
) -> None:
    client = Client()
    answers = client.send(request_bytes)
    assert [one["status"] for one in answers] == [status]
    assert json.loads(answers[0]["body"])["error"]
    assert client.transport.ended
    assert not client.exchanges


@pytest.mark.parametrize(
    "endless",
    [
        [b"GET / HTTP/1.1\r\nX: ", b"a" * 10_000],
        [
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
            b"a" * 10_000,
        ],
        [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"a" * 10_000],
    ],
    ids=["a header", "a trailer", "a chunk extension"],
)
def test_what_never_ends_is_cut_off_within_a_bound(endless: list[bytes]) -> None:
    client = Client()
    client.send(endless[0])
    sent = 0
    while not client.transport.ended:
        client.send(endless[1])
        sent += len(endless[1])
        assert sent < 1_000_000
    assert client.statuses() == [431]


def test_answers_already_owed_come_before_a_refusal() -> None:
    client = Client(answer_at_once=False)
    client.send(post(b"good") + b"nonsense\r\n\r\n")
    assert client.answers() == []
    echo(client.exchanges[0])
    assert client.statuses() == [200, 400]
    assert client.transport.ended == "eof"


def test_connection_close_and_http_1_0_end_after_their_answer() -> None:
    for request in (
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n" + GET,
        b"GET / HTTP/1.0\r\n\r\n" + GET,
    ):
        client = Client()
        (answer,) = client.send(request)
        assert answer["headers"]["connection"] == "close"
        assert client.transport.ended == "eof"


def test_http_1_0_is_told_when_its_connection_stays_open() -> None:
    client = Client()
    asked = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    one, two = client.send(asked + asked)
    assert one["headers"]["connection"] == two["headers"]["connection"] == "keep-alive"
    assert client.transport.is_open()


def test_head_is_answered_without_a_body() -> None:
    client = Client()
    client.send(b"HEAD /live HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = client.transport.written.partition(b"\r\n\r\n")
    assert b"content-length: 4" in head
    assert body == b""


def test_an_upgrade_is_ignored_and_the_next_request_is_read() -> None:
    client = Client()
    upgrade = b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert [one["status"] for one in client.send(upgrade + GET, GET)] == [200, 200, 200]


def test_a_half_closed_client_gets_its_answer() -> None:
    client = Client(answer_at_once=False)
    client.send(post(b"hello"))
    assert client.connection.eof_received()
    echo(client.exchanges[0])
    assert client.statuses() == [200]
    assert client.transport.ended == "close"


def test_a_closed_client_with_nothing_owed_is_let_go() -> None:
    client = Client()
    client.send(GET)
    assert not client.connection.eof_received()


def test_a_lost_client_cancels_its_work() -> None:
    class Work:
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    client = Client(answer_at_once=False)
    client.send(post(b"a") + post(b"b"))
    works = [Work(), Work()]
    for exchange, work in zip(client.exchanges, works, strict=True):
        exchange.work = work
    client.connection.connection_lost(None)
    assert [work.cancelled for work in works] == [1, 1]
    echo(client.exchanges[0])  # late: goes nowhere, breaks nothing
    assert client.transport.written == b""
    assert not client.server.connections


def test_a_handler_that_breaks_answers_500_and_the_connection_lives() -> None:
    client = Client()
    good = client.server.handler

    def break_once(exchange: Exchange) -> None:
        client.server.handler = good
        raise ZeroDivisionError

    client.server.handler = break_once
    assert [one["status"] for one in client.send(GET + GET)] == [500, 200]


def test_slow_headers_end_in_408() -> None:
    client = Client(HttpLimits(header_seconds=10))
    client.send(b"GET / HT")
    client.wait(9)
    assert client.transport.is_open()
    client.send(b"TP/1.1\r\nX: ")
    client.wait(2)
    assert client.statuses() == [408]
    client.wait(3)
    assert client.transport.ended == "abort"


def test_a_body_must_keep_a_pace_but_may_be_long() -> None:
    client = Client(HttpLimits(body_seconds=30, body_bytes_per_second=1000))
    head = post(b"x" * 100_000)[:-100_000]
    client.send(head)
    for _ in range(50):
        client.wait(1.5)
        client.send(b"x" * 2000)
    assert client.statuses() == [200]
    slow = Client(HttpLimits(body_seconds=30, body_bytes_per_second=1000))
    slow.send(head)
    for _ in range(40):
        slow.wait(1)
        slow.send(b"x")
    assert slow.statuses() == [408]


def test_an_idle_connection_is_closed_but_not_one_that_is_owed_an_answer() -> None:
    client = Client(HttpLimits(idle_seconds=75), answer_at_once=False)
    client.send(GET)
    client.wait(1000)
    assert client.transport.is_open()
    echo(client.exchanges[0])
    client.wait(74)
    assert client.transport.is_open()
    client.wait(2)
    assert client.transport.ended == "abort"


def test_reading_pauses_at_the_pipeline_limit_and_goes_on() -> None:
    client = Client(answer_at_once=False)
    client.send(GET * 70)
    assert not client.transport.reading
    for exchange in client.exchanges:
        echo(exchange)
    assert client.transport.reading
    assert client.statuses() == [200] * 70


def test_a_client_that_reads_nothing_is_not_read_from_and_dropped_in_time() -> None:
    client = Client()
    client.send(GET)
    client.connection.pause_writing()
    assert not client.transport.reading
    client.wait(31)
    assert client.transport.ended == "abort"


def test_while_draining_an_answer_says_close_and_none_is_lost() -> None:
    client = Client(answer_at_once=False)
    client.send(post(b"one") + post(b"two"))
    client.server.start_draining()
    echo(client.exchanges[1])
    echo(client.exchanges[0])
    one, two = client.answers()
    assert "connection" not in one["headers"]
    assert json.loads(two["body"])["body"] == "two"
    client.answer_at_once = True
    client.send(post(b"three"))
    assert client.answers()[-1]["headers"]["connection"] == "close"
    assert client.transport.ended == "eof"


def test_connections_beyond_the_limit_are_not_taken() -> None:
    client = Client(replace(HttpLimits(), max_connections=1))
    second = Transport()
    HttpConnection(client.server).connection_made(cast("asyncio.BaseTransport", second))
    assert second.ended == "abort"
    assert len(client.server.connections) == 1
