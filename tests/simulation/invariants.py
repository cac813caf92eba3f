"""What must hold at every moment, whatever happens in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright_operator.plan import names
from tests.simulation.controllers import component, digests_of, has_ended, is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.controllers import Hardware
    from tests.support.memory_cluster import MemoryCluster, Object, Write

_OWNED = (
    "ServiceAccount",
    "Service",
    "Deployment",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "ModelBuild",
    "Job",
)


class Invariants:
    """Remembers only what a rule needs of the past."""

    def __init__(self, cluster: MemoryCluster, hardware: Hardware) -> None:
        self._cluster = cluster
        self._hardware = hardware
        self._floors: dict[str, int] = {}
        self._told: set[str] = set()
        self.at_least = 0
        self._generations: dict[str, int] = {}

    def excuse(self, kind: str, name: str) -> None:
        """A person takes the servers away, or what they run on: their number starts anew."""
        if kind in ("Deployment", "Node", "Pod"):
            self._floors.clear()

    def forget(self) -> None:
        """A person took the statuses away."""
        self._told.clear()
        self._generations.clear()

    def find_broken(self, writes: Sequence[Write]) -> str | None:
        """The first rule that does not hold, in words."""
        rules = (
            self._check_users_objects(writes),
            self._check_owners(),
            self._check_jobs(),
            self._check_generations(),
            self._check_served(),
            self._check_blame(),
            self._check_memory(),
            self._check_capacity(),
        )
        return next((broken for rule in rules for broken in rule), None)

    def _check_users_objects(self, writes: Sequence[Write]) -> Iterator[str]:
        for write in writes:
            is_ours = write.manager == names.FIELD_MANAGER
            if is_ours and write.kind == "InferenceModel" and write.subresource != "status":
                yield f"a user's object was written: {write}"

    def _check_owners(self) -> Iterator[str]:
        for kind in _OWNED:
            for obj in self._cluster.peek(kind):
                if not obj["metadata"].get("ownerReferences"):
                    yield f"{kind} {obj['metadata']['name']} has no owner"

    def _check_jobs(self) -> Iterator[str]:
        live: dict[str, str] = {}
        for job in self._cluster.peek("Job"):
            if has_ended(job):
                continue
            build = job["metadata"]["labels"][names.BUILD_LABEL]
            if build in live:
                yield f"two Jobs of {build} live: {live[build]}, {job['metadata']['name']}"
            live[build] = job["metadata"]["name"]

    def _check_generations(self) -> Iterator[str]:
        for kind in ("InferenceModel", "ModelBuild", "HardwareProfile"):
            for obj in self._cluster.peek(kind):
                uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
                observed = obj["status"].get("observedGeneration", -1)
                if observed < self._generations.get(uid, -1):
                    yield f"observedGeneration of {name} went back to {observed}"
                if observed > obj["metadata"]["generation"]:
                    yield f"observedGeneration of {name} is ahead: {observed}"
                self._generations[uid] = observed

    def _check_served(self) -> Iterator[str]:
        """Servers get nothing but finished artifacts."""
        for deployment in self._cluster.peek("Deployment"):
            unknown = digests_of(deployment["spec"]["template"]["spec"]) - set(
                self._hardware.registry
            )
            if unknown:
                yield f"{deployment['metadata']['name']} serves what nobody built: {unknown}"

    def _check_blame(self) -> Iterator[str]:
        """Every spec here is a good one; a race of ours must not be told as a user's fault."""
        for model in self._cluster.peek("InferenceModel"):
            for condition in model["status"].get("conditions", []):
                if condition["reason"] in ("InvalidObject", "InternalError"):
                    yield f"{model['metadata']['name']} is blamed: {condition['message']}"

    def _check_memory(self) -> Iterator[str]:
        """While servers of a model live, its status does not forget what they serve."""
        owners = {
            reference["uid"]
            for deployment in self._cluster.peek("Deployment")
            for reference in deployment["metadata"]["ownerReferences"]
        }
        for model in self._cluster.peek("InferenceModel"):
            uid, told = model["metadata"]["uid"], model["status"].get("serving")
            is_wanted = (model["spec"].get("serving") or {}).get("mode") != "None"
            if uid in self._told and uid in owners and is_wanted and not told:
                yield f"the status of {model['metadata']['name']} forgot what serves"
            (self._told.add if told else self._told.discard)(uid)

    def _check_capacity(self) -> Iterator[str]:
        """Once as many servers as the minimum answer, there are never fewer."""
        for model in self._cluster.peek("InferenceModel"):
            uid, name = model["metadata"]["uid"], model["metadata"]["name"]
            serving = model["spec"].get("serving") or {}
            if serving.get("mode") == "None":
                self._floors.pop(uid, None)
                continue
            ready = self._count_ready(model)
            minimum = (model["spec"].get("scaling") or {}).get("minReplicas", 1)
            floor = max(min(self._floors.get(uid, 0), minimum), self.at_least)
            if ready < floor:
                yield f"{ready} servers of {name} answer; there were {floor} before"
            # Servers of a deleted namesake answer for a while; they are not this model's.
            reached = ready >= minimum and self._owns_servers(uid)
            self._floors[uid] = max(floor, minimum if reached else 0)

    def _owns_servers(self, uid: str) -> bool:
        return any(
            reference["uid"] == uid
            for deployment in self._cluster.peek("Deployment")
            for reference in deployment["metadata"]["ownerReferences"]
        )

    def _count_ready(self, model: Object) -> int:
        """Servers that answer, but those that a person has just condemned."""
        label = names.model_label(model["metadata"]["name"])
        nodes = {node["metadata"]["name"] for node in self._cluster.peek("Node")}
        owners = {obj["metadata"]["uid"] for obj in self._cluster.peek("Deployment")}
        return sum(
            is_ready(pod)
            for pod in self._cluster.peek("Pod")
            if component(pod) == "server"
            and pod["metadata"]["labels"][names.MODEL_LABEL] == label
            and pod["spec"].get("nodeName") in nodes
            and pod["metadata"]["ownerReferences"][0]["uid"] in owners
        )
