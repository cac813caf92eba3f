"""Everything the operator would create for a model, computed offline by the operator's own plans.

The later stage is planned as if every build had succeeded, with a symbolic digest in the place
of the one that only a build can give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus
from modelwright_operator.plan import names
from modelwright_operator.plan.build import plan_build
from modelwright_operator.plan.model import plan_model
from modelwright_operator.plan.observed import (
    BuildObserved,
    BuildView,
    Identity,
    ModelObserved,
    ModelView,
    ProfileView,
)
from modelwright_operator.plan.types import Settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from modelwright_operator.plan.types import Manifest, Outcome
    from modelwright_operator.settings import Settings

SYMBOLIC_DIGEST = "sha256:" + "0" * 64
SYMBOLIC_VARIANT = "chosen-by-the-build"


@dataclass(frozen=True, slots=True)
class Stage:
    """Objects that appear together, and when."""

    title: str
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """The stages, and what stands in their way."""

    stages: tuple[Stage, ...]
    outcome: Outcome


def preview_model(
    model: ModelView,
    profiles: Sequence[ProfileView],
    settings: Settings,
    now: datetime,
    siblings: Sequence[ModelView] = (),
) -> Preview:
    """Plan a model twice: with nothing built, and with everything built."""
    observed = ModelObserved(
        model=model, now=now, siblings=tuple(siblings), profiles=tuple(profiles)
    )
    first = plan_model(observed, settings)
    builds = [_view(manifest) for manifest in first.plan.apply if manifest["kind"] == "ModelBuild"]
    if not builds:
        return Preview((), first.plan.outcome)
    jobs = [job for build in builds for job in _plan_jobs(build, profiles, settings, now)]
    variant = _wanted_variant(model)
    done = tuple(_succeed(build, variant) for build in builds)
    second = plan_model(replace(observed, builds=done), settings)
    serving = tuple(item for item in second.plan.apply if item["kind"] != "ModelBuild")
    stages = (
        Stage("at once", (*first.plan.apply, *jobs)),
        Stage(f"once built; {SYMBOLIC_DIGEST} stands for the artifact's digest", serving),
    )
    outcome = second.plan.outcome
    return Preview(tuple(stage for stage in stages if stage.manifests), outcome)


def offline_settings() -> dict[str, Any]:
    """What an installation would decide, in words that show they are not from one."""
    return {
        "artifactRepository": "registry.example/modelwright",
        "images": {
            "optimizer": "registry.example/modelwright-optimizer",
            "runtime": "registry.example/modelwright-runtime",
        },
    }


def is_settled(preview: Preview) -> bool:
    """Whether nothing stands in the way."""
    return isinstance(preview.outcome, Settled)


def _plan_jobs(
    build: BuildView, profiles: Sequence[ProfileView], settings: Settings, now: datetime
) -> Iterator[Manifest]:
    profile = next(item for item in profiles if item.name == build.spec.profile)
    yield from plan_build(BuildObserved(build=build, now=now, profile=profile), settings).plan.apply


def _wanted_variant(model: ModelView) -> str:
    pinned = model.spec.serving.variant if model.spec and model.spec.serving else None
    return pinned or SYMBOLIC_VARIANT


def _view(manifest: Manifest) -> BuildView:
    meta = manifest["metadata"]
    uids = frozenset(owner["uid"] for owner in meta["ownerReferences"])
    return BuildView(
        id=Identity(meta["namespace"], meta["name"], f"<uid of {meta['name']}>", 1),
        spec=ModelBuildSpec.model_validate(manifest["spec"]),
        status=ModelBuildStatus(),
        owner_uids=uids,
        raw_spec=manifest["spec"],
    )


def _succeed(build: BuildView, variant: str) -> BuildView:
    row = {"profile": build.spec.profile, "name": variant, "kept": True}
    status = {"digest": SYMBOLIC_DIGEST, "chosen": variant, "variants": [row]}
    return replace(build, status=ModelBuildStatus.model_validate(status))


def placeholder_identity(raw: Manifest, namespace: str) -> dict[str, Any]:
    """The object as the API server would complete it: a namespace and an identity."""
    meta = {**raw.get("metadata", {})}
    meta.setdefault("namespace", namespace)
    meta.setdefault("uid", f"<uid of {meta.get('name', '')}>")
    meta.setdefault("generation", 1)
    return {"apiVersion": names.API_VERSION, **raw, "metadata": meta}
