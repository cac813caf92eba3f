"""What the control room asks of the rooms it runs, and what it gives them.

The control room moves keys; it does not know what a model or a build is. An `Assembly` tells it
which kinds to watch, which keys an object concerns, and who reconciles them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from modelwright_operator.plan.types import Key, Manifest

if TYPE_CHECKING:
    from datetime import datetime

    from modelwright_operator.apply.applier import Applier
    from modelwright_operator.apply.events import EventRecorder
    from modelwright_operator.apply.status import StatusWriter
    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.settings import Settings


class Reconciler(Protocol):
    """Brings one key to where it should be."""

    async def reconcile(self, key: Key) -> float | None:
        """Look, decide, act; returns in how many seconds to look again, None for on change."""


# (before, after): the keys a change concerns; what came has no before, what went no after.
Wake = Callable[[Manifest | None, Manifest | None], Iterable[Key]]
Crash = Callable[[Key, Exception], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind to watch and cache; `label_selector` narrows it on the server."""

    kind: str
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a reconciler may use of the cluster."""

    settings: Settings
    client: ApiClient
    store: Store
    applier: Applier
    status: StatusWriter
    events: EventRecorder
    namespace: str
    now: Callable[[], datetime]


async def _say_nothing(_key: Key, _error: Exception) -> None:
    """The log has it."""


async def _close_nothing() -> None:
    """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What is watched, whom a change concerns, and who answers for it.

    `primary` are the kinds whose objects are looked at again after every resync, `singletons` the
    keys that stand for no object. `on_crash` may tell an unexpected error in the object's status.
    """

    kinds: tuple[Watched, ...]
    primary: frozenset[str]
    wake: Wake
    reconcilers: Mapping[str, Reconciler]
    singletons: tuple[Key, ...] = ()
    on_crash: Crash = _say_nothing
    close: Callable[[], Awaitable[None]] = field(default=_close_nothing)


Assembly = Callable[[Context], Wiring]
