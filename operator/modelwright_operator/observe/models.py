"""Gather everything the plan of one InferenceModel depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.observe.parse import (
    parse_build,
    parse_model,
    parse_profile,
    parse_sibling,
)
from modelwright_operator.plan import names
from modelwright_operator.plan.builds import resolve_wanted
from modelwright_operator.plan.observed import ModelObserved, ModelView, Object, ProfileView

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.plan.observed import BuildView
    from modelwright_operator.settings import Settings

CHILD_KINDS = (
    "ServiceAccount",
    "Service",
    "Deployment",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)


async def observe_model(
    raw: Object, store: Store, client: ApiClient, settings: Settings, now: datetime
) -> ModelObserved:
    """Read the caches; only the claims a spec names are asked of the API server."""
    model = parse_model(raw)
    profiles = list_profiles(store)
    return ModelObserved(
        model=model,
        now=now,
        siblings=tuple(_siblings(model, store)),
        builds=tuple(_builds(model, profiles, store, settings)),
        profiles=profiles,
        children=tuple(_children(model, store)),
        pods=_server_pods(model, store),
        refused_claims=await _refused_claims(model, client),
    )


def list_profiles(store: Store) -> tuple[ProfileView, ...]:
    """All hardware profiles, by name."""
    return tuple(parse_profile(raw).profile for raw in store.list("HardwareProfile"))


def _siblings(model: ModelView, store: Store) -> Iterator[ModelView]:
    """The other models of the namespace: builds are shared with them."""
    for raw in store.list("InferenceModel", model.id.namespace):
        if raw["metadata"].get("uid") == model.id.uid or is_deleting(raw):
            continue
        yield parse_sibling(raw)


def _builds(
    model: ModelView, profiles: Sequence[ProfileView], store: Store, settings: Settings
) -> Iterator[BuildView]:
    """The builds the model owns, and those it asks for whoever owns them."""
    found = {build["metadata"]["name"]: build for build in _owned_builds(model, store)}
    for item in resolve_wanted(model, profiles, settings):
        shared = store.get("ModelBuild", model.id.namespace, item.name)
        if shared is not None:
            found.setdefault(item.name, shared)
    for _, raw in sorted(found.items()):
        yield parse_build(raw)


def _owned_builds(model: ModelView, store: Store) -> Iterator[Object]:
    for build in store.owned_by(model.id.uid, "ModelBuild"):
        if build["metadata"].get("namespace") == model.id.namespace:
            yield build


def _children(model: ModelView, store: Store) -> Iterator[Object]:
    for child in store.owned_by(model.id.uid):
        if child["kind"] in CHILD_KINDS and not is_deleting(child):
            yield child


def _server_pods(model: ModelView, store: Store) -> tuple[Object, ...]:
    label = names.model_label(model.id.name)
    return store.of_model(model.id.namespace, label, "Pod")


async def _refused_claims(model: ModelView, client: ApiClient) -> tuple[str, ...]:
    """Claims that do not exist or that their owner did not release as sources."""
    refused = []
    for claim in _named_claims(model):
        found = await client.get("PersistentVolumeClaim", model.id.namespace, claim)
        labels = (found or {}).get("metadata", {}).get("labels", {})
        if labels.get(names.SOURCE_PVC_LABEL) != "true":
            refused.append(claim)
    return tuple(refused)


def _named_claims(model: ModelView) -> tuple[str, ...]:
    if model.spec is None:
        return ()
    sources = (model.spec.model, model.spec.evaluation, model.spec.calibration)
    claims = (
        source.uri.removeprefix("pvc://").partition("/")[0]
        for source in sources
        if source is not None and source.uri.startswith("pvc://")
    )
    return tuple(dict.fromkeys(claims))


def is_deleting(raw: Object) -> bool:
    """Whether an object is on its way out."""
    return "deletionTimestamp" in raw["metadata"]
