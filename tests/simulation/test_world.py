"""The modelled cluster does what real ones do, and its watchdogs bite."""

from __future__ import annotations

from typing import Any

import pytest

from modelwright_operator.kube.faults import Conflict, Gone, Invalid
from modelwright_operator.plan.types import ObjectRef
from tests.simulation.test_scenarios import DEADLY, first_model, serve
from tests.simulation.world import World
from tests.support import builders as a
from tests.support.memory_cluster import MemoryCluster

REF = ObjectRef("apps/v1", "Deployment", "vision", "digits-default")


def deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "vision", "labels": {"a": "1"}},
        "spec": {"selector": {"matchLabels": {"a": "1"}}, **spec},
    }


def test_a_field_that_is_not_said_any_more_goes_back_to_its_default() -> None:
    cluster = MemoryCluster()
    cluster.apply(deployment(replicas=3), "one")
    assert cluster.apply(deployment(), "one")["spec"]["replicas"] == 1


def test_a_field_somebody_else_took_over_stays() -> None:
    cluster = MemoryCluster()
    made = cluster.apply(deployment(replicas=3), "one")
    made["spec"]["replicas"] = 5
    cluster.update(made, "autoscaler", subresource="scale")
    assert cluster.apply(deployment(), "one")["spec"]["replicas"] == 5
    with pytest.raises(Conflict):
        cluster.apply(deployment(replicas=2), "one")
    assert cluster.apply(deployment(replicas=2), "one", force=True)["spec"]["replicas"] == 2


def test_an_apply_that_changes_nothing_is_no_write() -> None:
    cluster = MemoryCluster()
    first = cluster.apply(deployment(replicas=3), "one")
    writes = len(cluster.writes)
    assert cluster.apply(deployment(replicas=3), "one") == first
    assert len(cluster.writes) == writes


def test_versions_identities_and_immutable_fields_are_guarded() -> None:
    cluster = MemoryCluster()
    made = cluster.apply(deployment(), "one")
    stale = {**deployment(), "metadata": {**deployment()["metadata"], "resourceVersion": "1"}}
    with pytest.raises(Conflict):
        cluster.apply(stale, "one")
    with pytest.raises(Invalid):
        cluster.apply(deployment(selector={"matchLabels": {"a": "2"}}), "one", force=True)
    with pytest.raises(Conflict):
        cluster.delete(ObjectRef("apps/v1", "Deployment", "vision", "web", "another"), "one")
    cluster.delete(ObjectRef("apps/v1", "Deployment", "vision", "web"), "one")
    assert cluster.apply(deployment(), "one")["metadata"]["uid"] != made["metadata"]["uid"]


def test_status_is_a_part_of_its_own() -> None:
    cluster = MemoryCluster()
    model = a.model_object()
    del model["metadata"]["resourceVersion"]
    status = {**model, "status": {"observedGeneration": 1}}
    with pytest.raises(Gone):
        cluster.apply(status, "one", subresource="status")
    made = cluster.create(model)
    told = cluster.apply(status, "one", subresource="status")
    assert told["status"]["observedGeneration"] == 1
    assert told["metadata"]["generation"] == made["metadata"]["generation"]
    with pytest.raises(Invalid):
        cluster.apply({**model, "status": {"replicas": -5}}, "one", subresource="status")


def test_the_same_seed_tells_the_same_story() -> None:
    told = []
    for _ in range(2):
        world = World(7, DEADLY)
        first_model(world)
        told.append([*world.trace, *map(str, world.cluster.writes)])
    assert told[0] == told[1]
    other = World(8, DEADLY)
    first_model(other)
    assert [*other.trace, *map(str, other.cluster.writes)] != told[0]


def served(**spec: Any) -> World:
    world = World(7)
    serve(world, **spec)
    return world


def test_lost_capacity_is_seen_and_told_with_the_seed_and_the_steps() -> None:
    world = served(scaling={"minReplicas": 2})
    pod = next(p for p in world.cluster.list("Pod") if p["metadata"]["name"].startswith("digits"))
    world.cluster.delete(
        ObjectRef("v1", "Pod", "vision", pod["metadata"]["name"]), "a careless controller"
    )
    with pytest.raises(
        AssertionError, match=r"1 servers of digits answer; there were 2 before"
    ) as e:
        world.run_for(50)
    assert "seed 7" in str(e.value)
    assert "a careless controller delete Pod" in str(e.value)


def test_a_write_to_a_users_object_is_seen() -> None:
    world = served()
    model = world.model()
    assert model is not None
    model["metadata"]["labels"] = {"ours": "no"}
    world.cluster.update(model, "modelwright")
    with pytest.raises(AssertionError, match="a user's object was written"):
        world.run_for(50)


def test_a_second_live_job_is_seen() -> None:
    world = World(7)
    world.add_node("n1")
    world.apply_model()
    world.run(lambda: bool(world.cluster.list("Job")), "a Job is there", at_rest=False)
    job = world.cluster.list("Job")[0]
    meta = {"name": "another", "namespace": "vision"}
    meta |= {key: job["metadata"][key] for key in ("labels", "ownerReferences")}
    world.cluster.create({**job, "metadata": meta}, "modelwright")
    with pytest.raises(AssertionError, match="two Jobs"):
        world.run_for(50)


def test_a_child_without_an_owner_is_seen() -> None:
    world = served()
    service = world.cluster.get("Service", "vision", "digits")
    assert service is not None
    del service["metadata"]["ownerReferences"]
    world.cluster.update(service, "modelwright")
    with pytest.raises(AssertionError, match="Service digits has no owner"):
        world.run_for(50)


def test_a_status_that_goes_back_is_seen() -> None:
    world = served()
    model = world.model()
    assert model is not None
    model["status"]["observedGeneration"] = 0
    world.cluster.update(model, "modelwright", subresource="status")
    with pytest.raises(AssertionError, match="observedGeneration of digits went back"):
        world.run_for(50)


def test_servers_of_an_artifact_nobody_built_are_seen() -> None:
    world = served()
    world.hardware.registry.clear()
    world.apply_model(scaling={"minReplicas": 2})
    with pytest.raises(AssertionError, match="serves what nobody built"):
        world.run_for(50)


def test_a_chatty_reconciler_is_seen() -> None:
    world = served()

    class Chatty:
        async def reconcile(self, key: Any) -> None:
            await world._operator.client.apply(world.cluster.list("Service")[0] | {"status": {}})

    world._operator.reconcilers["Nodes"] = Chatty()
    with pytest.raises(AssertionError, match="with nothing to do sent"):
        world.settle_and_stay_quiet(passes=1)
