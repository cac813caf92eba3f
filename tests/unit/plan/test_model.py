"""What `plan_model` decides: which builds, which artifact, when to switch and when to keep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from modelwright_operator.api.conditions import Reason
from modelwright_operator.plan.model import plan_model
from modelwright_operator.plan.model_status import build_model_status
from modelwright_operator.plan.types import Applied, Settled, Stalled, Waiting
from tests.support import builders as a

if TYPE_CHECKING:
    from modelwright_operator.plan.model import ModelPlan
    from modelwright_operator.plan.observed import ModelObserved, ModelView

SETTINGS = a.settings()


def kinds(plan: ModelPlan) -> list[str]:
    return [manifest["kind"] for manifest in plan.plan.apply]


def deployment_of(plan: ModelPlan) -> dict[str, Any]:
    return next(dict(item) for item in plan.plan.apply if item["kind"] == "Deployment")


def served_digest(plan: ModelPlan) -> str:
    volumes = deployment_of(plan)["spec"]["template"]["spec"]["volumes"]
    return next(volume["image"]["reference"] for volume in volumes if "image" in volume)


def after(view: ModelView, plan: ModelPlan, observed: ModelObserved) -> ModelView:
    """The model with the status that follows from a plan."""
    return replace(view, status=build_model_status(observed, plan, Applied(), SETTINGS))


def test_a_new_model_asks_for_one_build_and_serves_nothing_yet() -> None:
    plan = plan_model(a.observe(), SETTINGS)
    assert kinds(plan) == ["ModelBuild"]
    assert isinstance(plan.plan.outcome, Waiting)
    assert plan.plan.outcome.reason == Reason.BUILD_PENDING


def test_a_good_build_is_served_pinned_by_digest() -> None:
    view = a.model()
    (build,) = a.wanted_builds(view)
    plan = plan_model(a.observe(view, builds=(a.succeeded(build),)), SETTINGS)
    assert kinds(plan) == ["ModelBuild", "ServiceAccount", "Service", "Deployment"]
    assert served_digest(plan).endswith("@sha256:" + "c" * 64)
    assert plan.plan.outcome == Settled()


@pytest.mark.parametrize(
    ("parts", "reason", "stalled"),
    [
        pytest.param({"profiles": ()}, Reason.NO_MATCHING_NODE, False, id="no node probed yet"),
        pytest.param(
            {"profiles": (replace(a.profile(), nodes=()),)},
            Reason.NO_MATCHING_NODE,
            False,
            id="the profile's nodes are gone",
        ),
        pytest.param(
            {"refused_claims": ("data",)}, Reason.SOURCE_DENIED, True, id="claim not released"
        ),
    ],
)
def test_what_stops_a_model_before_any_build(
    parts: dict[str, Any], reason: Reason, stalled: bool
) -> None:
    plan = plan_model(a.observe(**parts), SETTINGS)
    outcome = plan.plan.outcome
    assert isinstance(outcome, Stalled if stalled else Waiting)
    assert outcome.reason == reason
    assert not plan.plan.delete


def test_an_unknown_profile_is_named_with_those_that_exist() -> None:
    view = a.model(optimization={"profiles": ["arm64-i8mm"]})
    outcome = plan_model(a.observe(view), SETTINGS).plan.outcome
    assert isinstance(outcome, Stalled)
    assert outcome.reason == Reason.UNKNOWN_PROFILE
    assert "arm64-i8mm" in outcome.message
    assert "x86-avx2" in outcome.message


def test_the_last_good_build_serves_until_the_new_one_is_ready() -> None:
    old = a.model()
    (first,) = (a.succeeded(build) for build in a.wanted_builds(old))
    observed = a.observe(old, builds=(first,))
    old = after(old, plan_model(observed, SETTINGS), observed)
    changed = replace(a.model(generation=2, rebuildToken="again"), status=old.status)
    (second,) = a.wanted_builds(changed)

    building = plan_model(a.observe(changed, builds=(first, second)), SETTINGS)
    assert served_digest(building).endswith("c" * 64)
    assert not building.is_current
    assert not building.plan.delete

    done = plan_model(a.observe(changed, builds=(first, a.succeeded(second, "d"))), SETTINGS)
    assert served_digest(done).endswith("d" * 64)
    assert done.is_current


def test_a_failed_build_leaves_the_last_good_one_serving() -> None:
    old = a.model()
    (first,) = (a.succeeded(build) for build in a.wanted_builds(old))
    observed = a.observe(old, builds=(first,))
    old = after(old, plan_model(observed, SETTINGS), observed)
    changed = replace(a.model(generation=2, rebuildToken="again"), status=old.status)
    (second,) = a.wanted_builds(changed)
    broken = a.failed(second, "EvaluationInvalid", "labels are missing")
    observed = a.observe(
        changed,
        builds=(first, broken),
        children=(a.available_deployment(deployment_of(plan_model(observed, SETTINGS))),),
    )
    plan = plan_model(observed, SETTINGS)
    assert served_digest(plan).endswith("c" * 64)
    assert plan.plan.outcome == Stalled(
        "EvaluationInvalid", f"{second.id.name}: labels are missing"
    )
    status = build_model_status(observed, plan, Applied(), SETTINGS)
    ready = (status.conditions or ())[0]
    assert (ready.type, ready.status, ready.reason) == ("Ready", "False", "EvaluationInvalid")
    assert f"{first.id.name} keeps serving" in ready.message


def test_rolling_back_reuses_the_earlier_build_at_once() -> None:
    view = a.model()
    (first,) = (a.succeeded(build) for build in a.wanted_builds(view))
    changed = a.model(rebuildToken="again")
    (second,) = (a.succeeded(build, "d", minutes=5) for build in a.wanted_builds(changed))
    observed = a.observe(changed, builds=(first, second))
    changed = after(changed, plan_model(observed, SETTINGS), observed)
    back = replace(view, status=changed.status)
    plan = plan_model(a.observe(back, builds=(first, second)), SETTINGS)
    assert served_digest(plan).endswith("c" * 64)
    assert plan.is_current
    assert set(plan.retained) == {first.id.name, second.id.name}


def test_only_the_last_good_builds_are_retained() -> None:
    view = a.model()
    builds = []
    for number in range(8):
        variant = a.model(rebuildToken=str(number))
        (build,) = a.wanted_builds(variant)
        builds.append(a.succeeded(build, str(number), minutes=number))
    (wanted,) = a.wanted_builds(view)
    plan = plan_model(a.observe(view, builds=(*builds, a.succeeded(wanted, "9"))), SETTINGS)
    newest = {build.id.name for build in builds[-SETTINGS.build.history_limit :]}
    assert {ref.name for ref in plan.plan.delete} == {b.id.name for b in builds} - newest
    assert set(plan.retained) == newest | {wanted.id.name}


def test_two_models_with_one_request_share_one_build_with_both_as_owners() -> None:
    one, two = a.model("one"), a.model("two")
    observed = a.observe(two, siblings=(one,), builds=a.wanted_builds(one))
    (build,) = plan_model(observed, SETTINGS).plan.apply
    owners = [owner["name"] for owner in build["metadata"]["ownerReferences"]]
    assert owners == ["one", "two"]
    assert all(owner["controller"] is False for owner in build["metadata"]["ownerReferences"])


def test_a_build_another_model_retains_is_let_go_but_not_deleted() -> None:
    mine = a.model(rebuildToken="new")
    other = a.model("other")
    (shared,) = (a.failed(b, "BuildFailed", "no") for b in a.wanted_builds(other))
    shared = replace(shared, owner_uids=frozenset({mine.id.uid, other.id.uid}))
    plan = plan_model(a.observe(mine, siblings=(other,), builds=(shared,)), SETTINGS)
    assert not plan.plan.delete
    rewritten = next(m for m in plan.plan.apply if m["metadata"]["name"] == shared.id.name)
    assert [o["name"] for o in rewritten["metadata"]["ownerReferences"]] == ["other"]


def test_a_new_operator_version_changes_no_build_and_no_pod_template() -> None:
    view = a.model()
    builds = tuple(a.succeeded(build) for build in a.wanted_builds(view))
    observed = a.observe(view, builds=builds)
    newer = a.settings(
        images={"optimizer": "registry.example/new@sha256:" + "8" * 64, "runtime": "r.example/n:9"}
    )
    assert plan_model(observed, SETTINGS).plan.apply == plan_model(observed, newer).plan.apply


def test_a_build_for_every_profile_and_one_deployment_that_mounts_them_all() -> None:
    avx2, vnni = a.profile(), replace(a.profile("x86-avx512-vnni"), features=("avx512_vnni",))
    view = a.model()
    builds = a.wanted_builds(view, SETTINGS, avx2, vnni)
    assert len({build.id.name for build in builds}) == 2
    half = (a.succeeded(builds[0]), builds[1])
    assert "Deployment" not in kinds(
        plan_model(a.observe(view, profiles=(avx2, vnni), builds=half), SETTINGS)
    )
    both = (a.succeeded(builds[0]), a.succeeded(builds[1], "d"))
    plan = plan_model(a.observe(view, profiles=(avx2, vnni), builds=both), SETTINGS)
    mounts = deployment_of(plan)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert [m["mountPath"] for m in mounts][:2] == [
        "/artifacts/x86-avx2",
        "/artifacts/x86-avx512-vnni",
    ]


def test_manual_apply_waits_for_the_digest_to_be_approved() -> None:
    view = a.model(optimization={"apply": "Manual"})
    builds = tuple(a.succeeded(build) for build in a.wanted_builds(view))
    waiting = plan_model(a.observe(view, builds=builds), SETTINGS)
    assert isinstance(waiting.plan.outcome, Waiting)
    assert waiting.plan.outcome.reason == Reason.AWAITING_APPROVAL
    assert "sha256:" + "c" * 64 in waiting.plan.outcome.message
    assert "Deployment" not in kinds(waiting)
    approved = a.model(optimization={"apply": "Manual", "approvedDigest": "sha256:" + "c" * 64})
    assert "Deployment" in kinds(plan_model(a.observe(approved, builds=builds), SETTINGS))


def test_a_pinned_variant_is_served_and_an_unknown_one_is_refused_with_the_choices() -> None:
    pinned = a.model(serving={"variant": "fp32"})
    builds = tuple(a.succeeded(build) for build in a.wanted_builds(pinned))
    plan = plan_model(a.observe(pinned, builds=builds), SETTINGS)
    arguments = deployment_of(plan)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--variant") + 1] == "fp32"
    unknown = a.model(serving={"variant": "int3"})
    outcome = plan_model(a.observe(unknown, builds=builds), SETTINGS).plan.outcome
    assert isinstance(outcome, Stalled)
    assert outcome.reason == Reason.UNKNOWN_VARIANT
    assert "fp32, static-int8" in outcome.message


def test_mode_none_builds_without_serving_and_takes_servers_away() -> None:
    view = a.model()
    builds = tuple(a.succeeded(build) for build in a.wanted_builds(view))
    serving = plan_model(a.observe(view, builds=builds), SETTINGS)
    children = tuple(a.live(item) for item in serving.plan.apply if item["kind"] != "ModelBuild")
    build_only = a.model(serving={"mode": "None"})
    observed = a.observe(build_only, builds=builds, children=children)
    plan = plan_model(observed, SETTINGS)
    assert kinds(plan) == ["ModelBuild"]
    assert {ref.kind for ref in plan.plan.delete} == {"ServiceAccount", "Service", "Deployment"}
    status = build_model_status(observed, plan, Applied(), SETTINGS)
    assert (status.conditions or ())[0].reason == Reason.BUILD_ONLY


def test_suspend_changes_nothing_and_is_observed() -> None:
    view = a.model(suspend=True, generation=7)
    observed = a.observe(view)
    plan = plan_model(observed, SETTINGS)
    assert plan.plan.apply == ()
    assert plan.plan.delete == ()
    assert build_model_status(observed, plan, Applied(), SETTINGS).observed_generation == 7


def test_disruption_budget_and_autoscaler_come_and_go_with_the_replicas() -> None:
    view = a.model(scaling={"minReplicas": 2, "maxReplicas": 5})
    builds = tuple(a.succeeded(build) for build in a.wanted_builds(view))
    plan = plan_model(a.observe(view, builds=builds), SETTINGS)
    assert kinds(plan)[-2:] == ["HorizontalPodAutoscaler", "PodDisruptionBudget"]
    children = tuple(a.live(item) for item in plan.plan.apply if item["kind"] != "ModelBuild")
    single = plan_model(a.observe(a.model(), builds=builds, children=children), SETTINGS)
    assert {ref.kind for ref in single.plan.delete} == {
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }


def test_a_corrected_address_makes_a_failed_build_anew() -> None:
    wrong = a.model(model={"uri": f"oci://registry.example/typo@sha256:{a.MODEL_DIGEST}"})
    (build,) = (a.failed(b, "SourceNotFound", "nothing there") for b in a.wanted_builds(wrong))
    corrected = a.model(generation=2)
    plan = plan_model(a.observe(corrected, builds=(build,)), SETTINGS)
    assert [ref.name for ref in plan.plan.delete] == [build.id.name]
    assert kinds(plan) == []
    again = plan_model(a.observe(corrected), SETTINGS)
    (fresh,) = again.plan.apply
    assert fresh["metadata"]["name"] == build.id.name
    assert "typo" not in fresh["spec"]["request"]["model"]["uri"]


def test_another_models_failed_build_is_not_undone() -> None:
    wrong = a.model("other", model={"uri": f"oci://registry.example/typo@sha256:{a.MODEL_DIGEST}"})
    (build,) = (a.failed(b, "SourceNotFound", "nothing there") for b in a.wanted_builds(wrong))
    plan = plan_model(a.observe(a.model(), siblings=(wrong,), builds=(build,)), SETTINGS)
    assert not plan.plan.delete


def test_each_profile_serves_its_own_choice_unless_a_variant_is_pinned() -> None:
    avx2, vnni = a.profile(), replace(a.profile("x86-avx512-vnni"), features=("avx512_vnni",))
    for spec, want in (({}, False), ({"serving": {"variant": "fp32"}}, True)):
        view = a.model(**spec)
        one, two = (a.succeeded(b) for b in a.wanted_builds(view, SETTINGS, avx2, vnni))
        two = replace(two, status=two.status.model_copy(update={"chosen": "fp32"}))
        plan = plan_model(a.observe(view, profiles=(avx2, vnni), builds=(one, two)), SETTINGS)
        arguments = deployment_of(plan)["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--variant" in arguments) is want
