"""Small questions to servers, also to those inside a network namespace."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    import ssl

    from e2e.cluster.netns import NetworkNamespace

PROBE_SECONDS = 5.0

Probe = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and how to speak to it."""

    address: str
    port: int
    namespace: NetworkNamespace | None = None
    tls: ssl.SSLContext | None = None

    def accepts(self) -> bool:
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body.

        Raises:
            OSError: no answer.
        """
        connection = http.client.HTTPConnection(self.address, self.port, timeout=PROBE_SECONDS)
        connection.sock = self._connect()
        try:
            if self.tls is not None:
                connection.sock = self.tls.wrap_socket(
                    connection.sock, server_hostname=self.address
                )
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def answers(self, path: str, *, status: int = 200, body: str | None = None) -> bool:
        """Tell whether the answer is exactly this one.

        Exactly, because a failing /readyz names its good checks as `[+]… ok`.
        """
        try:
            got_status, got_body = self.get(path)
        except OSError:
            return False
        return got_status == status and (body is None or got_body == body)

    def probe(self, path: str, *, status: int = 200, body: str | None = None) -> Probe:
        """Return the question itself, to be asked until the answer is yes."""
        return lambda: self.answers(path, status=status, body=body)

    def _connect(self) -> socket.socket:
        if self.namespace is None:
            return socket.create_connection((self.address, self.port), PROBE_SECONDS)
        return self.namespace.connect(self.address, self.port, timeout_seconds=PROBE_SECONDS)


def wait_until(what: str, is_true: Callable[[], bool], *, deadline_seconds: float) -> None:
    """Poll until true.

    Raises:
        ClusterError: it was not true in time.
    """
    deadline = time.monotonic() + deadline_seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {deadline_seconds:.0f} s")
        time.sleep(0.2)
