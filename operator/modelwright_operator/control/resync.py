"""Lists every watched kind from time to time and compares: no event is ever lost for good.

A watch that drops an event never makes up for it by itself; the list does. The first round comes
before the first pass, so that nothing is decided on half a picture.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelwright_operator.kube.faults import Gone, KubeFault
from modelwright_operator.kube.resources import resource_of

if TYPE_CHECKING:
    from modelwright_operator.control.contract import Watched
    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import ApiClient

log = logging.getLogger(__name__)

_JITTER = 0.2
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0

# (kind, number of objects that differed from what was held)
ListedHook = Callable[[str, int], None]


class Resync:
    """Keeps the store honest."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        kinds: Sequence[Watched],
        *,
        namespaces: Sequence[str],
        interval_seconds: float,
        on_listed: ListedHook,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """List `kinds` in `namespaces` (none: in all) every `interval_seconds`, give or take."""
        self._client = client
        self._store = store
        self._kinds = tuple(kinds)
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._interval_seconds = interval_seconds
        self._on_listed = on_listed
        self._jitter = jitter
        self._listed_at: dict[str, float] = {}

    async def prime(self) -> None:
        """List every kind once, for as long as it takes."""
        async with asyncio.TaskGroup() as group:
            for watched in self._kinds:
                group.create_task(self._prime(watched), name=f"prime-{watched.kind}")

    async def run(self) -> None:
        """List every kind again and again."""
        async with asyncio.TaskGroup() as group:
            for watched in self._kinds:
                group.create_task(self._repeat(watched), name=f"resync-{watched.kind}")

    async def list_once(self, watched: Watched) -> int:
        """List one kind now; returns how many objects differed.

        Raises:
            KubeFault: the API server gave no usable answer.
        """
        differing = 0
        for namespace in self._scopes(watched):
            listing = await self._client.list(
                watched.kind, namespace, label_selector=watched.label_selector
            )
            differing += self._store.replace(
                watched.kind, namespace, listing.items, listing.resource_version
            )
        self._listed_at[watched.kind] = time.monotonic()
        return differing

    def ages_seconds(self) -> dict[str, float]:
        """How long ago each kind was listed; infinite for never."""
        now = time.monotonic()
        return {
            watched.kind: now - self._listed_at.get(watched.kind, float("-inf"))
            for watched in self._kinds
        }

    def _scopes(self, watched: Watched) -> tuple[str | None, ...]:
        return self._namespaces if resource_of(watched.kind).namespaced else (None,)

    async def _prime(self, watched: Watched) -> None:
        await self._insist(watched)

    async def _repeat(self, watched: Watched) -> None:
        while True:
            spread = 1 + _JITTER * (2 * self._jitter() - 1)
            await asyncio.sleep(self._interval_seconds * spread)
            differing = await self._insist(watched)
            if differing:
                log.info("resync found changes", extra={"kind": watched.kind, "count": differing})
            self._on_listed(watched.kind, differing)

    async def _insist(self, watched: Watched) -> int:
        """List one kind until it works."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self.list_once(watched)
            except KubeFault as fault:
                log.warning("list failed", extra=_explain(watched, fault, pause))
            await asyncio.sleep(pause * (1 + _JITTER * self._jitter()))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _explain(watched: Watched, fault: KubeFault, pause: float) -> dict[str, object]:
    hint = "is its CustomResourceDefinition installed?" if isinstance(fault, Gone) else None
    extra: dict[str, object] = {"kind": watched.kind, "error": fault.message, "again": pause}
    return extra if hint is None else {**extra, "hint": hint}
