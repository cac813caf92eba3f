import copy

import pytest

from modelwright_operator.apply.status import StatusWriter
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.faults import Conflict, Forbidden
from modelwright_operator.plan import names
from modelwright_operator.plan.types import ObjectRef
from tests.unit.apply.fake_api import FakeApi

REF = ObjectRef(names.API_VERSION, "InferenceModel", "ns", "m", "u1")


def model(uid="u1", **status):
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceModel",
        "metadata": {"name": "m", "namespace": "ns", "uid": uid, "generation": 2},
        "spec": {"x": 1},
        "status": status or {"observedGeneration": -1},
    }


@pytest.fixture
def room():
    api, store = FakeApi(model()), Store()
    store.put(copy.deepcopy(api.objects["InferenceModel", "ns", "m"]))
    return api, store, StatusWriter(api, store)


STATUS = {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}


async def test_status_is_written_once_and_only_on_the_status(room):
    api, store, writer = room
    assert await writer.write(REF, STATUS)
    for _ in range(20):
        assert not await writer.write(REF, copy.deepcopy(STATUS))
    assert api.log == [("apply/status", "InferenceModel", "m", True)]
    live = api.objects["InferenceModel", "ns", "m"]
    assert live["status"] == STATUS
    assert live["spec"] == {"x": 1}
    assert live["metadata"]["generation"] == 2
    assert store.get("InferenceModel", "ns", "m")["status"] == STATUS


async def test_field_that_is_said_no_more_is_taken_back(room):
    _, _, writer = room
    await writer.write(REF, {**STATUS, "url": "http://x"})
    assert await writer.write(REF, STATUS)


async def test_generation_is_never_taken_back(room):
    api, _, writer = room
    await writer.write(REF, {"observedGeneration": 5})
    api.log.clear()
    assert not await writer.write(REF, {"observedGeneration": 4})
    assert api.log == []


async def test_another_incarnation_is_not_written_to(room):
    api, _, writer = room
    other = ObjectRef(REF.api_version, REF.kind, REF.namespace, REF.name, "u0")
    assert not await writer.write(other, STATUS)
    api._store({**model(uid="u2")})
    assert not await writer.write(REF, STATUS)
    assert api.objects["InferenceModel", "ns", "m"]["status"] == {"observedGeneration": -1}


async def test_object_that_is_gone_needs_no_status(room):
    api, _, writer = room
    api.objects.clear()
    assert not await writer.write(REF, STATUS)


async def test_lost_race_is_run_again(room):
    api, _, writer = room
    api.fail("apply/status", Conflict("busy", code=409))
    assert await writer.write(REF, STATUS)


async def test_edit_meanwhile_is_no_reason_to_lose_a_status(room):
    api, store, writer = room
    api._store({**api.objects["InferenceModel", "ns", "m"], "spec": {"x": 2}})
    assert await writer.write(REF, STATUS)
    assert store.get("InferenceModel", "ns", "m")["spec"] == {"x": 2}
    assert [entry[0] for entry in api.log] == ["apply/status", "get", "apply/status"]


async def test_race_that_does_not_end_is_told(room):
    api, _, writer = room
    api.fail("apply/status", *[Conflict("busy", code=409)] * 9)
    with pytest.raises(Conflict):
        await writer.write(REF, STATUS)
    assert len(api.writes()) == 3


async def test_refusal_is_told(room):
    api, _, writer = room
    api.fail("apply/status", Forbidden("no"))
    with pytest.raises(Forbidden):
        await writer.write(REF, STATUS)
