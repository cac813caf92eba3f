"""The status of a ModelBuild, computed once from what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.api.model_build import (
    BuildFailureStatus,
    BuildProgress,
    ModelBuildStatus,
)
from modelwright_operator.plan import names
from modelwright_operator.plan.conditions import (
    SOURCE_REASONS,
    Finding,
    build_conditions,
    progress_findings,
    timestamp,
)
from modelwright_operator.plan.tables import build_rows
from modelwright_operator.plan.types import Applied, Outcome, Settled, Stalled, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_operator.plan.build import BuildPlan
    from modelwright_operator.plan.observed import BuildObserved

_RUNNING_REASONS = frozenset({Reason.PENDING, Reason.BUILD_PENDING, Reason.BUILD_RUNNING})


def build_build_status(
    observed: BuildObserved, plan: BuildPlan, applied: Applied
) -> ModelBuildStatus:
    """Everything a person sees of a build."""
    previous = observed.build.status
    now = timestamp(observed.now)
    outcome = _outcome(plan, applied)
    digest = plan.result.digest if plan.result else previous.digest
    ended = digest is not None or isinstance(outcome, Stalled)
    rows = previous.variants
    chosen = previous.chosen
    if plan.result is not None:
        rows = build_rows(plan.result.report, observed.build.spec.profile)
        chosen = str(plan.result.report.get("chosen", ""))
    return ModelBuildStatus(
        observed_generation=observed.build.id.generation,
        conditions=build_conditions(
            _findings(plan, outcome, digest),
            previous.conditions or (),
            generation=observed.build.id.generation,
            now=observed.now,
        ),
        attempts=plan.attempt,
        job=names.job_name(observed.build.id.name, plan.attempt),
        progress=None if ended else _progress(observed, plan),
        digest=digest,
        chosen=chosen,
        variants=rows,
        start_time=previous.start_time or now,
        completion_time=(previous.completion_time or now) if ended else None,
        failure=_failure(plan),
    )


def _outcome(plan: BuildPlan, applied: Applied) -> Outcome:
    """The plan's outcome, unless a write failed: then that is what a person must know."""
    if plan.result is not None:
        return Settled()
    for fault in applied.faults:
        target = f"{fault.ref.kind} {fault.ref.name}: {fault.message}"
        if fault.kind == "Forbidden":
            return Waiting(Reason.FORBIDDEN, target)
        if fault.kind == "Invalid":
            return Stalled(Reason.INVALID_OBJECT, target)
    return plan.plan.outcome


def _findings(plan: BuildPlan, outcome: Outcome, digest: str | None) -> Iterator[Finding]:
    match outcome:
        case Settled():
            message = f"built {digest}"
            yield Finding(ConditionType.READY, "True", Reason.BUILD_SUCCEEDED, message)
        case Stalled(reason, message):
            yield Finding(ConditionType.READY, "False", reason, message)
        case Waiting(reason, message):
            running = reason in _RUNNING_REASONS
            yield Finding(ConditionType.READY, "Unknown" if running else "False", reason, message)
    yield from progress_findings(outcome)
    yield _check_source(plan, outcome)


def _check_source(plan: BuildPlan, outcome: Outcome) -> Finding:
    kind = ConditionType.SOURCE_VERIFIED
    if plan.source_verified:
        return Finding(kind, "True", Reason.VERIFIED, "the sources have the requested digests")
    if not isinstance(outcome, Settled) and outcome.reason in SOURCE_REASONS:
        return Finding(kind, "False", outcome.reason, outcome.message)
    return Finding(kind, "Unknown", Reason.PENDING, "the build verifies the sources' digests")


def _progress(observed: BuildObserved, plan: BuildPlan) -> BuildProgress | None:
    progress = plan.progress
    if progress is None:
        return observed.build.status.progress
    return BuildProgress(
        step=progress.step,
        percent=max(0, min(100, progress.percent)),
        message=progress.message[:256],
        remaining_seconds=progress.remaining_seconds,
    )


def _failure(plan: BuildPlan) -> BuildFailureStatus | None:
    if plan.failure is None:
        return None
    return BuildFailureStatus(
        reason=plan.failure.reason, message=plan.failure.message[:1024], retry=plan.failure.retry
    )
