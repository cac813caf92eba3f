"""Hardware profiles out of probes: found, kept by boot id, probed again after a reboot."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from modelwright_operator.observe.parse import parse_profile
from modelwright_operator.plan import names
from modelwright_operator.plan.nodes import NodesPlan, plan_nodes
from modelwright_operator.plan.nodes_status import build_profile_status
from modelwright_operator.plan.observed import NodesObserved
from tests.support import builders as a

SETTINGS = a.settings(probeConcurrency=2)
SAID = {
    "architecture": "amd64",
    "features": ["avx2", "f16c", "fma"],
    "vendor": "AuthenticAMD",
    "cores": 8,
    "profile": "x86-avx2",
}


def node(name: str, boot: str = "b1", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "status": {
            "nodeInfo": {"bootID": boot},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def probe(
    name: str, phase: str = "Succeeded", said: Any = None, age_seconds: int = 0
) -> dict[str, Any]:
    created = a.NOW - timedelta(seconds=age_seconds)
    ended = {"exitCode": 0, "message": json.dumps(said or SAID)}
    return {
        "metadata": {
            "name": names.probe_name(name),
            "namespace": "modelwright-system",
            "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "spec": {"nodeName": name},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "probe", "state": {"terminated": ended}}],
        },
    }


def hardware_profile(name: str, *nodes: tuple[str, str], managed: bool = True, **spec: Any) -> Any:
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY} if managed else {}
    return parse_profile(
        {
            "metadata": {"name": name, "labels": labels, "generation": 1},
            "spec": {"architecture": "amd64", "features": ["avx2", "fma"], **spec},
            "status": {"nodes": [{"name": n, "bootID": boot, "cores": 8} for n, boot in nodes]},
        }
    )


def plan(
    nodes: list[Any], probes: list[Any] | None = None, profiles: list[Any] | None = None
) -> NodesPlan:
    observed = NodesObserved(
        tuple(nodes), tuple(probes or ()), tuple(profiles or ()), a.NOW, "modelwright-system"
    )
    return plan_nodes(observed, SETTINGS)


def kinds(result: NodesPlan) -> list[tuple[str, str]]:
    return [(m["kind"], m["metadata"]["name"]) for m in result.plan.apply]


def test_an_unknown_node_is_probed() -> None:
    result = plan([node("n1")])
    assert kinds(result) == [("Pod", names.probe_name("n1"))]
    assert result.plan.apply[0]["spec"]["nodeName"] == "n1"


def test_only_so_many_probes_run_at_once() -> None:
    nodes = [node(f"n{number}") for number in range(5)]
    assert len(plan(nodes).plan.apply) == 2
    assert len(plan(nodes, [probe("n0", "Running")]).plan.apply) == 1


def test_a_node_that_is_not_ready_is_not_probed() -> None:
    assert plan([node("n1", ready="Unknown")]).plan.apply == ()


def test_a_probe_that_ended_makes_a_profile_with_the_features_of_its_class() -> None:
    result = plan([node("n1")], [probe("n1")])
    assert kinds(result) == [("HardwareProfile", "x86-avx2")]
    assert result.plan.apply[0]["spec"]["features"] == ["avx2", "fma"]
    assert result.profiles[0].nodes[0].boot_id == "b1"
    assert not result.plan.delete


def test_the_probe_goes_only_when_its_result_is_recorded() -> None:
    recorded = hardware_profile("x86-avx2", ("n1", "b1"))
    result = plan([node("n1")], [probe("n1")], [recorded])
    assert [ref.name for ref in result.plan.delete] == [names.probe_name("n1")]


def test_a_known_node_is_left_alone_and_a_rebooted_one_probed_again() -> None:
    recorded = hardware_profile("x86-avx2", ("n1", "b1"))
    assert kinds(plan([node("n1")], [], [recorded])) == [("HardwareProfile", "x86-avx2")]
    assert ("Pod", names.probe_name("n1")) in kinds(plan([node("n1", "b2")], [], [recorded]))


def test_a_failed_probe_is_tried_again_after_a_pause() -> None:
    assert plan([node("n1")], [probe("n1", "Failed", age_seconds=10)]).plan.delete == ()
    assert plan([node("n1")], [probe("n1", "Failed", age_seconds=400)]).plan.delete


def test_a_node_that_is_gone_leaves_its_profile() -> None:
    recorded = hardware_profile("x86-avx2", ("n1", "b1"), ("n2", "b1"))
    (state,) = plan([node("n1")], [], [recorded]).profiles
    assert [fact.name for fact in state.nodes] == ["n1"]


def test_a_users_profile_is_counted_and_never_written() -> None:
    own = hardware_profile("mine", managed=False, features=["avx2"])
    recorded = hardware_profile("x86-avx2", ("n1", "b1"))
    result = plan([node("n1")], [], [recorded, own])
    assert ("HardwareProfile", "mine") not in kinds(result)
    state = next(item for item in result.profiles if item.name == "mine")
    assert [fact.name for fact in state.nodes] == ["n1"]
    status = build_profile_status(
        NodesObserved((), (), (), a.NOW, "modelwright-system"), state, own
    )
    assert status.node_count == 1
