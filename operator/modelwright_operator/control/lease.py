"""Who acts: leadership by a Lease, with a fence.

Time is monotonic and local. A leader may write until `renew_deadline` after the *start* of its
last successful renewal; others take over no sooner than `lease_duration` after they last saw the
Lease move. The first is shorter than the second, so two never write at a time, also when one was
frozen and wakes up. A leader that cannot renew ends the process: state is not worth saving.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.kube.faults import Conflict, Gone, KubeFault
from modelwright_operator.kube.resources import resource_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.plan.types import Manifest

log = logging.getLogger(__name__)

_KIND = "Lease"
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds; `renew_deadline` must stay below `duration`, `retry_period` below both."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a timing under which two could lead."""
        if not 0 < self.retry_period < self.renew_deadline < self.duration:
            raise ValueError(
                "lease timing must satisfy 0 < retry period < renew deadline < duration, got "
                f"{self.retry_period} / {self.renew_deadline} / {self.duration} s"
            )


class LeadershipLostError(Exception):
    """Somebody else leads, or it cannot be ruled out any more."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What the Lease looked like, and when it was first seen like that."""

    holder: str
    version: str
    since: float


class Elector:
    """Takes part in one election."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: LeaseTiming,
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Stand as `identity`; `client` must not be fenced by this elector."""
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing
        self._monotonic = monotonic
        self._now = now
        self._jitter = jitter
        self._lease: Manifest | None = None
        self._sighting: _Sighting | None = None
        self._deadline = float("-inf")

    @property
    def identity(self) -> str:
        """The name it stands under."""
        return self._identity

    def is_leader(self) -> bool:
        """Whether writes are allowed now."""
        return self.remaining_seconds() > 0

    def remaining_seconds(self) -> float:
        """The fence: for how long writes are still allowed; zero or less for not at all."""
        return self._deadline - self._monotonic()

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        log.info("standing by", extra={"lease": self._name, "identity": self._identity})
        while True:
            try:
                async with asyncio.timeout(self._timing.renew_deadline):
                    if await self._try_acquire():
                        break
            except (KubeFault, TimeoutError) as error:
                log.warning("lease not read", extra={"lease": self._name, "error": str(error)})
            await asyncio.sleep(self._timing.retry_period * (1 + _JITTER * self._jitter()))
        log.info("leading", extra={"lease": self._name, "identity": self._identity})

    async def hold(self) -> None:
        """Renew for as long as it works.

        Raises:
            LeadershipLostError: it did not work in time, or somebody else holds the Lease.
        """
        while True:
            await asyncio.sleep(self._timing.retry_period)
            remaining = self.remaining_seconds()
            if remaining <= 0:
                raise LeadershipLostError("the lease was not renewed in time")
            try:
                async with asyncio.timeout(remaining):
                    await self._renew()
            except TimeoutError:
                raise LeadershipLostError("the API server did not answer in time") from None
            except KubeFault as fault:
                log.warning("lease not renewed", extra={"error": fault.message})

    async def release(self) -> None:
        """Give the Lease up, so that another takes over at once; best effort."""
        if not self.is_leader() or self._lease is None:
            return
        remaining = self.remaining_seconds()
        # Nothing is written from here on, whatever comes of the request.
        self._deadline = float("-inf")
        try:
            async with asyncio.timeout(remaining):
                try:
                    await self._give_up(self._lease)
                except Conflict:
                    # A renewal that was cut off on the way out did arrive.
                    await self._give_up(await self._catch_up())
        except (KubeFault, TimeoutError, LeadershipLostError) as error:
            log.warning("lease not released", extra={"error": str(error)})
        else:
            log.info("lease released", extra={"lease": self._name})

    async def _give_up(self, lease: Manifest) -> None:
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        await self._client.replace({**lease, "spec": {**spec, "renewTime": self._timestamp()}})

    async def _try_acquire(self) -> bool:
        started = self._monotonic()
        live = await self._client.get(_KIND, self._namespace, self._name)
        try:
            if live is None:
                taken = await self._client.create(self._build())
            elif self._is_free(live):
                taken = await self._client.replace(self._take_over(live))
            else:
                return False
        except Conflict:
            return False
        self._keep(taken, started)
        return True

    async def _renew(self) -> None:
        assert self._lease is not None  # noqa: S101 - only a holder renews
        started = self._monotonic()
        try:
            try:
                renewed = await self._touch(self._lease)
            except Conflict:
                renewed = await self._touch(await self._catch_up())
        except Gone:
            await self._create_again(started)
        else:
            self._keep(renewed, started)

    async def _touch(self, lease: Manifest) -> Manifest:
        spec = {**lease["spec"], "renewTime": self._timestamp()}
        return await self._client.replace({**lease, "spec": spec})

    async def _catch_up(self) -> Manifest:
        """The Lease moved: by our own renewal whose answer was lost, or by somebody else."""
        live = await self._client.get(_KIND, self._namespace, self._name)
        if live is None or live["spec"].get("holderIdentity") != self._identity:
            holder = live["spec"].get("holderIdentity") if live is not None else "nobody"
            raise LeadershipLostError(f"the lease is held by {holder}")
        self._lease = live
        return live

    async def _create_again(self, started: float) -> None:
        """Somebody deleted the Lease; whoever makes it anew holds it."""
        try:
            created = await self._client.create(self._build())
        except Conflict:
            raise LeadershipLostError("the lease was deleted and taken") from None
        self._keep(created, started)

    def _keep(self, lease: Manifest, started: float) -> None:
        self._lease = lease
        self._deadline = started + self._timing.renew_deadline

    def _is_free(self, live: Manifest) -> bool:
        """Whether nobody holds it, we do, or its holder has not moved for its whole duration."""
        spec = live.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        version = str(live["metadata"].get("resourceVersion"))
        seen = self._sighting
        if seen is None or (seen.holder, seen.version) != (holder, version):
            seen = self._sighting = _Sighting(holder, version, self._monotonic())
        if holder in ("", self._identity):
            return True
        duration = max(float(spec.get("leaseDurationSeconds") or 0), self._timing.duration)
        return self._monotonic() - seen.since > duration

    def _take_over(self, live: Manifest) -> Manifest:
        spec = live.get("spec") or {}
        transitions = int(spec.get("leaseTransitions") or 0)
        is_same = spec.get("holderIdentity") == self._identity
        fresh = self._build()["spec"]
        return {
            **live,
            "spec": {
                **spec,
                **fresh,
                "leaseTransitions": transitions if is_same else transitions + 1,
            },
        }

    def _build(self) -> dict[str, Any]:
        moment = self._timestamp()
        return {
            "apiVersion": resource_of(_KIND).api_version,
            "kind": _KIND,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._timing.duration),
                "acquireTime": moment,
                "renewTime": moment,
                "leaseTransitions": 0,
            },
        }

    def _timestamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
