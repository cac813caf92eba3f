"""The registry client against peers that misbehave, on real sockets."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from modelwright_artifact.errors import (
    DigestMismatch,
    RegistryDenied,
    RegistryError,
    RegistryUnreachable,
    SourceInvalid,
)
from modelwright_artifact.registry import Reference, Registry
from modelwright_artifact.request import SourceRef
from modelwright_artifact.sources import SourceOptions, fetch_source
from modelwright_artifact.transport import RegistryOptions
from tests.integration.optimizer.test_oci import docker_config

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"some weights" * 1000
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


@dataclass
class Answer:
    """One answer; `body` may be shorter than it claims."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    claimed: int | None = None


@dataclass
class Peer:
    """A server whose answers a test decides, and what it was asked."""

    port: int
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self) -> Counter[str]:
        return Counter(f"{method} {urlsplit(path).path}" for method, path, _ in self.asked)


Decide = Callable[[Peer, str, str, dict[str, str]], Answer]


@contextmanager
def a_peer(decide: Decide) -> Iterator[Peer]:
    peer = Peer(0)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            peer.asked.append((self.command, self.path, headers))
            answer = decide(peer, self.command, self.path, headers)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            size = len(answer.body) if answer.claimed is None else answer.claimed
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client(peer: Peer, **changes: object) -> Registry:
    values: dict[str, object] = {
        "insecure_hosts": frozenset({peer.host}),
        "attempts": 3,
        "backoff_seconds": 0.001,
        **changes,
    }
    return Registry(Reference.parse(f"{peer.host}/m"), RegistryOptions(**values))  # type: ignore[arg-type]


def fetch(registry: Registry, size: int = len(BODY)) -> bytes:
    sink = io.BytesIO()
    with registry:
        registry.get_blob(DIGEST, size, sink)
    return sink.getvalue()


def test_a_passing_trouble_is_passed_over() -> None:
    def decide(peer: Peer, method: str, path: str, headers: dict[str, str]) -> Answer:
        tries = len(peer.asked)
        if tries == 1:
            return Answer(503, headers={"Retry-After": "0"})
        if tries == 2:
            return Answer(body=BODY[:100], claimed=len(BODY))
        return Answer(body=BODY)

    with a_peer(decide) as peer:
        assert fetch(client(peer)) == BODY
        assert len(peer.asked) == 3


def test_a_lasting_trouble_is_told_after_a_few_attempts() -> None:
    with a_peer(lambda *_: Answer(502)) as peer:
        with pytest.raises(RegistryUnreachable, match="it answers HTTP 502"):
            fetch(client(peer))
        assert len(peer.asked) == 3


BYTES = {
    "one byte changed": BODY[:-1] + b"!",
    "too few": BODY[:-1],
    "too many": BODY + b"!",
}


@pytest.mark.parametrize("body", BYTES.values(), ids=BYTES.keys())
def test_other_bytes_are_never_taken(body: bytes) -> None:
    with a_peer(lambda *_: Answer(body=body)) as peer:
        with pytest.raises(DigestMismatch):
            fetch(client(peer))
        assert len(peer.asked) == 1


def test_a_manifest_of_another_digest_is_never_taken() -> None:
    with (
        a_peer(lambda *_: Answer(body=b"{}")) as peer,
        client(peer) as registry,
        pytest.raises(DigestMismatch, match="other bytes for the manifest"),
    ):
        registry.get_manifest(DIGEST)


def test_a_credential_stays_with_its_host_along_a_redirect(tmp_path: Path) -> None:
    with ExitStack() as stack:
        storage = stack.enter_context(a_peer(lambda *_: Answer(body=BODY)))

        def decide(peer: Peer, method: str, path: str, headers: dict[str, str]) -> Answer:
            if "authorization" not in headers:
                return Answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(307, headers={"Location": f"http://{storage.host}/elsewhere"})

        peer = stack.enter_context(a_peer(decide))
        config = docker_config(tmp_path / "config", peer.host, "secret")
        assert fetch(client(peer, docker_config=config)) == BODY
        ((_, path, headers),) = storage.asked
        assert path == "/elsewhere"
        assert "authorization" not in headers


def test_a_token_is_fetched_for_the_scope_and_used(tmp_path: Path) -> None:
    def decide(peer: Peer, method: str, path: str, headers: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            assert headers["authorization"].startswith("Basic ")
            wanted = {"service": ["s"], "scope": ["repository:m:pull"]}
            assert parse_qs(urlsplit(path).query) == wanted
            return Answer(body=json.dumps({"token": "t0ken"}).encode())
        if headers.get("authorization") == "Bearer t0ken":
            return Answer(body=BODY)
        challenge = f'Bearer realm="http://{peer.host}/token",service="s",scope="repository:m:pull"'
        return Answer(401, headers={"WWW-Authenticate": challenge})

    with a_peer(decide) as peer:
        config = docker_config(tmp_path / "config", peer.host, "secret")
        with client(peer, docker_config=config) as registry:
            for _ in range(2):
                registry.get_blob(DIGEST, len(BODY), io.BytesIO())
        assert peer.count() == {f"GET /v2/m/blobs/{DIGEST}": 3, "GET /token": 1}


def test_a_refused_token_and_a_refused_right_are_told(tmp_path: Path) -> None:
    def decide(peer: Peer, method: str, path: str, headers: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            return Answer(401)
        return Answer(401, headers={"WWW-Authenticate": f'Bearer realm="http://{peer.host}/token"'})

    with a_peer(decide) as peer, pytest.raises(RegistryDenied, match="token service"):
        fetch(client(peer))
    with a_peer(lambda *_: Answer(403)) as peer, pytest.raises(RegistryDenied, match="HTTP 403"):
        fetch(client(peer))


def test_a_redirect_without_end_is_left() -> None:
    with a_peer(lambda *_: Answer(302, headers={"Location": "/again"})) as peer:
        with pytest.raises(RegistryError, match="redirects without end"):
            fetch(client(peer))
        assert len(peer.asked) == 5


def test_an_upload_whose_session_is_lost_starts_anew() -> None:
    puts = 0

    def decide(peer: Peer, method: str, path: str, headers: dict[str, str]) -> Answer:
        nonlocal puts
        if method == "HEAD":
            return Answer(404)
        if method == "POST":
            return Answer(202, headers={"Location": "/v2/m/blobs/uploads/1?state=x"})
        puts += 1
        assert parse_qs(urlsplit(path).query) == {"state": ["x"], "digest": [DIGEST]}
        return Answer(404 if puts == 1 else 201)

    sent = 0

    def content() -> Iterator[bytes]:
        nonlocal sent
        sent += 1
        yield BODY

    with a_peer(decide) as peer, client(peer) as registry:
        registry.put_blob(DIGEST, len(BODY), content)
    assert (puts, sent) == (2, 2)


def test_a_blob_that_is_there_is_not_sent() -> None:
    with a_peer(lambda *_: Answer()) as peer, client(peer) as registry:
        registry.put_blob(DIGEST, len(BODY), lambda: pytest.fail("sent all the same"))
        assert [method for method, _, _ in peer.asked] == ["HEAD"]


def test_a_source_credential_is_sent_to_its_host_only(tmp_path: Path) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(a_peer(lambda *_: Answer(body=BODY)))
        location = {"Location": f"http://{other.host}/file"}
        peer = stack.enter_context(a_peer(lambda *_: Answer(302, headers=location)))
        secret = tmp_path / "secret"
        secret.mkdir()
        for name, value in {"host": peer.host, "token": "t0ken"}.items():
            (secret / name).write_text(value)
        source = SourceRef(uri=f"http://{peer.host}/file", digest=DIGEST)
        options = SourceOptions(credentials=secret)
        path = fetch_source(source, ".npz", tmp_path / "in", options)
        assert path.read_bytes() == BODY
        assert peer.asked[0][2]["authorization"] == "Bearer t0ken"
        assert "authorization" not in other.asked[0][2]


def test_a_source_larger_than_allowed_is_not_kept(tmp_path: Path) -> None:
    with a_peer(lambda *_: Answer(body=BODY)) as peer:
        source = SourceRef(uri=f"http://{peer.host}/f?signature=s3cret", digest=DIGEST)
        with pytest.raises(SourceInvalid, match="larger than 100 bytes") as caught:
            fetch_source(source, ".npz", tmp_path / "in", SourceOptions(max_bytes=100))
    assert "s3cret" not in str(caught.value)
    assert list((tmp_path / "in").iterdir()) == []
