"""How the servers are, read from the Deployment, the autoscaler and the pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.plan.conditions import Finding
from modelwright_operator.plan.podstate import explain_pod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelwright_operator.plan.observed import ModelObserved, Object
    from modelwright_operator.plan.resolve import Scaling
    from modelwright_operator.plan.types import Applied


@dataclass(frozen=True, slots=True)
class Replicas:
    """Servers wanted, and servers that answer."""

    wanted: int
    available: int


def latest(applied: Applied, kind: str, observed: Object | None) -> Object | None:
    """An object as our own write left it, else as it was observed."""
    return next((item for item in applied.results if item["kind"] == kind), observed)


def count_replicas(deployment: Object | None) -> Replicas:
    """Replicas of a Deployment; none while there is no Deployment."""
    if deployment is None:
        return Replicas(0, 0)
    status = deployment.get("status", {})
    wanted = deployment.get("spec", {}).get("replicas", 1)
    return Replicas(int(wanted), int(status.get("availableReplicas", 0)))


def check_workload(observed: ModelObserved, deployment: Object | None) -> Finding:
    """Ready means: every server of this generation is updated and available."""
    if deployment is None:
        return _workload("Unknown", Reason.PENDING, "nothing is served yet")
    wanted = count_replicas(deployment).wanted
    status = deployment.get("status", {})
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    is_current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    old = status.get("replicas", 0) - updated
    if is_current and updated >= wanted and available >= wanted and old <= 0:
        return _workload("True", Reason.AVAILABLE, f"{available} of {wanted} servers are available")
    if (trouble := _find_trouble(observed.pods)) is not None:
        return _workload("False", trouble.reason, trouble.message)
    message = f"{updated} of {wanted} servers updated, {available} available"
    if _deadline_exceeded(status):
        return _workload("False", Reason.DEADLINE_EXCEEDED, f"the rollout does not end: {message}")
    return _workload("Unknown", Reason.ROLLING_OUT, message)


def check_scaling(scaling: Scaling, autoscaler: Object | None) -> Finding:
    """Whether the number of servers is fixed, moved by an autoscaler, or stuck."""
    if not scaling.is_automatic:
        return _scaling(
            "True", Reason.FIXED_REPLICAS, f"fixed number of replicas: {scaling.minimum}"
        )
    conditions = {
        item.get("type"): item
        for item in (autoscaler or {}).get("status", {}).get("conditions", [])
    }
    active: Mapping[str, Any] = conditions.get("ScalingActive") or {}
    if active.get("status") == "True":
        target = f"{scaling.cpu_utilization_percent} % CPU"
        return _scaling(
            "True",
            Reason.AUTOSCALER_ACTIVE,
            f"between {scaling.minimum} and {scaling.maximum} replicas for {target}",
        )
    if active.get("status") == "False":
        return _scaling("False", Reason.METRICS_MISSING, str(active.get("message", "")))
    return _scaling("Unknown", Reason.PENDING, "the autoscaler has not reported yet")


def _find_trouble(pods: Sequence[Object]) -> Any:
    """Trouble of the newest pods first: they are the ones a rollout waits for."""
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    newest = sorted(
        alive, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True
    )
    return next((why for pod in newest if (why := explain_pod(pod)) is not None), None)


def _deadline_exceeded(status: Mapping[str, Any]) -> bool:
    return any(
        item.get("type") == "Progressing" and item.get("reason") == "ProgressDeadlineExceeded"
        for item in status.get("conditions", [])
    )


def _workload(status: Any, reason: str, message: str) -> Finding:
    return Finding(ConditionType.WORKLOAD_READY, status, reason, message)


def _scaling(status: Any, reason: str, message: str) -> Finding:
    return Finding(ConditionType.SCALING_READY, status, reason, message)
