"""Which keys a change wakes: an object's own, its owners', and those that depend on it unowned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.plan import names
from modelwright_operator.plan.types import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelwright_operator.plan.types import Manifest

NODES_KEY = Key("Nodes", "", "")

_OWN_KINDS = frozenset({"InferenceModel", "ModelBuild"})
# What may change in an object of ours without asking for a new decision about it.
_OWN_PARTS = ("generation", "deletionTimestamp", "ownerReferences", "uid")


def wake_keys(before: Manifest | None, after: Manifest | None) -> Iterator[Key]:
    """Keys to look at after a change; `before` or `after` is None when the object came or went.

    Models that depend on a changed HardwareProfile are not known from the object itself:
    `needs_all_models` says when all are meant.
    """
    changed = after or before
    if changed is None:
        return
    kind = changed["kind"]
    if kind in _OWN_KINDS and _needs_own_pass(before, after):
        yield _own_key(changed)
    if kind in ("Node", "HardwareProfile") or _is_probe(changed):
        yield NODES_KEY
    for owner in _owners(before, after):
        if owner["kind"] in _OWN_KINDS:
            yield Key(owner["kind"], changed["metadata"].get("namespace", ""), owner["name"])
    model = changed["metadata"].get("labels", {}).get(names.MODEL_LABEL)
    if kind == "Pod" and model is not None:
        # A server's pod is owned by a ReplicaSet; long names are hashed in labels, and then the
        # Deployment's own events wake the model.
        yield Key("InferenceModel", changed["metadata"].get("namespace", ""), model)
    build = changed["metadata"].get("labels", {}).get(names.BUILD_LABEL)
    if kind == "Pod" and build is not None:
        yield Key("ModelBuild", changed["metadata"].get("namespace", ""), build)


def needs_all_models(before: Manifest | None, after: Manifest | None) -> bool:
    """Whether a change may give any model another target: profiles and their nodes."""
    changed = after or before
    if changed is None or changed["kind"] != "HardwareProfile":
        return False
    return _profile_facts(before) != _profile_facts(after)


def _own_key(raw: Manifest) -> Key:
    meta = raw["metadata"]
    return Key(raw["kind"], meta.get("namespace", ""), meta["name"])


def _needs_own_pass(before: Manifest | None, after: Manifest | None) -> bool:
    """Our own status writes wake nobody: progress would chase its own tail."""
    if before is None or after is None:
        return True
    return any(before["metadata"].get(part) != after["metadata"].get(part) for part in _OWN_PARTS)


def _owners(before: Manifest | None, after: Manifest | None) -> Iterable[Manifest]:
    seen: dict[str, Manifest] = {}
    for raw in (before, after):
        for owner in (raw or {}).get("metadata", {}).get("ownerReferences", []):
            seen[owner["uid"]] = owner
    return seen.values()


def _is_probe(raw: Manifest) -> bool:
    labels = raw["metadata"].get("labels", {})
    return bool(raw["kind"] == "Pod" and labels.get(names.COMPONENT_LABEL) == "probe")


def _profile_facts(raw: Manifest | None) -> object:
    if raw is None:
        return None
    nodes = [node["name"] for node in raw.get("status", {}).get("nodes", [])]
    return raw.get("spec"), nodes
