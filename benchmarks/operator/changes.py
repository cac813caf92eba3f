"""What changed in the objects of Modelwright between two moments, field by field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from e2e.cluster import Cluster

_KINDS: Final = (
    "inferencemodels,modelbuilds,hardwareprofiles,deployments,services,serviceaccounts,"
    "horizontalpodautoscalers,poddisruptionbudgets,jobs"
)
_MAX_CHANGES: Final = 40


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects by kind, namespace and name."""

    objects: Mapping[str, dict[str, Any]]

    @classmethod
    def take(cls, cluster: Cluster) -> Snapshot:
        items = json.loads(cluster.kubectl("get", _KINDS, "--all-namespaces", "--output=json"))
        return cls({_name(item): item for item in items["items"]})


def find_changes(before: Snapshot, after: Snapshot) -> list[str]:
    """Sentences about objects that came, went or changed, managedFields aside."""
    changes: list[str] = []
    for name in sorted(before.objects.keys() | after.objects.keys()):
        old, new = before.objects.get(name), after.objects.get(name)
        if old is None or new is None:
            changes.append(f"{name}: {'came' if old is None else 'went'}")
        else:
            changes += [f"{name}: {change}" for change in _differences(old, new, "")]
    return changes[:_MAX_CHANGES]


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if path.endswith((".managedFields", ".resourceVersion")) or old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, two, f"{path}[{index}]")
    else:
        yield f"{path}: {json.dumps(old)[:200]} -> {json.dumps(new)[:200]}"


def _name(item: Mapping[str, Any]) -> str:
    meta = item["metadata"]
    return f"{item['kind']} {meta.get('namespace', '')}/{meta['name']}"
