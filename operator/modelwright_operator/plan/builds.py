"""Which ModelBuilds a model needs, who owns them, and which are kept for a way back.

A build is content-addressed and shared: it is planned from all models of the namespace that ask
for it or retain it, and written with the full list of owners, because two applies by one field
manager take each other's ownerReference away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.plan import names
from modelwright_operator.plan.resolve import resolve_request, resolve_targets
from modelwright_operator.plan.types import Manifest, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelwright_artifact.request import BuildRequest
    from modelwright_operator.plan.observed import BuildView, ModelObserved, ModelView, ProfileView
    from modelwright_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class WantedBuild:
    """A build a model asks for now, for one profile."""

    name: str
    profile: ProfileView
    request: BuildRequest


@dataclass(frozen=True, slots=True)
class BuildsPlan:
    """ModelBuilds to write and to delete, and the names the model retains from now on."""

    apply: tuple[Manifest, ...]
    delete: tuple[ObjectRef, ...]
    retained: tuple[str, ...]


def resolve_wanted(
    model: ModelView, profiles: Sequence[ProfileView], settings: Settings
) -> tuple[WantedBuild, ...]:
    """The builds a model asks for, in the order of its target profiles."""
    if model.spec is None:
        return ()
    wanted = []
    for profile in resolve_targets(model.spec, profiles).profiles:
        request = resolve_request(model.spec, profile, settings)
        wanted.append(WantedBuild(names.build_name(request.key()), profile, request))
    return tuple(wanted)


def plan_builds(
    observed: ModelObserved, wanted: Sequence[WantedBuild], settings: Settings
) -> BuildsPlan:
    """Write what is wanted, keep the last good ones, let go of the rest."""
    retained = _retained(observed, wanted, settings.build.history_limit)
    claims = _claims(observed, retained, settings)
    apply: list[Manifest] = []
    delete: list[ObjectRef] = []
    for item in {item.name: item for item in wanted}.values():
        existing = observed.build(item.name)
        if existing is not None and _is_stale(existing, item, observed.model):
            delete.append(_reference(existing))
        else:
            apply.append(_build_manifest(item, observed, claims, settings))
    for build in observed.builds:
        if observed.model.id.uid not in build.owner_uids or build.id.name in retained:
            continue
        if claims.get(build.id.name):
            apply.append(_rewritten(build, claims[build.id.name]))
        else:
            delete.append(_reference(build))
    return BuildsPlan(tuple(apply), tuple(delete), retained)


def _retained(
    observed: ModelObserved, wanted: Sequence[WantedBuild], limit: int
) -> tuple[str, ...]:
    """Wanted and served builds always; then the newest good ones up to `limit`."""
    names_wanted = [item.name for item in wanted]
    served = [entry.build for entry in observed.model.status.serving or ()]
    owned = [build for build in observed.builds if observed.model.id.uid in build.owner_uids]
    good = sorted(
        (build for build in owned if build.status.digest),
        key=lambda build: build.status.completion_time or "",
        reverse=True,
    )
    kept = dict.fromkeys([*names_wanted, *served])
    for build in good[:limit]:
        kept.setdefault(build.id.name)
    return tuple(kept)


def _claims(
    observed: ModelObserved, retained: Sequence[str], settings: Settings
) -> Mapping[str, list[ModelView]]:
    """For each build, the models that ask for it or retain it, in a stable order."""
    claims: dict[str, list[ModelView]] = {}
    everyone = {model.id.name: model for model in (*observed.siblings, observed.model)}
    for _, model in sorted(everyone.items()):
        if model.id.uid == observed.model.id.uid:
            held = set(retained)
        else:
            held = {item.name for item in resolve_wanted(model, observed.profiles, settings)}
            held |= set(model.status.builds or ())
            # A sibling lets go of its builds itself; its status may not tell yet what it holds.
            held |= {b.id.name for b in observed.builds if model.id.uid in b.owner_uids}
        for name in held:
            claims.setdefault(name, []).append(model)
    return claims


def _build_manifest(
    wanted: WantedBuild,
    observed: ModelObserved,
    claims: Mapping[str, list[ModelView]],
    settings: Settings,
) -> Manifest:
    owners = claims[wanted.name]
    existing = observed.build(wanted.name)
    if existing is not None:
        return _rewritten(existing, owners)
    first = owners[0].id
    return _manifest(
        wanted.name,
        observed.model.id.namespace,
        owners,
        {
            "requestKey": wanted.request.key(),
            "model": first.name,
            "request": wanted.request.to_json(),
            "profile": wanted.profile.name,
            "repository": f"{settings.artifact_repository}/{first.namespace}/"
            f"{names.child_name(first.name)}",
            "images": {
                "optimizer": settings.images.optimizer,
                "runtime": settings.images.runtime,
            },
        },
    )


def _is_stale(build: BuildView, wanted: WantedBuild, model: ModelView) -> bool:
    """Failed, and the model it was made for has changed an address since.

    Addresses are no part of the request key, and a build's spec is immutable: so the build is
    made anew. Only for the model it names, or two models would undo each other's builds.
    """
    return (
        build.status.failure is not None
        and build.spec.model == model.id.name
        and _addresses(build.raw_spec["request"]) != _addresses(wanted.request.to_json())
    )


def _addresses(request: Mapping[str, Any]) -> list[str]:
    sources = (request.get(name) for name in ("model", "evaluation", "calibration"))
    return [source["uri"] for source in sources if source is not None]


def _rewritten(build: BuildView, owners: Sequence[ModelView]) -> Manifest:
    """The same build, immutable spec untouched, with its owners of today."""
    return _manifest(build.id.name, build.id.namespace, owners, dict(build.raw_spec))


def _manifest(
    name: str, namespace: str, owners: Sequence[ModelView], spec: Mapping[str, object]
) -> Manifest:
    references = [
        names.owner_reference("InferenceModel", owner.id.name, owner.id.uid, controller=False)
        for owner in owners
    ]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelBuild",
        "metadata": names.metadata(name, namespace, names.build_labels(name), references),
        "spec": spec,
    }


def _reference(build: BuildView) -> ObjectRef:
    return ObjectRef(
        names.API_VERSION, "ModelBuild", build.id.namespace, build.id.name, build.id.uid
    )
