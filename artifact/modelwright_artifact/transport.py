"""HTTP to registries and sources: trust, retries, redirects, and what a failure means.

Passing troubles (no connection, 408, 429, 5xx) are retried with backoff before they become
`Unreachable`. Callers turn the three outcomes into their own errors.
"""

from __future__ import annotations

import functools
import random
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How to reach registries: plain-http hosts, extra trust, credentials, patience.

    `docker_config` is the folder that holds `config.json`.
    """

    insecure_hosts: frozenset[str] = frozenset()
    ca_bundle: Path | None = None
    docker_config: Path | None = None
    attempts: int = 5
    backoff_seconds: float = 0.5
    timeout_seconds: float = 60.0

    def scheme(self, host: str) -> str:
        """`http` for the listed hosts, else `https`."""
        return "http" if host in self.insecure_hosts else "https"


class Unreachable(Exception):  # noqa: N818
    """No answer, or one that says to come back later; the message is half a sentence."""


class _Passing(Exception):  # noqa: N818
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.wait_seconds = _retry_after(response)


def build_client(options: RegistryOptions) -> httpx.Client:
    """An HTTP client with the system's trust plus the CA bundle; redirects are the caller's."""
    return httpx.Client(
        verify=_build_trust(options.ca_bundle),
        timeout=httpx.Timeout(options.timeout_seconds, connect=min(10.0, options.timeout_seconds)),
        # Bytes as stored: a transfer encoding would change what a digest was taken of.
        headers={"User-Agent": "modelwright", "Accept-Encoding": "identity"},
        follow_redirects=False,
    )


def retry(options: RegistryOptions, work: Callable[[], T]) -> T:
    """Do `work` until it gets an answer that is no passing trouble, a few times at most."""
    last: Exception | None = None
    for attempt in range(options.attempts):
        try:
            return work()
        except _Passing as error:
            last, wait = error, error.wait_seconds
        except httpx.TransportError as error:
            if _is_untrusted(error):
                raise Unreachable("its certificate is not trusted: set the CA bundle") from error
            last, wait = error, 0.0
        if attempt + 1 < options.attempts:
            backoff = options.backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311
            time.sleep(min(max(backoff, wait), _LONGEST_WAIT_SECONDS))
    raise Unreachable(describe_trouble(last)) from last


def check_passing(response: httpx.Response) -> None:
    """Within `retry`: give up this attempt when the answer says to come back later."""
    if response.status_code in PASSING_STATUSES:
        raise _Passing(response)


def describe_trouble(error: Exception | None) -> str:
    """Half a sentence about a transport error, without addresses of proxies or secrets."""
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error})"
    if isinstance(error, _Passing):
        return f"it answers {error}"
    return f"the connection broke ({type(error).__name__})"


def _build_trust(ca_bundle: Path | None) -> ssl.SSLContext:
    """The trust store; read again when the bundle's file changes, as a mounted one does."""
    return _read_trust(ca_bundle, ca_bundle.stat().st_mtime_ns if ca_bundle else 0)


@functools.lru_cache(maxsize=4)
def _read_trust(ca_bundle: Path | None, _changed_at: int) -> ssl.SSLContext:
    # Reading the system's certificates takes tens of milliseconds.
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        # An image without the distribution's CA bundle still has httpx's own.
        import certifi

        context.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        context.load_verify_locations(str(ca_bundle))
    return context


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0
