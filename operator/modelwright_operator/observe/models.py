"""Gather everything the plan of one InferenceModel depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.observe.parse import parse_build, parse_model, parse_profile
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import ModelObserved, ModelView, Object, ProfileView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import ApiClient

CHILD_KINDS = (
    "ServiceAccount",
    "Service",
    "Deployment",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)


async def observe_model(
    raw: Object, store: Store, client: ApiClient, now: datetime
) -> ModelObserved:
    """Read the caches; only the claims a spec names are asked of the API server."""
    model = parse_model(raw)
    namespace = model.id.namespace
    return ModelObserved(
        model=model,
        now=now,
        siblings=tuple(_siblings(model, store)),
        builds=tuple(parse_build(build) for build in store.list("ModelBuild", namespace)),
        profiles=list_profiles(store),
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
        yield parse_model(raw)


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
