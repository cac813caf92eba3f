"""`GET /progress` and `GET /healthz` of a build Job. Losing it changes nothing."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_optimizer.progress import Progress


@contextmanager
def serving(progress: Progress, host: str, port: int) -> Iterator[int]:
    """Answer while the block runs; gives the port, which matters where 0 was asked for."""

    class Handler(_Handler):
        source = progress

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="progress", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    source: Progress
    # A peer that says nothing must not hold a thread.
    timeout = 5

    def do_GET(self) -> None:
        """Answer the two paths."""
        if self.path == "/progress":
            body = json.dumps(self.source.snapshot().to_json()).encode()
            self._answer(HTTPStatus.OK, "application/json", body)
        elif self.path == "/healthz":
            self._answer(HTTPStatus.OK, "text/plain", b"ok")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is /progress and /healthz")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: probes would fill the log."""

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
