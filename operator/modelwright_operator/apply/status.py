"""Writes the status of our own kinds: by server-side apply on `/status`, only what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelwright_operator.apply.ownership import is_in_force
from modelwright_operator.kube.faults import Conflict, Gone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.plan.types import Manifest, ObjectRef

_ATTEMPTS = 3
_SUBRESOURCE = "status"


class StatusWriter:
    """Brings a status into force on exactly the incarnation it was computed for."""

    def __init__(self, client: ApiClient, store: Store) -> None:
        """Write through `client`; read, and take the answers, into `store`."""
        self._client = client
        self._store = store

    async def write(self, ref: ObjectRef, status: Mapping[str, Any]) -> bool:
        """Write a status unless it is in force, or older than what stands there.

        Returns whether anything was sent. An object that is gone needs no status.

        Raises:
            KubeFault: the API server did not take it.
        """
        live = self._store.get(ref.kind, ref.namespace, ref.name)
        if live is None or (ref.uid and live["metadata"].get("uid") != ref.uid):
            return False
        uid = live["metadata"]["uid"]
        for attempt in range(1, _ATTEMPTS + 1):
            manifest = _build_manifest(ref, live, status)
            if is_in_force(manifest, live, _SUBRESOURCE) or _is_older(status, live):
                return False
            try:
                # The status is ours alone, so nobody else's claim on a field of it counts.
                answer = await self._client.apply(manifest, force=True, subresource=_SUBRESOURCE)
            except Gone:
                return False
            except Conflict:
                fresh = await self._client.get(ref.kind, ref.namespace, ref.name)
                if fresh is None or fresh["metadata"]["uid"] != uid:
                    return False
                self._store.put(fresh)
                if attempt == _ATTEMPTS:
                    raise
                live = fresh
                continue
            self._store.put(answer)
            return True
        raise AssertionError("the last attempt returns or raises")


def _build_manifest(ref: ObjectRef, live: Manifest, status: Mapping[str, Any]) -> Manifest:
    # The version pins the incarnation too: the API server ignores a uid in an applied status.
    metadata = {"name": ref.name, "resourceVersion": live["metadata"]["resourceVersion"]}
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": metadata,
        "status": dict(status),
    }


def _is_older(status: Mapping[str, Any], live: Manifest) -> bool:
    """Whether a later generation was already reported: a stale reader must not take it back."""
    reported = (live.get("status") or {}).get("observedGeneration", -1)
    generation = status.get("observedGeneration", reported)
    return bool(generation < reported)
