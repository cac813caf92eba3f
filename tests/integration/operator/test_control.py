"""Lease, watch and store against a real API server; the operators are processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import builders
from tests.wiring.test_operator import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 90.0


@asynccontextmanager
async def process(room, identity):
    """The toy operator, all namespaces, as a process of its own."""
    arguments = [str(room.cluster.kubeconfig), str(free_port()), str(free_port()), identity, "0"]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.wiring.toy",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGCONT)
            child.send_signal(signal.SIGTERM)
        await child.communicate()


async def eventually(condition, what):
    """Poll an async condition until it holds; returns what it gave."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not (found := await condition()):
        if time.monotonic() > until:
            pytest.fail(f"{what} did not come true in {DEADLINE_SECONDS:.0f} s")
        await asyncio.sleep(0.1)
    return found


async def lease(room):
    found = await room.client.get("Lease", "modelwright-system", "modelwright-operator")
    return (found or {}).get("spec", {})


def held_by(room, *identities):
    async def check():
        return (await lease(room)).get("holderIdentity") in identities

    return check


def job_there(room, name):
    async def check():
        return await room.live("Job", name)

    return check


async def make_model(room, name):
    document = builders.model_object(name, room.namespace)
    metadata = {"name": name, "namespace": room.namespace}
    await room.client.create({**document, "metadata": metadata, "status": {}})


async def test_watch_lists_and_writes_work_on_a_real_server(room):
    await make_model(room, "before")
    async with process(room, "worker"):
        await eventually(job_there(room, "before"), "the Job of a model that was there")
        await make_model(room, "after")
        await eventually(job_there(room, "after"), "the Job of a model that came")


async def test_of_two_that_start_together_one_leads_and_the_other_follows(room):
    async with process(room, "one") as one, process(room, "two") as two:
        await eventually(held_by(room, "one", "two"), "a leader")
        leader, standby = (
            (one, two) if (await lease(room))["holderIdentity"] == "one" else (two, one)
        )
        name = "two" if leader is one else "one"
        transitions = (await lease(room)).get("leaseTransitions", 0)
        leader.send_signal(signal.SIGTERM)
        await eventually(held_by(room, name), "the standby leading")
        assert await asyncio.wait_for(leader.wait(), DEADLINE_SECONDS) == 0
        assert (await lease(room))["leaseTransitions"] == transitions + 1
        await make_model(room, "handed-over")
        await eventually(job_there(room, "handed-over"), "the Job by the new leader")
        assert standby.returncode is None


async def test_killed_leader_is_followed_after_its_lease_ran_out(room):
    async with process(room, "doomed") as doomed:
        await eventually(held_by(room, "doomed"), "the first leading")
        doomed.kill()
        async with process(room, "heir"):
            await eventually(held_by(room, "heir"), "the heir leading")


async def test_frozen_leader_wakes_up_fenced(room):
    async with process(room, "zombie") as zombie:
        await eventually(held_by(room, "zombie"), "the zombie leading")
        await make_model(room, "early")
        await eventually(job_there(room, "early"), "the Job by the zombie")
        zombie.send_signal(signal.SIGSTOP)
        async with process(room, "heir"):
            await eventually(held_by(room, "heir"), "the heir leading")
            await make_model(room, "late")
            await eventually(job_there(room, "late"), "the Job by the heir")
            zombie.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(zombie.wait(), DEADLINE_SECONDS) == 1
            log = (await zombie.stderr.read()).decode()
    assert "leadership lost" in log
    assert "made job=early" in log
    assert "made job=late" not in log
