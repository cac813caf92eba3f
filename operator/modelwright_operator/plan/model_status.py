"""The status of an InferenceModel, computed once from what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.api.inference_model import (
    HistoryEntry,
    InferenceModelStatus,
    ModelSummary,
    ProfileStatus,
    ServedArtifact,
)
from modelwright_operator.plan.conditions import (
    SOURCE_REASONS,
    Finding,
    build_conditions,
    progress_findings,
    timestamp,
)
from modelwright_operator.plan.resolve import resolve_scaling
from modelwright_operator.plan.serve import service_url
from modelwright_operator.plan.tables import MAX_ROWS
from modelwright_operator.plan.types import (
    Applied,
    Fault,
    Outcome,
    Settled,
    Stalled,
    Waiting,
)
from modelwright_operator.plan.workload import (
    Replicas,
    check_scaling,
    check_workload,
    count_replicas,
    latest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from modelwright_operator.api.variants import VariantRow
    from modelwright_operator.plan.model import ModelPlan
    from modelwright_operator.plan.observed import BuildView, ModelObserved
    from modelwright_operator.settings import Settings

MAX_HISTORY = 10

# Waiting that is progress; every other reason to wait is a problem.
_PROGRESS_REASONS = frozenset(
    {Reason.PENDING, Reason.BUILD_PENDING, Reason.BUILD_RUNNING, Reason.ROLLING_OUT}
)


def build_model_status(
    observed: ModelObserved,
    plan: ModelPlan,
    applied: Applied,
    settings: Settings,
) -> InferenceModelStatus:
    """Everything a person sees of a model, from the plan and what came of it."""
    previous = observed.model.status
    deployment = latest(applied, "Deployment", observed.deployment) if plan.serves else None
    replicas = count_replicas(deployment)
    findings = tuple(_findings(observed, plan, applied))
    rows = _rows(observed, plan)
    served = plan.served
    return InferenceModelStatus(
        observed_generation=observed.model.id.generation,
        conditions=build_conditions(
            findings,
            previous.conditions or (),
            generation=observed.model.id.generation,
            now=observed.now,
        ),
        url=service_url(observed.model, settings.cluster_domain) if served else None,
        summary=_summary(findings[0], served, rows, replicas),
        replicas=replicas.wanted,
        ready_replicas=replicas.available,
        profiles=tuple(_profile(entry, rows) for entry in served),
        serving=served,
        builds=plan.retained,
        variants=rows,
        history=_history(observed, plan, observed.now),
    )


def _findings(observed: ModelObserved, plan: ModelPlan, applied: Applied) -> Iterator[Finding]:
    """Conditions in their fixed order; Ready repeats the first that fails."""
    source = _check_source(observed, plan)
    built = _check_built(plan)
    parts = [built]
    if plan.serves and observed.model.spec is not None:
        parts.append(check_workload(observed, latest(applied, "Deployment", observed.deployment)))
        autoscaler = latest(applied, "HorizontalPodAutoscaler", observed.autoscaler)
        scaling = resolve_scaling(observed.model.spec)
        if plan.served:
            parts.append(check_scaling(scaling, autoscaler))
    fault = _check_faults(applied.faults)
    ready = _check_ready(plan, parts, fault)
    yield ready
    yield from progress_findings(_progress(plan, ready, fault))
    yield source
    yield from parts


def _check_ready(plan: ModelPlan, parts: Sequence[Finding], fault: Finding | None) -> Finding:
    failing = fault or next(
        (
            part
            for part in parts
            if part.status != "True" and part.type != ConditionType.SCALING_READY
        ),
        None,
    )
    if plan.suspended:
        status = "True" if failing is None else "False"
        message = "spec.suspend is set: nothing is changed"
        if failing is not None:
            message += f"; {failing.reason}: {failing.message}"
        return _ready(status, Reason.SUSPENDED, message)
    if failing is not None:
        return _ready(failing.status, failing.reason, failing.message + _still_serving(plan, parts))
    if not plan.serves:
        return _ready("True", Reason.BUILD_ONLY, "built; spec.serving.mode is None")
    variant = plan.served[0].variant if plan.served else ""
    return _ready("True", Reason.SERVING, f"serving {variant} of {plan.served[0].build}")


def _still_serving(plan: ModelPlan, parts: Sequence[Finding]) -> str:
    if plan.is_current or not plan.served:
        return ""
    works = any(
        part.type == ConditionType.WORKLOAD_READY and part.status == "True" for part in parts
    )
    return f"; {plan.served[0].build} keeps serving" if works else ""


def _progress(plan: ModelPlan, ready: Finding, fault: Finding | None) -> Outcome:
    """What kstatus should see: still moving, stuck on a person, or neither."""
    if plan.suspended or ready.status == "True":
        return Settled()
    if fault is None and isinstance(plan.built, Stalled):
        return plan.built
    if ready.reason == Reason.AWAITING_APPROVAL:
        return Settled()
    if ready.reason in (Reason.FORBIDDEN, Reason.INVALID_OBJECT):
        return Stalled(ready.reason, ready.message)
    return Waiting(ready.reason, ready.message)


def _check_source(observed: ModelObserved, plan: ModelPlan) -> Finding:
    builds = [build for item in plan.wanted if (build := observed.build(item.name)) is not None]
    for build in builds:
        failure = build.status.failure
        if failure is not None and failure.reason in SOURCE_REASONS:
            return _source("False", failure.reason, failure.message)
    if isinstance(plan.built, Stalled) and plan.built.reason in SOURCE_REASONS:
        return _source("False", plan.built.reason, plan.built.message)
    if any(build.status.digest for build in builds):
        return _source("True", Reason.VERIFIED, "the sources have the digests the spec names")
    return _source("Unknown", Reason.PENDING, "the build verifies the sources' digests")


def _check_built(plan: ModelPlan) -> Finding:
    match plan.built:
        case Settled():
            names = ", ".join(dict.fromkeys(item.name for item in plan.wanted))
            return _built("True", Reason.BUILD_SUCCEEDED, f"{names or 'the build'} is done")
        case Stalled(reason, message):
            return _built("False", reason, message)
        case Waiting(reason, message):
            status = "Unknown" if reason in _PROGRESS_REASONS else "False"
            return _built(status, reason, message)


def _check_faults(faults: Sequence[Fault]) -> Finding | None:
    """A write that failed is the most urgent thing to say."""
    fault = next((item for item in faults if item.kind != "Gone"), None)
    if fault is None:
        return None
    target = f"{fault.ref.kind} {fault.ref.name}"
    match fault.kind:
        case "Forbidden":
            return _ready("False", Reason.FORBIDDEN, f"{target}: {fault.message}")
        case "Invalid":
            return _ready("False", Reason.INVALID_OBJECT, f"{target}: {fault.message}")
        case _:
            return _ready("Unknown", Reason.PENDING, f"{target}: {fault.message}")


def _rows(observed: ModelObserved, plan: ModelPlan) -> tuple[VariantRow, ...]:
    """The candidates of the builds asked for, once any of them has a result."""
    rows: list[VariantRow] = []
    for item in plan.wanted:
        build = observed.build(item.name)
        if build is not None:
            rows.extend(build.status.variants or ())
    return tuple(rows[:MAX_ROWS]) or tuple(observed.model.status.variants or ())


def _profile(entry: ServedArtifact, rows: Sequence[VariantRow]) -> ProfileStatus:
    row = _find_row(entry, rows)
    return ProfileStatus(
        name=entry.profile,
        build=entry.build,
        repository=entry.repository,
        digest=entry.digest,
        runtime_image=entry.runtime_image,
        variant=entry.variant,
        drop=row.drop if row else None,
        drop_low=row.drop_low if row else None,
        drop_high=row.drop_high if row else None,
        p50_micros=row.p50_micros if row else None,
        p99_micros=row.p99_micros if row else None,
        speedup=row.speedup if row else None,
    )


def _find_row(entry: ServedArtifact, rows: Sequence[VariantRow]) -> VariantRow | None:
    return next(
        (row for row in rows if row.name == entry.variant and row.profile == entry.profile), None
    )


def _summary(
    ready: Finding,
    served: Sequence[ServedArtifact],
    rows: Sequence[VariantRow],
    replicas: Replicas,
) -> ModelSummary:
    """The flat strings `kubectl get` prints."""
    row = _find_row(served[0], rows) if served else None
    return ModelSummary(
        ready=ready.status,
        reason=ready.reason,
        variant=served[0].variant if served else None,
        speedup=f"{row.speedup}x" if row and row.speedup else None,
        drop=_drop(row),
        p99=f"{row.p99_micros / 1000:.2f}ms" if row and row.p99_micros else None,
        replicas=f"{replicas.available}/{replicas.wanted}" if served else None,
    )


def _drop(row: VariantRow | None) -> str | None:
    if row is None or row.drop is None:
        return None
    return f"{row.drop} (≤{row.drop_high})" if row.drop_high else row.drop


def _history(observed: ModelObserved, plan: ModelPlan, now: datetime) -> tuple[HistoryEntry, ...]:
    """Decisions, newest first: what is served changed, or a build failed for good."""
    entries = list(observed.model.status.history or ())
    decision = _decision(observed, plan)
    if decision is not None and not (
        entries and (entries[0].reason, entries[0].message) == decision
    ):
        reason, message = decision
        entries.insert(0, HistoryEntry(time=timestamp(now), reason=reason, message=message))
    return tuple(entries[:MAX_HISTORY])


def _decision(observed: ModelObserved, plan: ModelPlan) -> tuple[str, str] | None:
    before = tuple(observed.model.status.serving or ())
    if plan.served != before and plan.served:
        return Reason.SERVING, _change(before, plan.served, observed)
    if isinstance(plan.built, Stalled):
        return plan.built.reason, plan.built.message[:512]
    return None


def _change(
    before: Sequence[ServedArtifact], after: Sequence[ServedArtifact], observed: ModelObserved
) -> str:
    new = after[0]
    build: BuildView | None = observed.build(new.build)
    why = ""
    if build is not None:
        row = _find_row(new, tuple(build.status.variants or ()))
        why = f": {row.why}" if row is not None and row.why else ""
    text = f"{new.variant} of {new.build}"
    if before:
        text += f" replaces {before[0].variant} of {before[0].build}"
    return f"{text}{why}"[:512]


def _ready(status: str, reason: str, message: str) -> Finding:
    return _finding(ConditionType.READY, status, reason, message)


def _source(status: str, reason: str, message: str) -> Finding:
    return _finding(ConditionType.SOURCE_VERIFIED, status, reason, message)


def _built(status: str, reason: str, message: str) -> Finding:
    return _finding(ConditionType.BUILT, status, reason, message)


def _finding(kind: ConditionType, status: str, reason: str, message: str) -> Finding:
    match status:
        case "True" | "False" | "Unknown":
            return Finding(kind, status, reason, message)
        case _:
            raise ValueError(f"{status!r} is no condition status")
