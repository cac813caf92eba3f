"""From a change in the store to the keys it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelwright_operator.control.contract import Wake
    from modelwright_operator.control.queue import WorkQueue
    from modelwright_operator.kube.cache import Store
    from modelwright_operator.plan.types import Manifest


def connect_wakeups(store: Store, queue: WorkQueue, wake: Wake) -> None:
    """Have every change in the store wake the keys it concerns."""

    def on_change(before: Manifest | None, after: Manifest | None) -> None:
        for key in wake(before, after):
            queue.add(key)

    store.subscribe(on_change)


def wake_all(store: Store, queue: WorkQueue, kind: str, wake: Wake, spread_seconds: float) -> int:
    """Look at every object of a kind again, evenly over a while; returns how many."""
    keys = list(dict.fromkeys(key for obj in store.list(kind) for key in wake(None, obj)))
    for index, key in enumerate(keys):
        queue.add_after(key, spread_seconds * index / len(keys))
    return len(keys)
