"""The plan of one ModelBuild: its Job, what the Job's end means, and when to try again.

A Job tells its end by its pod's termination message (JSON, at most 4,096 bytes); the table of
variants is read from the registry. Nothing is remembered here: the attempt is counted by the
status and by the Jobs that exist.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from modelwright_operator.api.conditions import Reason
from modelwright_operator.plan import names
from modelwright_operator.plan.job import build_job, build_job_account, pinned_nodes
from modelwright_operator.plan.observed import (
    BuildObserved,
    BuildResult,
    Object,
    Progress,
    RegistryProblem,
)
from modelwright_operator.plan.podstate import explain_pod, termination_message
from modelwright_operator.plan.types import Manifest, ObjectRef, Outcome, Plan, Settled, Stalled
from modelwright_operator.plan.types import Waiting as WaitingFor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright_operator.settings import Settings

PROGRESS_SECONDS = 15
_RETRY_CAP_SECONDS = 3600
# Hardware comes and goes without an event of the build's own.
_HARDWARE_SECONDS = 60
_KNOWN_REASONS = frozenset(reason.value for reason in Reason)


@dataclass(frozen=True, slots=True)
class BuildFailure:
    """Why an attempt ended without a result."""

    reason: str
    message: str
    retry: Literal["Never", "Backoff"]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The plan, and the decisions behind it that the status tells."""

    plan: Plan
    attempt: int
    result: BuildResult | None = None
    failure: BuildFailure | None = None
    progress: Progress | None = None
    source_verified: bool = False


def plan_build(observed: BuildObserved, settings: Settings) -> BuildPlan:
    """Decide about one build; pure, total and idempotent."""
    status = observed.build.status
    attempt = _attempt(observed)
    if status.digest:
        return BuildPlan(_retire(observed, settings, Settled()), attempt, source_verified=True)
    if status.failure is not None and status.failure.retry == "Never":
        outcome = Stalled(status.failure.reason, status.failure.message)
        failure = BuildFailure(status.failure.reason, status.failure.message, "Never")
        return BuildPlan(_retire(observed, settings, outcome), attempt, failure=failure)
    job = _find_job(observed, attempt)
    if job is None:
        return _start(observed, settings, attempt)
    end = _job_end(job)
    if end == "Complete":
        return _finish(observed, attempt)
    if end is not None:
        return _fail(observed, settings, attempt, job)
    if _is_stranded(observed, job):
        return _remake(job, attempt)
    return _watch(observed, attempt)


def _attempt(observed: BuildObserved) -> int:
    """The attempt that counts: at least what the status or an existing Job says."""
    seen = [observed.build.status.attempts or 1]
    for job in observed.jobs:
        suffix = job["metadata"]["name"].rpartition("-")[2]
        if suffix.isdigit():
            seen.append(int(suffix))
    return max(seen)


def _find_job(observed: BuildObserved, attempt: int) -> Object | None:
    name = names.job_name(observed.build.id.name, attempt)
    return next((job for job in observed.jobs if job["metadata"]["name"] == name), None)


def _start(observed: BuildObserved, settings: Settings, attempt: int) -> BuildPlan:
    if observed.profile is None:
        name = observed.build.spec.profile
        message = f"HardwareProfile {name} does not exist any more"
        return _wait_for_hardware(Reason.UNKNOWN_PROFILE, message, attempt)
    if not observed.profile.nodes and not observed.profile.node_selector:
        message = f"no Ready node of profile {observed.profile.name}"
        return _wait_for_hardware(Reason.NO_MATCHING_NODE, message, attempt)
    apply = (
        build_job_account(observed.build),
        build_job(observed.build, observed.profile, attempt, observed.credentials, settings),
    )
    outcome = WaitingFor(Reason.BUILD_PENDING, "the build Job is being started", PROGRESS_SECONDS)
    return BuildPlan(
        Plan(apply=apply, outcome=outcome, wake_after_seconds=PROGRESS_SECONDS), attempt
    )


def _wait_for_hardware(reason: str, message: str, attempt: int) -> BuildPlan:
    outcome = WaitingFor(reason, message, _HARDWARE_SECONDS)
    return BuildPlan(Plan(outcome=outcome, wake_after_seconds=_HARDWARE_SECONDS), attempt)


def _is_stranded(observed: BuildObserved, job: Object) -> bool:
    """Whether a Job waits for nodes that are gone while others have its hardware now."""
    nodes = observed.profile.nodes if observed.profile is not None else ()
    pinned = pinned_nodes(job)
    if not nodes or not pinned or not pinned.isdisjoint(nodes):
        return False
    return not any(_holds_node(pod) for pod in observed.pods)


def _holds_node(pod: Object) -> bool:
    is_over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return bool(pod.get("spec", {}).get("nodeName")) and not is_over


def _remake(job: Object, attempt: int) -> BuildPlan:
    """Take the Job away; the next pass makes it for the nodes of today."""
    outcome = WaitingFor(
        Reason.BUILD_PENDING, "the nodes of the build Job are gone; it is made anew", 1
    )
    plan = Plan(delete=(_job_reference(job),), outcome=outcome, wake_after_seconds=1)
    return BuildPlan(plan, attempt)


def _watch(observed: BuildObserved, attempt: int) -> BuildPlan:
    """The Job runs: tell how far, or why its pod does not start."""
    trouble = next((why for pod in observed.pods if (why := explain_pod(pod)) is not None), None)
    if trouble is not None:
        outcome = WaitingFor(trouble.reason, trouble.message, PROGRESS_SECONDS)
    elif observed.progress is not None:
        message = f"{observed.progress.step}: {observed.progress.message}"
        outcome = WaitingFor(Reason.BUILD_RUNNING, message, PROGRESS_SECONDS)
    else:
        outcome = WaitingFor(Reason.BUILD_RUNNING, "the build Job runs", PROGRESS_SECONDS)
    return BuildPlan(
        Plan(outcome=outcome, wake_after_seconds=PROGRESS_SECONDS),
        attempt,
        progress=observed.progress,
    )


def _finish(observed: BuildObserved, attempt: int) -> BuildPlan:
    """The Job ended well: its result counts once the registry shows it."""
    result = observed.result
    if isinstance(result, BuildResult):
        key = str(result.report.get("requestKey", ""))
        if key != observed.build.spec.request_key:
            message = f"the artifact at {result.digest} answers another request ({key[:16]})"
            failure = BuildFailure(Reason.DIGEST_MISMATCH, message, "Never")
            return BuildPlan(
                Plan(outcome=Stalled(failure.reason, message)), attempt, failure=failure
            )
        return BuildPlan(
            Plan(outcome=Settled(), wake_after_seconds=1),
            attempt,
            result=result,
            source_verified=True,
        )
    problem = result or RegistryProblem(
        Reason.REGISTRY_UNREACHABLE, "the finished build was not read from the registry yet"
    )
    outcome = WaitingFor(problem.reason, problem.message, PROGRESS_SECONDS)
    return BuildPlan(Plan(outcome=outcome, wake_after_seconds=PROGRESS_SECONDS), attempt)


def _fail(observed: BuildObserved, settings: Settings, attempt: int, job: Object) -> BuildPlan:
    """The Job failed: for good when the input is at fault, else again after a growing pause."""
    failure = _explain_failure(observed, job)
    if failure.retry == "Never":
        stalled = Stalled(failure.reason, failure.message)
        return BuildPlan(Plan(outcome=stalled, wake_after_seconds=1), attempt, failure=failure)
    pause = min(settings.build.retry_seconds * 2 ** (attempt - 1), _RETRY_CAP_SECONDS)
    due = _failed_at(job, observed.now) + timedelta(seconds=pause)
    remaining = (due - observed.now).total_seconds()
    if remaining > 0:
        message = f"{failure.message} (attempt {attempt} failed; next at {due:%H:%M:%S} UTC)"
        waiting = WaitingFor(failure.reason, message, remaining)
        return BuildPlan(
            Plan(outcome=waiting, wake_after_seconds=remaining),
            attempt,
            failure=BuildFailure(failure.reason, message, "Backoff"),
        )
    following = _start(observed, settings, attempt + 1)
    return BuildPlan(
        Plan(
            apply=following.plan.apply,
            delete=(_job_reference(job),) if following.plan.apply else (),
            outcome=following.plan.outcome,
            notes=(f"attempt {attempt} failed: {failure.message}",),
            wake_after_seconds=following.plan.wake_after_seconds,
        ),
        attempt + 1 if following.plan.apply else attempt,
    )


def _explain_failure(observed: BuildObserved, job: Object) -> BuildFailure:
    """From the pod's own words, else from how it ended, else from the Job's condition."""
    condition = _condition(job, "Failed") or {}
    for pod in sorted(observed.pods, key=_ended_at, reverse=True):
        said = _parse_message(termination_message(pod, names.BUILD_CONTAINER))
        if said is None:
            continue
        reason = str(said.get("reason", ""))
        retry: Literal["Never", "Backoff"] = "Never" if _exit_code(pod) == 42 else "Backoff"
        known = reason if reason in _KNOWN_REASONS else Reason.BUILD_FAILED
        return BuildFailure(known, str(said.get("message", "the build failed"))[:1024], retry)
    if condition.get("reason") == "DeadlineExceeded":
        return BuildFailure(
            Reason.DEADLINE_EXCEEDED,
            "the build did not end before its deadline; give it more CPU or raise "
            "build.deadlineSeconds in the settings",
            "Backoff",
        )
    killed = next((pod for pod in observed.pods if _was_out_of_memory(pod)), None)
    if killed is not None:
        return BuildFailure(
            Reason.OUT_OF_MEMORY,
            "the build ran out of memory; raise spec.serving.resources.limits.memory",
            "Backoff",
        )
    message = str(condition.get("message") or "the build Job failed without a message")
    return BuildFailure(Reason.BUILD_FAILED, message, "Backoff")


def _retire(observed: BuildObserved, settings: Settings, outcome: Outcome) -> Plan:
    """The end stands in the status: finished Jobs may now go."""
    jobs = [
        _with_ttl(job, settings.build.finished_ttl_seconds)
        for job in observed.jobs
        if _job_end(job) is not None and "ttlSecondsAfterFinished" not in job["spec"]
    ]
    return Plan(apply=tuple(jobs), outcome=outcome)


def _with_ttl(job: Object, seconds: int) -> Manifest:
    """The live Job with a time to live; its template is immutable, so it is sent as it is."""
    meta = job["metadata"]
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta.get("labels", {})),
            "ownerReferences": list(meta.get("ownerReferences", [])),
        },
        "spec": {**job["spec"], "ttlSecondsAfterFinished": seconds},
    }


def _job_end(job: Object) -> str | None:
    """`Complete` or `Failed` once the Job has ended."""
    for kind in ("Complete", "Failed"):
        if _condition(job, kind) is not None:
            return kind
    return None


def _condition(job: Object, kind: str) -> Mapping[str, Any] | None:
    conditions: list[Mapping[str, Any]] = job.get("status", {}).get("conditions", [])
    return next(
        (c for c in conditions if c.get("type") == kind and c.get("status") == "True"), None
    )


def _failed_at(job: Object, now: datetime) -> datetime:
    condition = _condition(job, "Failed")
    text = condition.get("lastTransitionTime") if condition else None
    return datetime.fromisoformat(text) if isinstance(text, str) else now


def _job_reference(job: Object) -> ObjectRef:
    meta = job["metadata"]
    return ObjectRef("batch/v1", "Job", meta["namespace"], meta["name"], meta.get("uid"))


def _parse_message(message: str | None) -> Mapping[str, Any] | None:
    if not message:
        return None
    try:
        said = json.loads(message)
    except ValueError:
        return None
    return said if isinstance(said, dict) and "reason" in said else None


def _terminated(pod: Object) -> Mapping[str, Any]:
    for status in pod.get("status", {}).get("containerStatuses", []):
        state: Mapping[str, Any] = status.get("state", {}).get("terminated") or {}
        if status.get("name") == names.BUILD_CONTAINER and state:
            return state
    return {}


def _ended_at(pod: Object) -> str:
    """When a pod's container ended, as text that sorts by time."""
    return str(_terminated(pod).get("finishedAt") or "")


def _exit_code(pod: Object) -> int | None:
    code = _terminated(pod).get("exitCode")
    return code if isinstance(code, int) else None


def _was_out_of_memory(pod: Object) -> bool:
    state = _terminated(pod)
    return state.get("reason") == "OOMKilled"
