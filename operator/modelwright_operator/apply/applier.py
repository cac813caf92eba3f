"""Makes a plan so: server-side apply of what should exist, deletes of what should not.

Quiet: what is already in force is not sent. Decides nothing; what failed comes back as faults.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelwright_operator.apply.ownership import is_in_force
from modelwright_operator.kube.cache import Store, managed_by_us, parse_version
from modelwright_operator.kube.faults import Conflict, Gone, KubeFault
from modelwright_operator.kube.resources import apply_rank, object_reference
from modelwright_operator.plan.types import Applied, Fault, Manifest, ObjectRef, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelwright_operator.kube.client import ApiClient

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_MAX_STUBBORN = 10_000


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What was sent, and the generation of the object that came of it."""

    digest: str
    generation: int


class Applier:
    """Executes plans against one cluster."""

    def __init__(self, client: ApiClient, store: Store) -> None:
        """Write through `client`; read, and take the answers, into `store`."""
        self._client = client
        self._store = store
        # Objects the cluster keeps changing back (an admission webhook): not sent again and again.
        self._stubborn: dict[str, _Attempt] = {}

    async def execute(self, plan: Plan) -> Applied:
        """Apply in kind order, then delete in the opposite order; go on after a fault."""
        results: list[Manifest] = []
        faults: list[Fault] = []
        for manifest in sorted(plan.apply, key=lambda item: apply_rank(item["kind"])):
            try:
                results.append(await self._apply(manifest))
            except KubeFault as fault:
                faults.append(_describe(object_reference(manifest), fault))
        for ref in sorted(plan.delete, key=lambda item: -apply_rank(item.kind)):
            try:
                await self._delete(ref)
            except KubeFault as fault:
                faults.append(_describe(ref, fault))
        return Applied(tuple(results), tuple(faults))

    async def _apply(self, manifest: Manifest) -> Manifest:
        """Bring one object into force; a lost race is run again on what is there now."""
        ref = object_reference(manifest)
        live = self._store.get(ref.kind, ref.namespace, ref.name)
        for attempt in range(1, _ATTEMPTS + 1):
            if live is None:
                live = await self._look(ref)
            if live is not None:
                _refuse_foreign(manifest, live)
                if is_in_force(manifest, live) or self._is_stubborn(manifest, live):
                    return live
            try:
                # Without force on a new name: whoever took it meanwhile keeps it.
                result = await self._client.apply(manifest, force=live is not None)
            except Conflict:
                live = await self._look(ref)
                # A plan pinned to a version of the object has to be made anew.
                if attempt == _ATTEMPTS or "resourceVersion" in manifest["metadata"]:
                    raise
                continue
            self._store.put(result)
            self._note(manifest, result)
            log.info("applied", extra={"object": _name(ref), "new": live is None})
            return result
        raise AssertionError("the last attempt returns or raises")

    async def _look(self, ref: ObjectRef) -> Manifest | None:
        """Read past the cache: it holds only objects with our label, and may lag."""
        live = await self._client.get(ref.kind, ref.namespace, ref.name)
        if live is not None and managed_by_us(live):
            self._store.put(live)
        return live

    async def _delete(self, ref: ObjectRef) -> None:
        """Delete the incarnation that was seen, once."""
        live = self._store.get(ref.kind, ref.namespace, ref.name)
        if live is None or (ref.uid and live["metadata"].get("uid") != ref.uid):
            live = await self._look(ref)
        if live is None or (ref.uid and live["metadata"].get("uid") != ref.uid):
            return
        if live["metadata"].get("deletionTimestamp"):
            return
        exact = replace(ref, uid=live["metadata"].get("uid"))
        try:
            answer = await self._client.delete(
                exact, resource_version=live["metadata"].get("resourceVersion")
            )
        except Gone:
            self._store.forget(ref.kind, ref.namespace, ref.name, exact.uid)
            return
        except Conflict:
            # It changed since it was seen: take in what it is now, so that the next plan knows.
            if await self._look(ref) is None:
                self._store.forget(ref.kind, ref.namespace, ref.name, exact.uid)
                return
            raise
        if answer.get("kind") == "Status":
            self._store.forget(ref.kind, ref.namespace, ref.name, exact.uid)
        else:
            self._store.put(answer)
        log.info("deleted", extra={"object": _name(ref)})

    def _is_stubborn(self, manifest: Manifest, live: Manifest) -> bool:
        attempt = self._stubborn.get(str(live["metadata"].get("uid")))
        return attempt is not None and attempt == _Attempt(_digest(manifest), _generation(live))

    def _note(self, manifest: Manifest, result: Manifest) -> None:
        """Remember an apply that did not take, so that it is not repeated until something moves."""
        uid = str(result["metadata"].get("uid"))
        if is_in_force(manifest, result):
            self._stubborn.pop(uid, None)
            return
        if len(self._stubborn) >= _MAX_STUBBORN:
            self._stubborn.clear()
        self._stubborn[uid] = _Attempt(_digest(manifest), _generation(result))
        ref = object_reference(manifest)
        log.warning("the cluster changes what is applied", extra={"object": _name(ref)})


def _refuse_foreign(manifest: Manifest, live: Manifest) -> None:
    """Leave an object alone that is not ours, or that is on its way out."""
    ref = object_reference(manifest)
    if live["metadata"].get("deletionTimestamp"):
        raise Conflict(f"{_name(ref)} is being deleted; it is made again once it is gone")
    if managed_by_us(live) or _shares_owner(manifest, live):
        return
    raise Conflict(
        f"{_name(ref)} exists and is not managed by Modelwright; rename or delete it, "
        "or give the InferenceModel another name"
    )


def _shares_owner(manifest: Manifest, live: Manifest) -> bool:
    return bool(_owner_uids(manifest) & _owner_uids(live))


def _owner_uids(obj: Manifest) -> set[str]:
    references: Iterable[dict[str, str]] = obj["metadata"].get("ownerReferences") or ()
    return {reference["uid"] for reference in references}


def _generation(obj: Manifest) -> int:
    """What moves when somebody changes the object: its generation, or its version without one."""
    generation = obj["metadata"].get("generation")
    return generation if isinstance(generation, int) else parse_version(obj)


def _digest(manifest: Manifest) -> str:
    """What is asked for, whatever version of the object it is pinned to."""
    metadata = {**manifest["metadata"], "resourceVersion": None}
    document = json.dumps({**manifest, "metadata": metadata}, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def _describe(ref: ObjectRef, fault: KubeFault) -> Fault:
    return Fault(ref, fault.kind, fault.message)


def _name(ref: ObjectRef) -> str:
    return "/".join(part for part in (ref.kind, ref.namespace, ref.name) if part)
