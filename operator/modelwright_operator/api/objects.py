"""Whole objects of the three kinds, as they lie in a file or on the API server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelwright_operator.api.base import SpecModel, StatusModel
from modelwright_operator.api.hardware_profile import HardwareProfileSpec, HardwareProfileStatus
from modelwright_operator.api.inference_model import InferenceModelSpec, InferenceModelStatus
from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus

_OBJECT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class ObjectMeta(StatusModel):
    """The part of an object's metadata that matters here; the API server checks the rest."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=_OBJECT_NAME)] | None = None
    """name is the object's name."""
    namespace: Annotated[str, Field(max_length=63)] | None = None
    """namespace is the object's namespace."""


class InferenceModel(SpecModel):
    """InferenceModel is a model, the accuracy it must keep and how it is served.

    Modelwright builds the fastest variant within the accuracy budget, measured on the hardware
    that will serve it, and serves it.
    """

    api_version: Literal["modelwright.dev/v1alpha1"]
    kind: Literal["InferenceModel"]
    metadata: ObjectMeta
    spec: InferenceModelSpec
    """spec is what is asked for."""
    status: InferenceModelStatus | None = None
    """status is what has become of it; written by the operator."""


class ModelBuild(SpecModel):
    """ModelBuild is one run of the optimizer for one request.

    It is made by the operator, shared by all InferenceModels of its namespace that ask for the
    same, and never changes.
    """

    api_version: Literal["modelwright.dev/v1alpha1"]
    kind: Literal["ModelBuild"]
    metadata: ObjectMeta
    spec: ModelBuildSpec
    """spec is what is to be built; it never changes."""
    status: ModelBuildStatus | None = None
    """status is what has become of it; written by the operator."""


class HardwareProfile(SpecModel):
    """HardwareProfile is a class of nodes with the same abilities.

    Modelwright finds the profiles of a cluster's nodes by itself; write one to narrow a class or
    to name it.
    """

    api_version: Literal["modelwright.dev/v1alpha1"]
    kind: Literal["HardwareProfile"]
    metadata: ObjectMeta
    spec: HardwareProfileSpec
    """spec is which nodes belong to the class."""
    status: HardwareProfileStatus | None = None
    """status is which nodes there are; written by the operator."""
