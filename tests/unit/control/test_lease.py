"""The election on virtual time: whatever the API server and the processes do, one leads at most."""

import asyncio
import copy
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright_operator.control.lease import Elector, LeadershipLostError, LeaseTiming
from modelwright_operator.kube.faults import Conflict, Gone, Unreachable
from tests.unit.control.virtual_time import now, run

TIMING = LeaseTiming(duration=15, renew_deadline=10, retry_period=2)


class LeaseServer:
    """One Lease with optimistic locking."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.writes = []

    def get(self):
        return copy.deepcopy(self.lease)

    def create(self, lease):
        if self.lease is not None:
            raise Conflict("exists", code=409)
        return self._store(lease)

    def replace(self, lease):
        if self.lease is None:
            raise Gone("not found", code=404)
        if lease["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("modified", code=409)
        return self._store(lease)

    def _store(self, lease):
        self.version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append((now(), lease["spec"]["holderIdentity"]))
        return self.get()


class Line:
    """One process's line to the server; `faults` says what happens to each request in turn.

    A number: it takes so many seconds. "refused": never arrives. "lost": arrives, the answer does
    not. "hang": arrives nowhere, ends never.
    """

    def __init__(self, server, faults=(), check=lambda: None):
        self.server = server
        self.faults = list(faults)
        self.check = check

    async def get(self, _kind, _namespace, _name):
        return await self._pass(self.server.get)

    async def create(self, lease):
        return await self._pass(lambda: self.server.create(lease))

    async def replace(self, lease):
        return await self._pass(lambda: self.server.replace(lease))

    async def _pass(self, request):
        fault = self.faults.pop(0) if self.faults else 0.01
        match fault:
            case "hang":
                await asyncio.Event().wait()
            case "refused":
                await asyncio.sleep(0.01)
                raise Unreachable("refused")
            case "lost":
                request()
                await asyncio.sleep(0.01)
                raise Unreachable("reset")
            case seconds:
                await asyncio.sleep(seconds / 2)
                answer = request()
                self.check()
                await asyncio.sleep(seconds / 2)
                return answer
        raise AssertionError


def elector(line, identity):
    return Elector(
        line,
        namespace="ns",
        name="lease",
        identity=identity,
        timing=TIMING,
        monotonic=now,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        jitter=lambda: 0.0,
    )


async def lead(candidate):
    """The life of one process; ends when it lost its leadership."""
    await candidate.acquire()
    try:
        await candidate.hold()
    except LeadershipLostError as error:
        return str(error)


def virtual(test):
    def wrapper():
        run(test())

    return wrapper


@pytest.mark.parametrize(("duration", "deadline", "retry"), [(10, 10, 2), (15, 10, 10), (15, 9, 0)])
def test_timing_under_which_two_could_lead_is_refused(duration, deadline, retry):
    with pytest.raises(ValueError, match="retry period < renew deadline < duration"):
        LeaseTiming(duration, deadline, retry)


@virtual
async def test_first_one_makes_the_lease_and_leads():
    server = LeaseServer()
    one = elector(Line(server), "one")
    assert not one.is_leader()
    await one.acquire()
    assert one.is_leader()
    assert server.lease["spec"]["holderIdentity"] == "one"
    assert 9.9 < one.remaining_seconds() <= 10


@virtual
async def test_second_waits_and_takes_over_a_dead_ones_lease_after_its_duration():
    server = LeaseServer()
    await elector(Line(server), "dead").acquire()
    two = elector(Line(server), "two")
    await two.acquire()
    assert 15 < now() < 15 + 2 + 1
    assert server.lease["spec"]["leaseTransitions"] == 1


@virtual
async def test_released_lease_is_taken_at_once():
    server = LeaseServer()
    one, two = elector(Line(server), "one"), elector(Line(server), "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(1)
    await one.release()
    released = now()
    assert not one.is_leader()
    await waiting
    assert now() - released <= 2.1


@virtual
async def test_holder_keeps_the_lease_as_long_as_it_renews():
    server = LeaseServer()
    one, two = elector(Line(server), "one"), elector(Line(server), "two")
    await one.acquire()
    holding = asyncio.create_task(one.hold())
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(3600)
    assert one.is_leader()
    assert not two.is_leader()
    assert not holding.done()
    holding.cancel()
    waiting.cancel()


@virtual
async def test_hung_server_ends_the_leadership_at_the_deadline():
    server = LeaseServer()
    one = elector(Line(server, [0.01, 0.01, "hang"]), "one")
    assert await lead(one) == "the API server did not answer in time"
    assert now() == pytest.approx(10, abs=0.1)
    assert not one.is_leader()


@virtual
async def test_trouble_shorter_than_the_deadline_is_survived():
    server = LeaseServer()
    one = elector(Line(server, [0.01, 0.01, "refused", "refused", "lost"]), "one")
    await one.acquire()
    holding = asyncio.create_task(one.hold())
    await asyncio.sleep(60)
    assert one.is_leader()
    holding.cancel()


@virtual
async def test_stolen_lease_is_noticed():
    server = LeaseServer()
    one = elector(Line(server), "one")
    task = asyncio.create_task(lead(one))
    await asyncio.sleep(1)
    stolen = server.get()
    stolen["spec"]["holderIdentity"] = "thief"
    server.replace(stolen)
    assert await task == "the lease is held by thief"
    assert now() < 3


@virtual
async def test_deleted_lease_is_made_again():
    server = LeaseServer()
    one = elector(Line(server), "one")
    task = asyncio.create_task(lead(one))
    await asyncio.sleep(1)
    server.lease = None
    await asyncio.sleep(30)
    assert server.lease["spec"]["holderIdentity"] == "one"
    assert one.is_leader()
    task.cancel()


@virtual
async def test_deleted_lease_that_somebody_else_made_is_lost():
    server = LeaseServer()
    one = elector(Line(server), "one")
    task = asyncio.create_task(lead(one))
    await asyncio.sleep(1)
    server.lease = None
    await elector(Line(server), "two").acquire()
    assert (await task).startswith("the lease is held by two")


@virtual
async def test_frozen_process_may_not_write_when_it_wakes_up():
    """Frozen means: its tasks do not run. The fence is read from the clock, not from a task."""
    server = LeaseServer()
    one = elector(Line(server), "one")
    await one.acquire()
    await asyncio.sleep(45)
    assert not one.is_leader()


@virtual
async def test_release_after_a_renewal_whose_answer_was_cut_off():
    server = LeaseServer()
    one = elector(Line(server, [0.01, 0.01, "lost"]), "one")
    await one.acquire()
    holding = asyncio.create_task(one.hold())
    await asyncio.sleep(2.005)
    holding.cancel()
    await asyncio.sleep(0)
    await one.release()
    assert server.lease["spec"]["holderIdentity"] == ""


@virtual
async def test_release_of_a_lease_that_is_somebody_elses_changes_nothing():
    server = LeaseServer()
    one = elector(Line(server), "one")
    await one.acquire()
    stolen = server.get()
    stolen["spec"]["holderIdentity"] = "thief"
    server.replace(stolen)
    await one.release()
    assert server.lease["spec"]["holderIdentity"] == "thief"


_FAULTS = st.lists(
    st.one_of(st.floats(0.01, 12), st.sampled_from(["refused", "lost", "hang"])), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(st.lists(_FAULTS, min_size=2, max_size=3), st.lists(st.floats(1, 40), max_size=6))
def test_property_there_is_never_a_moment_with_two_that_may_write(faults, restarts):
    """Slow, refused, lost and hanging requests, and processes that restart under new names."""

    async def scenario():
        server = LeaseServer()
        electors, violations = [], []

        def check():
            leaders = [candidate.identity for candidate in electors if candidate.is_leader()]
            if len(leaders) > 1:
                violations.append((now(), leaders))

        async def process(number, line):
            for life in range(20):
                candidate = elector(line, f"{number}-{life}")
                electors.append(candidate)
                await lead(candidate)

        async def watch():
            while True:
                check()
                await asyncio.sleep(0.5)

        lines = [Line(server, plan, check) for plan in faults]
        tasks = [asyncio.create_task(process(i, line)) for i, line in enumerate(lines)]
        watching = asyncio.create_task(watch())
        for index, pause in enumerate(restarts):
            await asyncio.sleep(pause)
            number = index % len(tasks)
            tasks[number].cancel()
            await asyncio.sleep(0)
            tasks[number] = asyncio.create_task(process(100 + index, lines[number]))
        await asyncio.sleep(120)
        check()
        assert violations == []
        # Once the trouble is over, somebody leads.
        assert sum(candidate.is_leader() for candidate in electors) == 1
        for task in (*tasks, watching):
            task.cancel()
        await asyncio.gather(*tasks, watching, return_exceptions=True)

    run(scenario())
