"""From raw JSON objects to the planner's views; what does not parse becomes a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from modelwright_operator.api.checks import check_inference_model
from modelwright_operator.api.hardware_profile import HardwareProfileSpec, HardwareProfileStatus
from modelwright_operator.api.inference_model import InferenceModelSpec, InferenceModelStatus
from modelwright_operator.api.model_build import ModelBuildSpec, ModelBuildStatus
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import (
    BuildView,
    HardwareProfileView,
    Identity,
    ModelView,
    Object,
    ProfileView,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=BaseModel)


def parse_identity(raw: Object) -> Identity:
    """Who an object is."""
    meta = raw["metadata"]
    return Identity(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        generation=int(meta.get("generation", 0)),
    )


def parse_model(raw: Object) -> ModelView:
    """An InferenceModel; one stored before today's rules may not parse, and says why."""
    identity = parse_identity(raw)
    status = _lenient(InferenceModelStatus, raw.get("status"))
    problems = [str(violation) for violation in check_inference_model(raw)]
    if problems:
        return ModelView(identity, None, status, "; ".join(problems))
    try:
        spec = InferenceModelSpec.model_validate(raw.get("spec", {}))
    except ValidationError as error:
        return ModelView(identity, None, status, _sentence(error))
    return ModelView(identity, spec, status)


def parse_sibling(raw: Object) -> ModelView:
    """Another model of the namespace, of which only the builds it holds on to matter.

    Once its spec was acted upon its status names them; parsing every spec in every pass would
    make a namespace of n models cost n squared.
    """
    identity = parse_identity(raw)
    status = raw.get("status", {})
    if status.get("observedGeneration") != identity.generation:
        return parse_model(raw)
    held = InferenceModelStatus(
        observed_generation=identity.generation, builds=tuple(status.get("builds") or ())
    )
    return ModelView(identity, None, held)


def parse_build(raw: Object) -> BuildView:
    """A ModelBuild; only the operator writes them, so one that does not parse is a bug."""
    owners = raw["metadata"].get("ownerReferences", [])
    return BuildView(
        id=parse_identity(raw),
        spec=ModelBuildSpec.model_validate(raw["spec"]),
        status=_lenient(ModelBuildStatus, raw.get("status")),
        owner_uids=frozenset(owner["uid"] for owner in owners),
        raw_spec=raw["spec"],
    )


def parse_profile(raw: Object) -> HardwareProfileView:
    """A HardwareProfile, discovered or written by a user."""
    spec = HardwareProfileSpec.model_validate(raw["spec"])
    status = _lenient(HardwareProfileStatus, raw.get("status"))
    identity = parse_identity(raw)
    labels: Mapping[str, str] = raw["metadata"].get("labels", {})
    profile = ProfileView(
        name=identity.name,
        architecture=str(spec.architecture),
        features=tuple(sorted(spec.features or ())),
        nodes=tuple(node.name for node in status.nodes or ()),
        node_selector=dict(spec.node_selector or {}),
        is_discovered=labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY,
    )
    return HardwareProfileView(profile, identity.uid, identity.generation, status)


def _lenient(kind: type[T], raw: Any) -> T:
    """A status, or an empty one: it is only a record and can be computed anew."""
    try:
        return kind.model_validate(raw or {})
    except ValidationError:
        return kind()


def _sentence(error: ValidationError) -> str:
    return "; ".join(
        f"spec.{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']}"
        for issue in error.errors()
    )
