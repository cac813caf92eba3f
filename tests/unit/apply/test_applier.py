import copy

import pytest

from modelwright_operator.apply.applier import Applier
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.faults import Conflict, Forbidden, Gone, Invalid, Unreachable
from modelwright_operator.plan import names
from modelwright_operator.plan.types import ObjectRef, Plan
from tests.unit.apply.fake_api import FakeApi

OURS = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
API_VERSIONS = {"Deployment": "apps/v1", "Job": "batch/v1"}


def manifest(kind="Deployment", name="d", **spec):
    return {
        "apiVersion": API_VERSIONS.get(kind, "v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "labels": dict(OURS),
            "ownerReferences": [{"uid": "model-1", "controller": True}],
        },
        "spec": spec or {"replicas": 2},
    }


def reference(kind="Deployment", name="d", uid=None):
    return ObjectRef(API_VERSIONS.get(kind, "v1"), kind, "ns", name, uid)


class Room:
    """An applier with its store and its server."""

    def __init__(self, *objects):
        self.api = FakeApi(*objects)
        self.store = Store()
        self.applier = Applier(self.api, self.store)

    async def apply(self, *manifests):
        return await self.applier.execute(Plan(apply=manifests))

    async def delete(self, *refs):
        return await self.applier.execute(Plan(delete=refs))


async def test_new_object_is_looked_for_then_applied_without_force():
    room = Room()
    applied = await room.apply(manifest())
    assert room.api.log == [
        ("get", "Deployment", "d"),
        ("apply", "Deployment", "d", False),
    ]
    assert applied.faults == ()
    assert applied.results[0]["metadata"]["uid"]
    assert room.store.get("Deployment", "ns", "d")


async def test_what_is_in_force_is_not_sent_again():
    room = Room()
    await room.apply(manifest())
    room.api.log.clear()
    for _ in range(100):
        applied = await room.apply(copy.deepcopy(manifest()))
    assert room.api.log == []
    assert applied.results[0]["spec"] == {"replicas": 2}


async def test_drift_is_taken_back_by_force():
    room = Room()
    await room.apply(manifest())
    live = copy.deepcopy(room.api.objects["Deployment", "ns", "d"])
    live["spec"]["replicas"] = 9
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:replicas")
    room.store.put(room.api._store(live))
    room.api.log.clear()
    await room.apply(manifest())
    assert room.api.log == [("apply", "Deployment", "d", True)]
    assert room.api.objects["Deployment", "ns", "d"]["spec"]["replicas"] == 2


async def test_kinds_are_applied_in_order_and_deleted_in_the_opposite():
    room = Room()
    kinds = ["Deployment", "Service", "ServiceAccount"]
    await room.apply(*(manifest(kind, kind.lower()) for kind in kinds))
    assert [entry[1] for entry in room.api.writes()] == ["ServiceAccount", "Service", "Deployment"]
    room.api.log.clear()
    await room.delete(*(reference(kind, kind.lower()) for kind in reversed(kinds)))
    assert [entry[1] for entry in room.api.writes()] == ["Deployment", "Service", "ServiceAccount"]


async def test_object_of_somebody_else_is_left_alone():
    foreign = manifest(replicas=1)
    foreign["metadata"] = {"name": "d", "namespace": "ns", "uid": "theirs"}
    room = Room(foreign)
    applied = await room.apply(manifest())
    assert room.api.writes() == []
    assert applied.faults[0].kind == "Conflict"
    assert "exists and is not managed by Modelwright; rename or delete it" in (
        applied.faults[0].message
    )
    assert room.store.get("Deployment", "ns", "d") is None


async def test_child_that_lost_its_label_is_known_by_its_owner():
    stripped = manifest(replicas=1)
    stripped["metadata"]["uid"] = "u"
    del stripped["metadata"]["labels"]
    room = Room(stripped)
    applied = await room.apply(manifest())
    assert applied.faults == ()
    assert room.api.objects["Deployment", "ns", "d"]["metadata"]["labels"] == OURS


async def test_object_on_its_way_out_is_waited_for():
    leaving = manifest()
    leaving["metadata"] |= {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    room = Room(leaving)
    applied = await room.apply(manifest())
    assert room.api.writes() == []
    assert "is being deleted" in applied.faults[0].message


async def test_lost_race_is_run_again_on_what_is_there_now():
    room = Room()
    room.api.fail("apply", Conflict("busy", code=409), Conflict("busy", code=409))
    applied = await room.apply(manifest())
    assert applied.faults == ()
    assert len(room.api.writes()) == 3


async def test_races_are_not_run_for_ever():
    room = Room()
    room.api.fail("apply", *[Conflict("busy", code=409)] * 9)
    applied = await room.apply(manifest())
    assert [fault.kind for fault in applied.faults] == ["Conflict"]
    assert len(room.api.writes()) == 3


async def test_plan_pinned_to_a_version_is_made_anew_not_run_again():
    room = Room()
    await room.apply(manifest())
    room.api._store(room.api.objects["Deployment", "ns", "d"])
    pinned = manifest(replicas=4)
    pinned["metadata"]["resourceVersion"] = "1"
    room.api.log.clear()
    applied = await room.apply(pinned)
    assert [fault.kind for fault in applied.faults] == ["Conflict"]
    assert len(room.api.writes()) == 1
    seen = room.store.get("Deployment", "ns", "d")["metadata"]["resourceVersion"]
    pinned["metadata"]["resourceVersion"] = seen
    assert (await room.apply(pinned)).faults == ()


@pytest.mark.parametrize("fault", [Unreachable, Forbidden, Invalid, Gone])
async def test_fault_is_reported_and_the_rest_goes_on(fault):
    room = Room()
    room.api.fail("apply", fault("because"))
    applied = await room.apply(manifest("ServiceAccount", "first"), manifest("Job", "second"))
    assert [(f.kind, f.ref.name, f.message) for f in applied.faults] == [
        (fault.__name__, "first", "because")
    ]
    assert [result["metadata"]["name"] for result in applied.results] == ["second"]


async def test_answer_lost_after_the_commit_ends_the_same():
    room = Room()
    await room.api.apply(manifest())
    room.api.log.clear()
    assert (await room.apply(manifest())).faults == ()
    assert room.api.log == [("get", "Deployment", "d")]


async def test_object_the_cluster_changes_back_is_not_fought_over():
    room = Room()

    def webhook(obj):
        obj["spec"]["replicas"] = 5

    room.api.rewrite = webhook
    for _ in range(10):
        await room.apply(manifest())
    assert len(room.api.writes()) == 1
    await room.apply(manifest(replicas=3))
    assert len(room.api.writes()) == 2


async def test_delete_means_the_incarnation_that_was_seen():
    room = Room()
    await room.apply(manifest())
    assert (await room.delete(reference(uid="another"))).faults == ()
    assert ("Deployment", "ns", "d") in room.api.objects
    assert (await room.delete(reference())).faults == ()
    assert room.api.objects == {}
    assert room.store.get("Deployment", "ns", "d") is None


async def test_delete_of_what_is_gone_or_going_sends_nothing():
    room = Room()
    await room.delete(reference())
    assert room.api.writes() == []
    kept = manifest()
    kept["metadata"]["finalizers"] = ["f"]
    await room.apply(kept)
    await room.delete(reference())
    room.api.log.clear()
    await room.delete(reference())
    assert room.api.log == []


async def test_delete_of_a_changed_object_is_refused_once_then_works():
    room = Room()
    await room.apply(manifest())
    room.api._store(room.api.objects["Deployment", "ns", "d"])
    assert [fault.kind for fault in (await room.delete(reference())).faults] == ["Conflict"]
    assert (await room.delete(reference())).faults == ()
    assert room.api.objects == {}


async def test_delete_that_somebody_else_did_first_is_done():
    room = Room()
    await room.apply(manifest())
    room.api.objects.clear()
    assert (await room.delete(reference())).faults == ()
    assert room.store.get("Deployment", "ns", "d") is None
