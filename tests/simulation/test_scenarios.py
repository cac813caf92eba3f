"""Stories of a cluster, each told under several weathers and seeds; the invariants watch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.simulation.controllers import Fate
from tests.simulation.world import Weather, World

if TYPE_CHECKING:
    from collections.abc import Callable

CALM = Weather()
ROUGH = Weather("rough", fault=0.05, lost_answer=0.05, lost_event=0.1)
DEADLY = Weather("deadly", lost_answer=0.02, kill=0.02)
WEATHERS = (CALM, ROUGH, DEADLY)
DIGEST = "e" * 64
CHANGED = {"uri": f"oci://registry.example/digits@sha256:{DIGEST}"}


def is_changed(request: dict[str, dict[str, str]]) -> bool:
    return request["model"]["digest"].endswith(DIGEST)


def serve(world: World, **spec: object) -> None:
    world.add_node("n1")
    world.apply_model(**spec)
    world.run(world.is_serving, "the model serves")


def first_model(world: World) -> None:
    serve(world)


def changed_while_serving(world: World) -> None:
    serve(world, scaling={"minReplicas": 3})
    world.apply_model(scaling={"minReplicas": 3}, model=CHANGED)
    world.run(world.is_serving, "the changed model serves")


def changed_during_build(world: World) -> None:
    world.add_node("n1")
    world.apply_model()
    world.run_for(world.rng.randint(5, 80))
    world.apply_model(model=CHANGED)
    world.run(world.is_serving, "the later model serves")
    assert len(world.cluster.list("ModelBuild")) <= 2


def failed_build_keeps_the_old(world: World) -> None:
    serve(world, scaling={"minReplicas": 2})
    world.hardware.fate = lambda request, _: Fate("input" if is_changed(request) else "success")
    world.apply_model(scaling={"minReplicas": 2}, model=CHANGED)
    world.run(lambda: world.condition("Stalled") == ("True", "ModelInvalid"), "the failure is told")
    world.apply_model(scaling={"minReplicas": 2})
    world.run(world.is_serving, "the old spec serves again")


def attempts_until_it_works(world: World) -> None:
    world.hardware.fate = lambda _, attempt: Fate("infrastructure" if attempt < 3 else "success", 1)
    serve(world)
    assert world.cluster.list("ModelBuild")[0]["status"]["attempts"] == 3


def out_of_memory_until_raised(world: World) -> None:
    world.hardware.fate = lambda request, _: Fate(
        "success" if request["resources"]["memory"] == "4Gi" else "memory", 1
    )
    world.add_node("n1")
    world.apply_model()
    world.run(lambda: world.condition("Built") == ("False", "OutOfMemory"), "the reason is told")
    world.apply_model(serving={"resources": {"limits": {"memory": "4Gi"}}})
    world.run(world.is_serving, "with more memory it serves")


def fixed_to_automatic_and_back(world: World) -> None:
    serve(world, scaling={"minReplicas": 3})
    world.apply_model(scaling={"minReplicas": 3, "maxReplicas": 6})
    world.run(lambda: world.condition("ScalingReady") == ("True", "AutoscalerActive"), "it scales")
    for load in world.rng.sample((1, 5, 9), 2):
        world.hardware.load["digits-default"] = load
        wanted = max(3, min(load, 6))
        world.run(lambda wanted=wanted: replicas(world) == wanted, f"{wanted} servers for {load}")
        world.apply_model(
            scaling={"minReplicas": 3, "maxReplicas": 6}, rebuildToken=f"at load {load}"
        )
        world.run(world.is_serving, "a rollout while it scales")
    world.apply_model(scaling={"minReplicas": 3})
    world.run(lambda: replicas(world) == 3 and world.is_serving(), "three again")
    assert world.cluster.list("HorizontalPodAutoscaler") == []


def automatic_at_a_lower_minimum(world: World) -> None:
    """The autoscaler starts from what there is, not from its minimum."""
    serve(world, scaling={"minReplicas": 5})
    world.hold_at_least(5)
    world.hardware.load["digits-default"] = 5
    world.apply_model(scaling={"minReplicas": 2, "maxReplicas": 6})
    world.run(lambda: world.condition("ScalingReady") == ("True", "AutoscalerActive"), "it scales")
    world.hardware.load["digits-default"] = 6
    world.run(lambda: replicas(world) == 6, "it is scaled up")


def replicas(world: World) -> int:
    deployment = world.cluster.get("Deployment", "vision", "digits-default")
    return 0 if deployment is None else int(deployment["spec"]["replicas"])


def one_build_for_two(world: World) -> None:
    world.add_node("n1")
    world.apply_model("digits")
    world.apply_model("canary")
    world.run(lambda: world.is_serving("digits") and world.is_serving("canary"), "both serve")
    (build,) = world.cluster.list("ModelBuild")
    assert {owner["name"] for owner in build["metadata"]["ownerReferences"]} == {
        "digits",
        "canary",
    }
    gone = world.rng.choice(("digits", "canary"))
    left = {"digits": "canary", "canary": "digits"}[gone]
    world.delete("InferenceModel", gone)
    world.run(lambda: children_of(world, gone) == [] and world.is_serving(left), "one is left")
    (build,) = world.cluster.list("ModelBuild")
    assert [owner["name"] for owner in build["metadata"]["ownerReferences"]] == [left]


def children_of(world: World, model: str) -> list[str]:
    return [
        obj["metadata"]["name"]
        for obj in world.cluster.everything()
        if any(ref["name"] == model for ref in obj["metadata"].get("ownerReferences", []))
    ]


def deleted_during_build(world: World) -> None:
    world.add_node("n1")
    world.apply_model()
    world.run_for(world.rng.randint(5, 80))
    world.delete("InferenceModel", "digits")
    kinds = {"InferenceModel", "ModelBuild", "Job", "ServiceAccount", "Deployment", "Service"}
    world.run(lambda: not kinds & world.cluster.kinds(), "nothing is left of it")


def deleted_and_made_again(world: World) -> None:
    serve(world)
    world.delete("InferenceModel", "digits")
    world.run_for(world.rng.randint(0, 20))
    world.apply_model()
    world.run(world.is_serving, "its namesake serves")


def nodes_come_and_go(world: World) -> None:
    serve(world)
    world.add_node("n2", "x86-avx512-vnni")
    world.run(lambda: world.is_serving() and served_profiles(world) == 2, "both kinds are served")
    world.delete("Node", "n2")
    world.run(lambda: world.is_serving() and served_profiles(world) == 1, "one kind is left")


def served_profiles(world: World) -> int:
    return len((world.model() or {})["status"].get("serving", []))


def no_node_at_first(world: World) -> None:
    world.apply_model()
    world.run(lambda: world.condition("Ready") == ("False", "NoMatchingNode"), "the lack is told")
    world.add_node("n1")
    world.run(world.is_serving, "it serves once there is a node")


def node_lost_during_build(world: World) -> None:
    world.add_node("n1")
    world.apply_model()
    world.run_for(world.rng.randint(20, 100))
    world.delete("Node", "n1")
    world.run_for(world.rng.randint(20, 100))
    world.add_node("n3")
    world.run(world.is_serving, "it is built on the node that came", ticks=900)


def node_lost_before_the_job(world: World) -> None:
    """A build that waits for hardware sees it come, without the help of the resync."""
    world.add_node("n1")
    # Asked for by name, the build stays wanted while no node has the hardware.
    world.apply_model(optimization={"profiles": ["x86-avx2"]})
    world.run(lambda: bool(world.cluster.list("ModelBuild")), "it is planned", at_rest=False)
    world.delete("Node", "n1")
    world.run_for(world.rng.randint(20, 60))
    world.add_node("n3")
    world.run(world.is_serving, "it serves soon", ticks=50 if world.weather is CALM else 400)


def status_lost_and_changed(world: World) -> None:
    serve(world, scaling={"minReplicas": 2})
    world.lose_status()
    world.apply_model(scaling={"minReplicas": 2}, model=CHANGED)
    world.run(world.is_serving, "the changed spec serves")


def build_only_and_back(world: World) -> None:
    serve(world)
    world.apply_model(serving={"mode": "None"})
    world.run(lambda: world.condition("Ready") == ("True", "BuildOnly"), "only the build is left")
    assert world.cluster.list("Deployment") == world.cluster.list("Service") == []
    world.apply_model()
    world.run(world.is_serving, "it serves again")


def suspended_change(world: World) -> None:
    serve(world)
    before = world.cluster.list("ModelBuild")
    world.apply_model(model=CHANGED, suspend=True)
    world.run(lambda: world.condition("Ready")[1] == "Suspended", "it rests")
    assert [b["metadata"]["uid"] for b in world.cluster.list("ModelBuild")] == [
        b["metadata"]["uid"] for b in before
    ]
    world.apply_model(model=CHANGED)
    world.run(world.is_serving, "the change serves")


def crashing_server_of_a_new_build(world: World) -> None:
    serve(world, scaling={"minReplicas": 2})
    bad = {"rebuildToken": "bad"}
    before = set(world.hardware.registry)
    world.apply_model(scaling={"minReplicas": 2}, **bad)
    while not (new := set(world.hardware.registry) - before):
        world.step()
    world.hardware.crashing |= new
    world.run(
        lambda: world.condition("WorkloadReady") == ("False", "AttestationFailed"),
        "the crash is told",
        at_rest=False,
    )
    world.apply_model(scaling={"minReplicas": 2})
    world.run(world.is_serving, "the old build serves")


def registry_down_at_the_end(world: World) -> None:
    world.add_node("n1")
    world.hardware.is_registry_up = False
    world.apply_model()
    world.run(lambda: world.condition("Built")[1] == "RegistryUnreachable", "the trouble is told")
    world.hardware.is_registry_up = True
    world.run(world.is_serving, "it serves")
    assert len(world.cluster.list("Job")) <= 1


def children_taken_away(world: World) -> None:
    serve(world)
    for kind, name in world.rng.sample(
        (("Deployment", "digits-default"), ("Service", "digits"), ("ServiceAccount", "mw-digits")),
        2,
    ):
        world.delete(kind, name)
        there = lambda kind=kind, name=name: world.cluster.get(kind, "vision", name)  # noqa: E731
        world.run(lambda there=there: there() is not None and world.is_serving(), f"{kind} is back")


def approved_by_hand(world: World) -> None:
    world.add_node("n1")
    world.apply_model(optimization={"apply": "Manual"})
    world.run(lambda: world.condition("Ready")[1] == "AwaitingApproval", "it waits")
    (build,) = world.cluster.list("ModelBuild")
    world.apply_model(optimization={"apply": "Manual", "approvedDigest": build["status"]["digest"]})
    world.run(world.is_serving, "approved, it serves")


def pinned_and_free(world: World) -> None:
    serve(world, scaling={"minReplicas": 2})
    world.apply_model(scaling={"minReplicas": 2}, serving={"variant": "fp32"})
    world.run(world.is_serving, "fp32 serves")
    world.apply_model(scaling={"minReplicas": 2}, serving={"variant": "none-such"})
    world.run(lambda: world.condition("Stalled")[1] == "UnknownVariant", "the mistake is told")
    world.apply_model(scaling={"minReplicas": 2})
    world.run(world.is_serving, "the chosen one serves")


def many_changes_of_mind(world: World) -> None:
    """A person who does not wait; only the last word counts."""
    world.add_node("n1")
    for number in range(8):
        world.apply_model(
            rebuildToken=str(world.rng.randint(0, 2)),
            scaling={
                "minReplicas": world.rng.randint(1, 3),
                "maxReplicas": world.rng.randint(3, 4),
            },
        )
        world.run_for(world.rng.randint(1, 60 + number))
    world.run(world.is_serving, "the last word serves", ticks=900)


SCENARIOS = (
    first_model,
    changed_while_serving,
    changed_during_build,
    failed_build_keeps_the_old,
    attempts_until_it_works,
    out_of_memory_until_raised,
    fixed_to_automatic_and_back,
    automatic_at_a_lower_minimum,
    one_build_for_two,
    deleted_during_build,
    deleted_and_made_again,
    nodes_come_and_go,
    no_node_at_first,
    node_lost_during_build,
    node_lost_before_the_job,
    status_lost_and_changed,
    build_only_and_back,
    suspended_change,
    crashing_server_of_a_new_build,
    registry_down_at_the_end,
    children_taken_away,
    approved_by_hand,
    pinned_and_free,
    many_changes_of_mind,
)


def seed_of(scenario: Callable[[World], None], weather: Weather) -> int:
    said = f"{scenario.__name__}/{weather.name}"
    return int(hashlib.sha256(said.encode()).hexdigest()[:8], 16)


@pytest.mark.parametrize("weather", WEATHERS, ids=lambda weather: weather.name)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_story_ends_well(scenario: Callable[[World], None], weather: Weather) -> None:
    world = World(seed_of(scenario, weather), weather)
    scenario(world)
    world.settle_and_stay_quiet(passes=100 if weather is CALM else 5)
