"""InferenceModel: what a person writes, and what they read back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool

from modelwright_operator.api.base import (
    UNIQUE,
    BigCount,
    Count,
    DecimalText,
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
from modelwright_operator.api.resources import Resources
from modelwright_operator.api.source import Source
from modelwright_operator.api.variants import VariantTable

MAX_PROFILES = 4
MAX_RETAINED_BUILDS = 32
MAX_HISTORY = 10

Repository = Annotated[str, Field(min_length=1, max_length=512)]
Image = Annotated[str, Field(min_length=1, max_length=512)]


class Metric(StrEnum):
    """What accuracy means."""

    ACCURACY = "Accuracy"
    TOP_K = "TopK"
    F1 = "F1"
    RMSE = "RMSE"
    COSINE_SIMILARITY = "CosineSimilarity"
    SQNR = "SQNR"


class BudgetType(StrEnum):
    """How a budget counts."""

    ABSOLUTE_DROP = "AbsoluteDrop"
    RELATIVE_DROP = "RelativeDrop"
    MINIMUM = "Minimum"


class Objective(StrEnum):
    """What the chosen variant is best at."""

    LATENCY = "Latency"
    THROUGHPUT = "Throughput"
    SIZE = "Size"


class Technique(StrEnum):
    """A kind of change a recipe may make."""

    FUSION = "Fusion"
    STATIC_INT8 = "StaticInt8"
    DYNAMIC_INT8 = "DynamicInt8"


class ApplyMode(StrEnum):
    """Who lets a finished build serve."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class ServingMode(StrEnum):
    """How a build is served."""

    DEPLOYMENT = "Deployment"
    NONE = "None"


class Budget(SpecModel):
    """How much accuracy may be given up."""

    type: BudgetType
    """type says how value counts: AbsoluteDrop in the metric's own unit (points for Accuracy, TopK
    and F1), RelativeDrop in percent of the fp32 model's value, Minimum as the value to keep (RMSE:
    not to exceed)."""
    value: DecimalText
    """value is a decimal number above zero, in quotes: "0.5"."""


class Evaluation(Source):
    """The data that judges accuracy, and how."""

    metric: Metric
    """metric is what accuracy means: Accuracy, TopK, F1 or RMSE against labels, CosineSimilarity
    or SQNR against the fp32 model's own outputs."""
    top_k: Annotated[int, integer(1, 1000)] | None = None
    """topK is how many of the best classes count as a hit; required with metric TopK, and only
    there."""
    budget: Budget | None = None
    """budget is how much accuracy may be given up, held at 95 % confidence. Default: AbsoluteDrop
    1 for Accuracy, TopK and F1; RelativeDrop 1 for RMSE; Minimum 0.99 for CosineSimilarity;
    Minimum 30 (dB) for SQNR."""


class Optimization(SpecModel):
    """What may be done to the model."""

    objective: Objective | None = None
    """objective is what the chosen variant is best at. Default: Latency."""
    techniques: (
        Annotated[
            tuple[Technique, ...],
            Field(min_length=1, max_length=3, json_schema_extra=list_type("set")),
            UNIQUE,
        ]
        | None
    ) = None
    """techniques are the changes that may be tried. Default: all that the hardware supports."""
    profiles: (
        Annotated[
            tuple[Name, ...],
            Field(min_length=1, max_length=MAX_PROFILES, json_schema_extra=list_type("set")),
            UNIQUE,
        ]
        | None
    ) = None
    """profiles are the HardwareProfiles to build for. Default: those found for the nodes, the most
    common first, at most four."""
    apply: ApplyMode | None = None
    """apply is Automatic (a finished build serves as soon as its servers are ready) or Manual (it
    waits for approvedDigest). Default: Automatic."""
    approved_digest: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """approvedDigest is the digest of the build that may serve; only with apply Manual."""


class Serving(SpecModel):
    """How a build is served."""

    mode: ServingMode | None = None
    """mode is Deployment, or None to build only. Default: Deployment."""
    variant: Name | None = None
    """variant pins one kept variant of the build, as status.variants names it. Default: the one
    the build chose."""
    resources: Resources | None = None
    """resources is what one server gets, and what builds measure with. Default: set by the
    installation."""


class ScalingTarget(SpecModel):
    """What the autoscaler holds."""

    cpu_utilization_percent: Annotated[int, integer(1, 100)] | None = None
    """cpuUtilizationPercent is the mean CPU use of the servers, in percent of what they request.
    Default: 70."""


class Scaling(SpecModel):
    """How many servers."""

    min_replicas: Annotated[int, integer(1, 1000)] | None = None
    """minReplicas is the smallest number of servers. Default: 1."""
    max_replicas: Annotated[int, integer(1, 1000)] | None = None
    """maxReplicas is the largest number of servers; above minReplicas an autoscaler moves between
    them. Default: minReplicas."""
    target: ScalingTarget | None = None
    """target is what the autoscaler holds; only with maxReplicas above minReplicas."""


class InferenceModelSpec(SpecModel):
    """What is asked for."""

    model: Source
    """model is the ONNX model: a file, or an OCI artifact with one *.onnx and its external data."""
    evaluation: Evaluation
    """evaluation is the data that judges accuracy: an .npz file with inputs/<graph input> and, for
    metrics that need them, labels; the first axis counts the rows."""
    calibration: Source | None = None
    """calibration is an .npz file with inputs to set number ranges by. Default: a fixed part of
    the evaluation set, which then does not judge."""
    optimization: Optimization | None = None
    """optimization is what may be done to the model."""
    serving: Serving | None = None
    """serving is how the build is served."""
    scaling: Scaling | None = None
    """scaling is how many servers there are. Default: one."""
    suspend: StrictBool | None = None
    """suspend stops all changes; what serves keeps serving. Default: false."""
    rebuild_token: Annotated[str, Field(max_length=64)] | None = None
    """rebuildToken is any text; a new value asks for a fresh build. Default: empty."""


class ModelSummary(StatusModel):
    """The line `kubectl get` prints."""

    ready: Phrase | None = None
    """ready is the status of condition Ready."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """reason is the reason of condition Ready."""
    variant: Phrase | None = None
    """variant is the variant that serves."""
    speedup: Phrase | None = None
    """speedup is how many times faster than fp32 it is, as measured by the build."""
    drop: Phrase | None = None
    """drop is the accuracy given up, as measured by the build."""
    p99: Phrase | None = None
    """p99 is the 99th percentile of the latency, as measured by the build."""
    replicas: Phrase | None = None
    """replicas is the number of servers that answer, of those wanted."""


class ServedArtifact(StatusModel):
    """The last good build of one hardware profile: what serves."""

    profile: Name
    """profile is the hardware profile it was built for."""
    build: ObjectName
    """build is the ModelBuild it came from."""
    repository: Repository
    """repository is where the artifact lies."""
    digest: Digest
    """digest pins the artifact."""
    runtime_image: Image
    """runtimeImage is the server's image it was built with and is served by."""
    variant: Name
    """variant is the one served."""


class ProfileStatus(StatusModel):
    """What serves on one hardware profile, with its measurements."""

    name: Name
    """name is the hardware profile."""
    build: ObjectName | None = None
    """build is the ModelBuild it came from."""
    repository: Repository | None = None
    """repository is where the artifact lies."""
    digest: Digest | None = None
    """digest pins the artifact."""
    runtime_image: Image | None = None
    """runtimeImage is the image of the server."""
    variant: Name | None = None
    """variant is the one served."""
    drop: DecimalText | None = None
    """drop is the accuracy given up against fp32."""
    drop_low: DecimalText | None = None
    """dropLow is the lower end of the drop's 95 % interval."""
    drop_high: DecimalText | None = None
    """dropHigh is the upper end of the drop's 95 % interval."""
    p50_micros: BigCount | None = None
    """p50Micros is the median latency, in microseconds."""
    p99_micros: BigCount | None = None
    """p99Micros is the 99th percentile of the latency, in microseconds."""
    speedup: DecimalText | None = None
    """speedup is how many times faster than fp32 it is."""


class HistoryEntry(StatusModel):
    """One decision."""

    time: Time
    """time is when it was taken."""
    reason: Annotated[str, Field(max_length=256)]
    """reason is one word for programs."""
    message: Sentence
    """message says what was decided and why."""


class InferenceModelStatus(StatusModel):
    """What has become of it."""

    conditions: Conditions | None = None
    """conditions are the aspects of the model's state, one of each type."""
    observed_generation: Generation | None = None
    """observedGeneration is the generation of the spec that status speaks of; -1 before the
    operator has seen the object."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """url is where the model answers inside the cluster."""
    summary: ModelSummary | None = None
    """summary is the line `kubectl get` prints."""
    replicas: Count | None = None
    """replicas is the number of servers wanted now."""
    ready_replicas: Count | None = None
    """readyReplicas is the number of servers that answer."""
    profiles: (
        Annotated[
            tuple[ProfileStatus, ...],
            Field(max_length=16, json_schema_extra=list_type("map", "name")),
        ]
        | None
    ) = None
    """profiles are the hardware profiles served, with their measurements."""
    serving: (
        Annotated[
            tuple[ServedArtifact, ...],
            Field(max_length=16, json_schema_extra=list_type("map", "profile")),
        ]
        | None
    ) = None
    """serving is the last good build of each hardware profile: what serves."""
    builds: (
        Annotated[
            tuple[ObjectName, ...],
            Field(max_length=MAX_RETAINED_BUILDS, json_schema_extra=list_type("set")),
            UNIQUE,
        ]
        | None
    ) = None
    """builds are the ModelBuilds kept for this model: the current ones, and good ones to return
    to."""
    variants: VariantTable | None = None
    """variants are all candidates of the builds asked for, with what was measured and decided."""
    history: (
        Annotated[
            tuple[HistoryEntry, ...],
            Field(max_length=MAX_HISTORY, json_schema_extra=list_type("atomic")),
        ]
        | None
    ) = None
    """history is the last ten decisions, the newest first."""
