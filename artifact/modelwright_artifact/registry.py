"""A small OCI distribution client: blobs and manifests, streamed, every digest checked.

Written for this project because the Python SDK at hand (`oras` 0.2.43) reads each blob into
memory to push it, waits two minutes on a refused connection, sends no timeout, checks no
digest and does not speak Basic authentication to a registry that asks for it. Specification:
OCI distribution-spec 1.1; token flow: distribution's `docs/spec/auth/token.md`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Self, TypeVar

import httpx

from modelwright_artifact.credentials import load_credential
from modelwright_artifact.errors import (
    ArtifactError,
    DigestMismatch,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnreachable,
)
from modelwright_artifact.transport import (
    RegistryOptions,
    Unreachable,
    build_client,
    check_passing,
    retry,
)

if TYPE_CHECKING:
    from types import TracebackType

MANIFEST_MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
MAX_OCI_MANIFEST_BYTES: Final = 4 << 20
MAX_REDIRECTS: Final = 5
CHUNK_BYTES: Final = 1 << 20

_ACCEPTED: Final = (
    MANIFEST_MEDIA_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_REFERENCE = re.compile(
    r"(?P<host>[a-z0-9][a-z0-9.-]*(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)"
    r"/(?P<path>[a-z0-9][a-z0-9._/-]*?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

Content = Callable[[], Iterable[bytes]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reference:
    """`host[:port]/path[:tag][@sha256:…]`, taken apart."""

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Take a reference apart; `oci://` in front is allowed."""
        match = _REFERENCE.fullmatch(text.removeprefix("oci://"))
        if match is None:
            raise ArtifactError(
                f"{text[:200]!r} is no registry reference such as host:5000/models/digits@sha256:…"
            )
        return cls(match["host"], match["path"], match["tag"], match["digest"])

    @property
    def repository(self) -> str:
        """The reference without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def version(self) -> str:
        """What to ask the registry for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as the registry gave it, with the digest of these bytes."""

    body: bytes
    digest: str
    media_type: str


class Registry:
    """One repository of one registry, with the credentials it asks for."""

    def __init__(
        self, reference: Reference, options: RegistryOptions, client: httpx.Client | None = None
    ) -> None:
        self._host = reference.host
        self._name = reference.repository
        self._options = options
        self._client = client or build_client(options)
        self._base = f"{options.scheme(reference.host)}://{reference.host}/v2/{reference.path}"
        self._netloc = httpx.URL(self._base).netloc
        self._authorization: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get_manifest(self, version: str) -> Fetched:
        """The manifest under a tag or digest; under a digest its bytes are checked."""
        url = f"{self._base}/manifests/{version}"
        headers = {"Accept": ", ".join(_ACCEPTED)}

        def fetch() -> Fetched:
            with self._send("GET", url, headers=headers) as response:
                self._check(response, f"manifest {version}")
                body = _read_capped(response, MAX_OCI_MANIFEST_BYTES, "manifest")
                media_type = response.headers.get("content-type", "").partition(";")[0]
                return Fetched(body, f"sha256:{hashlib.sha256(body).hexdigest()}", media_type)

        fetched = self._retry(fetch)
        if version.startswith("sha256:") and fetched.digest != version:
            raise DigestMismatch(f"{self._name} gave other bytes for the manifest {version}.")
        return fetched

    def put_manifest(self, version: str, body: bytes, media_type: str) -> str:
        """Store a manifest under a tag or digest and return its digest."""
        url = f"{self._base}/manifests/{version}"
        headers = {"Content-Type": media_type, "Content-Length": str(len(body))}

        def put() -> None:
            with self._send("PUT", url, headers=headers, content=lambda: (body,)) as response:
                self._check(response, f"manifest {version}")

        self._retry(put)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds the blob."""

        def ask() -> bool:
            with self._send("HEAD", f"{self._base}/blobs/{digest}") as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return False
                self._check(response, f"blob {digest}")
                return True

        return self._retry(ask)

    def put_blob(self, digest: str, size: int, content: Content) -> None:
        """Store a blob unless it is there; `content` is called anew for every attempt."""
        if self.has_blob(digest):
            return

        def put() -> None:
            with self._send("POST", f"{self._base}/blobs/uploads/") as response:
                self._check(response, "a new upload")
                location = response.headers.get("location", "")
                target = (
                    httpx.URL(str(response.url))
                    .join(location)
                    .copy_merge_params({"digest": digest})
                )
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
            }
            with self._send("PUT", str(target), headers=headers, content=content) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    # An upload session lives on one replica of the registry only: start anew.
                    raise httpx.RemoteProtocolError("the upload session is gone")
                self._check(response, f"blob {digest}")

        self._retry(put)

    def get_blob(self, digest: str, size: int, sink: IO[bytes]) -> None:
        """Stream a blob into a seekable sink; its length and digest are checked."""

        def fetch() -> None:
            sink.seek(0)
            sink.truncate()
            with self._send("GET", f"{self._base}/blobs/{digest}") as response:
                self._check(response, f"blob {digest}")
                _copy_checked(response, digest, size, sink)

        self._retry(fetch)

    def _retry(self, work: Callable[[], T]) -> T:
        try:
            return retry(self._options, work)
        except Unreachable as error:
            raise RegistryUnreachable(
                f"The registry {self._host} cannot be reached: {error}."
            ) from error

    @contextmanager
    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: Content | None = None,
    ) -> Iterator[httpx.Response]:
        response = self._send_following(method, url, headers or {}, content)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._is_own(response.url):
            response.close()
            self._authorize(response)
            response = self._send_following(method, url, headers or {}, content)
        try:
            check_passing(response)
            yield response
        finally:
            response.close()

    def _send_following(
        self, method: str, url: str, headers: dict[str, str], content: Content | None
    ) -> httpx.Response:
        for _ in range(MAX_REDIRECTS):
            response = self._send_once(method, url, headers, content)
            if not response.has_redirect_location or method not in {"GET", "HEAD"}:
                return response
            response.close()
            url = str(response.url.join(response.headers["location"]))
        raise RegistryError(f"The registry {self._host} redirects without end.")

    def _send_once(
        self, method: str, url: str, headers: dict[str, str], content: Content | None
    ) -> httpx.Response:
        sent = dict(headers)
        if self._authorization is not None and self._is_own(httpx.URL(url)):
            # Storage behind a redirect has other rights: our credential stays with its host.
            sent["Authorization"] = self._authorization
        body = None if content is None else iter(content())
        request = self._client.build_request(method, url, headers=sent, content=body)
        return self._client.send(request, stream=True)

    def _is_own(self, url: httpx.URL) -> bool:
        return url.netloc == self._netloc

    def _authorize(self, response: httpx.Response) -> None:
        challenge = response.headers.get("www-authenticate", "")
        credential = load_credential(self._options.docker_config, self._host)
        kind = challenge.partition(" ")[0].lower()
        if credential is not None and credential.token:
            self._authorization = f"Bearer {credential.token}"
        elif kind == "basic" and credential is not None:
            self._authorization = credential.basic()
        elif kind == "bearer":
            basic = None if credential is None else credential.basic()
            self._authorization = self._request_token(dict(_CHALLENGE.findall(challenge)), basic)
        else:
            raise RegistryDenied(
                f"The registry {self._host} asks for credentials and none are given for it: "
                "add them to the docker config.json."
            )

    def _request_token(self, challenge: dict[str, str], basic: str | None) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", f"{self._options.scheme(self._host)}://")):
            raise RegistryDenied(f"The registry {self._host} names no usable token service.")
        wanted = {"service", "scope"}
        parameters = {key: value for key, value in challenge.items() if key in wanted}
        headers = {} if basic is None else {"Authorization": basic}
        response = self._client.get(realm, params=parameters, headers=headers)
        check_passing(response)
        if response.is_error:
            raise RegistryDenied(
                f"The token service of {self._host} refuses the credentials "
                f"(HTTP {response.status_code})."
            )
        document = response.json()
        return f"Bearer {document.get('token') or document.get('access_token')}"

    def _check(self, response: httpx.Response, thing: str) -> None:
        status = response.status_code
        if response.is_success:
            return
        if status in {401, 403}:
            raise RegistryDenied(
                f"The registry {self._host} refuses access to {self._name} (HTTP {status}): "
                "check the credentials and their rights."
            )
        if status == httpx.codes.NOT_FOUND:
            raise NotFoundInRegistry(f"{self._name} holds no {thing}.")
        detail = _read_error(response)
        if "DIGEST_INVALID" in detail:
            raise DigestMismatch(f"{self._name} received other bytes than {thing} has.")
        raise RegistryError(
            f"The registry {self._host} answers HTTP {status} about {thing}: {detail}"
        )


def _copy_checked(response: httpx.Response, digest: str, size: int, sink: IO[bytes]) -> None:
    seen, count = hashlib.sha256(), 0
    for chunk in response.iter_raw(CHUNK_BYTES):
        count += len(chunk)
        if count > size:
            break
        seen.update(chunk)
        sink.write(chunk)
    if count != size or f"sha256:{seen.hexdigest()}" != digest:
        raise DigestMismatch(f"The registry gave other bytes than blob {digest} has.")


def _read_capped(response: httpx.Response, limit: int, thing: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_raw(CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise RegistryError(f"The {thing} is longer than {limit} bytes.")
    return bytes(body)


def _read_error(response: httpx.Response) -> str:
    body = bytearray()
    for chunk in response.iter_raw(4096):
        body += chunk
        if len(body) >= 4096:
            break
    return bytes(body[:300]).decode(errors="replace").strip()
