"""What Kubernetes itself does, small: each controller moves its objects one step a tick.

Seeded and without a clock of their own, so that a run can be told again exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelwright_operator.kube.faults import Conflict
from modelwright_operator.plan import names
from modelwright_operator.plan.types import ObjectRef
from tests.support import builders as a
from tests.support.memory_cluster import copied

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.support.memory_cluster import MemoryCluster, Object

KUBE = "kube-controller-manager"
KUBELET = "kubelet"
_BAD_ENDS = {
    "input": (42, '{"reason": "ModelInvalid", "message": "the file is no ONNX model"}'),
    "infrastructure": (1, '{"reason": "RegistryUnreachable", "message": "connection refused"}'),
    "memory": (137, ""),
}


@dataclass(frozen=True)
class Fate:
    """How a build ends, and after how many ticks of its pod."""

    end: str = "success"
    ticks: int = 3


@dataclass
class Hardware:
    """What the outside world is like; a scenario changes it as it goes."""

    fate: Callable[[dict[str, Any], int], Fate] = lambda _request, _attempt: Fate()
    # Artifact digests whose servers never become ready.
    crashing: set[str] = field(default_factory=set)
    load: dict[str, int] = field(default_factory=dict)
    registry: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_registry_up: bool = True
    profiles: dict[str, str] = field(default_factory=dict)


class Controllers:
    """All of them on one cluster."""

    def __init__(self, cluster: MemoryCluster, hardware: Hardware, rng: random.Random) -> None:
        self._cluster = cluster
        self._hardware = hardware
        self._rng = rng
        self._serial = 0
        self._age: dict[str, int] = {}
        self._ends: dict[str, int] = {}

    def tick(self, now: datetime) -> None:
        """Every controller once, in any order."""
        steps = [
            lambda: self._run_jobs(now),
            lambda: self._expire_jobs(now),
            self._schedule,
            lambda: self._run_pods(now),
            self._run_deployments,
            self._run_autoscalers,
            self._collect_garbage,
        ]
        self._rng.shuffle(steps)
        for step in steps:
            step()

    # Jobs -------------------------------------------------------------------------------------

    def _run_jobs(self, now: datetime) -> None:
        for job in list(self._cluster.peek("Job")):
            if has_ended(job):
                continue
            pods = self._children(job, "Pod")
            failed = [pod for pod in pods if phase(pod) == "Failed"]
            if any(phase(pod) == "Succeeded" for pod in pods):
                self._end_job(job, "Complete", "", now)
            elif failed and exit_code(failed[-1]) == 42:
                self._end_job(job, "Failed", "PodFailurePolicy", now)
            elif len(failed) > job["spec"]["backoffLimit"]:
                self._end_job(job, "Failed", "BackoffLimitExceeded", now)
            elif len(failed) == len(pods):
                self._make_pod(job, job["metadata"]["name"], KUBE)

    def _end_job(self, job: Object, kind: str, reason: str, now: datetime) -> None:
        moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        condition = {"type": kind, "status": "True", "reason": reason}
        status = {"conditions": [{**condition, "lastTransitionTime": moment}]}
        self._update({**job, "status": status}, KUBE, "status")

    def _expire_jobs(self, now: datetime) -> None:
        for job in list(self._cluster.peek("Job")):
            ttl = job["spec"].get("ttlSecondsAfterFinished")
            if ttl is None or not has_ended(job):
                continue
            ended = datetime.fromisoformat(job["status"]["conditions"][0]["lastTransitionTime"])
            if (now - ended).total_seconds() > ttl:
                self._delete(job, KUBE)

    # Nodes and pods ---------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Builds go to a node of their profile that measures nothing else."""
        measuring = {
            pod["spec"].get("nodeName")
            for pod in list(self._cluster.peek("Pod"))
            if component(pod) == "build" and phase(pod) in ("Pending", "Running")
        }
        for pod in list(self._cluster.peek("Pod")):
            if pod["spec"].get("nodeName") or phase(pod) != "Pending":
                continue
            wanted = _asked_nodes(pod)
            nodes = [
                node["metadata"]["name"]
                for node in self._cluster.peek("Node")
                if wanted is None or node["metadata"]["name"] in wanted
            ]
            free = [name for name in nodes if component(pod) != "build" or name not in measuring]
            if free:
                node = self._rng.choice(free)
                measuring.add(node)
                self._update({**pod, "spec": {**pod["spec"], "nodeName": node}}, "kube-scheduler")

    def _run_pods(self, now: datetime) -> None:
        nodes = {node["metadata"]["name"] for node in self._cluster.peek("Node")}
        for pod in list(self._cluster.peek("Pod")):
            node = pod["spec"].get("nodeName")
            if node and node not in nodes:
                self._delete(pod, KUBE)
            elif node and phase(pod) == "Pending":
                self._tell(pod, {"phase": "Running", "podIP": "10.244.0.9"})
            elif phase(pod) == "Running":
                self._live(pod, now)

    def _live(self, pod: Object, now: datetime) -> None:
        uid = pod["metadata"]["uid"]
        self._age[uid] = age = self._age.get(uid, 0) + 1
        match component(pod):
            case "build":
                self._build(pod, age, now)
            case "probe":
                said = json.dumps(_probe_words(self._hardware.profiles[pod["spec"]["nodeName"]]))
                self._end_pod(pod, "probe", 0, said, now)
            case _ if not is_ready(pod) and age > self._rng.randint(1, 3):
                crashes = any(
                    digest in self._hardware.crashing for digest in digests_of(pod["spec"])
                )
                self._tell(pod, _crash_status() if crashes else _ready_status())

    def _build(self, pod: Object, age: int, now: datetime) -> None:
        environment = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
        request = json.loads(environment["MODELWRIGHT_REQUEST"])
        attempt = int(pod["metadata"]["labels"]["job-name"].rpartition("-")[2])
        fate = self._hardware.fate(request, attempt)
        if age < fate.ticks:
            return
        if fate.end != "success":
            code, said = _BAD_ENDS[fate.end]
            self._end_pod(pod, "optimizer", code, said, now)
            return
        key = a.request_key(request)
        digest = digest_of_key(key)
        self._hardware.registry[digest] = a.report(request_key=key)
        said = json.dumps({"requestKey": key, "digest": digest, "reused": False})
        self._end_pod(pod, "optimizer", 0, said, now)

    def _end_pod(self, pod: Object, container: str, code: int, said: str, now: datetime) -> None:
        ended = {
            "exitCode": code,
            "reason": "OOMKilled" if code == 137 else "Error" if code else "Completed",
            "message": said,
            "finishedAt": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        }
        status = {"name": container, "image": "image", "state": {"terminated": ended}}
        self._tell(pod, {"phase": "Failed" if code else "Succeeded", "containerStatuses": [status]})

    # Servers ----------------------------------------------------------------------------------

    def _run_deployments(self) -> None:
        for deployment in list(self._cluster.peek("Deployment")):
            self._roll(deployment)

    def _roll(self, deployment: Object) -> None:
        wanted = deployment["spec"]["replicas"]
        rolling = deployment["spec"]["strategy"]["rollingUpdate"]
        surge = math.ceil(wanted * int(rolling["maxSurge"].rstrip("%")) / 100)
        floor = wanted - rolling["maxUnavailable"]
        mark = template_mark(deployment)
        pods = self._children(deployment, "Pod")
        new = [pod for pod in pods if pod["metadata"]["labels"]["hash"] == mark]
        old = [pod for pod in pods if pod not in new]
        for _ in range(min(wanted - len(new), wanted + surge - len(pods))):
            self._make_pod(deployment, deployment["metadata"]["name"], KUBE, hash=mark)
        ready = sum(is_ready(pod) for pod in pods)
        surplus = len(new) - wanted
        # Unready ones first; a ready one only while enough others are ready.
        for pod in sorted((*old, *new), key=is_ready):
            is_old = pod in old
            if not is_old and surplus <= 0:
                continue
            if is_ready(pod):
                if ready - 1 < floor:
                    continue
                ready -= 1
            surplus -= not is_old
            self._delete(pod, KUBE)
        self._tell_deployment(deployment, mark)

    def _tell_deployment(self, deployment: Object, mark: str) -> None:
        pods = self._children(deployment, "Pod")
        new = [pod for pod in pods if pod["metadata"]["labels"]["hash"] == mark]
        live = self._cluster.get("Deployment", *_where(deployment))
        if live is None:
            return
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "availableReplicas": sum(is_ready(pod) for pod in pods),
        }
        self._update({**live, "status": status}, KUBE, "status")

    def _run_autoscalers(self) -> None:
        for autoscaler in list(self._cluster.peek("HorizontalPodAutoscaler")):
            spec = autoscaler["spec"]
            namespace = autoscaler["metadata"]["namespace"]
            target = self._cluster.get("Deployment", namespace, spec["scaleTargetRef"]["name"])
            if target is None:
                continue
            now = target["spec"]["replicas"]
            asked = self._hardware.load.get(target["metadata"]["name"], now)
            wanted = max(spec["minReplicas"], min(asked, spec["maxReplicas"]))
            if wanted != now:
                target["spec"]["replicas"] = wanted
                self._update(target, KUBE, "scale")
            status = {"conditions": [{"type": "ScalingActive", "status": "True"}]}
            self._update({**autoscaler, "status": status}, KUBE, "status")

    # Garbage ----------------------------------------------------------------------------------

    def _collect_garbage(self) -> None:
        everything = [
            obj for kind in sorted(self._cluster.kinds()) for obj in self._cluster.peek(kind)
        ]
        alive = {obj["metadata"]["uid"] for obj in everything}
        for obj in everything:
            references = obj["metadata"].get("ownerReferences", [])
            kept = [reference for reference in references if reference["uid"] in alive]
            if len(kept) == len(references):
                continue
            if not kept:
                self._delete(obj, KUBE)
            else:
                orphan = copied(obj)
                orphan["metadata"]["ownerReferences"] = kept
                self._update(orphan, KUBE)

    # The API server as controllers use it -----------------------------------------------------

    def _children(self, owner: Object, kind: str) -> list[Object]:
        """An owner's children in the order in which they came."""
        uid = owner["metadata"]["uid"]
        return [
            obj
            for obj in self._cluster.peek(kind)
            if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences", []))
        ]

    def _make_pod(self, owner: Object, stem: str, manager: str, **labels: str) -> None:
        self._serial += 1
        template = owner["spec"]["template"]
        meta = owner["metadata"]
        reference = names.owner_reference(
            owner["kind"],
            meta["name"],
            meta["uid"],
            controller=True,
            api_version=owner["apiVersion"],
        )
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{stem}-{hashlib.sha256(str(self._serial).encode()).hexdigest()[:5]}",
                "namespace": meta["namespace"],
                "labels": {**template["metadata"]["labels"], "job-name": meta["name"], **labels},
                "ownerReferences": [reference],
            },
            "spec": template["spec"],
        }
        made = self._cluster.create(pod, manager)
        self._tell(made, {"phase": "Pending"})

    def _tell(self, pod: Object, status: dict[str, Any]) -> None:
        self._update({**pod, "status": {**pod.get("status", {}), **status}}, KUBELET, "status")

    def _update(self, obj: Object, manager: str, subresource: str = "") -> None:
        try:
            self._cluster.update(obj, manager, subresource=subresource)
        except Conflict:
            return  # somebody was faster; the next tick looks again

    def _delete(self, obj: Object, manager: str) -> None:
        meta = obj["metadata"]
        if self._cluster.exists(meta["uid"]):
            ref = ObjectRef(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])
            self._cluster.delete(ref, manager)


def digest_of_key(key: str) -> str:
    """The artifact a request always gives."""
    return f"sha256:{key}"


def digests_of(pod_spec: dict[str, Any]) -> set[str]:
    """The artifacts a server's pod mounts."""
    images = [volume["image"]["reference"] for volume in pod_spec["volumes"] if "image" in volume]
    return {image.partition("@")[2] for image in images}


def template_mark(deployment: Object) -> str:
    text = json.dumps(deployment["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def component(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get(names.COMPONENT_LABEL, ""))


def phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def has_ended(job: Object) -> bool:
    return bool(job.get("status", {}).get("conditions"))


def is_ready(pod: Object) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return any(status.get("ready") for status in statuses)


def exit_code(pod: Object) -> int:
    state = pod["status"]["containerStatuses"][0]["state"]
    return int(state["terminated"]["exitCode"])


def _ready_status() -> dict[str, Any]:
    running = {"name": "server", "ready": True, "image": "image", "state": {"running": {}}}
    return {"containerStatuses": [running]}


def _crash_status() -> dict[str, Any]:
    said = '{"reason": "AttestationFailed", "message": "static-int8 differs on this CPU"}'
    ended = {"terminated": {"exitCode": 3, "message": said}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "server", "ready": False, "image": "image", "state": waiting}
    return {"containerStatuses": [{**status, "lastState": ended, "restartCount": 3}]}


def _probe_words(profile: str) -> dict[str, Any]:
    return {"architecture": "amd64", "features": ["avx2", "fma"], "cores": 8, "profile": profile}


def _asked_nodes(pod: Object) -> set[str] | None:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity")
    if affinity is None:
        return None
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return {value for term in terms for value in term["matchFields"][0]["values"]}


def _where(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
