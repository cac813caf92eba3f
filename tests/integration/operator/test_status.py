"""Status and Events against a real API server."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from modelwright_operator.apply.events import EventRecorder
from modelwright_operator.apply.status import StatusWriter
from modelwright_operator.plan import names
from modelwright_operator.plan.types import EventNote, ObjectRef
from tests.support import builders

pytestmark = pytest.mark.integration


def condition(status, message="m"):
    return {
        "type": "Ready",
        "status": status,
        "reason": "Pending",
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def make_model(room, name="digits"):
    document = builders.model_object(name, room.namespace)
    manifest = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {"name": name, "namespace": room.namespace},
        "spec": document["spec"],
    }
    live = await room.client.create(manifest)
    room.store.put(live)
    room.writes()
    metadata = live["metadata"]
    return ObjectRef(names.API_VERSION, "InferenceModel", room.namespace, name, metadata["uid"])


async def test_status_is_written_once_and_touches_nothing_else(room):
    ref = await make_model(room)
    before = await room.live("InferenceModel", "digits")
    writer = StatusWriter(room.client, room.store)
    status = {"observedGeneration": 1, "conditions": [condition("False")]}
    assert await writer.write(ref, status)
    for _ in range(100):
        assert not await writer.write(ref, status)
    assert room.writes() == ["patch inferencemodels/status"]
    after = await room.live("InferenceModel", "digits")
    assert after["status"] == status
    assert after["spec"] == before["spec"]
    moving = ("resourceVersion", "managedFields")
    kept = [{k: v for k, v in o["metadata"].items() if k not in moving} for o in (before, after)]
    assert kept[0] == kept[1]


async def test_condition_that_is_said_no_more_goes(room):
    ref = await make_model(room)
    writer = StatusWriter(room.client, room.store)
    stalled = {**condition("True"), "type": "Stalled"}
    both = {"observedGeneration": 1, "conditions": [condition("False"), stalled]}
    await writer.write(ref, both)
    await writer.write(ref, {"observedGeneration": 1, "conditions": [condition("True")]})
    live = await room.live("InferenceModel", "digits")
    assert live["status"]["conditions"] == [condition("True")]


async def test_recreated_object_does_not_get_its_predecessors_status(room):
    ref = await make_model(room)
    await room.client.delete(ref)
    await room.client.create(
        {
            "apiVersion": names.API_VERSION,
            "kind": "InferenceModel",
            "metadata": {"name": "digits", "namespace": room.namespace},
            "spec": builders.spec_document(),
        }
    )
    writer = StatusWriter(room.client, room.store)
    status = {"observedGeneration": 1, "conditions": [condition("True")]}
    assert not await writer.write(ref, status)
    live = await room.live("InferenceModel", "digits")
    assert live["status"] == {"observedGeneration": -1}


async def test_events_are_shown_by_kubectl_describe_and_counted(room):
    ref = await make_model(room)
    clock = [0.0]
    recorder = EventRecorder(
        room.client,
        instance="operator-1",
        now=lambda: datetime.fromtimestamp(time.time(), UTC),
        monotonic=lambda: clock[0],
    )
    note = EventNote("Warning", "RegistryUnreachable", "registry.example did not answer", ref)
    await recorder.record([note])
    clock[0] = 120.0
    await recorder.record([note])
    shown = room.cluster.kubectl("describe", "inferencemodel", "digits", "-n", room.namespace)
    (line,) = (line for line in shown.splitlines() if "RegistryUnreachable" in line)
    assert "Warning" in line
    assert "(x2 over" in line
    assert "modelwright-operator" in line
    assert line.endswith("registry.example did not answer")
