"""An HTTP peer that plays the API server, as badly as a test wants it to.

Real enough for kopf, the client and the elector: discovery, lists, watches with bookmarks, gets,
writes with resourceVersions. Not a model of server-side apply: an applied object replaces the old.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from modelwright_operator.kube.resources import Resource, resource_of

KINDS = ("InferenceModel", "Job", "Lease")
_BACKBONE = ("Namespace", "Event")
_BOOKMARK_SECONDS = 0.5

Obj = dict[str, Any]
# Looks at a request before it is served; an answer of its own replaces the real one.
Fault = Callable[[web.Request], web.StreamResponse | None]


class FaultyApiServer:
    """Objects in memory behind the Kubernetes HTTP API."""

    def __init__(self) -> None:
        self.version = 1000
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault = lambda _request: None
        self.hang = asyncio.Event()
        self.hang.set()
        self._streams: dict[str, list[asyncio.Queue[bytes | None]]] = {}
        self._history: list[tuple[str, int, Obj]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> FaultyApiServer:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang.set()
        self.cut_streams()
        assert self._runner is not None
        await self._runner.cleanup()

    def put(
        self, kind: str, name: str, *, namespace: str = "ns", silent: bool = False, **body: Any
    ):
        """Make or change an object; `silent` loses the watch event."""
        key = (kind, namespace, name)
        old = self.objects.get(key)
        resource = resource_of(kind)
        obj = {
            "apiVersion": resource.api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": old["metadata"]["uid"] if old else f"{kind}-{name}-{self.version}",
                "labels": body.pop("labels", {}),
                "ownerReferences": body.pop("owners", []),
            },
            **body,
        }
        return self._store(obj, "MODIFIED" if old else "ADDED", silent=silent)

    def remove(self, kind: str, name: str, *, namespace: str = "ns", silent: bool = False) -> None:
        obj = self.objects.pop((kind, namespace, name))
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if not silent:
            self._tell(kind, "DELETED", obj)

    def say(self, kind: str, line: bytes) -> None:
        """Put a line of our own into every open stream of a kind."""
        for queue in self._streams.get(kind, []):
            queue.put_nowait(line)

    def cut_streams(self) -> None:
        for queues in self._streams.values():
            for queue in queues:
                queue.put_nowait(None)

    def open_streams(self, kind: str) -> int:
        return len(self._streams.get(kind, []))

    def writes(self) -> list[tuple[str, str]]:
        """Every write but the Lease's."""
        return [
            (method, path)
            for method, path in self.requests
            if method != "GET" and "/leases" not in path
        ]

    def _store(self, obj: Obj, event: str, *, silent: bool = False) -> Obj:
        self.version += 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(self.version)
        key = (obj["kind"], metadata.get("namespace", ""), metadata["name"])
        self.objects[key] = obj
        if not silent:
            self._tell(obj["kind"], event, obj)
        return copy.deepcopy(obj)

    def _tell(self, kind: str, event: str, obj: Obj) -> None:
        self._history.append((event, self.version, copy.deepcopy(obj)))
        self.say(kind, _line(event, obj))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        answer = self.fault(request)
        if answer is not None:
            return answer
        await self.hang.wait()
        found = _discover(request.path)
        if found is not None:
            return web.json_response(found)
        target = _parse(request.path)
        if target is None:
            return _status(404, "the server could not find the requested resource")
        resource, namespace, name, subresource = target
        if request.method == "GET" and name is None:
            if request.query.get("watch") == "true":
                return await self._watch(request, resource)
            return self._list(resource, namespace)
        return await self._object(request, resource, namespace or "", name, subresource)

    def _list(self, resource: Resource, namespace: str | None) -> web.Response:
        items = [
            obj
            for (kind, where, _), obj in self.objects.items()
            if kind == resource.kind and namespace in (None, where)
        ]
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response(
            {
                "kind": f"{resource.kind}List",
                "metadata": metadata,
                "apiVersion": resource.api_version,
                "items": items,
            }
        )

    async def _watch(self, request: web.Request, resource: Resource) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        since = int(request.query.get("resourceVersion", "0"))
        for event, version, obj in self._history:
            if version > since and obj["kind"] == resource.kind:
                queue.put_nowait(_line(event, obj))
        streams = self._streams.setdefault(resource.kind, [])
        streams.append(queue)
        try:
            while True:
                try:
                    line = await asyncio.wait_for(queue.get(), _BOOKMARK_SECONDS)
                except TimeoutError:
                    await self.hang.wait()
                    line = self._bookmark(resource)
                if line is None:
                    return response
                await response.write(line)
        except ConnectionError:
            return response
        finally:
            streams.remove(queue)

    def _bookmark(self, resource: Resource) -> bytes:
        metadata = {"resourceVersion": str(self.version)}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        return _line("BOOKMARK", obj)

    async def _object(
        self,
        request: web.Request,
        resource: Resource,
        namespace: str,
        name: str | None,
        subresource: str | None,
    ) -> web.Response:
        body = json.loads(await request.read() or b"{}")
        name = name or body["metadata"]["name"]
        key = (resource.kind, namespace, name)
        old = self.objects.get(key)
        match request.method:
            case "GET" | "DELETE" if old is None:
                return _status(404, "not found")
            case "GET":
                return web.json_response(old)
            case "DELETE":
                self.remove(resource.kind, name, namespace=namespace)
                return web.json_response({"kind": "Status", "status": "Success"})
            case "POST" if old is not None:
                return _status(409, "already exists")
            case "PUT" if old is None:
                return _status(404, "not found")
            case "PUT" if _version(body) != _version(old):
                return _status(409, "the object has been modified")
        metadata = {**body["metadata"], "namespace": namespace, "name": name}
        metadata["uid"] = old["metadata"]["uid"] if old else f"uid-{self.version}"
        merged = {**(old or {}), **body, "metadata": metadata}
        if subresource:
            merged = {**(old or {}), subresource: body.get(subresource)}
        return web.json_response(self._store(merged, "MODIFIED" if old else "ADDED"))


def _discover(path: str) -> Obj | None:
    """The discovery documents kopf reads as it starts."""
    kinds = (*KINDS, *_BACKBONE)
    resources = [resource_of(kind) for kind in kinds]
    groups = sorted({resource.api_version for resource in resources if resource.group})
    groups.append("apiextensions.k8s.io/v1")
    match path.strip("/").split("/"):
        case ["api"]:
            return {"versions": ["v1"]}
        case ["apis"]:
            return {"groups": [_group(api_version) for api_version in groups]}
        case ["api", "v1"]:
            return _resources(r for r in resources if r.api_version == "v1")
        case ["apis", group, version] if f"{group}/{version}" in groups:
            if group == "apiextensions.k8s.io":
                crds = Resource(
                    f"{group}/{version}",
                    "CustomResourceDefinition",
                    "customresourcedefinitions",
                    namespaced=False,
                )
                return _resources([crds])
            return _resources(r for r in resources if r.api_version == f"{group}/{version}")
    return None


def _group(api_version: str) -> Obj:
    group, _, version = api_version.partition("/")
    entry = {"groupVersion": api_version, "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(resources: Any) -> Obj:
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    return {
        "resources": [
            {
                "name": resource.plural,
                "singularName": resource.kind.lower(),
                "kind": resource.kind,
                "namespaced": resource.namespaced,
                "verbs": verbs,
            }
            for resource in resources
        ]
    }


def _parse(path: str) -> tuple[Resource, str | None, str | None, str | None] | None:
    """Resource, namespace, name and subresource of an object's path."""
    for kind in (*KINDS, *_BACKBONE):
        resource = resource_of(kind)
        prefix = f"/apis/{resource.api_version}/" if resource.group else "/api/v1/"
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        namespace = None
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] == resource.plural:
            rest = [*parts[1:], None, None]
            return resource, namespace, rest[0], rest[1]
    return None


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)


def _line(event: str, obj: Obj) -> bytes:
    return json.dumps({"type": event, "object": obj}).encode() + b"\n"


def _version(obj: Obj) -> str:
    return str(obj["metadata"].get("resourceVersion"))
