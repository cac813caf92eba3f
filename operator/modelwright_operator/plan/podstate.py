"""What a pod's status says, in words a person can act on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.api.conditions import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelwright_operator.plan.observed import Object

_PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
    }
)
_CONFIG_REASONS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_MAX_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class PodTrouble:
    """Why a pod does not do its work."""

    reason: str
    message: str


def explain_pod(pod: Object) -> PodTrouble | None:
    """Say what keeps a pod from running; None when nothing does (yet)."""
    return _unschedulable(pod) or next(_container_troubles(pod), None)


def termination_message(pod: Object, container: str) -> str | None:
    """The last words of a container, from its current or its last end."""
    for status in _container_statuses(pod):
        if status.get("name") != container:
            continue
        for state in (status.get("state", {}), status.get("lastState", {})):
            ended = state.get("terminated")
            if ended and ended.get("message"):
                return str(ended["message"])
    return None


def _unschedulable(pod: Object) -> PodTrouble | None:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            name = pod["metadata"]["name"]
            return PodTrouble(
                Reason.UNSCHEDULABLE, _cut(f"pod {name}: {condition.get('message', '')}")
            )
    return None


def _container_troubles(pod: Object) -> Iterator[PodTrouble]:
    name = pod["metadata"]["name"]
    for status in _container_statuses(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        detail = waiting.get("message", "")
        if reason in _PULL_REASONS:
            yield PodTrouble(
                Reason.IMAGE_PULL_FAILED, _cut(f"pod {name}: {reason}: {detail or status['image']}")
            )
        elif reason in _CONFIG_REASONS:
            yield PodTrouble(Reason.SERVER_CRASHING, _cut(f"pod {name}: {reason}: {detail}"))
        elif reason == "CrashLoopBackOff" or _has_crashed(status):
            yield _crash(name, status)


def _has_crashed(status: Mapping[str, Any]) -> bool:
    """Ended with an error and not running again yet; `Never` pods are judged by their Job."""
    ended = status.get("lastState", {}).get("terminated")
    running = status.get("state", {}).get("running")
    return bool(ended and ended.get("exitCode") and (not running or not status.get("ready")))


def _crash(pod: str, status: Mapping[str, Any]) -> PodTrouble:
    ended = (
        status.get("lastState", {}).get("terminated")
        or status.get("state", {}).get("terminated")
        or {}
    )
    said = _said(ended.get("message"))
    if said is not None:
        return PodTrouble(said[0], _cut(f"pod {pod}: {said[1]}"))
    if ended.get("reason") == "OOMKilled":
        return PodTrouble(
            Reason.OUT_OF_MEMORY,
            f"pod {pod} ran out of memory; raise spec.serving.resources.limits.memory",
        )
    code = ended.get("exitCode")
    restarts = status.get("restartCount", 0)
    last = str(ended.get("message") or "").strip().rpartition("\n")[2]
    return PodTrouble(
        Reason.SERVER_CRASHING,
        _cut(f"pod {pod} exited with code {code} ({restarts} restarts): {last or 'no message'}"),
    )


def _said(message: str | None) -> tuple[str, str] | None:
    """A server's own reason and sentence, when it left one."""
    try:
        document = json.loads(message or "")
    except ValueError:
        return None
    if not isinstance(document, dict) or "reason" not in document:
        return None
    reason = str(document["reason"])
    known = reason if reason in {item.value for item in Reason} else Reason.SERVER_CRASHING
    return known, str(document.get("message", ""))


def _container_statuses(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 1]}…"
