from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelwright_operator.apply.events import EventRecorder, event_name
from modelwright_operator.kube.faults import Forbidden
from modelwright_operator.plan import names
from modelwright_operator.plan.types import EventNote, ObjectRef
from tests.unit.apply.fake_api import FakeApi

ABOUT = ObjectRef(names.API_VERSION, "InferenceModel", "ns", "m", "u1")
NOTE = EventNote("Warning", "SourceDenied", "the registry says no", ABOUT)


class Room:
    def __init__(self):
        self.api = FakeApi()
        self.seconds = 0.0
        self.recorder = EventRecorder(
            self.api,
            instance="pod-1",
            now=lambda: datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC),
            monotonic=lambda: self.seconds,
        )

    def events(self):
        return [obj for (kind, _, _), obj in self.api.objects.items() if kind == "Event"]


@pytest.fixture
def room():
    return Room()


async def test_event_says_who_what_and_when(room):
    await room.recorder.record([NOTE])
    (event,) = room.events()
    assert event["involvedObject"] == {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceModel",
        "name": "m",
        "namespace": "ns",
        "uid": "u1",
    }
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "SourceDenied",
        "the registry says no",
    )
    assert event["lastTimestamp"] == "2026-01-01T12:00:00Z"
    assert event["metadata"]["namespace"] == "ns"


async def test_event_about_a_cluster_scoped_object_lives_in_default(room):
    about = ObjectRef(names.API_VERSION, "HardwareProfile", None, "avx2", "u2")
    await room.recorder.record([replace(NOTE, about=about)])
    (event,) = room.events()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


async def test_same_event_within_a_minute_is_not_repeated(room):
    await room.recorder.record([NOTE, NOTE])
    room.seconds = 59
    await room.recorder.record([NOTE])
    assert len(room.api.log) == 1


async def test_same_event_later_is_counted(room):
    for room.seconds in (0, 100, 200):
        await room.recorder.record([NOTE])
    (event,) = room.events()
    assert event["count"] == 3


async def test_event_of_an_earlier_process_is_counted_too(room):
    await room.recorder.record([NOTE])
    fresh = Room()
    fresh.api = room.api
    fresh.recorder._client = room.api
    await fresh.recorder.record([NOTE])
    assert [event["count"] for event in room.events()] == [2]


async def test_flood_about_one_object_is_cut_and_others_are_heard(room):
    await room.recorder.record(replace(NOTE, message=str(number)) for number in range(50))
    assert len(room.events()) == 10
    other = replace(NOTE, about=replace(ABOUT, uid="u9"))
    await room.recorder.record([other])
    assert len(room.events()) == 11
    room.seconds = 61
    await room.recorder.record(replace(NOTE, message=f"later {number}") for number in range(50))
    assert len(room.events()) == 13


async def test_event_that_cannot_be_written_holds_nothing_up(room):
    room.api.fail("create", Forbidden("no"))
    await room.recorder.record([NOTE, replace(NOTE, reason="Other")])
    assert [event["reason"] for event in room.events()] == ["Other"]


async def test_message_is_cut_to_what_an_event_holds(room):
    await room.recorder.record([replace(NOTE, message="x" * 5000)])
    (event,) = room.events()
    assert len(event["message"]) == 1024


def test_name_is_the_same_for_the_same_and_fits():
    assert event_name(NOTE) == event_name(replace(NOTE))
    assert event_name(NOTE) != event_name(replace(NOTE, about=replace(ABOUT, uid="u2")))
    long = replace(NOTE, about=replace(ABOUT, name="m." * 126 + "m"))
    assert len(event_name(long)) <= 253
    assert ".." not in event_name(long)
