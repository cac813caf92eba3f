"""From what a user wrote to what is meant: every default of the API stands here.

Defaults never go into the CRD schema: they would land in users' objects and drift under GitOps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_artifact.quantities import parse_bytes, parse_millicores
from modelwright_artifact.request import BuildRequest

if TYPE_CHECKING:
    from modelwright_operator.api.inference_model import InferenceModelSpec
    from modelwright_operator.api.source import Source
    from modelwright_operator.plan.observed import ProfileView
    from modelwright_operator.settings import Settings

TECHNIQUES = ("DynamicInt8", "Fusion", "StaticInt8")
MAX_PROFILES = 4
# Points for rates; percent of the reference for errors; a floor where the reference is itself.
DEFAULT_BUDGETS = {
    "Accuracy": {"type": "AbsoluteDrop", "value": "1"},
    "TopK": {"type": "AbsoluteDrop", "value": "1"},
    "F1": {"type": "AbsoluteDrop", "value": "1"},
    "RMSE": {"type": "RelativeDrop", "value": "1"},
    "CosineSimilarity": {"type": "Minimum", "value": "0.99"},
    "SQNR": {"type": "Minimum", "value": "30"},
}
DEFAULT_CPU_UTILIZATION_PERCENT = 70


@dataclass(frozen=True, slots=True)
class Targets:
    """The hardware profiles a model is built for; `missing` names those that do not exist."""

    profiles: tuple[ProfileView, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Replica bounds; an autoscaler is wanted when they differ."""

    minimum: int
    maximum: int
    cpu_utilization_percent: int

    @property
    def is_automatic(self) -> bool:
        """Whether an autoscaler moves the replicas."""
        return self.maximum > self.minimum


def resolve_targets(spec: InferenceModelSpec, profiles: Sequence[ProfileView]) -> Targets:
    """The profiles asked for, else those that nodes were found for, most nodes first."""
    by_name = {profile.name: profile for profile in profiles}
    asked = spec.optimization.profiles if spec.optimization else None
    if asked:
        found = tuple(by_name[name] for name in asked if name in by_name)
        return Targets(found, tuple(name for name in asked if name not in by_name))
    populated = [profile for profile in profiles if profile.is_discovered and profile.nodes]
    ranked = sorted(populated, key=lambda profile: (-len(profile.nodes), profile.name))
    return Targets(tuple(ranked[:MAX_PROFILES]))


def resolve_resources(spec: InferenceModelSpec, settings: Settings) -> dict[str, dict[str, str]]:
    """CPU and memory of a server; a build measures under the same limits.

    A request above the installation's default limit raises that limit: a limit is then what the
    user asked for at least.
    """
    default = {"cpu": settings.serving_resources.cpu, "memory": settings.serving_resources.memory}
    asked = spec.serving.resources if spec.serving else None
    requested = _quantities(asked.requests if asked else None)
    given = _quantities(asked.limits if asked else None)
    limits = {
        name: given.get(name) or _larger(name, default[name], requested.get(name))
        for name in default
    }
    return {"limits": limits, "requests": {**limits, **requested}}


def _larger(name: str, one: str, two: str | None) -> str:
    parse = parse_millicores if name == "cpu" else parse_bytes
    return one if two is None or parse(two) <= parse(one) else two


def resolve_scaling(spec: InferenceModelSpec) -> Scaling:
    """Replica bounds: one replica unless the user says more."""
    scaling = spec.scaling
    if scaling is None:
        return Scaling(1, 1, DEFAULT_CPU_UTILIZATION_PERCENT)
    minimum = scaling.min_replicas or 1
    maximum = max(scaling.max_replicas or minimum, minimum)
    percent = scaling.target.cpu_utilization_percent if scaling.target else None
    return Scaling(minimum, maximum, percent or DEFAULT_CPU_UTILIZATION_PERCENT)


def resolve_request(
    spec: InferenceModelSpec, profile: ProfileView, settings: Settings
) -> BuildRequest:
    """The request that names a build: everything that may change its result, and nothing else."""
    evaluation = spec.evaluation
    document: dict[str, Any] = {
        "model": source_reference(spec.model),
        "evaluation": source_reference(evaluation),
        "metric": {"name": str(evaluation.metric)},
        "budget": dict(DEFAULT_BUDGETS[str(evaluation.metric)]),
        "objective": "Latency",
        "techniques": list(TECHNIQUES),
        "resources": resolve_resources(spec, settings)["limits"],
        "profile": {
            "name": profile.name,
            "architecture": profile.architecture,
            "features": sorted(profile.features),
        },
        "rebuildToken": spec.rebuild_token or "",
    }
    if evaluation.top_k is not None:
        document["metric"]["topK"] = evaluation.top_k
    if evaluation.budget is not None:
        document["budget"] = {
            "type": str(evaluation.budget.type),
            "value": evaluation.budget.value,
        }
    if spec.calibration is not None:
        document["calibration"] = source_reference(spec.calibration)
    if spec.optimization is not None:
        if spec.optimization.objective is not None:
            document["objective"] = str(spec.optimization.objective)
        if spec.optimization.techniques:
            document["techniques"] = sorted(str(item) for item in spec.optimization.techniques)
    return BuildRequest.from_json(document)


def source_reference(source: Source) -> dict[str, str]:
    """A source as the build sees it: where it is, and the digest it must have."""
    uri, _, digest = source.uri.partition("@sha256:")
    hexadecimal = (source.sha256 or digest).removeprefix("sha256:")
    if uri.startswith("oci://"):
        uri = f"{uri}@sha256:{hexadecimal}"
    return {"uri": uri, "digest": f"sha256:{hexadecimal}"}


def _quantities(given: Mapping[str, Any] | Any | None) -> dict[str, str]:
    if given is None:
        return {}
    values = given if isinstance(given, Mapping) else given.model_dump(exclude_none=True)
    return {name: str(value) for name, value in values.items() if value is not None}
