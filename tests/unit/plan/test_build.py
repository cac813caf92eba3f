"""What `plan_build` decides: one Job at a time, its end understood, retries that never loop hot."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from modelwright_operator.api.conditions import Reason
from modelwright_operator.plan.build import plan_build
from modelwright_operator.plan.build_status import build_build_status
from modelwright_operator.plan.observed import BuildObserved, BuildResult, RegistryProblem
from modelwright_operator.plan.types import Applied, Stalled, Waiting
from tests.support import builders as a

if TYPE_CHECKING:
    from modelwright_operator.plan.build import BuildPlan

SETTINGS = a.settings(build={"retrySeconds": 100}, registrySecret="modelwright-registry")
(BUILD,) = a.wanted_builds(a.model(), SETTINGS)


def observe(**parts: Any) -> BuildObserved:
    return BuildObserved(build=BUILD, now=a.NOW, **{"profile": a.profile(), **parts})


def job(end: str | None = None, reason: str = "", attempt: int = 1) -> dict[str, Any]:
    manifest = next(
        item for item in plan_build(observe(), SETTINGS).plan.apply if item["kind"] == "Job"
    )
    conditions = []
    if end is not None:
        conditions.append(
            {
                "type": end,
                "status": "True",
                "reason": reason,
                "lastTransitionTime": a.NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    result = a.live(manifest, conditions=conditions)
    result["metadata"]["name"] = f"{BUILD.id.name}-{attempt}"
    return result


def pod(message: str = "", exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    ended = {"exitCode": exit_code, "reason": reason, "message": message}
    return {
        "metadata": {"name": "pod", "uid": "u"},
        "status": {
            "phase": "Failed",
            "containerStatuses": [{"name": "optimizer", "state": {"terminated": ended}}],
        },
    }


def said(reason: str, message: str = "because") -> str:
    return json.dumps({"reason": reason, "message": message})


def jobs_of(plan: BuildPlan) -> list[str]:
    return [m["metadata"]["name"] for m in plan.plan.apply if m["kind"] == "Job"]


def test_a_new_build_starts_one_locked_down_job() -> None:
    plan = plan_build(observe(), SETTINGS)
    assert jobs_of(plan) == [f"{BUILD.id.name}-1"]
    pod_spec = plan.plan.apply[-1]["spec"]["template"]["spec"]
    container = pod_spec["containers"][0]
    assert pod_spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert json.loads(container["env"][0]["value"]) == dict(BUILD.raw_spec["request"])


def test_a_running_job_is_left_alone() -> None:
    plan = plan_build(observe(jobs=(job(),)), SETTINGS)
    assert plan.plan.apply == ()
    assert isinstance(plan.plan.outcome, Waiting)
    assert plan.plan.outcome.reason == Reason.BUILD_RUNNING


def test_a_good_end_counts_once_the_registry_shows_it() -> None:
    done = (job("Complete"),)
    unread = plan_build(
        observe(jobs=done, result=RegistryProblem("RegistryUnreachable", "no answer")), SETTINGS
    )
    assert isinstance(unread.plan.outcome, Waiting)
    assert unread.plan.outcome.reason == Reason.REGISTRY_UNREACHABLE
    digest = "sha256:" + "e" * 64
    result = BuildResult(digest, a.report(request_key=BUILD.spec.request_key))
    observed = observe(jobs=done, result=result)
    status = build_build_status(observed, plan_build(observed, SETTINGS), Applied())
    assert (status.digest, status.chosen) == (digest, "static-int8")
    assert [row.name for row in status.variants or ()] == ["fp32", "static-int8"]


def test_an_artifact_of_another_request_is_never_taken() -> None:
    result = BuildResult("sha256:" + "e" * 64, a.report(request_key="f" * 64))
    plan = plan_build(observe(jobs=(job("Complete"),), result=result), SETTINGS)
    assert isinstance(plan.plan.outcome, Stalled)
    assert plan.plan.outcome.reason == Reason.DIGEST_MISMATCH


def test_the_job_gets_its_time_to_live_only_after_the_result_stands_in_the_status() -> None:
    finished = job("Complete")
    result = BuildResult("sha256:" + "e" * 64, a.report(request_key=BUILD.spec.request_key))
    assert plan_build(observe(jobs=(finished,), result=result), SETTINGS).plan.apply == ()
    observed = replace(observe(jobs=(finished,)), build=a.succeeded(BUILD))
    (retired,) = plan_build(observed, SETTINGS).plan.apply
    assert retired["spec"]["ttlSecondsAfterFinished"] == SETTINGS.build.finished_ttl_seconds
    assert retired["spec"]["template"] == finished["spec"]["template"]


def test_a_finished_build_whose_job_is_gone_is_not_built_again() -> None:
    plan = plan_build(replace(observe(), build=a.succeeded(BUILD)), SETTINGS)
    assert plan.plan.apply == ()


@pytest.mark.parametrize(
    ("pods", "job_reason", "reason", "retry"),
    [
        pytest.param(
            (pod(said("EvaluationInvalid"), 42),),
            "PodFailurePolicy",
            "EvaluationInvalid",
            "Never",
            id="the user's input is at fault: never again",
        ),
        pytest.param(
            (pod(said("RegistryUnreachable")),),
            "BackoffLimitExceeded",
            "RegistryUnreachable",
            "Backoff",
            id="the registry is down: later",
        ),
        pytest.param(
            (pod("", 137, "OOMKilled"),),
            "BackoffLimitExceeded",
            "OutOfMemory",
            "Backoff",
            id="killed for memory",
        ),
        pytest.param((), "DeadlineExceeded", "DeadlineExceeded", "Backoff", id="too slow"),
        pytest.param((pod("Traceback"),), "", "BuildFailed", "Backoff", id="no last words"),
        pytest.param(
            (pod(said("MadeUpReason"), 42),),
            "",
            "BuildFailed",
            "Never",
            id="a reason nobody documented is not passed on",
        ),
    ],
)
def test_how_a_failure_is_understood(
    pods: tuple[dict[str, Any], ...], job_reason: str, reason: str, retry: str
) -> None:
    plan = plan_build(observe(jobs=(job("Failed", job_reason),), pods=pods), SETTINGS)
    assert plan.failure is not None
    assert (plan.failure.reason, plan.failure.retry) == (reason, retry)
    assert jobs_of(plan) == []


def test_a_retry_waits_and_each_pause_is_longer() -> None:
    pauses = []
    for attempt in (1, 2, 3):
        observed = observe(jobs=(job("Failed", attempt=attempt),))
        plan = plan_build(observed, SETTINGS)
        assert isinstance(plan.plan.outcome, Waiting)
        pauses.append(plan.plan.outcome.after_seconds)
    assert pauses == [100, 200, 400]


def test_after_the_pause_a_new_job_replaces_the_old_one() -> None:
    old = job("Failed")
    observed = replace(observe(jobs=(old,)), now=a.NOW + timedelta(seconds=101))
    plan = plan_build(observed, SETTINGS)
    assert jobs_of(plan) == [f"{BUILD.id.name}-2"]
    assert [ref.name for ref in plan.plan.delete] == [old["metadata"]["name"]]
    assert plan.attempt == 2


def test_a_pod_that_cannot_start_says_why() -> None:
    stuck = {
        "metadata": {"name": "pod"},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}
            ]
        },
    }
    outcome = plan_build(observe(jobs=(job(),), pods=(stuck,)), SETTINGS).plan.outcome
    assert isinstance(outcome, Waiting)
    assert outcome.reason == Reason.UNSCHEDULABLE
    assert "0/1 nodes" in outcome.message


def test_sources_get_their_volumes_and_nothing_else() -> None:
    view = a.model(
        model={"uri": "pvc://models/digits/model.onnx", "sha256": "d" * 64},
        calibration={"uri": "https://files.example/c.npz", "sha256": "e" * 64},
    )
    (build,) = a.wanted_builds(view, SETTINGS)
    observed = replace(observe(credentials={"evaluation": "token"}), build=build)
    pod_spec = plan_build(observed, SETTINGS).plan.apply[-1]["spec"]["template"]["spec"]
    mounts = {
        m["mountPath"]: m.get("readOnly", False) for m in pod_spec["containers"][0]["volumeMounts"]
    }
    assert mounts == {
        "/scratch": False,
        "/var/run/modelwright/registry": True,
        "/var/run/modelwright/sources/evaluation": True,
        "/sources/pvc/models": True,
    }
