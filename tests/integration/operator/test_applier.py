"""The applier against a real API server: what it sends, leaves alone and takes back."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from modelwright_operator.api.inference_model import ServedArtifact
from modelwright_operator.apply.ownership import is_in_force
from modelwright_operator.kube.client import ApiClient
from modelwright_operator.kube.config import StaticToken, load_kubeconfig
from modelwright_operator.kube.faults import Forbidden
from modelwright_operator.plan import names
from modelwright_operator.plan.job import build_job, build_job_account
from modelwright_operator.plan.nodes import build_probe_pod, build_profile
from modelwright_operator.plan.observed import Identity
from modelwright_operator.plan.resolve import resolve_resources, resolve_scaling
from modelwright_operator.plan.scale import Replicas, build_autoscaler, resolve_replicas
from modelwright_operator.plan.serve import (
    build_deployment,
    build_disruption_budget,
    build_service,
    build_service_account,
)
from modelwright_operator.plan.types import ObjectRef, Plan
from tests.support import builders

pytestmark = pytest.mark.integration

SETTINGS = builders.settings()
SERVED = ServedArtifact(
    profile="x86-avx2",
    build="build-1",
    repository="registry.example/m",
    digest="sha256:" + "c" * 64,
    runtime_image="registry.example/runtime@sha256:" + "2" * 64,
    variant="static-int8",
)


def model(room, **spec):
    view = builders.model(**spec)
    return replace(view, id=Identity(room.namespace, view.id.name, view.id.uid, 1))


def deployment(view, replicas):
    return build_deployment(
        view,
        [SERVED],
        pinned=None,
        resources=resolve_resources(view.spec, SETTINGS),
        replicas=replicas if isinstance(replicas, Replicas) else Replicas(replicas),
        settings=SETTINGS,
    )


def job_parts(room):
    """A build's Job and account, as the planner makes them."""
    view = model(room)
    build = builders.wanted_builds(view)[0]
    build = replace(build, id=replace(build.id, namespace=room.namespace))
    return (
        build_job_account(build),
        build_job(build, builders.profile(), 1, {"model": "source-secret"}, SETTINGS),
    )


def every_child(room):
    view = model(room, scaling={"minReplicas": 2, "maxReplicas": 5})
    scaling = resolve_scaling(view.spec)
    probe = build_probe_pod("node-1", room.namespace, SETTINGS)
    return [
        build_service_account(view),
        build_service(view),
        build_disruption_budget(view),
        deployment(view, 2),
        build_autoscaler(view, scaling),
        *job_parts(room),
        # A cluster without controllers gives a namespace no default account.
        {
            **probe,
            "spec": {**probe["spec"], "serviceAccountName": names.service_account_name("digits")},
        },
        build_profile(f"x86-{room.namespace}", "amd64", ["avx2"]),
    ]


async def test_every_child_is_applied_once_and_never_again(room):
    children = every_child(room)
    applied = await room.apply(*children)
    assert applied.faults == ()
    assert len(room.writes()) == len(children)
    for _ in range(3):
        assert (await room.apply(*copy.deepcopy(children))).faults == ()
    assert room.writes() == []


async def test_every_child_is_in_force_for_a_process_that_starts_anew(room):
    children = every_child(room)
    await room.apply(*children)
    for child in children:
        metadata = child["metadata"]
        live = await room.client.get(child["kind"], metadata.get("namespace"), metadata["name"])
        assert is_in_force(child, live), child["kind"]


async def test_defaults_and_other_managers_fields_bring_no_write(room):
    view = model(room)
    wanted = deployment(view, 2)
    await room.apply(wanted)
    name = wanted["metadata"]["name"]
    room.writes()
    await room.patch_as("kubectl", "Deployment", name, {"metadata": {"labels": {"team": "a"}}})
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
    await room.patch_as("kubectl", "Deployment", name, {"spec": {"template": template}})
    await room.patch_as("kcm", "Deployment", name, {"status": {"replicas": 2}}, "status")
    await room.refresh("Deployment", name)
    await room.apply(wanted)
    assert room.writes() == []
    live = await room.live("Deployment", name)
    assert live["metadata"]["labels"]["team"] == "a"


async def test_drift_in_our_fields_is_taken_back(room):
    view = model(room)
    wanted = build_service(view)
    await room.apply(wanted)
    name = wanted["metadata"]["name"]
    room.writes()
    await room.patch_as("kubectl", "Service", name, {"spec": {"selector": {"app": "mine"}}})
    selector = {names.MODEL_LABEL: "other"}
    await room.patch_as("kubectl", "Service", name, {"spec": {"selector": selector}})
    await room.refresh("Service", name)
    await room.apply(wanted)
    assert room.writes() == ["patch services"]
    live = await room.live("Service", name)
    assert live["spec"]["selector"][names.MODEL_LABEL] == "digits"
    await room.apply(wanted)
    assert room.writes() == []


async def test_field_that_is_wanted_no_more_is_removed(room):
    wanted = copy.deepcopy(build_service_account(model(room)))
    wanted["metadata"]["labels"]["extra"] = "1"
    await room.apply(wanted)
    del wanted["metadata"]["labels"]["extra"]
    room.writes()
    await room.apply(wanted)
    assert room.writes() == ["patch serviceaccounts"]
    live = await room.live("ServiceAccount", wanted["metadata"]["name"])
    assert "extra" not in live["metadata"]["labels"]


async def test_list_items_by_key_are_changed_one_by_one(room):
    view = model(room)
    await room.apply(build_service(view))
    changed = copy.deepcopy(build_service(view))
    changed["spec"]["ports"] = changed["spec"]["ports"][:2]
    changed["spec"]["ports"][0]["port"] = 8000
    room.writes()
    await room.apply(changed)
    await room.apply(changed)
    assert room.writes() == ["patch services"]
    live = await room.live("Service", changed["metadata"]["name"])
    assert [port["port"] for port in live["spec"]["ports"]] == [8000, names.GRPC_PORT]


async def scale(room, name, replicas):
    """What the HorizontalPodAutoscaler controller does."""
    body = {"spec": {"replicas": replicas}}
    await room.patch_as("kube-controller-manager", "Deployment", name, body, "scale")
    return await room.refresh("Deployment", name)


async def test_replicas_of_an_autoscaler_are_never_touched(room):
    """From three fixed replicas to an autoscaler and back: never fewer, in either direction."""
    fixed = model(room, scaling={"minReplicas": 3, "maxReplicas": 3})
    scaled = model(room, scaling={"minReplicas": 3, "maxReplicas": 9})
    name = names.workload_name("digits")
    seen = []

    async def pass_over(view):
        scaling = resolve_scaling(view.spec)
        live = room.store.get("Deployment", room.namespace, name)
        autoscaler = room.store.get("HorizontalPodAutoscaler", room.namespace, name)
        replicas = resolve_replicas(scaling, live, autoscaler)
        wanted = [deployment(view, replicas)]
        if (built := build_autoscaler(view, scaling)) is not None:
            wanted.append(built)
        applied = await room.apply(*wanted)
        assert applied.faults == ()
        seen.append((await room.live("Deployment", name))["spec"]["replicas"])

    await pass_over(fixed)
    await pass_over(scaled)
    await pass_over(scaled)
    await scale(room, name, 5)
    await pass_over(scaled)
    room.writes()
    for wanted in (7, 4, 6):
        await scale(room, name, wanted)
        await pass_over(scaled)
    assert room.writes() == []
    assert seen == [3, 3, 3, 5, 7, 4, 6]


async def test_object_of_somebody_else_is_left_alone(room):
    wanted = build_service(model(room))
    name = wanted["metadata"]["name"]
    room.cluster.kubectl("create", "service", "clusterip", name, "--tcp=1", "-n", room.namespace)
    before = await room.live("Service", name)
    applied = await room.apply(wanted)
    assert [fault.kind for fault in applied.faults] == ["Conflict"]
    assert await room.live("Service", name) == before


async def test_immutable_field_is_invalid_and_names_itself(room):
    view = model(room)
    await room.apply(deployment(view, 1))
    changed = copy.deepcopy(deployment(view, 1))
    changed["spec"]["selector"]["matchLabels"]["x"] = "y"
    changed["spec"]["template"]["metadata"]["labels"]["x"] = "y"
    (fault,) = (await room.apply(changed)).faults
    assert fault.kind == "Invalid"
    assert "spec.selector" in fault.message
    assert "immutable" in fault.message


async def test_misspelled_field_is_refused_and_not_dropped(room):
    wrong = copy.deepcopy(deployment(model(room), 1))
    wrong["spec"]["replica"] = 1
    (fault,) = (await room.apply(wrong)).faults
    assert fault.kind == "Invalid"
    assert ".spec.replica" in fault.message


async def test_namespace_that_is_not_there_is_gone(room):
    lost = copy.deepcopy(build_service_account(model(room)))
    lost["metadata"]["namespace"] = "nowhere"
    (fault,) = (await room.apply(lost)).faults
    assert fault.kind == "Gone"
    assert "nowhere" in fault.message


async def test_permission_that_is_missing_is_named(room):
    room.cluster.kubectl("create", "serviceaccount", "nobody", "-n", room.namespace)
    token = room.cluster.kubectl("create", "token", "nobody", "-n", room.namespace).strip()
    config = load_kubeconfig([room.cluster.kubeconfig])
    weak = replace(config, certificate=None, private_key=None, tokens=StaticToken(token))
    async with ApiClient(weak) as client:
        with pytest.raises(Forbidden, match="cannot patch resource"):
            await client.apply(build_service_account(model(room)))


async def test_delete_means_one_incarnation(room):
    wanted = build_service_account(model(room))
    await room.apply(wanted)
    name = wanted["metadata"]["name"]
    live = await room.live("ServiceAccount", name)
    other = ObjectRef("v1", "ServiceAccount", room.namespace, name, "another-uid")
    await room.applier.execute(Plan(delete=(other,)))
    assert await room.live("ServiceAccount", name)
    exact = replace(other, uid=live["metadata"]["uid"])
    assert (await room.applier.execute(Plan(delete=(exact,)))).faults == ()
    assert await room.live("ServiceAccount", name) is None


async def test_stale_delete_is_refused_by_the_server(room):
    """The store still shows the first version; somebody changed the object meanwhile."""
    wanted = build_service_account(model(room))
    await room.apply(wanted)
    name = wanted["metadata"]["name"]
    body = {"metadata": {"labels": {"kept": "please"}}}
    await room.patch_as("kubectl", "ServiceAccount", name, body)
    ref = ObjectRef("v1", "ServiceAccount", room.namespace, name)
    assert [f.kind for f in (await room.applier.execute(Plan(delete=(ref,)))).faults] == [
        "Conflict"
    ]
    assert await room.live("ServiceAccount", name)


async def test_object_on_its_way_out_is_deleted_once(room):
    wanted = copy.deepcopy(build_service_account(model(room)))
    wanted["metadata"]["finalizers"] = ["example.com/hold"]
    await room.apply(wanted)
    name = wanted["metadata"]["name"]
    ref = ObjectRef("v1", "ServiceAccount", room.namespace, name)
    room.writes()
    for _ in range(3):
        assert (await room.applier.execute(Plan(delete=(ref,)))).faults == ()
    assert room.writes() == ["delete serviceaccounts"]
    (fault,) = (await room.apply(wanted)).faults
    assert "is being deleted" in fault.message
    await room.patch_as("kubectl", "ServiceAccount", name, {"metadata": {"finalizers": None}})
