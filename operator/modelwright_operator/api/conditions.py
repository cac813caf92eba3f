"""Conditions, their types and their reasons. Reasons are API: people and alerts match on them.

Each member's docstring is its line in the reference.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelwright_operator.api.base import Generation, Sentence, StatusModel, Time, list_type


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """Everything asked for is done and works; otherwise repeats the first reason that fails."""
    RECONCILING = "Reconciling"
    """Present only while something moves without anyone's help."""
    STALLED = "Stalled"
    """Present only while nothing moves until a person changes something."""
    SOURCE_VERIFIED = "SourceVerified"
    """The sources have the digests that the spec names."""
    BUILT = "Built"
    """Every build asked for has a result."""
    WORKLOAD_READY = "WorkloadReady"
    """The servers of the current build answer."""
    SCALING_READY = "ScalingReady"
    """Replicas follow the spec, by hand or by an autoscaler."""


class Reason(StrEnum):
    """Why a condition is what it is."""

    PENDING = "Pending"
    """Nothing is known yet; the next pass will tell."""
    SUSPENDED = "Suspended"
    """spec.suspend is set: nothing is changed, what serves keeps serving."""
    BUILD_PENDING = "BuildPending"
    """The build is planned or its Job is starting."""
    BUILD_RUNNING = "BuildRunning"
    """The build's Job runs; the message says how far."""
    BUILD_SUCCEEDED = "BuildSucceeded"
    """The build has a result in the registry."""
    BUILD_FAILED = "BuildFailed"
    """The build's Job failed without naming a better reason; the message and the pod's log tell."""
    AWAITING_APPROVAL = "AwaitingApproval"
    """Built with optimization.apply Manual: put the digest into optimization.approvedDigest."""
    BUILD_ONLY = "BuildOnly"
    """Built; serving.mode None asks for no servers."""
    NO_MATCHING_NODE = "NoMatchingNode"
    """No Ready node has the hardware of the profile; add one or choose another profile."""
    UNKNOWN_PROFILE = "UnknownProfile"
    """optimization.profiles names a HardwareProfile that does not exist."""
    UNKNOWN_VARIANT = "UnknownVariant"
    """serving.variant names a variant that the build did not keep; status.variants lists them."""
    SOURCE_NOT_FOUND = "SourceNotFound"
    """There is nothing at a source's URI; correct it."""
    SOURCE_UNREACHABLE = "SourceUnreachable"
    """A source's host does not answer; it is tried again with growing pauses."""
    SOURCE_DENIED = "SourceDenied"
    """A source refuses: set secretRef, or label the claim modelwright.dev/source=true."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The content is not what the digest promises; `modelwright pin` renews a digest."""
    VERIFIED = "Verified"
    """All digests hold."""
    MODEL_INVALID = "ModelInvalid"
    """The model is no ONNX graph that can be run; the message says what is wrong with it."""
    EVALUATION_INVALID = "EvaluationInvalid"
    """The evaluation set does not fit the model or the metric; the message says where."""
    CALIBRATION_INVALID = "CalibrationInvalid"
    """The calibration set does not fit the model; the message says where."""
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    """The artifact registry does not answer; it is tried again with growing pauses."""
    REGISTRY_DENIED = "RegistryDenied"
    """The artifact registry refuses the credentials of Secret modelwright-registry."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The process was killed for memory; raise serving.resources.limits.memory."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The build took longer than allowed; give it more CPU or raise the installation's deadline."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The node cannot pull an image or mount the artifact; the message is the node's."""
    UNSCHEDULABLE = "Unschedulable"
    """No node has room for the pod; the message is the scheduler's."""
    SERVER_CRASHING = "ServerCrashing"
    """The model server ends again and again; the message is its last word."""
    ATTESTATION_FAILED = "AttestationFailed"
    """The node does not reproduce the golden outputs, so the server refuses to serve there."""
    UNSUPPORTED_HARDWARE = "UnsupportedHardware"
    """No kept variant runs on the node's CPU; build for its profile, or keep the pod off it."""
    ARTIFACT_MISSING = "ArtifactMissing"
    """The server found no artifact, or an incomplete one, where it was mounted."""
    ROLLING_OUT = "RollingOut"
    """New servers are starting; the old ones serve until they are ready."""
    AVAILABLE = "Available"
    """As many servers, or nodes, as asked for are there."""
    SERVING = "Serving"
    """The build asked for is served."""
    SCALING = "Scaling"
    """The number of replicas is moving."""
    FIXED_REPLICAS = "FixedReplicas"
    """minReplicas equals maxReplicas: no autoscaler is needed."""
    AUTOSCALER_ACTIVE = "AutoscalerActive"
    """The HorizontalPodAutoscaler reads its metric and moves the replicas."""
    METRICS_MISSING = "MetricsMissing"
    """The HorizontalPodAutoscaler gets no metric; see that metrics-server runs."""
    FORBIDDEN = "Forbidden"
    """The operator may not write an object; the message names the permission it lacks."""
    INVALID_OBJECT = "InvalidObject"
    """The spec, or an object made from it, is refused; the message names the field."""
    INTERNAL_ERROR = "InternalError"
    """A fault of Modelwright's own; the operator's log has the details."""


class Condition(StatusModel):
    """One aspect of an object's state, in the form all Kubernetes tools read."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """type is the aspect: Ready, Reconciling, Stalled and others."""
    status: Literal["True", "False", "Unknown"]
    """status is True, False or Unknown."""
    observed_generation: Generation | None = None
    """observedGeneration is the generation of the spec this was found for."""
    last_transition_time: Time
    """lastTransitionTime is when status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=256)]
    """reason is one word for programs; the reference lists all of them."""
    message: Sentence
    """message is a sentence for people: what happened, and what to do."""


Conditions = Annotated[
    tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_type("map", "type"))
]
"""The conditions of an object, one of each type."""
