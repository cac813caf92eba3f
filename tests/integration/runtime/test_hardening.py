"""Clients that are broken, slow or hostile: an error for them, service for everybody else."""

from __future__ import annotations

import json
import random
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.runtime.server_process import ServerProcess

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}
).encode()
POST = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextmanager
def connect(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as connection:
        yield connection


def read_answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers; stops at the end of the stream."""
    stream = connection.makefile("rb")
    answers: list[tuple[int, bytes]] = []
    while len(answers) < count and (line := stream.readline()):
        status = int(line.split()[1])
        length = 0
        while (header := stream.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answers.append((status, stream.read(length)))
    return answers


def is_serving(server: ServerProcess) -> bool:
    answer = httpx.post(f"{server.url}/v2/models/digits/infer", content=BODY, timeout=60)
    return answer.status_code == 200 and answer.json()["outputs"][1]["data"] == [2]


def test_pipelined_requests_are_answered_in_order(classifier_server: ServerProcess) -> None:
    asked = []
    for number in range(100):
        body = json.dumps(json.loads(BODY) | {"id": str(number)}).encode()
        asked.append(
            b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        asked.append(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
    with connect(classifier_server) as connection:
        connection.sendall(b"".join(asked))
        answers = read_answers(connection, 200)
    assert [status for status, _ in answers] == [200] * 200
    assert [json.loads(body)["id"] for _, body in answers[::2]] == [str(n) for n in range(100)]
    assert {body for _, body in answers[1::2]} == {b'{"live":true}'}


def test_a_half_closed_client_gets_its_answer(classifier_server: ServerProcess) -> None:
    with connect(classifier_server) as connection:
        connection.sendall(POST + BODY)
        connection.shutdown(socket.SHUT_WR)
        ((status, _),) = read_answers(connection, 2)
    assert status == 200


def test_slow_headers_are_cut_off_with_408(classifier_server: ServerProcess) -> None:
    with connect(classifier_server) as connection:
        connection.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nX-Slow: ")
        ((status, _),) = read_answers(connection, 2)  # the server gives up, not the test
    assert status == 408
    assert is_serving(classifier_server)


def test_a_silent_connection_is_closed(classifier_server: ServerProcess) -> None:
    with connect(classifier_server) as connection, suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    assert is_serving(classifier_server)


def test_a_refused_upload_can_read_its_refusal(classifier_server: ServerProcess) -> None:
    with connect(classifier_server) as connection:
        connection.sendall(b"POST /v2 HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n")
        try:
            for _ in range(50):
                connection.sendall(bytes(100_000))
        except (BrokenPipeError, ConnectionResetError):
            pytest.fail("the refusal was lost in a reset")
        ((status, body),) = read_answers(connection, 1)
    assert status == 413
    assert b"larger than 1000000 bytes" in body


def test_disconnected_clients_leave_nothing_behind(classifier_server: ServerProcess) -> None:
    for cut in range(0, len(POST + BODY), 7):
        with connect(classifier_server) as connection:
            connection.sendall((POST + BODY)[:cut])
    assert is_serving(classifier_server)
    assert 'modelwright_queue_depth{model="digits"} 0' in classifier_server.metrics()


def test_damaged_requests_never_hurt_the_good_ones(classifier_server: ServerProcess) -> None:
    chance = random.Random(7)  # noqa: S311  # reproducible, not secret
    good = POST + BODY
    statuses: set[int] = set()
    for round_number in range(400):
        noise = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(noise))
            match chance.randrange(3):
                case 0:
                    noise[at] = chance.randrange(256)
                case 1:
                    del noise[at : at + chance.randint(1, 30)]
                case _:
                    noise[at:at] = chance.randbytes(chance.randint(1, 30))
            noise = noise or bytearray(b"x")
        with connect(classifier_server) as connection:
            connection.sendall(bytes(noise))
            connection.shutdown(socket.SHUT_WR)
            statuses.update(status for status, _ in read_answers(connection, 100))
        if round_number % 50 == 0:
            assert is_serving(classifier_server)
    assert is_serving(classifier_server)
    assert statuses <= {200, 400, 404, 405, 413, 417, 431, 501, 505}
    assert {200, 400} <= statuses


def test_bodies_of_any_json_never_end_in_500(classifier_server: ServerProcess) -> None:
    chance = random.Random(11)  # noqa: S311  # reproducible, not secret
    atoms: list[object] = [None, True, -1, 0, 4, 1.5, "x", "FP32", [], {}, [1, 4], 1 << 62, "data"]

    def mutate(value: object) -> object:
        if chance.random() < 0.15:
            return chance.choice(atoms)
        if isinstance(value, dict):
            return {key: mutate(one) for key, one in value.items() if chance.random() > 0.05}
        if isinstance(value, list):
            return [mutate(one) for one in value for _ in range(chance.choice([1, 1, 1, 1, 2]))]
        return value

    base = json.loads(BODY) | {"id": "7", "parameters": {}, "outputs": [{"name": "probs"}]}
    with httpx.Client(base_url=classifier_server.url, timeout=60) as client:
        statuses = set()
        for _ in range(500):
            answer = client.post("/v2/models/digits/infer", json=mutate(base))
            statuses.add(answer.status_code)
            assert answer.json()
    assert statuses <= {200, 400, 501}
    assert {200, 400} <= statuses
    assert is_serving(classifier_server)
