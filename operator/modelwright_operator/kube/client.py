"""The one way to the API server: raw JSON over one pooled HTTP client.

Owns requests, timeouts and the fence. Knows nothing of what is asked for, or why.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx

from modelwright_operator.kube.config import ClusterConfig, ConfigError, TokenSource
from modelwright_operator.kube.faults import (
    Fenced,
    Gone,
    Unreachable,
    fault_of_response,
    fault_of_transport,
)
from modelwright_operator.kube.resources import Resource, resource_of
from modelwright_operator.plan import names

if TYPE_CHECKING:
    from types import TracebackType

    from modelwright_operator.plan.types import Manifest, ObjectRef

Verb = Literal["get", "list", "create", "update", "patch", "delete"]
Propagation = Literal["Background", "Foreground", "Orphan"]

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0
CHUNK = 500
_MAX_CONNECTIONS = 20
_WRITES: frozenset[Verb] = frozenset({"create", "update", "patch", "delete"})
_RESTARTS_OF_LIST = 3
_HTTP_ERROR = 400
_HTTP_UNAUTHORIZED = 401
_APPLY_TYPE = "application/apply-patch+yaml"
_MERGE_TYPE = "application/merge-patch+json"
_JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of the API server and what it answered (code 0: nothing)."""

    verb: Verb
    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str | None
    code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind at one resourceVersion."""

    items: tuple[Manifest, ...]
    resource_version: str


RequestHook = Callable[[Request], None]
# How many seconds writes are still allowed; zero or less: not at all.
Fence = Callable[[], float]


def _no_fence() -> float:
    return REQUEST_SECONDS


def _ignore(_request: Request) -> None:
    """No one is counting."""


class ApiClient:
    """Reads and writes objects; every request has a timeout, every write passes the fence."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        fence: Fence = _no_fence,
        on_request: RequestHook = _ignore,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Open nothing yet; connections are made as requests need them."""
        self._fence = fence
        self._on_request = on_request
        self._tls_server_name = config.tls_server_name
        uses_tls = config.server.startswith("https://")
        self._http = httpx.AsyncClient(
            base_url=config.server,
            auth=_BearerAuth(config.tokens),
            headers={"User-Agent": user_agent(), "Accept": _JSON_TYPE},
            verify=config.build_ssl_context() if uses_tls and transport is None else False,
            timeout=httpx.Timeout(REQUEST_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS
            ),
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        """Use as a context, so that connections are closed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """Read one object; None when it does not exist."""
        resource = resource_of(kind)
        try:
            return await self._send(_Call("get", resource, namespace, name))
        except Gone:
            return None

    async def list(
        self, kind: str, namespace: str | None = None, *, label_selector: str = ""
    ) -> Listing:
        """Read all objects of a kind, in chunks; starts over when a chunk's token expires."""
        resource = resource_of(kind)
        for attempt in range(_RESTARTS_OF_LIST):
            try:
                return await self._list_once(resource, namespace, label_selector)
            except Gone as fault:
                is_last = attempt == _RESTARTS_OF_LIST - 1
                if fault.code != httpx.codes.GONE or is_last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _list_once(
        self, resource: Resource, namespace: str | None, label_selector: str
    ) -> Listing:
        items: list[Manifest] = []
        query = {"limit": str(CHUNK)}
        if label_selector:
            query["labelSelector"] = label_selector
        while True:
            page = await self._send(_Call("list", resource, namespace, query=query))
            for item in page.get("items") or ():
                # A list leaves out what all of its items have in common.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = page.get("metadata", {})
            token = metadata.get("continue")
            if not token:
                return Listing(tuple(items), str(metadata.get("resourceVersion", "")))
            query = {**query, "continue": token}

    async def apply(
        self, manifest: Manifest, *, force: bool = False, subresource: str | None = None
    ) -> Manifest:
        """Server-side apply as our field manager; creates the object if it is missing."""
        query = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"}
        if force:
            query["force"] = "true"
        metadata = manifest["metadata"]
        return await self._send(
            _Call(
                "patch",
                resource_of(manifest["kind"]),
                metadata.get("namespace"),
                metadata["name"],
                subresource,
                query=query,
                body=manifest,
                content_type=_APPLY_TYPE,
            )
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object; a Conflict when it exists."""
        return await self._send(
            _Call(
                "create",
                resource_of(manifest["kind"]),
                manifest["metadata"].get("namespace"),
                query={"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"},
                body=manifest,
            )
        )

    async def replace(self, manifest: Manifest) -> Manifest:
        """Write the whole object; its resourceVersion guards against overwriting others."""
        metadata = manifest["metadata"]
        return await self._send(
            _Call(
                "update",
                resource_of(manifest["kind"]),
                metadata.get("namespace"),
                metadata["name"],
                query={"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"},
                body=manifest,
            )
        )

    async def patch(self, ref: ObjectRef, body: Mapping[str, Any]) -> Manifest:
        """Merge a few fields into an object."""
        return await self._send(
            _Call(
                "patch",
                resource_of(ref.kind),
                ref.namespace,
                ref.name,
                query={"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"},
                body=body,
                content_type=_MERGE_TYPE,
            )
        )

    async def delete(
        self,
        ref: ObjectRef,
        *,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
    ) -> Manifest:
        """Delete exactly the incarnation that was seen; the answer is the object or a Status."""
        preconditions = {
            key: value
            for key, value in (("uid", ref.uid), ("resourceVersion", resource_version))
            if value is not None
        }
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if preconditions:
            body["preconditions"] = preconditions
        return await self._send(
            _Call("delete", resource_of(ref.kind), ref.namespace, ref.name, body=body)
        )

    async def get_path(self, path: str) -> Mapping[str, Any]:
        """Read a document that is no object, such as `/version` or a discovery list."""
        started = time.monotonic()
        what = f"get {path}"
        async with _transport_faults(what):
            response = await self._http.get(path)
        _raise_for_status(response, what)
        return _parse(response, f"{what} after {time.monotonic() - started:.1f} s")

    def unfenced(self) -> ApiClient:
        """The same connections without the fence: for the Lease that makes the fence."""
        twin = object.__new__(ApiClient)
        twin._fence = _no_fence
        twin._on_request = self._on_request
        twin._tls_server_name = self._tls_server_name
        twin._http = self._http
        return twin

    async def _send(self, call: _Call) -> dict[str, Any]:
        budget = self._budget(call)
        started = time.monotonic()
        code = 0
        try:
            async with _transport_faults(call.what), asyncio.timeout(budget):
                response = await self._http.request(
                    call.method,
                    call.path,
                    params=call.query,
                    content=call.content,
                    headers={"Content-Type": call.content_type} if call.content else None,
                    extensions=self._extensions(),
                )
            code = response.status_code
        finally:
            self._on_request(call.describe(code, time.monotonic() - started))
        _raise_for_status(response, call.what)
        return _parse(response, call.what)

    def _budget(self, call: _Call) -> float:
        """How long the request may take; a write never outlives the lease it stands on."""
        if call.verb not in _WRITES:
            return REQUEST_SECONDS
        allowed = self._fence()
        if allowed <= 0:
            raise Fenced(f"{call.what}: this process does not hold the lease")
        return min(REQUEST_SECONDS, allowed)

    def _extensions(self) -> dict[str, Any]:
        return {"sni_hostname": self._tls_server_name} if self._tls_server_name else {}


@dataclass(frozen=True, slots=True)
class _Call:
    """One request before it is sent."""

    verb: Verb
    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON_TYPE

    @property
    def method(self) -> str:
        return {
            "get": "GET",
            "list": "GET",
            "create": "POST",
            "update": "PUT",
            "patch": "PATCH",
            "delete": "DELETE",
        }[self.verb]

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name, self.subresource)

    @property
    def content(self) -> bytes | None:
        if self.body is None:
            return None
        return json.dumps(self.body, separators=(",", ":")).encode()

    @property
    def what(self) -> str:
        """Verb and object, for people."""
        target = "/".join(part for part in (self.namespace, self.name) if part)
        plural = (
            f"{self.resource.plural}/{self.subresource}"
            if self.subresource
            else (self.resource.plural)
        )
        return f"{self.verb} {plural} {target}".rstrip()

    def describe(self, code: int, seconds: float) -> Request:
        return Request(
            self.verb, self.resource, self.namespace, self.name, self.subresource, code, seconds
        )


class _BearerAuth(httpx.Auth):
    """Sends the current token; asks for a fresh one when the server does not know it."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._tokens.read()
        if token is None:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != _HTTP_UNAUTHORIZED:
            return
        self._tokens.invalidate()
        fresh = await self._tokens.read()
        if fresh is not None and fresh != token:
            request.headers["Authorization"] = f"Bearer {fresh}"
            yield request


@asynccontextmanager
async def _transport_faults(what: str) -> AsyncIterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError, ConfigError) as error:
        raise fault_of_transport(error, what=what) from error


def _raise_for_status(response: httpx.Response, what: str) -> None:
    if response.status_code >= _HTTP_ERROR:
        raise fault_of_response(
            response.status_code,
            response.content,
            what=what,
            retry_after=response.headers.get("Retry-After"),
        )


def _parse(response: httpx.Response, what: str) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError as error:
        raise Unreachable(f"{what}: the answer is no JSON", code=response.status_code) from error
    if not isinstance(document, dict):
        raise Unreachable(f"{what}: the answer is no object", code=response.status_code)
    return document


def user_agent() -> str:
    """How the operator names itself to the API server."""
    try:
        return f"modelwright-operator/{version('modelwright')}"
    except PackageNotFoundError:
        return "modelwright-operator"
