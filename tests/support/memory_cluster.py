"""An API server in memory: identity, versions, generations, ownership, status, deletion, watches.

It stores what real servers store and refuses what they refuse, as far as this operator can tell.
Controllers are not here; they act on it like anyone else, under names of their own.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modelwright_operator.api.hardware_profile import HardwareProfileStatus
from modelwright_operator.api.inference_model import InferenceModelStatus
from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus
from modelwright_operator.kube.client import Listing
from modelwright_operator.kube.faults import Conflict, Gone, Invalid
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan import names
from tests.support import ownership

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from modelwright_operator.plan.types import Manifest, ObjectRef

Object = dict[str, Any]
Address = tuple[str, str, str]
# (ADDED, MODIFIED or DELETED, the object)
Watch = Callable[[str, Object], None]

_STATUSES = {
    "InferenceModel": InferenceModelStatus,
    "ModelBuild": ModelBuildStatus,
    "HardwareProfile": HardwareProfileStatus,
}
_OWN_KINDS = frozenset(_STATUSES)
_IMMUTABLE = {
    "ModelBuild": (("f:spec",),),
    "Job": (("f:spec", "f:template"), ("f:spec", "f:completions")),
    "Deployment": (("f:spec", "f:selector"),),
}
# What the server fills in where nobody says it.
_DEFAULTS = {"Deployment": ((("f:spec", "f:replicas"), 1),)}
_NOT_OWNED = frozenset({"f:apiVersion", "f:kind"})
_NOT_OWNED_METADATA = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "managedFields",
    }
)


@dataclass(frozen=True, slots=True)
class _Manager:
    name: str
    operation: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One accepted write that changed something."""

    verb: str
    manager: str
    kind: str
    namespace: str
    name: str
    subresource: str = ""

    def __str__(self) -> str:
        what = f"{self.kind}/{self.subresource}" if self.subresource else self.kind
        return f"{self.manager} {self.verb} {what} {self.namespace}/{self.name}"


@dataclass(slots=True)
class _Stored:
    obj: Object
    owners: dict[_Manager, set[ownership.Path]] = field(default_factory=dict)


class MemoryCluster:
    """Objects and the rules by which they change."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or (lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
        self._objects: dict[Address, _Stored] = {}
        self._made: dict[Address, int] = {}
        self._version = 100
        self._watches: list[Watch] = []
        self.writes: list[Write] = []

    @property
    def version(self) -> str:
        return str(self._version)

    def watch(self, watch: Watch) -> None:
        self._watches.append(watch)

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        stored = self._objects.get((kind, namespace or "", name))
        return None if stored is None else copied(stored.obj)

    def list(self, kind: str, namespace: str | None = None, **labels: str) -> list[Object]:
        found = []
        for (its_kind, its_namespace, _), stored in sorted(self._objects.items()):
            if its_kind != kind or (namespace and its_namespace != namespace):
                continue
            its_labels = stored.obj["metadata"].get("labels", {})
            if all(its_labels.get(key) == value for key, value in labels.items()):
                found.append(copied(stored.obj))
        return found

    def peek(self, kind: str) -> Iterator[Object]:
        """The stored objects of a kind themselves, to look at only."""
        for (its_kind, _, _), stored in self._objects.items():
            if its_kind == kind:
                yield stored.obj

    def kinds(self) -> set[str]:
        return {kind for kind, _, _ in self._objects}

    def everything(self) -> list[Object]:
        return [copied(stored.obj) for _, stored in sorted(self._objects.items())]

    def exists(self, uid: str) -> bool:
        return any(stored.obj["metadata"]["uid"] == uid for stored in self._objects.values())

    def create(self, manifest: Manifest, manager: str = "someone") -> Object:
        address = _address(manifest)
        if address in self._objects:
            raise Conflict(f"{'/'.join(address)} already exists", code=409)
        body = copied(manifest)
        fields = _owned_fields(body, "")
        stored = _Stored(body, {_Manager(manager, "Update"): set(fields)})
        return self._insert(stored, address, manager)

    def apply(
        self, manifest: Manifest, manager: str, *, force: bool = False, subresource: str = ""
    ) -> Object:
        """Server-side apply: merge, take over or refuse, drop what is not said any more."""
        address = _address(manifest)
        stored = self._objects.get(address)
        if stored is None:
            if subresource:
                raise Gone(f"{'/'.join(address)} not found", code=404)
            if manifest["metadata"].get("uid"):
                raise Conflict(f"{'/'.join(address)}: no object with this uid", code=409)
            owner = {_Manager(manager, "Apply"): set(_owned_fields(manifest, ""))}
            return self._insert(_Stored(copied(manifest), owner), address, manager)
        _check_preconditions(manifest["metadata"], stored.obj["metadata"], address)
        me = _Manager(manager, "Apply", subresource)
        wanted = _owned_fields(manifest, subresource)
        after = copied(stored.obj)
        owners = {key: set(paths) for key, paths in stored.owners.items()}
        for path in sorted(owners.get(me, set()) - set(wanted)):
            others = [paths for key, paths in owners.items() if key != me]
            if not any(_is_held(path, paths) for paths in others):
                ownership.remove(after, path)
        for path, value in wanted.items():
            is_leaf = not isinstance(value, dict) or not path[-1].startswith("k:")
            if is_leaf and ownership.look_up(after, path) != value:
                for key, paths in owners.items():
                    if key == me or path not in paths:
                        continue
                    if not force:
                        message = f"{'/'.join(address)}: {path} is owned by {key.name}"
                        raise Conflict(message, code=409)
                    paths.discard(path)
            ownership.assign(after, path, copied(value) if is_leaf else value)
        owners[me] = set(wanted)
        return self._update(
            address, stored, after, owners, Write("apply", manager, *address, subresource)
        )

    def update(self, obj: Manifest, manager: str = "someone", *, subresource: str = "") -> Object:
        """Write an object as a whole; the writer owns what it changes."""
        address = _address(obj)
        stored = self._objects.get(address)
        if stored is None:
            raise Gone(f"{'/'.join(address)} not found", code=404)
        _check_preconditions(obj["metadata"], stored.obj["metadata"], address)
        after = copied(stored.obj)
        if subresource == "status":
            after["status"] = copied(obj.get("status", {}))
        elif subresource == "scale":
            after["spec"]["replicas"] = obj["spec"]["replicas"]
        else:
            kept = after.get("status")
            after = copied(obj)
            kept_metadata = stored.obj["metadata"]
            after["metadata"] = _user_metadata(after) | {
                key: kept_metadata[key] for key in _NOT_OWNED_METADATA if key in kept_metadata
            }
            if address[0] in _OWN_KINDS or "status" not in after:
                after["status"] = kept
                if kept is None:
                    del after["status"]
        before_fields = _all_fields(stored.obj)
        after_fields = _all_fields(after)
        changed = {
            path for path, value in after_fields.items() if before_fields.get(path, ...) != value
        }
        gone = set(before_fields) - set(after_fields)
        owners = {key: paths - changed - gone for key, paths in stored.owners.items()}
        me = _Manager(manager, "Update", subresource)
        owners[me] = (owners.get(me, set()) | changed) - gone
        write = Write("update", manager, *address, subresource)
        return self._update(address, stored, after, owners, write)

    def delete(self, ref: ObjectRef, manager: str, resource_version: str | None = None) -> None:
        address = (ref.kind, ref.namespace or "", ref.name)
        stored = self._objects.get(address)
        if stored is None:
            raise Gone(f"{'/'.join(address)} not found", code=404)
        given = {"uid": ref.uid, "resourceVersion": resource_version}
        _check_preconditions(given, stored.obj["metadata"], address)
        del self._objects[address]
        self._version += 1
        last = copied(stored.obj)
        last["metadata"]["resourceVersion"] = str(self._version)
        self.writes.append(Write("delete", manager, *address))
        self._tell("DELETED", last)

    def _insert(self, stored: _Stored, address: Address, manager: str) -> Object:
        body = stored.obj
        self._made[address] = number = self._made.get(address, 0) + 1
        uid = f"uid-{address[0].lower()}-{address[2]}" + (f"-{number}" if number > 1 else "")
        body["metadata"] |= {
            "uid": body["metadata"].get("uid") or uid,
            "creationTimestamp": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "generation": body["metadata"].get("generation") or 1,
        }
        body["metadata"].pop("resourceVersion", None)
        if address[0] in _OWN_KINDS:
            body.setdefault("status", {"observedGeneration": -1})
        _fill_in(body)
        _validate(body)
        self._objects[address] = stored
        return self._commit(stored, "ADDED", Write("create", manager, *address))

    def _update(
        self,
        address: Address,
        stored: _Stored,
        after: Object,
        owners: dict[_Manager, set[ownership.Path]],
        write: Write,
    ) -> Object:
        _fill_in(after)
        for path in _IMMUTABLE.get(address[0], ()):
            if ownership.look_up(after, path) != ownership.look_up(stored.obj, path):
                raise Invalid(f"{'/'.join(address)}: {'.'.join(path)} is immutable", code=422)
        _validate(after)
        owners = {key: paths for key, paths in owners.items() if paths}
        if _bare(after) == _bare(stored.obj) and owners == stored.owners:
            return copied(stored.obj)
        if after.get("spec") != stored.obj.get("spec"):
            after["metadata"]["generation"] = stored.obj["metadata"]["generation"] + 1
        stored.obj, stored.owners = after, owners
        return self._commit(stored, "MODIFIED", write)

    def _commit(self, stored: _Stored, event: str, write: Write) -> Object:
        self._version += 1
        metadata = stored.obj["metadata"]
        metadata["resourceVersion"] = str(self._version)
        metadata["managedFields"] = [
            {
                "manager": key.name,
                "operation": key.operation,
                "apiVersion": stored.obj["apiVersion"],
                "fieldsType": "FieldsV1",
                "fieldsV1": ownership.write_down(paths),
                **({"subresource": key.subresource} if key.subresource else {}),
            }
            for key, paths in stored.owners.items()
        ]
        self.writes.append(write)
        self._tell(event, copied(stored.obj))
        return copied(stored.obj)

    def _tell(self, event: str, obj: Object) -> None:
        for watch in self._watches:
            watch(event, obj)


class MemoryClient:
    """`ApiClient` on a MemoryCluster; `gate` runs before and after every request."""

    def __init__(
        self,
        cluster: MemoryCluster,
        gate: Callable[[str, bool], Awaitable[None]] | None = None,
    ) -> None:
        self._cluster = cluster
        self._gate = gate or _open
        self.sent: list[str] = []

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return await self._pass(
            f"get {kind} {name}", lambda: self._cluster.get(kind, namespace, name)
        )

    async def list(
        self, kind: str, namespace: str | None = None, *, label_selector: str = ""
    ) -> Listing:
        labels = dict(part.split("=") for part in label_selector.split(",") if part)
        return await self._pass(
            f"list {kind}",
            lambda: Listing(
                tuple(self._cluster.list(kind, namespace, **labels)), self._cluster.version
            ),
        )

    async def apply(
        self, manifest: Manifest, *, force: bool = False, subresource: str | None = None
    ) -> Object:
        what = f"apply {manifest['kind']}{'/' + subresource if subresource else ''}"
        return await self._pass(
            f"{what} {manifest['metadata']['name']}",
            lambda: self._cluster.apply(
                copied(manifest),
                names.FIELD_MANAGER,
                force=force,
                subresource=subresource or "",
            ),
        )

    async def create(self, manifest: Manifest) -> Object:
        return await self._pass(
            f"create {manifest['kind']} {manifest['metadata']['name']}",
            lambda: self._cluster.create(copied(manifest), names.FIELD_MANAGER),
        )

    async def patch(self, ref: ObjectRef, body: Mapping[str, Any]) -> Object:
        def merge() -> Object:
            live = self._cluster.get(ref.kind, ref.namespace, ref.name)
            if live is None:
                raise Gone(f"{ref.kind} {ref.name} not found", code=404)
            return self._cluster.update({**live, **body}, names.FIELD_MANAGER)

        return await self._pass(f"patch {ref.kind} {ref.name}", merge)

    async def delete(
        self,
        ref: ObjectRef,
        *,
        resource_version: str | None = None,
        propagation: str = "Background",
    ) -> Object:
        def remove() -> Object:
            self._cluster.delete(ref, names.FIELD_MANAGER, resource_version)
            return {"kind": "Status", "status": "Success"}

        return await self._pass(f"delete {ref.kind} {ref.name}", remove)

    async def _pass(self, what: str, act: Callable[[], Any]) -> Any:
        await self._gate(what, False)
        if not what.startswith(("get", "list")):
            self.sent.append(what)
        result = act()
        await self._gate(what, True)
        return result


async def _open(_what: str, _is_done: bool) -> None:
    """Let everything through."""


def copied(value: Any) -> Any:
    """A deep copy of JSON, by the fastest way there is."""
    try:
        return marshal.loads(marshal.dumps(value))  # noqa: S302 - our own bytes
    except ValueError:
        return json.loads(json.dumps(value))


def _address(obj: Manifest) -> Address:
    namespace = obj["metadata"].get("namespace") or ""
    if resource_of(obj["kind"]).namespaced != bool(namespace):
        raise Invalid(f"{obj['kind']} {obj['metadata']['name']}: wrong scope", code=400)
    return obj["kind"], namespace, obj["metadata"]["name"]


def _owned_fields(manifest: Manifest, subresource: str) -> ownership.Fields:
    if subresource:
        body = {subresource: manifest.get(subresource, {})}
    else:
        metadata = _user_metadata(manifest)
        body = {key: manifest[key] for key in manifest if key not in ("metadata", "status")}
        if metadata:
            body["metadata"] = metadata
    fields = ownership.list_fields(copied(body))
    return {path: value for path, value in fields.items() if path and path[0] not in _NOT_OWNED}


def _all_fields(obj: Object) -> ownership.Fields:
    body = {**obj, "metadata": _user_metadata(obj)}
    fields = ownership.list_fields(body)
    return {path: value for path, value in fields.items() if path and path[0] not in _NOT_OWNED}


def _user_metadata(obj: Manifest) -> Object:
    return {k: v for k, v in obj["metadata"].items() if k not in _NOT_OWNED_METADATA}


def _bare(obj: Object) -> Object:
    """An object without what every write moves."""
    hidden = ("resourceVersion", "managedFields", "generation")
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k not in hidden}}


def _is_held(path: ownership.Path, paths: set[ownership.Path]) -> bool:
    """Whether somebody owns a path or something below it."""
    return any(other[: len(path)] == path for other in paths)


def _check_preconditions(given: Mapping[str, Any], live: Object, address: Address) -> None:
    for name in ("uid", "resourceVersion"):
        if given.get(name) and given[name] != live[name]:
            message = f"{'/'.join(address)}: {name} is {live[name]}, not {given[name]}"
            raise Conflict(message, code=409)


def _fill_in(obj: Object) -> None:
    for path, value in _DEFAULTS.get(obj["kind"], ()):
        if ownership.look_up(obj, path) is None:
            ownership.assign(obj, path, value)


def _validate(obj: Object) -> None:
    """What the CRDs' schemas and their field limits would refuse."""
    kind = obj["kind"]
    if kind not in _OWN_KINDS:
        return
    try:
        _STATUSES[kind].model_validate(obj.get("status") or {})
        if kind == "ModelBuild":
            ModelBuildSpec.model_validate(obj["spec"])
    except ValidationError as error:
        raise Invalid(f"{kind} {obj['metadata']['name']}: {error}", code=422) from error
