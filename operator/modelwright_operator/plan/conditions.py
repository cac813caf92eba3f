"""Conditions: made in a fixed order, moved in time only when their status moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelwright_operator.api.conditions import Condition, ConditionType, Reason
from modelwright_operator.plan.types import EventNote, ObjectRef, Outcome, Settled, Stalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from modelwright_operator.plan.observed import Identity

MAX_MESSAGE = 1024

# What speaks of a source rather than of the build it feeds.
SOURCE_REASONS = frozenset(
    {
        Reason.SOURCE_NOT_FOUND,
        Reason.SOURCE_UNREACHABLE,
        Reason.SOURCE_DENIED,
        Reason.DIGEST_MISMATCH,
    }
)

# Kept only while true (kstatus: abnormal-true).
_TRANSIENT = (ConditionType.RECONCILING, ConditionType.STALLED)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one condition should say."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def timestamp(moment: datetime) -> str:
    """A time as the API writes it: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def build_conditions(
    findings: Iterable[Finding],
    previous: Sequence[Condition],
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Turn findings into conditions, keeping the transition time of those that did not move."""
    before = {condition.type: condition for condition in previous}
    result = []
    for finding in findings:
        if finding.type in _TRANSIENT and finding.status != "True":
            continue
        old = before.get(finding.type)
        since = timestamp(now)
        if old is not None and old.status == finding.status:
            since = old.last_transition_time
        result.append(
            Condition(
                type=finding.type,
                status=finding.status,
                observed_generation=generation,
                last_transition_time=since,
                reason=finding.reason,
                message=_cut(finding.message),
            )
        )
    return tuple(result)


def progress_findings(outcome: Outcome) -> tuple[Finding, ...]:
    """`Reconciling` while something moves, `Stalled` while only a person can go on."""
    match outcome:
        case Settled():
            return ()
        case Stalled(reason, message):
            return (Finding(ConditionType.STALLED, "True", reason, message),)
        case _:
            return (Finding(ConditionType.RECONCILING, "True", outcome.reason, outcome.message),)


def transition_events(
    about: ObjectRef, previous: Sequence[Condition], current: Sequence[Condition]
) -> tuple[EventNote, ...]:
    """One Event for each condition whose status or reason moved; Ready speaks for the rest."""
    before = {condition.type: condition for condition in previous}
    notes: dict[str, EventNote] = {}
    for condition in current:
        if condition.type in _TRANSIENT:
            continue
        old = before.get(condition.type)
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        if old is None and condition.status == "Unknown":
            continue
        kind: Literal["Normal", "Warning"] = "Warning" if condition.status == "False" else "Normal"
        notes.setdefault(
            condition.reason, EventNote(kind, condition.reason, condition.message, about)
        )
    return tuple(notes.values())


def object_ref(kind: str, identity: Identity) -> ObjectRef:
    """The object an Event is about."""
    return ObjectRef(
        "modelwright.dev/v1alpha1",
        kind,
        identity.namespace or None,
        identity.name,
        identity.uid,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"
