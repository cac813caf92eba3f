"""What the planner may know, as plain values; `observe` fills them in.

Everything a plan depends on stands here, time included, so that a plan is a pure function of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from modelwright_operator.api.hardware_profile import HardwareProfileStatus
    from modelwright_operator.api.inference_model import InferenceModelSpec, InferenceModelStatus
    from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object, which incarnation, which generation of its spec."""

    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class ModelView:
    """An InferenceModel; `problem` is set instead of `spec` when it does not parse."""

    id: Identity
    spec: InferenceModelSpec | None
    status: InferenceModelStatus
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class BuildView:
    """A ModelBuild with the names of the objects that own it."""

    id: Identity
    spec: ModelBuildSpec
    status: ModelBuildStatus
    owner_uids: frozenset[str] = frozenset()
    raw_spec: Object = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProfileView:
    """A hardware profile; `is_discovered` tells a probed one from a user's own."""

    name: str
    architecture: str
    features: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    is_discovered: bool = True


@dataclass(frozen=True, slots=True)
class ModelObserved:
    """Everything `plan_model` looks at; `children` are the live objects the model controls."""

    model: ModelView
    now: datetime
    siblings: tuple[ModelView, ...] = ()
    builds: tuple[BuildView, ...] = ()
    profiles: tuple[ProfileView, ...] = ()
    children: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    refused_claims: tuple[str, ...] = ()

    @property
    def deployment(self) -> Object | None:
        """The servers, if there are any."""
        return self._child("Deployment")

    @property
    def autoscaler(self) -> Object | None:
        """The autoscaler, if there is one."""
        return self._child("HorizontalPodAutoscaler")

    def _child(self, kind: str) -> Object | None:
        return next((child for child in self.children if child["kind"] == kind), None)

    def build(self, name: str) -> BuildView | None:
        """Find a build by name."""
        return next((build for build in self.builds if build.id.name == name), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running build is, as it says itself."""

    step: str
    percent: int
    message: str
    remaining_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build as it stands in the registry: its digest and its report."""

    digest: str
    report: Object


@dataclass(frozen=True, slots=True)
class RegistryProblem:
    """The registry could not tell; `reason` is a condition reason."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BuildObserved:
    """Everything `plan_build` looks at."""

    build: BuildView
    now: datetime
    jobs: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    profile: ProfileView | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    result: BuildResult | RegistryProblem | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class HardwareProfileView:
    """A HardwareProfile as `plan_nodes` sees it."""

    profile: ProfileView
    uid: str
    generation: int
    status: HardwareProfileStatus


@dataclass(frozen=True, slots=True)
class NodesObserved:
    """Everything `plan_nodes` looks at."""

    nodes: tuple[Object, ...]
    probes: tuple[Object, ...]
    profiles: tuple[HardwareProfileView, ...]
    now: datetime
    namespace: str
