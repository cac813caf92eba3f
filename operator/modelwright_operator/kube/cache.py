"""What the operator has seen of the cluster: the newest version of each object, indexed.

Fed by watch events, by resync lists and by the answers to our own writes, so that a decision right
after a write already sees it. Lives in the event loop's thread; nothing in it survives a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from modelwright_operator.plan import names
from modelwright_operator.plan.types import Manifest

# (before, after): added has no before, deleted no after.
Listener = Callable[[Manifest | None, Manifest | None], None]

_Address = tuple[str, str, str]
_MAX_TOMBSTONES = 10_000
_NEVER_AGAIN = 1 << 63
# Kinds whose fields other managers own in ways a plan looks at.
_FOREIGN_MANAGERS_MATTER = frozenset({"Deployment"})
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Store:
    """The newest seen version of each object; an older version never replaces a newer one."""

    def __init__(self) -> None:
        """Start empty."""
        self._objects: dict[str, dict[tuple[str, str], Manifest]] = {}
        self._by_owner: dict[str, set[_Address]] = {}
        self._by_model: dict[tuple[str, str], set[_Address]] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call `listener(before, after)` for every change that is taken in."""
        self._listeners.append(listener)

    def get(self, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """Find one object."""
        return self._objects.get(kind, {}).get((namespace or "", name))

    def list(self, kind: str, namespace: str | None = None) -> tuple[Manifest, ...]:
        """All objects of a kind, of one namespace or of all, by name."""
        found = self._objects.get(kind, {})
        return tuple(
            found[key] for key in sorted(found) if namespace is None or key[0] == namespace
        )

    def owned_by(self, uid: str, kind: str | None = None) -> tuple[Manifest, ...]:
        """Objects with an ownerReference to this uid."""
        return tuple(self._resolve(self._by_owner.get(uid, ()), kind))

    def of_model(self, namespace: str, label: str, kind: str | None = None) -> tuple[Manifest, ...]:
        """Objects of a namespace that carry this value of the model label."""
        return tuple(self._resolve(self._by_model.get((namespace, label), ()), kind))

    def count(self, kind: str) -> int:
        """How many objects of a kind are held."""
        return len(self._objects.get(kind, {}))

    def put(self, obj: Manifest) -> bool:
        """Take in an object as it was read; False when it is known or older than what is held."""
        metadata = obj["metadata"]
        version = parse_version(obj)
        if version <= self._tombstones.get(str(metadata.get("uid")), -1):
            return False
        before = self.get(obj["kind"], metadata.get("namespace"), metadata["name"])
        if before is not None and version <= parse_version(before):
            return False
        self._insert(trim(obj), before)
        return True

    def remove(self, obj: Manifest) -> bool:
        """Take in that this version of an object was the last one seen."""
        return self._bury(obj, parse_version(obj))

    def forget(self, kind: str, namespace: str | None, name: str, uid: str | None) -> bool:
        """Take in that an incarnation is gone for good, as a finished delete says."""
        held = self.get(kind, namespace, name)
        if held is None or (uid is not None and held["metadata"].get("uid") != uid):
            return False
        return self._bury(held, _NEVER_AGAIN)

    def replace(
        self, kind: str, namespace: str | None, items: Iterable[Manifest], resource_version: str
    ) -> int:
        """Take in a whole list; what it lacks and is not newer than it is gone.

        Returns how many objects differed from what was held.
        """
        listed_at = _parse_number(resource_version)
        changes = 0
        present: set[tuple[str, str]] = set()
        for item in items:
            metadata = item["metadata"]
            present.add((metadata.get("namespace") or "", metadata["name"]))
            changes += self.put(item)
        for held in self.list(kind, namespace):
            metadata = held["metadata"]
            address = (metadata.get("namespace") or "", metadata["name"])
            if address not in present and parse_version(held) <= listed_at:
                changes += self._bury(held, listed_at)
        return changes

    def _insert(self, obj: Manifest, before: Manifest | None) -> None:
        if before is not None:
            self._unindex(before)
        address = _address(obj)
        self._objects.setdefault(address[0], {})[address[1:]] = obj
        for uid in _owner_uids(obj):
            self._by_owner.setdefault(uid, set()).add(address)
        if (model := _model_of(obj)) is not None:
            self._by_model.setdefault(model, set()).add(address)
        self._tell(before, obj)

    def _bury(self, obj: Manifest, version: int) -> bool:
        """Drop an object and remember how new it was, so that an older echo cannot revive it."""
        uid = str(obj["metadata"].get("uid"))
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        self._tombstones.move_to_end(uid)
        while len(self._tombstones) > _MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)
        address = _address(obj)
        held = self._objects.get(address[0], {}).get(address[1:])
        if held is None or parse_version(held) > version:
            return False
        self._unindex(held)
        del self._objects[address[0]][address[1:]]
        self._tell(held, None)
        return True

    def _unindex(self, obj: Manifest) -> None:
        address = _address(obj)
        for uid in _owner_uids(obj):
            _drop(self._by_owner, uid, address)
        if (model := _model_of(obj)) is not None:
            _drop(self._by_model, model, address)

    def _resolve(self, addresses: Iterable[_Address], kind: str | None) -> Iterator[Manifest]:
        for address in sorted(addresses):
            if kind is None or address[0] == kind:
                yield self._objects[address[0]][address[1:]]

    def _tell(self, before: Manifest | None, after: Manifest | None) -> None:
        for listener in self._listeners:
            listener(before, after)


def parse_version(obj: Manifest) -> int:
    """The resourceVersion as the number it is (comparable since Kubernetes 1.35)."""
    return _parse_number(obj["metadata"].get("resourceVersion"))


def trim(obj: Manifest) -> Manifest:
    """Leave out what no decision looks at and what would fill the memory."""
    metadata = dict(obj["metadata"])
    if "managedFields" in metadata:
        metadata["managedFields"] = [
            entry
            for entry in metadata["managedFields"]
            if obj["kind"] in _FOREIGN_MANAGERS_MATTER
            or entry.get("manager") == names.FIELD_MANAGER
        ]
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        annotations = {**metadata["annotations"]}
        del annotations[_LAST_APPLIED]
        metadata["annotations"] = annotations
    kept: dict[str, Any] = {**obj, "metadata": metadata}
    if obj["kind"] == "Node" and "status" in obj:
        kept["status"] = {
            key: value
            for key, value in obj["status"].items()
            if key not in ("images", "volumesInUse", "volumesAttached")
        }
    return kept


def _address(obj: Manifest) -> _Address:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace") or "", metadata["name"]


def _owner_uids(obj: Manifest) -> Iterator[str]:
    for reference in obj["metadata"].get("ownerReferences") or ():
        yield str(reference.get("uid"))


def _model_of(obj: Manifest) -> tuple[str, str] | None:
    metadata = obj["metadata"]
    label = (metadata.get("labels") or {}).get(names.MODEL_LABEL)
    return (metadata.get("namespace") or "", label) if label else None


def _drop(index: dict[Any, set[_Address]], key: object, address: _Address) -> None:
    addresses: set[_Address] | None = index.get(key)
    if addresses is None:
        return
    addresses.discard(address)
    if not addresses:
        del index[key]


def _parse_number(version: object) -> int:
    try:
        return int(str(version))
    except ValueError:
        return 0


def managed_by_us(obj: Mapping[str, Any]) -> bool:
    """Whether an object carries the label of our children."""
    labels = obj["metadata"].get("labels") or {}
    return bool(labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY)
