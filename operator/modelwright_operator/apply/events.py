"""Kubernetes Events: what `kubectl describe` tells, one for each transition.

Best effort: an Event that cannot be written is logged and never holds up the reconciliation.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.kube.faults import Conflict, KubeFault
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan.types import EventNote, Manifest, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from modelwright_operator.kube.client import ApiClient

log = logging.getLogger(__name__)

COMPONENT = "modelwright-operator"
MAX_MESSAGE = 1024
_MAX_REMEMBERED = 4096
_REPEAT_SECONDS = 60.0
# Per object: this many at once, then one in so many seconds (client-go: 25 and 300).
_BURST = 10.0
_REFILL_SECONDS = 30.0
_CLUSTER_EVENTS_NAMESPACE = "default"


@dataclass(slots=True)
class _Bucket:
    """Tokens left for one object, as of a moment."""

    tokens: float
    at_seconds: float

    def take(self, now_seconds: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now_seconds - self.at_seconds) / _REFILL_SECONDS)
        self.at_seconds = now_seconds
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class EventRecorder:
    """Writes Events under deterministic names, so that the same one is counted, not repeated."""

    def __init__(
        self,
        client: ApiClient,
        *,
        instance: str,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        """Write through `client` in the name of `instance`; both clocks are given."""
        self._client = client
        self._instance = instance
        self._now = now
        self._monotonic = monotonic
        self._posted: OrderedDict[str, float] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def record(self, notes: Iterable[EventNote]) -> None:
        """Write Events, but none twice in a minute and no flood about one object."""
        for note in notes:
            name = event_name(note)
            if not self._is_due(name, note.about):
                continue
            try:
                await self._post(name, note)
            except KubeFault as fault:
                log.warning("event not written", extra={"event": name, "error": fault.message})

    def _is_due(self, name: str, about: ObjectRef) -> bool:
        now = self._monotonic()
        last = self._posted.get(name)
        if last is not None and now - last < _REPEAT_SECONDS:
            return False
        bucket = self._buckets.setdefault(_identity(about), _Bucket(_BURST, now))
        if not bucket.take(now):
            return False
        self._posted[name] = now
        self._posted.move_to_end(name)
        self._buckets.move_to_end(_identity(about))
        _shrink(self._posted)
        _shrink(self._buckets)
        return True

    async def _post(self, name: str, note: EventNote) -> None:
        manifest = self._build(name, note)
        try:
            await self._client.create(manifest)
        except Conflict:
            await self._count_again(manifest)

    async def _count_again(self, manifest: Manifest) -> None:
        """The same Event happened before: count it and move its time."""
        metadata = manifest["metadata"]
        before = await self._client.get("Event", metadata["namespace"], metadata["name"])
        if before is None:
            return
        ref = ObjectRef("v1", "Event", metadata["namespace"], metadata["name"])
        count = int(before.get("count") or 1) + 1
        await self._client.patch(ref, {"count": count, "lastTimestamp": manifest["lastTimestamp"]})

    def _build(self, name: str, note: EventNote) -> dict[str, Any]:
        about = note.about
        namespace = about.namespace or _CLUSTER_EVENTS_NAMESPACE
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        }
        return {
            "apiVersion": resource_of("Event").api_version,
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": note.type,
            "reason": note.reason,
            "message": _cut(note.message),
            "count": 1,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }


def event_name(note: EventNote) -> str:
    """The object's name and a hash of what is said about which incarnation of it."""
    said = "\n".join((_identity(note.about), note.type, note.reason, note.message))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    # An Event's name may have 253 characters, as may the object's.
    return f"{note.about.name[:200].rstrip('.-')}.{digest}"


def _identity(about: ObjectRef) -> str:
    return about.uid or "/".join((about.kind, about.namespace or "", about.name))


def _shrink(remembered: OrderedDict[str, Any]) -> None:
    while len(remembered) > _MAX_REMEMBERED:
        remembered.popitem(last=False)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"
