"""Server-side apply as the API server does it, small: sets of owned paths and what applying moves.

A path is a tuple of the keys of `fieldsV1`: ``("f:spec", "f:replicas")``, list items by
``k:{"name":"server"}``, members of sets by ``v:"avx2"``. Follows structured-merge-diff.
"""

from __future__ import annotations

import json
from typing import Any

Path = tuple[str, ...]
Fields = dict[Path, Any]

_KEYED_LISTS = {
    "ownerReferences": ("uid",),
    "containers": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
    "serving": ("profile",),
    "nodes": ("name",),
}
_SETS = frozenset({"builds", "techniques", "features", "finalizers"})
_ATOMIC_MAPS = frozenset(
    {"selector", "labelSelector", "namespaceSelector", "nodeSelector", "scaleTargetRef"}
)


def list_fields(value: Any, name: str = "", parent: Path = ()) -> Fields:
    """Every owned path of a configuration with its value; a path without children is whole."""
    found: Fields = {}
    match value:
        case dict() if value and name not in _ATOMIC_MAPS:
            for key, item in value.items():
                if item is not None:
                    found |= list_fields(item, key, (*parent, f"f:{key}"))
        case list() if value and name in _SETS:
            for item in value:
                found[(*parent, f"v:{json.dumps(item)}")] = item
        case list() if value and (keys := _keys_of(name, value)):
            for item in value:
                path = (*parent, _item_key(item, keys))
                found[path] = item
                found |= list_fields(item, "", path)
        case _:
            found[parent] = value
    return found


def write_down(paths: set[Path]) -> dict[str, Any]:
    """`fieldsV1` of a set of paths."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for key in path:
            node = node.setdefault(key, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def look_up(document: Any, path: Path) -> Any:
    """The value at a path, or None."""
    for key in path:
        if document is None:
            return None
        document = _step(document, key)
    return document


def assign(document: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at a path, making what is missing on the way."""
    node: Any = document
    for key, following in zip(path, (*path[1:], ""), strict=True):
        if key.startswith("f:"):
            name = key[2:]
            if not following:
                node[name] = value
                return
            empty: Any = {} if following.startswith("f:") else []
            if not isinstance(node.get(name), type(empty)):
                node[name] = empty
            node = node[name]
        elif key.startswith("v:"):
            if value not in node:
                node.append(value)
            return
        else:
            item = _step(node, key)
            if item is None:
                item = json.loads(key[2:])
                node.append(item)
            if not following:
                return
            node = item


def remove(document: dict[str, Any], path: Path) -> None:
    """Take away the value at a path, and what it leaves empty above."""
    parent = look_up(document, path[:-1]) if len(path) > 1 else document
    last = path[-1]
    if parent is None:
        return
    if last.startswith("f:"):
        parent.pop(last[2:], None)
    elif last.startswith("v:"):
        value = json.loads(last[2:])
        parent[:] = [item for item in parent if item != value]
    else:
        parent[:] = [item for item in parent if not _has(item, json.loads(last[2:]))]
    if not parent and len(path) > 1:
        remove(document, path[:-1])


def _step(node: Any, key: str) -> Any:
    if key.startswith("f:"):
        return node.get(key[2:]) if isinstance(node, dict) else None
    wanted = json.loads(key[2:])
    if not isinstance(node, list):
        return None
    if key.startswith("v:"):
        return wanted if wanted in node else None
    return next((item for item in node if _has(item, wanted)), None)


def _keys_of(name: str, items: list[Any]) -> tuple[str, ...] | None:
    if not all(isinstance(item, dict) for item in items):
        return None
    if name == "ports":
        return (
            ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
        )
    keys = _KEYED_LISTS.get(name)
    if name == "profiles":  # of a status; those of a spec are texts
        keys = ("name",)
    return keys if keys and all(key in item for item in items for key in keys) else None


def _item_key(item: dict[str, Any], keys: tuple[str, ...]) -> str:
    return "k:" + json.dumps(
        {key: item[key] for key in keys}, sort_keys=True, separators=(",", ":")
    )


def _has(item: Any, values: dict[str, Any]) -> bool:
    return isinstance(item, dict) and all(item.get(key) == value for key, value in values.items())
