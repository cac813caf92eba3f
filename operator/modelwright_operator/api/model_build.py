"""ModelBuild: one run of the optimizer for one request. Made by the operator, never changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelwright_operator.api.base import (
    UNIQUE,
    Count,
    Digest,
    Generation,
    Name,
    ObjectName,
    Phrase,
    Sentence,
    SpecModel,
    StatusModel,
    Time,
    integer,
    list_type,
)
from modelwright_operator.api.conditions import Conditions
from modelwright_operator.api.hardware_profile import Architecture, Features
from modelwright_operator.api.inference_model import (
    BudgetType,
    Image,
    Metric,
    Objective,
    Repository,
    Technique,
)
from modelwright_operator.api.source import MAX_URI
from modelwright_operator.api.variants import VariantTable


class RequestSource(SpecModel):
    """A source, pinned."""

    uri: Annotated[str, Field(min_length=1, max_length=MAX_URI + 71)]
    """uri is where the file lies."""
    digest: Digest
    """digest is what it must be."""


class RequestMetric(SpecModel):
    """What accuracy means for this build."""

    name: Metric
    """name is the metric."""
    top_k: Annotated[int, integer(1, 1000)] | None = None
    """topK is how many of the best classes count as a hit; only with metric TopK."""


class RequestBudget(SpecModel):
    """How much accuracy may be given up."""

    type: BudgetType
    """type says how value counts."""
    value: Annotated[str, Field(min_length=1, max_length=32)]
    """value is a decimal number."""


class RequestResources(SpecModel):
    """What the measuring is limited to: the limits of serving."""

    cpu: Annotated[str, Field(min_length=1, max_length=32)]
    """cpu is a Kubernetes quantity."""
    memory: Annotated[str, Field(min_length=1, max_length=32)]
    """memory is a Kubernetes quantity."""


class RequestProfile(SpecModel):
    """The class of hardware to build for."""

    name: Name
    """name is the HardwareProfile."""
    architecture: Architecture
    """architecture is amd64 or arm64."""
    features: Features | None = None
    """features are what its CPUs can do. Default: nothing beyond the architecture."""


class Request(SpecModel):
    """Everything the result depends on; its key is the build's name."""

    model: RequestSource
    """model is the ONNX model."""
    evaluation: RequestSource
    """evaluation is the data that judges accuracy."""
    calibration: RequestSource | None = None
    """calibration is the data that sets number ranges. Default: a part of the evaluation set."""
    metric: RequestMetric
    """metric is what accuracy means."""
    budget: RequestBudget
    """budget is how much accuracy may be given up."""
    objective: Objective
    """objective is what the chosen variant is best at."""
    techniques: Annotated[
        tuple[Technique, ...], Field(max_length=16, json_schema_extra=list_type("set")), UNIQUE
    ]
    """techniques are the changes that may be tried."""
    resources: RequestResources
    """resources is what the measuring is limited to."""
    profile: RequestProfile
    """profile is the class of hardware to build for."""
    rebuild_token: Annotated[str, Field(max_length=64)] | None = None
    """rebuildToken tells apart builds that were asked for afresh. Default: empty."""


class BuildImages(SpecModel):
    """The images that make and serve the build; a later upgrade changes neither."""

    optimizer: Image
    """optimizer is the image of the build's Job."""
    runtime: Image
    """runtime is the image that serves the build."""


class ModelBuildSpec(SpecModel):
    """What is to be built; never changes."""

    request_key: Annotated[str, Field(min_length=64, max_length=64)]
    """requestKey is the SHA-256 of the request: 64 hex digits."""
    model: ObjectName
    """model is the InferenceModel that asked first; others may share the build."""
    request: Request
    """request is everything the result depends on."""
    profile: Name
    """profile is the HardwareProfile whose nodes measure."""
    repository: Repository
    """repository is where the artifact goes."""
    images: BuildImages
    """images are what makes and serves the build."""


class BuildProgress(StatusModel):
    """How far a running build is; at most 15 seconds old."""

    step: Phrase | None = None
    """step is what the build does now."""
    percent: Annotated[int, integer(0, 100)] | None = None
    """percent is how far it is."""
    message: Sentence | None = None
    """message says more."""
    remaining_seconds: Count | None = None
    """remainingSeconds is how long it will take, by the build's own estimate."""


class BuildFailureStatus(StatusModel):
    """Why the last attempt ended without a result."""

    reason: Annotated[str, Field(min_length=1, max_length=256)]
    """reason is one word for programs; the reference lists all of them."""
    message: Sentence
    """message says what happened and what to do."""
    retry: Literal["Never", "Backoff"]
    """retry is Never when the input is at fault, or Backoff: another attempt follows by itself."""


class ModelBuildStatus(StatusModel):
    """What has become of it."""

    conditions: Conditions | None = None
    """conditions are the aspects of the build's state, one of each type."""
    observed_generation: Generation | None = None
    """observedGeneration is the generation of the spec that status speaks of; -1 before the
    operator has seen the object."""
    attempts: Count | None = None
    """attempts is how many Jobs were started."""
    job: ObjectName | None = None
    """job is the Job of the last attempt."""
    progress: BuildProgress | None = None
    """progress is how far a running build is."""
    digest: Digest | None = None
    """digest is the finished artifact."""
    chosen: Name | None = None
    """chosen is the variant the build recommends."""
    variants: VariantTable | None = None
    """variants are all candidates with what was measured and decided."""
    start_time: Time | None = None
    """startTime is when the build was first tried."""
    completion_time: Time | None = None
    """completionTime is when it ended for good."""
    failure: BuildFailureStatus | None = None
    """failure is why the last attempt ended without a result."""
