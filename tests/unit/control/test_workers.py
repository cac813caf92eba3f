import asyncio
import logging

import pytest

from modelwright_operator.control.queue import WorkQueue
from modelwright_operator.control.workers import PASS_SECONDS, Workers
from modelwright_operator.kube.faults import Unreachable
from modelwright_operator.plan.types import Key
from tests.unit.control.virtual_time import now, run

KEY = Key("InferenceModel", "ns", "m")
OTHER = Key("InferenceModel", "ns", "n")


class Script:
    """A reconciler that does what its script says, pass by pass."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.passes = []

    async def reconcile(self, key):
        self.passes.append((key.name, round(now(), 1)))
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        return step


class Room:
    def __init__(self, *steps, count=1, on_crash=None):
        self.queue = WorkQueue(jitter=lambda: 0.0)
        self.script = Script(*steps)
        self.results = []
        self.crashes = []

        async def crash(key, error):
            self.crashes.append((key.name, str(error)))

        self.workers = Workers(
            self.queue,
            {"InferenceModel": self.script},
            count=count,
            on_pass=lambda kind, result, _seconds: self.results.append((kind, result)),
            on_crash=on_crash or crash,
        )

    async def work_for(self, seconds):
        task = asyncio.create_task(self.workers.run())
        await asyncio.sleep(seconds)
        self.workers.stop()
        await task


def test_pass_says_when_to_look_again():
    async def scenario():
        room = Room(5.0, None)
        room.queue.add(KEY)
        await room.work_for(100)
        assert room.script.passes == [("m", 0.0), ("m", 5.0)]
        assert room.results == [("InferenceModel", "Done")] * 2

    run(scenario())


def test_fault_is_counted_by_its_kind_and_tried_again():
    async def scenario():
        room = Room(Unreachable("down"), Unreachable("down", retry_after_seconds=9), None)
        room.queue.add(KEY)
        await room.work_for(100)
        assert room.script.passes == [("m", 0.0), ("m", 1.0), ("m", 10.0)]
        assert [result for _, result in room.results] == ["Unreachable", "Unreachable", "Done"]
        assert room.crashes == []

    run(scenario())


def test_crash_is_told_and_the_worker_lives_on(caplog):
    async def scenario():
        room = Room(ValueError("surprise"), None, None)
        room.queue.add(KEY)
        room.queue.add(OTHER)
        with caplog.at_level(logging.ERROR):
            await room.work_for(100)
        assert room.crashes == [("m", "surprise")]
        assert [name for name, _ in room.script.passes] == ["m", "n", "m"]
        assert [result for _, result in room.results] == ["InternalError", "Done", "Done"]

    run(scenario())
    assert "pass crashed" in caplog.text


def test_crash_while_telling_of_a_crash_changes_nothing():
    async def refuse(_key, _error):
        raise RuntimeError("status not written")

    async def scenario():
        room = Room(ValueError("surprise"), None, on_crash=refuse)
        room.queue.add(KEY)
        await room.work_for(100)
        assert len(room.script.passes) == 2

    run(scenario())


def test_pass_that_hangs_is_ended():
    async def scenario():
        room = Room("hang", None)
        room.queue.add(KEY)
        await room.work_for(PASS_SECONDS + 50)
        assert [result for _, result in room.results] == ["InternalError", "Done"]

    run(scenario())


def test_stop_lets_a_running_pass_come_to_its_end():
    async def scenario():
        room = Room()
        finished = []

        class Slow:
            async def reconcile(self, key):
                await asyncio.sleep(10)
                finished.append(key.name)

        room.workers._reconcilers = {"InferenceModel": Slow()}
        room.queue.add(KEY)
        await room.work_for(1)
        assert finished == ["m"]

    run(scenario())


def test_cancelling_is_not_swallowed():
    async def scenario():
        room = Room("hang")
        room.queue.add(KEY)
        task = asyncio.create_task(room.workers.run())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())
