"""Fluent builders of what the planner observes, so that a test says only what matters to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from modelwright_artifact.request import BuildRequest
from modelwright_operator.api.inference_model import InferenceModelSpec, InferenceModelStatus
from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus
from modelwright_operator.plan import names
from modelwright_operator.plan.builds import resolve_wanted
from modelwright_operator.plan.observed import (
    BuildView,
    Identity,
    ModelObserved,
    ModelView,
    ProfileView,
)
from modelwright_operator.plan.tables import build_rows
from modelwright_operator.settings import Settings, parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL_DIGEST = "a" * 64
DATA_DIGEST = "b" * 64


def settings(**changes: Any) -> Settings:
    """The settings of a small installation."""
    return parse_settings(
        {
            "artifactRepository": "registry.example/modelwright",
            "images": {
                "optimizer": "registry.example/modelwright-optimizer@sha256:" + "1" * 64,
                "runtime": "registry.example/modelwright-runtime@sha256:" + "2" * 64,
            },
            **changes,
        }
    )


def spec_document(**changes: Any) -> dict[str, Any]:
    """A minimal InferenceModel spec with changes on top."""
    document: dict[str, Any] = {
        "model": {"uri": f"oci://registry.example/digits@sha256:{MODEL_DIGEST}"},
        "evaluation": {
            "uri": f"oci://registry.example/digits-data@sha256:{DATA_DIGEST}",
            "metric": "Accuracy",
        },
    }
    document.update(changes)
    return document


def model_object(name: str = "digits", namespace: str = "vision", **spec: Any) -> dict[str, Any]:
    """An InferenceModel as the API server holds it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceModel",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": spec_document(**spec),
        "status": {"observedGeneration": -1},
    }


def profile(name: str = "x86-avx2", *nodes: str) -> ProfileView:
    """A discovered hardware profile; one node unless told otherwise."""
    return ProfileView(
        name=name, architecture="amd64", features=("avx2", "fma"), nodes=nodes or ("node-1",)
    )


def model(name: str = "digits", generation: int = 1, **spec: Any) -> ModelView:
    """An InferenceModel nobody has reconciled yet."""
    return ModelView(
        Identity("vision", name, f"uid-{name}", generation),
        InferenceModelSpec.model_validate(spec_document(**spec)),
        InferenceModelStatus(),
    )


def observe(view: ModelView | None = None, now: datetime = NOW, **parts: Any) -> ModelObserved:
    """What the planner sees: one node of one profile, and nothing built."""
    return ModelObserved(model=view or model(), now=now, **{"profiles": (profile(),), **parts})


def report(chosen: str = "static-int8", request_key: str = "") -> dict[str, Any]:
    """A build's report with two candidates."""
    accuracy = {
        "metric": "Accuracy",
        "value": 0.9822,
        "drop": 0.0,
        "dropLow": -0.2,
        "dropHigh": 0.4,
    }
    return {
        "schemaVersion": 1,
        "requestKey": request_key,
        "chosen": chosen,
        "variants": [
            _variant(
                "fp32", accuracy, 4200.0, 1.0, verdict="Reference", why="the model as it came"
            ),
            _variant("static-int8", accuracy, 2100.0, 2.0, verdict="Chosen", why="2x as fast"),
        ],
    }


def _variant(
    name: str, accuracy: Mapping[str, Any], p50: float, speedup: float, **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": {"name": name, "passes": []},
        "precision": "int8" if "int8" in name else "fp32",
        "accuracy": dict(accuracy),
        "latency": {"p50Micros": p50, "p99Micros": p50 * 1.2},
        "speedup": {"value": speedup, "low": speedup * 0.9, "high": speedup * 1.1},
        "sizeBytes": 1000,
        "peakMemoryBytes": 2000,
        "kept": True,
        **more,
    }


def wanted_builds(
    view: ModelView, config: Settings | None = None, *profiles: ProfileView
) -> tuple[BuildView, ...]:
    """The builds a model asks for, as fresh objects it owns."""
    config = config or settings()
    return tuple(
        BuildView(
            id=Identity(view.id.namespace, item.name, f"uid-{item.name}", 1),
            spec=ModelBuildSpec.model_validate(
                raw := {
                    "requestKey": item.request.key(),
                    "model": view.id.name,
                    "request": item.request.to_json(),
                    "profile": item.profile.name,
                    "repository": f"registry.example/modelwright/vision/{view.id.name}",
                    "images": config.images.model_dump(),
                }
            ),
            status=ModelBuildStatus(),
            owner_uids=frozenset({view.id.uid}),
            raw_spec=raw,
        )
        for item in resolve_wanted(view, profiles or (profile(),), config)
    )


def succeeded(build: BuildView, digest: str = "c", minutes: int = 0, **status: Any) -> BuildView:
    """A build with a result, completed `minutes` after NOW."""
    done = NOW + timedelta(minutes=minutes)
    return replace(
        build,
        status=ModelBuildStatus(
            digest=f"sha256:{digest * 64}",
            chosen="static-int8",
            variants=build_rows(report(), build.spec.profile),
            completion_time=done.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **status,
        ),
    )


def failed(build: BuildView, reason: str, message: str, retry: str = "Never") -> BuildView:
    """A build that ended without a result."""
    failure = {"reason": reason, "message": message, "retry": retry}
    return replace(build, status=ModelBuildStatus.model_validate({"failure": failure}))


def live(manifest: Mapping[str, Any], **status: Any) -> dict[str, Any]:
    """A planned object as it stands in the cluster once applied."""
    meta = dict(manifest["metadata"])
    meta.pop("resourceVersion", None)
    meta |= {"uid": f"uid-{manifest['kind']}-{meta['name']}", "generation": 1}
    return {**manifest, "metadata": {**meta, "resourceVersion": "5"}, "status": status}


def available_deployment(manifest: Mapping[str, Any], replicas: int = 1) -> dict[str, Any]:
    """A Deployment whose servers are all updated and available."""
    result = live(
        manifest,
        observedGeneration=1,
        replicas=replicas,
        updatedReplicas=replicas,
        availableReplicas=replicas,
    )
    result["spec"] = {**result["spec"], "replicas": replicas}
    return result


def request_key(request: Mapping[str, Any]) -> str:
    """The key of a request in JSON."""
    return BuildRequest.from_json(request).key()
