"""The values that travel through the operator: keys, plans, outcomes and what came of them.

Plain data without behaviour. `plan` makes them, `apply` executes them, `control` moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """What a worker reconciles: one object, or a singleton concern such as `Nodes`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Show the key the way kubectl names objects."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object by name; with `uid` it means exactly that incarnation."""

    api_version: str
    kind: str
    namespace: str | None
    name: str
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything is as it should be; only an event or the resync looks again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something else has to happen first; look again after `after_seconds` at the latest."""

    reason: str
    message: str
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stalled:
    """Only a person can go on: nothing is retried until the object or its inputs change."""

    reason: str
    message: str


Outcome = Settled | Waiting | Stalled


@dataclass(frozen=True, slots=True)
class EventNote:
    """One Kubernetes Event worth telling a person about."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    about: ObjectRef


@dataclass(frozen=True, slots=True)
class Plan:
    """Every object that should exist, every object that should not, and what it means."""

    apply: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    outcome: Outcome = Settled()
    notes: tuple[str, ...] = ()
    wake_after_seconds: float | None = None


FaultKind = Literal["Conflict", "Unreachable", "Forbidden", "Invalid", "Gone"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A write that did not happen, and why."""

    ref: ObjectRef
    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What really happened to a plan."""

    results: tuple[Manifest, ...] = ()
    faults: tuple[Fault, ...] = ()
