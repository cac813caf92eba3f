"""What the operator watches, whom a change concerns, and who answers for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from modelwright_artifact.oci import RegistryOptions
from modelwright_operator.control.contract import Watched, Wiring
from modelwright_operator.control.reconcilers import (
    BuildReconciler,
    CrashTeller,
    ModelReconciler,
    NodesReconciler,
)
from modelwright_operator.observe.progress import PodProgressReader
from modelwright_operator.observe.registry import RegistryReader
from modelwright_operator.plan import names
from modelwright_operator.plan.types import Key
from modelwright_operator.plan.wakes import NODES_KEY, needs_all_models, wake_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_operator.control.contract import Context
    from modelwright_operator.plan.types import Manifest
    from modelwright_operator.settings import Settings

_OURS = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"

KINDS = (
    Watched("InferenceModel"),
    Watched("ModelBuild"),
    Watched("HardwareProfile"),
    Watched("Node"),
    Watched("Job", _OURS),
    Watched("Pod", _OURS),
    Watched("Deployment", _OURS),
    Watched("Service", _OURS),
    Watched("ServiceAccount", _OURS),
    Watched("HorizontalPodAutoscaler", _OURS),
    Watched("PodDisruptionBudget", _OURS),
)


def assemble(context: Context) -> Wiring:
    """Wire the reconcilers of this operator to one cluster."""
    http = httpx.AsyncClient(trust_env=False)
    results = RegistryReader(context.settings, registry_options(context.settings))

    def wake(before: Manifest | None, after: Manifest | None) -> Iterator[Key]:
        yield from wake_keys(before, after)
        if needs_all_models(before, after):
            for model in context.store.list("InferenceModel"):
                meta = model["metadata"]
                yield Key("InferenceModel", meta["namespace"], meta["name"])

    return Wiring(
        kinds=KINDS,
        primary=frozenset({"InferenceModel", "ModelBuild"}),
        wake=wake,
        reconcilers={
            "InferenceModel": ModelReconciler(context),
            "ModelBuild": BuildReconciler(context, results, PodProgressReader(http)),
            "Nodes": NodesReconciler(context),
        },
        singletons=(NODES_KEY,),
        on_crash=CrashTeller(context).tell,
        close=http.aclose,
    )


def registry_options(settings: Settings) -> RegistryOptions:
    """How this process reaches the artifact registry: settings, and its own mounted credential."""
    bundle = os.environ.get("MODELWRIGHT_CA_BUNDLE")
    credentials = os.environ.get("DOCKER_CONFIG")
    return RegistryOptions(
        insecure_hosts=frozenset(settings.insecure_registries),
        ca_bundle=Path(bundle) if bundle else None,
        docker_config=Path(credentials) if credentials else None,
        attempts=2,
        timeout_seconds=10.0,
    )
