"""Gather everything the plan of the nodes' hardware profiles depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.observe.models import is_deleting
from modelwright_operator.observe.parse import parse_profile
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import NodesObserved

if TYPE_CHECKING:
    from datetime import datetime

    from modelwright_operator.kube.cache import Store

OPERATOR_DEPLOYMENT = "modelwright-operator"


def observe_nodes(store: Store, namespace: str, now: datetime) -> NodesObserved:
    """Read the caches."""
    probes = tuple(
        pod
        for pod in store.list("Pod", namespace)
        if pod["metadata"].get("labels", {}).get(names.COMPONENT_LABEL) == "probe"
        and not is_deleting(pod)
    )
    return NodesObserved(
        nodes=store.list("Node"),
        probes=probes,
        profiles=tuple(parse_profile(raw) for raw in store.list("HardwareProfile")),
        now=now,
        namespace=namespace,
    )
