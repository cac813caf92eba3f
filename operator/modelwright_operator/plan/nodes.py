"""Hardware profiles found for the nodes: one probe pod a node, its words, and what follows.

Results live in the HardwareProfiles' status, keyed by boot id, so nothing is remembered in the
process and no node is labelled. A user's own HardwareProfile is only counted, never changed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from modelwright_artifact.hardware import PROFILES
from modelwright_operator.plan import names
from modelwright_operator.plan.pods import (
    container_security_context,
    pod_security_context,
    pull_secrets,
)
from modelwright_operator.plan.podstate import termination_message
from modelwright_operator.plan.types import Manifest, ObjectRef, Plan, Settled
from modelwright_operator.plan.types import Waiting as WaitingFor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modelwright_operator.plan.observed import HardwareProfileView, NodesObserved, Object
    from modelwright_operator.settings import Settings

PROBE_RETRY_SECONDS = 300
PROBE_POLL_SECONDS = 10
PROBE_DEADLINE_SECONDS = 300


@dataclass(frozen=True, slots=True, order=True)
class NodeFact:
    """What is known of one node, and since which boot."""

    name: str
    boot_id: str
    cores: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe said of its node's hardware."""

    profile: str
    architecture: str
    features: tuple[str, ...]
    cores: int


@dataclass(frozen=True, slots=True)
class ProfileState:
    """A profile and the nodes that belong to it now."""

    name: str
    nodes: tuple[NodeFact, ...]


@dataclass(frozen=True, slots=True)
class NodesPlan:
    """The plan, and the node lists that go into the profiles' status."""

    plan: Plan
    profiles: tuple[ProfileState, ...]


@dataclass(frozen=True, slots=True)
class _Membership:
    """Discovered profile, its spec, and its nodes so far."""

    architecture: str
    features: tuple[str, ...]
    nodes: dict[str, NodeFact]


def plan_nodes(observed: NodesObserved, settings: Settings) -> NodesPlan:
    """Probe what is unknown, record what is known; pure, total and idempotent."""
    discovered = _known_members(observed)
    pending: list[str] = []
    for node in _usable_nodes(observed.nodes):
        name = node["metadata"]["name"]
        if _is_known(discovered, name, _boot_id(node)):
            continue
        result = _probe_result(_find_probe(observed, name))
        if result is None:
            pending.append(name)
        else:
            _join(discovered, result, NodeFact(name, _boot_id(node), result.cores))
    probes = _plan_probes(observed, pending, settings)
    apply = (*_profile_manifests(observed, discovered), *probes.apply)
    outcome = (
        WaitingFor("Pending", f"probing {', '.join(pending)}", PROBE_POLL_SECONDS)
        if pending and settings.probe_nodes
        else Settled()
    )
    return NodesPlan(
        Plan(
            apply=apply,
            delete=(*probes.delete, *_finished_probes(observed, discovered)),
            outcome=outcome,
            wake_after_seconds=PROBE_POLL_SECONDS if pending and settings.probe_nodes else None,
        ),
        (*_discovered_states(discovered), *_user_states(observed, discovered)),
    )


def build_probe_pod(node: str, namespace: str, settings: Settings) -> Manifest:
    """A pod that reads the CPU's features on one node and says them as it ends.

    It is bound to the node directly: hardware is probed whatever the taints say.
    """
    name = names.probe_name(node)
    labels = {**names.common_labels("probe", name), names.NODE_LABEL: names.child_name(node)}
    small = {"cpu": "50m", "memory": "128Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": names.metadata(name, namespace, labels),
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": PROBE_DEADLINE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **pull_secrets(settings),
            "securityContext": pod_security_context(),
            "containers": [
                {
                    "name": names.PROBE_CONTAINER,
                    "image": settings.images.runtime,
                    "imagePullPolicy": settings.image_pull_policy,
                    "args": ["probe"],
                    "resources": {"requests": small, "limits": {"cpu": "1", "memory": "256Mi"}},
                    "securityContext": container_security_context(),
                }
            ],
        },
    }


def build_profile(name: str, architecture: str, features: Sequence[str]) -> Manifest:
    """A HardwareProfile found by probing; cluster-scoped, so nothing owns it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "HardwareProfile",
        "metadata": names.metadata(name, None, names.common_labels("hardware", name)),
        "spec": {"architecture": architecture, "features": sorted(features)},
    }


def _known_members(observed: NodesObserved) -> dict[str, _Membership]:
    """The discovered profiles as recorded, without nodes that are gone."""
    existing = {node["metadata"]["name"] for node in observed.nodes}
    members = {}
    for view in observed.profiles:
        if not view.profile.is_discovered:
            continue
        nodes = {
            entry.name: NodeFact(entry.name, entry.boot_id or "", entry.cores or 0)
            for entry in view.status.nodes or ()
            if entry.name in existing
        }
        members[view.profile.name] = _Membership(
            view.profile.architecture, tuple(sorted(view.profile.features)), nodes
        )
    return members


def _is_known(members: Mapping[str, _Membership], node: str, boot_id: str) -> bool:
    return any(
        fact.boot_id == boot_id
        for member in members.values()
        if (fact := member.nodes.get(node)) is not None
    )


def _join(members: dict[str, _Membership], result: ProbeResult, fact: NodeFact) -> None:
    """Put a node into the profile it fits; a poorer namesake gets a profile of its own."""
    for other in members.values():
        other.nodes.pop(fact.name, None)
    name = result.profile
    member = members.get(name)
    if member is not None and not set(member.features) <= set(result.features):
        digest = hashlib.sha256(",".join(result.features).encode()).hexdigest()[:6]
        name = f"{name}-{digest}"
        member = members.get(name)
    if member is None:
        member = _Membership(result.architecture, result.features, {})
        members[name] = member
    member.nodes[fact.name] = fact


def _usable_nodes(nodes: Sequence[Object]) -> Iterator[Object]:
    """Ready Linux nodes, in a stable order."""
    for node in sorted(nodes, key=lambda item: str(item["metadata"]["name"])):
        labels = node["metadata"].get("labels", {})
        conditions = node.get("status", {}).get("conditions", [])
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        if ready and labels.get("kubernetes.io/os", "linux") == "linux":
            yield node


def _boot_id(node: Object) -> str:
    return str(node.get("status", {}).get("nodeInfo", {}).get("bootID", ""))


@dataclass(frozen=True, slots=True)
class _Probes:
    apply: tuple[Manifest, ...]
    delete: tuple[ObjectRef, ...]


def _plan_probes(observed: NodesObserved, pending: Sequence[str], settings: Settings) -> _Probes:
    """Start probes up to the concurrency; a failed one is removed after a pause, then retried."""
    if not settings.probe_nodes:
        return _Probes((), ())
    delete = []
    missing = []
    running = 0
    for node in pending:
        probe = _find_probe(observed, node)
        if probe is None:
            missing.append(node)
        elif _phase(probe) in ("Failed", "Succeeded"):
            if _is_older(probe, observed.now, PROBE_RETRY_SECONDS):
                delete.append(_reference(probe))
        else:
            running += 1
    room = max(settings.probe_concurrency - running, 0)
    apply = tuple(build_probe_pod(node, observed.namespace, settings) for node in missing[:room])
    return _Probes(apply, tuple(delete))


def _finished_probes(
    observed: NodesObserved, members: Mapping[str, _Membership]
) -> tuple[ObjectRef, ...]:
    """Probes whose result is recorded, or whose node is gone."""
    recorded = {
        entry.name
        for view in observed.profiles
        if view.profile.is_discovered
        for entry in view.status.nodes or ()
        if _is_known(members, entry.name, entry.boot_id or "")
    }
    existing = {node["metadata"]["name"] for node in observed.nodes}
    done = []
    for probe in observed.probes:
        node = probe.get("spec", {}).get("nodeName")
        if node not in existing or (node in recorded and _phase(probe) == "Succeeded"):
            done.append(_reference(probe))
    return tuple(done)


def _find_probe(observed: NodesObserved, node: str) -> Object | None:
    name = names.probe_name(node)
    return next((p for p in observed.probes if p["metadata"]["name"] == name), None)


def _probe_result(probe: Object | None) -> ProbeResult | None:
    if probe is None or _phase(probe) != "Succeeded":
        return None
    try:
        said: Any = json.loads(termination_message(probe, names.PROBE_CONTAINER) or "")
        name = str(said["profile"])
        known = next((profile for profile in PROFILES if profile.name == name), None)
        features = known.features if known else tuple(str(item) for item in said["features"])
        return ProbeResult(
            profile=name,
            architecture=str(said["architecture"]),
            # A class's defining features, not one CPU's: they name builds, so they must not vary.
            features=tuple(sorted(features)),
            cores=int(said.get("cores") or 0),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _profile_manifests(
    observed: NodesObserved, members: Mapping[str, _Membership]
) -> Iterator[Manifest]:
    """Discovered profiles as objects; a user's profile of the same name is left alone."""
    taken = {view.profile.name for view in observed.profiles if not view.profile.is_discovered}
    for name, member in sorted(members.items()):
        if name not in taken:
            yield build_profile(name, member.architecture, member.features)


def _discovered_states(members: Mapping[str, _Membership]) -> Iterator[ProfileState]:
    for name, member in sorted(members.items()):
        yield ProfileState(name, tuple(sorted(member.nodes.values())))


def _user_states(
    observed: NodesObserved, members: Mapping[str, _Membership]
) -> Iterator[ProfileState]:
    """Which probed nodes fit the profiles users wrote."""
    by_name = {node["metadata"]["name"]: node for node in observed.nodes}
    for view in observed.profiles:
        if view.profile.is_discovered:
            continue
        facts = [
            fact
            for member in members.values()
            if _has_hardware(member, view)
            for fact in member.nodes.values()
            if _matches(by_name.get(fact.name), view.profile.node_selector)
        ]
        yield ProfileState(view.profile.name, tuple(sorted(facts)))


def _has_hardware(member: _Membership, view: HardwareProfileView) -> bool:
    profile = view.profile
    return member.architecture == profile.architecture and set(profile.features) <= set(
        member.features
    )


def _matches(node: Object | None, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels", {}) if node is not None else {}
    return all(labels.get(key) == value for key, value in selector.items())


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _is_older(pod: Object, now: datetime, seconds: float) -> bool:
    created = pod["metadata"].get("creationTimestamp")
    if not isinstance(created, str):
        return False
    return now - datetime.fromisoformat(created) > timedelta(seconds=seconds)


def _reference(pod: Object) -> ObjectRef:
    meta = pod["metadata"]
    return ObjectRef("v1", "Pod", meta["namespace"], meta["name"], meta.get("uid"))
