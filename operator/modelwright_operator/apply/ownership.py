"""Whether applying a manifest would change anything, told from the live object alone.

Server-side apply writes down, in `managedFields`, exactly which fields each manager applied, list
items by their keys included. So no schema is needed here: a manifest is in force when our entry
names the same fields and the live object holds the same values in them. Fields that others own or
that the API server filled in are never looked at.

Source of the format: kubernetes-sigs/structured-merge-diff, `fieldpath/serialize.go`: `f:<name>` a
field, `k:{…}` a list item by key, `v:<value>` a set member, `.` the item itself; an empty set
stands for the whole value below (a scalar or an atomic list or map).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelwright_operator.apply.quantities import is_same_quantity
from modelwright_operator.plan import names

if TYPE_CHECKING:
    from modelwright_operator.plan.types import Manifest

_IDENTITY = frozenset({"apiVersion", "kind"})
_IDENTITY_METADATA = frozenset({"name", "namespace", "uid", "resourceVersion"})
# Parents whose values, and fields whose value, the API server rewrites to canonical quantities.
_QUANTITY_MAPS = frozenset({"limits", "requests", "capacity", "hard"})
_QUANTITY_FIELDS = frozenset({"sizeLimit", "averageValue", "divisor"})

_Fields = Mapping[str, Any]


def is_in_force(desired: Manifest, live: Manifest, subresource: str = "") -> bool:
    """Whether the live object holds all that `desired` says, and nothing else of ours."""
    owned = find_applied_fields(live, subresource)
    if owned is None:
        return False
    return _matches(_without_identity(desired), live, owned, "")


def find_applied_fields(live: Manifest, subresource: str = "") -> _Fields | None:
    """The fields we applied last in the object's current version; None when we never did."""
    for entry in live["metadata"].get("managedFields") or ():
        if (
            entry.get("manager") == names.FIELD_MANAGER
            and entry.get("operation") == "Apply"
            and entry.get("subresource", "") == subresource
            and entry.get("apiVersion") == live.get("apiVersion")
        ):
            fields: _Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def _without_identity(desired: Manifest) -> Mapping[str, Any]:
    body = {key: value for key, value in desired.items() if key not in _IDENTITY}
    metadata = {
        key: value
        for key, value in desired.get("metadata", {}).items()
        if key not in _IDENTITY_METADATA
    }
    if metadata:
        return {**body, "metadata": metadata}
    return {key: value for key, value in body.items() if key != "metadata"}


def _matches(desired: Any, live: Any, owned: _Fields, field: str) -> bool:
    members = {key: value for key, value in owned.items() if key != "."}
    if not members:
        return _covers(desired, live, field)
    match desired:
        case Mapping():
            return _matches_fields(desired, live, members, field)
        case str() | bytes():
            return False
        case Sequence():
            return _matches_items(desired, live, members, field)
        case _:
            return False


def _matches_fields(desired: Mapping[str, Any], live: Any, members: _Fields, field: str) -> bool:
    if not isinstance(live, Mapping):
        return False
    wanted = {key: value for key, value in desired.items() if value is not None}
    if any(not key.startswith("f:") or key[2:] not in wanted for key in members):
        return False
    for key, value in wanted.items():
        owned = members.get(f"f:{key}")
        if owned is None:
            # What is empty leaves no trace in the object, so it cannot be owned either.
            if not _is_empty(value) or not _is_empty(live.get(key)):
                return False
        elif not _matches(value, live.get(key), owned, _scope(field, key)):
            return False
    return True


def _matches_items(desired: Sequence[Any], live: Any, members: _Fields, field: str) -> bool:
    if not isinstance(live, Sequence) or len(members) != len(desired):
        return False
    if all(key.startswith("v:") for key in members):
        return _matches_set(desired, live, members)
    if not all(key.startswith("k:") for key in members):
        return False
    remaining = {key: json.loads(key[2:]) for key in members}
    for item in desired:
        key = next((k for k, values in remaining.items() if _has_key(item, values)), None)
        if key is None:
            return False
        values = remaining.pop(key)
        found = next((entry for entry in live if _holds_key(entry, values)), None)
        if found is None or not _matches(item, found, members[key], field):
            return False
    return True


def _matches_set(desired: Sequence[Any], live: Sequence[Any], members: _Fields) -> bool:
    owned = [json.loads(key[2:]) for key in members]
    return all(item in owned and item in live for item in desired)


def _has_key(item: Any, values: Mapping[str, Any]) -> bool:
    """Whether a desired item has this key; a key field it leaves out was filled by its default."""
    return isinstance(item, Mapping) and all(
        item.get(name, value) == value for name, value in values.items()
    )


def _holds_key(item: Any, values: Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and all(
        item.get(name) == value for name, value in values.items()
    )


def _covers(desired: Any, live: Any, field: str) -> bool:
    """Whether a whole value is the same, but for what the API server filled in inside it."""
    match desired:
        case Mapping():
            if _is_empty(desired):
                return live is None or isinstance(live, Mapping)
            return isinstance(live, Mapping) and all(
                _covers(value, live.get(key), _scope(field, key))
                for key, value in desired.items()
                if value is not None
            )
        case str():
            return desired == live or (_is_quantity(field) and is_same_quantity(desired, live))
        case Sequence():
            if live is None:
                return len(desired) == 0
            return (
                isinstance(live, Sequence)
                and not isinstance(live, str)
                and len(desired) == len(live)
                and all(_covers(one, two, field) for one, two in zip(desired, live, strict=True))
            )
        case bool() | None:
            return desired is live
        case _:
            if isinstance(live, bool):
                return False
            same = bool(desired == live)
            return same or (_is_quantity(field) and is_same_quantity(desired, live))


def _scope(parent: str, key: str) -> str:
    """What is remembered of the way down: enough to know where quantities are."""
    return parent if parent in _QUANTITY_MAPS else key


def _is_quantity(field: str) -> bool:
    return field in _QUANTITY_MAPS or field in _QUANTITY_FIELDS


def _is_empty(value: Any) -> bool:
    """Whether nothing is said: absent, or a container in which nothing is said."""
    match value:
        case None:
            return True
        case Mapping():
            return all(_is_empty(item) for item in value.values())
        case str() | bytes():
            return False
        case Sequence():
            return len(value) == 0
        case _:
            return False
