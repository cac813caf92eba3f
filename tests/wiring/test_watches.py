"""The watcher against an API server in trouble: it dies, and lives on."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from modelwright_operator.control.watches import Watcher
from tests.wiring.conftest import WATCHED


class Seen:
    """What the watcher delivered."""

    def __init__(self):
        self.events = []
        self.restarts = []
        self.threads = set()

    def take(self, kind, obj):
        self.events.append((kind, obj["kind"], obj["metadata"]["name"]))
        self.threads.add(asyncio.current_task() is None)

    def has(self, name):
        return any(entry[2] == name for entry in self.events)


@asynccontextmanager
async def watching(config, *, silence=150.0, closed=30.0, namespaces=()):
    seen = Seen()
    watcher = Watcher(
        config,
        WATCHED,
        namespaces=namespaces,
        on_event=seen.take,
        on_restart=seen.restarts.append,
        silence_limit_seconds=silence,
        closed_limit_seconds=closed,
    )
    task = asyncio.create_task(watcher.run())
    try:
        yield seen, watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def both_streams(server):
    return lambda: server.open_streams("InferenceModel") and server.open_streams("Job")


async def test_existing_and_new_objects_are_delivered(server, config, eventually):
    server.put("InferenceModel", "old")
    async with watching(config) as (seen, watcher):
        await eventually(lambda: seen.has("old"))
        await eventually(both_streams(server))
        server.put("Job", "new")
        server.put("InferenceModel", "old", spec={"x": 1})
        server.remove("Job", "new")
        await eventually(lambda: ("DELETED", "Job", "new") in seen.events)
        assert (None, "InferenceModel", "old") in seen.events
        assert ("ADDED", "Job", "new") in seen.events
        await eventually(lambda: ("MODIFIED", "InferenceModel", "old") in seen.events)
        assert max(watcher.beats.silence_seconds().values()) < 60
    assert seen.restarts == []
    assert server.writes() == []


async def test_children_are_narrowed_on_the_server(server, config, eventually):
    selectors = []

    def look(request):
        if request.path.endswith("/jobs"):
            selectors.append(request.query.get("labelSelector"))
        return

    server.fault = look
    async with watching(config):
        await eventually(both_streams(server))
    assert set(selectors) == {"app.kubernetes.io/managed-by=modelwright"}
    assert len(selectors) >= 2


async def test_installation_for_some_namespaces_watches_only_those(server, config, eventually):
    async with watching(config, namespaces=("one", "two")):
        await eventually(lambda: server.open_streams("Job") == 2)
    paths = {path for _, path in server.requests if path.endswith("/jobs")}
    assert paths == {f"/apis/batch/v1/namespaces/{name}/jobs" for name in ("one", "two")}


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd"}}\n',
        b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}\n',
        b"<html>bad gateway</html>\n",
        b'{"type": "MODIFIED", "object": {"meta\n',
    ],
    ids=["error 500", "error 410", "garbage", "cut line"],
)
async def test_trouble_in_a_stream_is_survived(server, config, eventually, line):
    async with watching(config) as (seen, _):
        await eventually(both_streams(server))
        server.say("InferenceModel", line)
        server.put("InferenceModel", "after")
        await eventually(lambda: seen.has("after"))


@pytest.mark.parametrize("code", [401, 403, 410, 429, 500, 503])
async def test_trouble_at_connecting_is_survived(server, config, eventually, code):
    refused = []

    def refuse(request):
        if len(refused) < 3 and request.path.endswith("/inferencemodels"):
            refused.append(request)
            return web.json_response({"message": "no", "code": code}, status=code)
        return None

    server.put("InferenceModel", "there")
    server.fault = refuse
    async with watching(config) as (seen, _):
        await eventually(lambda: seen.has("there"))
    assert len(refused) == 3


async def test_cut_connections_are_made_again(server, config, eventually):
    async with watching(config) as (seen, _):
        for number in range(3):
            await eventually(both_streams(server))
            server.cut_streams()
            server.put("InferenceModel", f"m{number}")
            await eventually(lambda number=number: seen.has(f"m{number}"))
        assert seen.restarts == []


async def test_silent_stream_makes_the_watcher_start_again(server, config, eventually):
    async with watching(config, silence=3.0, closed=3.0) as (seen, _):
        await eventually(both_streams(server))
        server.hang.clear()
        await eventually(lambda: "silent" in seen.restarts)
        server.hang.set()
        await eventually(both_streams(server))
        server.put("InferenceModel", "after")
        await eventually(lambda: seen.has("after"))


async def test_stopping_ends_the_thread_and_the_streams(server, config, eventually):
    async with watching(config):
        await eventually(both_streams(server))
    await eventually(lambda: not server.open_streams("Job"))
    assert not server.open_streams("InferenceModel")
