"""The whole control room on the faulty API server, with a toy instead of the planner."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from modelwright_operator.control.main import Operator
from tests.wiring.toy import LABELS, Assembly, installation

ROOT = Path(__file__).parents[2]


class Room:
    """An operator inside the test's own loop."""

    def __init__(self, server, **settings):
        self.exits = []
        self.assembly = Assembly()
        made = installation(server.url, **settings)
        self.operator = Operator(made, self.assembly, end_process=self.exits.append)
        self.toy = self.assembly.toy
        self.store = self.toy.context.store

    def is_primed(self):
        return self.operator._is_primed

    def is_idle(self):
        phases = {entry.phase.name for entry in self.operator._queue._entries.values()}
        return phases == {"IDLE"}


@asynccontextmanager
async def running(server, **settings):
    room = Room(server, **settings)
    task = asyncio.create_task(room.operator.run())
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def jobs(server):
    return sorted(name for kind, _, name in server.objects if kind == "Job")


async def test_event_wakes_the_key_it_concerns_and_no_other(server, eventually):
    server.put("InferenceModel", "one")
    server.put("InferenceModel", "two")
    async with running(server, resyncSeconds=3600) as room:
        await eventually(lambda: jobs(server) == ["one", "two"])
        await eventually(lambda: server.open_streams("InferenceModel"))
        await eventually(lambda: server.open_streams("Job"))
        await eventually(room.is_idle)
        before = len(room.toy.passes)
        server.put("InferenceModel", "two", spec={"changed": True})
        await eventually(lambda: "two" in room.toy.passes[before:])
        assert "one" not in room.toy.passes[before:]


async def test_change_of_a_child_wakes_its_owner(server, eventually):
    server.put("InferenceModel", "one")
    async with running(server) as room:
        await eventually(lambda: jobs(server) == ["one"])
        await eventually(lambda: server.open_streams("Job"))
        server.remove("Job", "one")
        await eventually(lambda: jobs(server) == ["one"])
        assert set(room.toy.passes) == {"one"}


async def test_quiet_operator_writes_nothing(server, eventually):
    server.put("InferenceModel", "one")
    async with running(server) as room:
        await eventually(lambda: jobs(server) == ["one"])
        await eventually(lambda: server.open_streams("Job"))
        written, passes = len(server.writes()), len(room.toy.passes)
        # Two resyncs and the passes they bring.
        await eventually(lambda: len(room.toy.passes) >= passes + 2)
        assert len(server.writes()) == written


async def test_lost_events_are_made_up_for_by_the_resync(server, eventually):
    server.put("InferenceModel", "there")
    async with running(server) as room:
        await eventually(lambda: jobs(server) == ["there"])
        await eventually(lambda: server.open_streams("InferenceModel"))
        server.put("InferenceModel", "unseen", silent=True)
        server.remove("InferenceModel", "there", silent=True)
        await eventually(lambda: "unseen" in jobs(server))
        await eventually(lambda: room.store.get("InferenceModel", "ns", "there") is None)


async def test_nothing_is_decided_before_every_kind_was_listed(server, eventually):
    """The Job is there: a pass on half a picture would make it again."""
    server.put("InferenceModel", "one")
    server.put("Job", "one", labels=LABELS)
    refused = []

    def refuse(request):
        if request.path.endswith("/jobs") and len(refused) < 3:
            refused.append(request)
            return web.json_response({"message": "etcd is away"}, status=503)
        return None

    server.fault = refuse
    async with running(server) as room:
        await eventually(lambda: room.toy.passes)
        assert len(refused) == 3
        assert server.writes() == []


async def test_server_that_is_away_for_a_while_is_waited_for(server, eventually):
    server.put("InferenceModel", "one")
    async with running(server) as room:
        await eventually(lambda: jobs(server) == ["one"])

        def only_leases(request):
            if "/leases" in request.path:
                return None
            return web.json_response({"message": "away"}, status=503)

        server.fault = only_leases
        server.cut_streams()
        server.put("InferenceModel", "two", silent=True)
        await eventually(lambda: len(room.store.list("InferenceModel")) == 1)
        server.fault = lambda _request: None
        await eventually(lambda: "two" in jobs(server))
    assert room.exits == []


async def test_lost_lease_ends_the_process_and_all_writing(server, eventually):
    async with running(server) as room:
        await eventually(room.is_primed)
        await eventually(lambda: server.open_streams("InferenceModel"))
        lease = server.objects["Lease", "modelwright-system", "modelwright-operator"]
        lease["spec"]["holderIdentity"] = "thief"
        server._store(lease, "MODIFIED")
        await eventually(lambda: room.exits == [1])
        await eventually(lambda: not room.operator._elector.is_leader())
        server.put("InferenceModel", "late")
        # The second pass comes because the first one's write was refused by the fence.
        await eventually(lambda: len(room.toy.passes) >= 2)
        assert server.writes() == []


async def test_hanging_server_ends_the_process_at_the_deadline(server, eventually):
    async with running(server) as room:
        await eventually(room.is_primed)
        server.hang.clear()
        await eventually(lambda: room.exits == [1])
        assert not room.operator._elector.is_leader()


async def test_standby_serves_health_and_touches_nothing(server, eventually):
    async with running(server, identity="first") as first:
        await eventually(first.is_primed)
        port = free_port()
        async with running(server, identity="second", health_port=port) as second:
            async with httpx.AsyncClient() as http:
                for path in ("healthz", "readyz"):
                    answer = await ask(http, f"http://127.0.0.1:{port}/{path}", eventually)
                    assert (answer.status_code, answer.text) == (200, "ok\n")
            assert not second.is_primed()
            server.put("InferenceModel", "one")
            await eventually(lambda: jobs(server) == ["one"])
            assert second.toy.passes == []


async def test_probe_says_what_is_wrong_with_the_watches(server, eventually):
    port = free_port()
    async with running(server, health_port=port) as room:
        await eventually(room.is_primed)
        beats = room.operator._watcher.beats
        beats._seen = dict.fromkeys(beats._seen, -1000.0 + beats._clock())
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 503
        assert "watches silent: InferenceModel" in answer.text


async def ask(http, url, eventually):
    """Ask until somebody listens."""
    answers = []

    async def once():
        try:
            answers.append(await http.get(url))
        except httpx.TransportError:
            return

    async def keep_asking():
        while not answers:
            await once()
            await asyncio.sleep(0.05)

    await asyncio.wait_for(keep_asking(), 60)
    return answers[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def process(server, identity, *, pass_seconds=0.0):
    """The toy as a process of its own."""
    health, metrics = free_port(), free_port()
    arguments = [server.url, str(health), str(metrics), identity, str(pass_seconds)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.wiring.toy",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    child.metrics_port = metrics
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def resident_kibibytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1])


def holder(server):
    lease = server.objects.get(("Lease", "modelwright-system", "modelwright-operator"))
    return lease["spec"]["holderIdentity"] if lease else None


async def test_sigterm_finishes_the_pass_releases_the_lease_and_exits_well(server, eventually):
    server.put("InferenceModel", "one")
    async with process(server, "graceful", pass_seconds=2.0) as child:
        await eventually(lambda: holder(server) == "graceful")
        await eventually(lambda: server.open_streams("Job"))
        server.put("InferenceModel", "two")
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 60) == 0
        log = (await child.stderr.read()).decode()
    assert "lease released" in log
    assert "passes are cut short" not in log
    assert holder(server) == ""
    # The pass that ran came to its write.
    assert "one" in jobs(server)


async def test_standby_takes_over_at_once_when_the_leader_leaves(server, eventually):
    async with process(server, "one") as first:
        await eventually(lambda: holder(server) == "one")
        async with process(server, "two"):
            server.put("InferenceModel", "a")
            await eventually(lambda: jobs(server) == ["a"])
            first.send_signal(signal.SIGTERM)
            await eventually(lambda: holder(server) == "two")
            server.put("InferenceModel", "b")
            await eventually(lambda: jobs(server) == ["a", "b"])


async def test_frozen_leader_writes_nothing_when_it_wakes_up(server, eventually):
    async with process(server, "zombie") as first:
        await eventually(lambda: holder(server) == "zombie")
        await eventually(lambda: server.open_streams("Job"))
        first.send_signal(signal.SIGSTOP)
        async with process(server, "heir"):
            await eventually(lambda: holder(server) == "heir")
            server.put("InferenceModel", "a")
            await eventually(lambda: jobs(server) == ["a"])
            written = len(server.writes())
            first.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(first.wait(), 60) == 1
            assert len(server.writes()) == written
            log = (await first.stderr.read()).decode()
    assert "leadership lost" in log


async def test_memory_of_the_control_room_stays_small(server, eventually):
    async with process(server, "small") as child:
        await eventually(lambda: server.open_streams("Job"))
        kibibytes = resident_kibibytes(child.pid)
    assert kibibytes < 120 * 1024


@pytest.mark.parametrize("name", ["reconciles_total", "api_requests_total", "watch_events_total"])
async def test_metrics_are_served(server, eventually, name):
    server.put("InferenceModel", "one")
    port = free_port()
    async with running(server, metrics_port=port):
        await eventually(lambda: jobs(server) == ["one"])
        await eventually(lambda: server.open_streams("Job"))
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert f"modelwright_operator_{name}" in answer.text
