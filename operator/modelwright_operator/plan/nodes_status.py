"""The status of HardwareProfiles: which nodes belong to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.api.hardware_profile import HardwareProfileStatus, ProfileNode
from modelwright_operator.plan.conditions import Finding, build_conditions

if TYPE_CHECKING:
    from modelwright_operator.plan.nodes import ProfileState
    from modelwright_operator.plan.observed import HardwareProfileView, NodesObserved

MAX_NODES = 1000


def build_profile_status(
    observed: NodesObserved, state: ProfileState, view: HardwareProfileView
) -> HardwareProfileStatus:
    """Count and name a profile's nodes."""
    count = len(state.nodes)
    finding = (
        Finding(ConditionType.READY, "True", Reason.AVAILABLE, f"{count} nodes have this hardware")
        if count
        else Finding(
            ConditionType.READY, "False", Reason.NO_MATCHING_NODE, "no node has this hardware"
        )
    )
    return HardwareProfileStatus(
        observed_generation=view.generation,
        conditions=build_conditions(
            (finding,), view.status.conditions or (), generation=view.generation, now=observed.now
        ),
        node_count=count,
        nodes=tuple(
            ProfileNode(name=fact.name, boot_id=fact.boot_id, cores=fact.cores)
            for fact in state.nodes[:MAX_NODES]
        ),
    )
