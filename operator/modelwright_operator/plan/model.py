"""The plan of one InferenceModel: which builds, which artifact is served, by how many servers.

The order of the argument: what is asked (resolve) -> which builds that takes (builds) -> which
artifacts are good to serve (here) -> the objects that serve them (serve, scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelwright_operator.api.conditions import Reason
from modelwright_operator.api.inference_model import InferenceModelSpec, ServedArtifact
from modelwright_operator.plan import names
from modelwright_operator.plan.builds import (
    BuildsPlan,
    WantedBuild,
    plan_builds,
    resolve_wanted,
)
from modelwright_operator.plan.resolve import (
    Targets,
    resolve_resources,
    resolve_scaling,
    resolve_targets,
)
from modelwright_operator.plan.scale import build_autoscaler, resolve_replicas
from modelwright_operator.plan.serve import (
    build_deployment,
    build_disruption_budget,
    build_service,
    build_service_account,
)
from modelwright_operator.plan.types import (
    Manifest,
    ObjectRef,
    Outcome,
    Plan,
    Settled,
    Stalled,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelwright_operator.plan.observed import BuildView, ModelObserved, Object
    from modelwright_operator.settings import Settings

# Claims are not watched, so a label that comes is only seen by looking.
_CLAIM_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """The plan, and the decisions behind it that the status tells."""

    plan: Plan
    built: Outcome
    wanted: tuple[WantedBuild, ...] = ()
    served: tuple[ServedArtifact, ...] = ()
    retained: tuple[str, ...] = ()
    is_current: bool = False
    serves: bool = True
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class _Choice:
    """What to serve now, and whether that is already what the spec asks for."""

    served: tuple[ServedArtifact, ...]
    outcome: Outcome
    is_current: bool


def plan_model(observed: ModelObserved, settings: Settings) -> ModelPlan:
    """Decide everything about one model; pure, total and idempotent."""
    model = observed.model
    if model.spec is None:
        return _unusable(observed, Reason.INVALID_OBJECT, model.problem or "spec does not parse")
    if observed.refused_claims:
        claims = ", ".join(observed.refused_claims)
        return _unusable(
            observed,
            Reason.SOURCE_DENIED,
            f"PersistentVolumeClaim {claims} is missing or not released as a source; label it "
            f"{names.SOURCE_PVC_LABEL}=true",
            wake_after_seconds=_CLAIM_SECONDS,
        )
    targets = resolve_targets(model.spec, observed.profiles)
    wanted = resolve_wanted(model, observed.profiles, settings)
    choice = _choose(observed, model.spec, targets, wanted)
    serves = _serves(model.spec)
    if model.spec.suspend:
        return ModelPlan(
            Plan(outcome=choice.outcome),
            built=choice.outcome,
            wanted=wanted,
            served=_previous(observed),
            retained=tuple(model.status.builds or ()),
            is_current=choice.is_current,
            serves=serves,
            suspended=True,
        )
    builds = plan_builds(observed, wanted, settings)
    return ModelPlan(
        _assemble(observed, model.spec, builds, choice, settings),
        built=choice.outcome,
        wanted=wanted,
        served=choice.served if serves else (),
        retained=builds.retained,
        is_current=choice.is_current,
        serves=serves,
    )


def _assemble(
    observed: ModelObserved,
    spec: InferenceModelSpec,
    builds: BuildsPlan,
    choice: _Choice,
    settings: Settings,
) -> Plan:
    apply, delete = _plan_serving(observed, spec, choice.served, settings)
    return Plan(
        apply=(*builds.apply, *apply),
        delete=(*builds.delete, *delete),
        outcome=choice.outcome,
        wake_after_seconds=_wake_after(choice.outcome),
    )


def _choose(
    observed: ModelObserved,
    spec: InferenceModelSpec,
    targets: Targets,
    wanted: Sequence[WantedBuild],
) -> _Choice:
    """Serve the asked-for builds once all of them have finished; until then the last good ones."""
    previous = _previous(observed)
    blocked = _check_targets(targets, observed)
    if blocked is not None:
        return _Choice(previous, blocked, is_current=False)
    found = [observed.build(item.name) for item in wanted]
    unfinished = _first_unfinished(wanted, found)
    if unfinished is not None:
        return _Choice(previous, unfinished, is_current=False)
    good = tuple(build for build in found if build is not None and build.status.digest)
    refused = _check_variant(spec, good) or _check_approval(spec, good) if good else None
    served = tuple(_served(build, spec) for build in good) if refused is None else ()
    if len(good) < len(found):
        # What serves goes on; where nothing does yet, the good part is better than nothing.
        return _Choice(previous or served, _failure(found), is_current=False)
    if refused is not None:
        return _Choice(previous, refused, is_current=False)
    return _Choice(served, Settled(), is_current=True)


def _check_targets(targets: Targets, observed: ModelObserved) -> Outcome | None:
    if targets.missing:
        known = ", ".join(profile.name for profile in observed.profiles) or "none"
        return Stalled(
            Reason.UNKNOWN_PROFILE,
            f"no HardwareProfile named {', '.join(targets.missing)}; there are: {known}",
        )
    if not targets.profiles:
        return Waiting(
            Reason.NO_MATCHING_NODE,
            "no node has been probed yet; a hardware profile appears when the first node is Ready",
            after_seconds=30,
        )
    empty = [profile.name for profile in targets.profiles if not profile.nodes]
    if len(empty) == len(targets.profiles):
        return Waiting(
            Reason.NO_MATCHING_NODE,
            f"no Ready node matches hardware profile {', '.join(empty)}",
            after_seconds=60,
        )
    return None


def _first_unfinished(
    wanted: Sequence[WantedBuild], found: Sequence[BuildView | None]
) -> Outcome | None:
    for item, build in zip(wanted, found, strict=True):
        if build is None:
            return Waiting(Reason.BUILD_PENDING, f"{item.name} for {item.profile.name} is planned")
        if build.status.digest or _has_failed_for_good(build):
            continue
        return _progress(item, build)
    return None


def _progress(item: WantedBuild, build: BuildView) -> Outcome:
    failure = build.status.failure
    if failure is not None:
        return Waiting(failure.reason, f"{build.id.name}: {failure.message}")
    stage = f"{build.id.name} for {item.profile.name}"
    ready = next((c for c in build.status.conditions or () if c.type == "Ready"), None)
    if ready is None and build.status.progress is None:
        return Waiting(Reason.BUILD_PENDING, f"{stage} is planned")
    if ready is not None and ready.reason not in (Reason.BUILD_RUNNING, Reason.PENDING):
        return Waiting(ready.reason, f"{stage}: {ready.message}")
    progress = build.status.progress
    if progress is None:
        return Waiting(Reason.BUILD_RUNNING, f"{stage} is running")
    return Waiting(Reason.BUILD_RUNNING, f"{stage}: {progress.step}, {progress.percent} %")


def _failure(found: Sequence[BuildView | None]) -> Outcome:
    failed = next(build for build in found if build is not None and build.status.failure)
    failure = failed.status.failure
    assert failure is not None  # noqa: S101 - chosen for it
    return Stalled(failure.reason, f"{failed.id.name}: {failure.message}")


def _has_failed_for_good(build: BuildView) -> bool:
    failure = build.status.failure
    return failure is not None and failure.retry == "Never"


def _check_variant(spec: InferenceModelSpec, good: Sequence[BuildView]) -> Outcome | None:
    asked = spec.serving.variant if spec.serving else None
    if asked is None:
        return None
    kept = sorted({row.name for build in good for row in build.status.variants or () if row.kept})
    if asked in kept:
        return None
    return Stalled(
        Reason.UNKNOWN_VARIANT,
        f"spec.serving.variant {asked!r} is none of the kept variants: {', '.join(kept)}",
    )


def _check_approval(spec: InferenceModelSpec, good: Sequence[BuildView]) -> Outcome | None:
    optimization = spec.optimization
    if optimization is None or optimization.apply != "Manual":
        return None
    digests = [build.status.digest for build in good]
    if optimization.approved_digest in digests:
        return None
    return Waiting(
        Reason.AWAITING_APPROVAL,
        f"{good[0].id.name} chose {good[0].status.chosen}; to serve it set "
        f"spec.optimization.approvedDigest to {digests[0]}",
    )


def _served(build: BuildView, spec: InferenceModelSpec) -> ServedArtifact:
    pinned = spec.serving.variant if spec.serving else None
    return ServedArtifact(
        profile=build.spec.profile,
        build=build.id.name,
        repository=build.spec.repository,
        digest=build.status.digest,
        runtime_image=build.spec.images.runtime,
        variant=pinned or build.status.chosen,
    )


def _previous(observed: ModelObserved) -> tuple[ServedArtifact, ...]:
    return tuple(observed.model.status.serving or ())


def _serves(spec: InferenceModelSpec) -> bool:
    return spec.serving is None or spec.serving.mode != "None"


def _plan_serving(
    observed: ModelObserved,
    spec: InferenceModelSpec,
    served: Sequence[ServedArtifact],
    settings: Settings,
) -> tuple[tuple[Manifest, ...], tuple[ObjectRef, ...]]:
    """The objects that serve, and those that no longer should exist."""
    if not _serves(spec):
        return (), _prune(observed, ())
    if not served:
        return (), ()
    apply = _build_serving(observed, spec, served, settings)
    return apply, _prune(observed, apply)


def _build_serving(
    observed: ModelObserved,
    spec: InferenceModelSpec,
    served: Sequence[ServedArtifact],
    settings: Settings,
) -> tuple[Manifest, ...]:
    model = observed.model
    scaling = resolve_scaling(spec)
    deployment = build_deployment(
        model,
        served,
        pinned=_pinned(observed, served),
        resources=resolve_resources(spec, settings),
        replicas=resolve_replicas(scaling, observed.deployment, observed.autoscaler),
        settings=settings,
    )
    optional = (
        build_autoscaler(model, scaling),
        build_disruption_budget(model) if scaling.minimum > 1 else None,
    )
    return (
        build_service_account(model),
        build_service(model),
        deployment,
        *(manifest for manifest in optional if manifest is not None),
    )


def _pinned(observed: ModelObserved, served: Sequence[ServedArtifact]) -> str | None:
    """The variant a user put in the place of the chosen one, if any.

    Each artifact knows its own choice; one profile's must not be forced on another's.
    """
    for entry in served:
        build = observed.build(entry.build)
        if build is not None and build.status.chosen not in (None, entry.variant):
            return entry.variant
    return None


def _prune(observed: ModelObserved, wanted: Sequence[Manifest]) -> tuple[ObjectRef, ...]:
    """Children that live but are not wanted any more."""
    keep = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    return tuple(
        _reference(child)
        for child in observed.children
        if (child["kind"], child["metadata"]["name"]) not in keep
    )


def _reference(live: Object) -> ObjectRef:
    meta = live["metadata"]
    return ObjectRef(
        live["apiVersion"], live["kind"], meta.get("namespace"), meta["name"], meta.get("uid")
    )


def _wake_after(outcome: Outcome) -> float | None:
    return outcome.after_seconds if isinstance(outcome, Waiting) else None


def _unusable(
    observed: ModelObserved, reason: str, message: str, wake_after_seconds: float | None = None
) -> ModelPlan:
    """A spec nobody can act on: touch nothing, keep what serves."""
    outcome = Stalled(reason, message)
    return ModelPlan(
        Plan(outcome=outcome, wake_after_seconds=wake_after_seconds),
        built=outcome,
        served=_previous(observed),
        retained=tuple(observed.model.status.builds or ()),
    )
