"""Replicas and who owns them: us, or a HorizontalPodAutoscaler.

The hand-over is where capacity gets lost elsewhere: under server-side apply, dropping `replicas`
while no one else owns the field resets it to 1. So the number is applied until the autoscaler is
seen owning the field, and taken over at its current value when the autoscaler goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.plan import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright_operator.plan.observed import ModelView, Object
    from modelwright_operator.plan.resolve import Scaling
    from modelwright_operator.plan.types import Manifest


@dataclass(frozen=True, slots=True)
class Replicas:
    """The number to apply, or None while somebody else owns it.

    `as_seen_at` pins the apply to that version of the Deployment: an autoscaler that moves the
    number meanwhile must not be overruled.
    """

    number: int | None
    as_seen_at: str | None = None


def resolve_replicas(
    scaling: Scaling, deployment: Object | None, autoscaler: Object | None
) -> Replicas:
    """Apply the number until an autoscaler owns it; never one below the minimum."""
    live = None if deployment is None else deployment.get("spec", {}).get("replicas")
    if deployment is None or live is None or not scaling.is_automatic:
        return Replicas(scaling.minimum)
    if autoscaler is not None and is_replicas_owned_elsewhere(deployment):
        return Replicas(None)
    number = max(scaling.minimum, min(int(live), scaling.maximum))
    return Replicas(number, deployment["metadata"].get("resourceVersion"))


def is_replicas_owned_elsewhere(deployment: Object) -> bool:
    """Whether another field manager owns `spec.replicas` (the autoscaler, through `scale`)."""
    return any(
        entry.get("manager") != names.FIELD_MANAGER and _owns_replicas(entry)
        for entry in deployment.get("metadata", {}).get("managedFields", [])
    )


def build_autoscaler(model: ModelView, scaling: Scaling) -> Manifest | None:
    """Scale on the server container's own CPU, not on sidecars'."""
    if not scaling.is_automatic:
        return None
    workload = names.workload_name(model.id.name)
    owner = names.owner_reference("InferenceModel", model.id.name, model.id.uid, controller=True)
    target = {"type": "Utilization", "averageUtilization": scaling.cpu_utilization_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": names.metadata(
            workload, model.id.namespace, names.model_labels(model.id.name, "server"), [owner]
        ),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload},
            "minReplicas": scaling.minimum,
            "maxReplicas": scaling.maximum,
            "metrics": [
                {
                    "type": "ContainerResource",
                    "containerResource": {
                        "name": "cpu",
                        "container": names.SERVER_CONTAINER,
                        "target": target,
                    },
                }
            ],
        },
    }


def _owns_replicas(entry: Mapping[str, Any]) -> bool:
    return "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
