"""One run: the real reconcilers, a cluster in memory, controllers, a seed, and the invariants.

Everything that happens at the same time in a real cluster is one queue of possible steps here, and
the seed picks the next: an event arrives, a key's pass starts, a pass goes on to its next request,
the controllers tick. So passes interleave, caches lag, and a run can be told again exactly.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from modelwright_operator.apply.applier import Applier
from modelwright_operator.apply.events import EventRecorder
from modelwright_operator.apply.status import StatusWriter
from modelwright_operator.control.assembly import KINDS, assemble
from modelwright_operator.control.contract import Context
from modelwright_operator.control.reconcilers import BuildReconciler
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.faults import KubeFault, Unreachable
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import BuildResult, RegistryProblem
from modelwright_operator.plan.types import Key, ObjectRef
from tests.simulation import invariants
from tests.simulation.controllers import Controllers, Hardware
from tests.support import builders as a
from tests.support.memory_cluster import MemoryClient, MemoryCluster, Object, copied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

SYSTEM = "modelwright-system"
TICK_SECONDS = 5
RESYNC_SECONDS = 300
RETRY_SECONDS = 10
_TRACE_LINES = 120


@dataclass(frozen=True)
class Weather:
    """What the operator has to put up with: chances at each of its steps."""

    name: str = "calm"
    fault: float = 0.0
    lost_answer: float = 0.0
    lost_event: float = 0.0
    kill: float = 0.0


@dataclass
class _Operator:
    """One life of the operator: all that a kill takes away."""

    store: Store
    client: MemoryClient
    reconcilers: dict[str, Any]
    wake: Callable[..., Any]
    due: dict[Key, float] = field(default_factory=dict)
    running: dict[Key, Coroutine[Any, Any, float | None]] = field(default_factory=dict)
    dirty: set[Key] = field(default_factory=set)
    events: dict[str, deque[tuple[str, Object]]] = field(default_factory=dict)
    resync_at: float = 0.0


class _Pause:
    """A point at which something else may happen."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class World:
    """A cluster with an operator on it."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.seed = seed
        self.weather = weather or Weather()
        self.seconds = 0.0
        self.ticks = 0
        self.rng = random.Random(seed)  # noqa: S311 - a seed, no secret
        self.hardware = Hardware()
        self.cluster = MemoryCluster(self.now)
        self.trace: deque[str] = deque(maxlen=_TRACE_LINES)
        self.settings = a.settings(build={"retrySeconds": 20, "finishedTtlSeconds": 60})
        self._controllers = Controllers(self.cluster, self.hardware, self.rng)
        self._is_calm = False
        self._seen_writes = 0
        self._checks = invariants.Invariants(self.cluster, self.hardware)
        self._operator = self._start_operator()
        self.cluster.watch(self._notice)

    def now(self) -> Any:
        return a.NOW + timedelta(seconds=self.seconds)

    # What scenarios do ------------------------------------------------------------------------

    def add_node(self, name: str, profile: str = "x86-avx2", boot: str = "b1") -> None:
        self.hardware.profiles[name] = profile
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        }
        status = {
            "nodeInfo": {"bootID": boot},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.cluster.update({**self.cluster.create(node), "status": status}, subresource="status")

    def apply_model(self, name: str = "digits", **spec: Any) -> None:
        """What a person writes, as a whole."""
        self.say(f"person applies InferenceModel {name}: {sorted(spec)}")
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": "InferenceModel",
            "metadata": {"name": name, "namespace": "vision"},
            "spec": a.spec_document(**spec),
        }
        self.cluster.apply(manifest, "kubectl", force=True)

    def delete(self, kind: str, name: str) -> None:
        self.say(f"person deletes {kind} {name}")
        namespace = "vision" if resource_of(kind).namespaced else None
        self._checks.excuse(kind, name)
        self.cluster.delete(ObjectRef("", kind, namespace, name), "kubectl")

    def lose_status(self, name: str = "digits") -> None:
        """What a restored backup does: the object without its status."""
        self.say(f"the status of {name} is lost")
        model = self.model(name)
        assert model is not None
        self._checks.forget()
        self.cluster.update(
            {**model, "status": {"observedGeneration": -1}}, "backup", subresource="status"
        )

    def hold_at_least(self, servers: int) -> None:
        """From now on fewer servers than these are a failure, whatever the minimum."""
        self._checks.at_least = servers

    def model(self, name: str = "digits") -> Object | None:
        return self.cluster.get("InferenceModel", "vision", name)

    def condition(self, kind: str, name: str = "digits") -> tuple[str, str]:
        """Status and reason of a model's condition, if it speaks of the current spec."""
        model = self.model(name)
        if model is None or model["status"]["observedGeneration"] < model["metadata"]["generation"]:
            return "Unknown", "NotObserved"
        found = [c for c in model["status"].get("conditions", []) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else ("Unknown", "Absent")

    def is_serving(self, name: str = "digits") -> bool:
        return self.condition("Ready", name) == ("True", "Serving")

    # Running ----------------------------------------------------------------------------------

    def run(
        self, goal: Callable[[], bool], what: str, *, ticks: int = 400, at_rest: bool = True
    ) -> None:
        """Let things happen until the goal holds and nothing is on its way any more."""
        last = self.ticks + ticks
        while not (goal() and (not at_rest or self._is_idle())):
            if self.ticks > last:
                self.fail(
                    f"{what}: not reached in {ticks} ticks; Ready is {self.condition('Ready')}"
                )
            self.step()
        self.say(f"reached: {what}")

    def run_for(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One thing happens."""
        operator = self._operator
        choices: list[Callable[[], None]] = []
        kinds = [kind for kind, events in operator.events.items() if events]
        if kinds:
            choices += [lambda: self._deliver(self.rng.choice(sorted(kinds)))] * 4
        ready = sorted((key for key, due in operator.due.items() if due <= self.seconds), key=str)
        ready = [key for key in ready if key not in operator.running]
        if ready:
            choices += [lambda: self._begin(self.rng.choice(ready))] * 4
        if operator.running:
            choices += [
                lambda: self._advance(self.rng.choice(sorted(operator.running, key=str)))
            ] * 6
        if self.seconds >= operator.resync_at:
            choices.append(self._resync)
        choices.append(self._tick)
        if not self._is_calm and self.rng.random() < self.weather.kill:
            self._kill()
            return
        self.rng.choice(choices)()
        self._check()

    def settle_and_stay_quiet(self, passes: int = 100) -> None:
        """With nothing changing, every key's next passes write nothing."""
        self._is_calm = True
        operator = self._operator
        if self.weather.lost_event:
            # Only the next list makes up for an event that never came.
            self._resync()
            self.run(lambda: True, "the cache is whole")
        keys = self._all_keys()
        before = len(operator.client.sent)
        for number in range(passes):
            self.seconds += 1
            for key in self.rng.sample(keys, len(keys)):
                self._complete(key)
            sent = operator.client.sent[before:]
            if sent:
                self.fail(f"pass {number + 1} with nothing to do sent {sent}")

    def fail(self, why: str) -> None:
        told = "\n".join(self.trace)
        raise AssertionError(
            f"{why}\nseed {self.seed}, weather {self.weather.name}, the last steps:\n{told}"
        )

    def say(self, what: str) -> None:
        self.trace.append(f"{self.seconds:7.1f} s  {what}")

    # The operator's process -------------------------------------------------------------------

    def _start_operator(self) -> _Operator:
        store, client = Store(), MemoryClient(self.cluster, self._gate)
        context = Context(
            settings=self.settings,
            client=client,  # type: ignore[arg-type]
            store=store,
            applier=Applier(client, store),  # type: ignore[arg-type]
            status=StatusWriter(client, store),  # type: ignore[arg-type]
            events=EventRecorder(
                client,  # type: ignore[arg-type]
                instance="operator",
                now=self.now,
                monotonic=lambda: self.seconds,
            ),
            namespace=SYSTEM,
            now=self.now,
        )
        wiring = assemble(context)
        reconcilers = dict(wiring.reconcilers)
        reconcilers["ModelBuild"] = BuildReconciler(context, self, _Silent())
        operator = _Operator(store, client, reconcilers, wiring.wake)
        store.subscribe(lambda before, after: self._wake(operator, before, after))
        for watched in KINDS:
            store.replace(watched.kind, None, self._listed(watched), self.cluster.version)
        for key in wiring.singletons:
            operator.due[key] = self.seconds
        operator.resync_at = self.seconds + RESYNC_SECONDS
        return operator

    def _kill(self) -> None:
        self.say("the operator is killed and starts again")
        for running in self._operator.running.values():
            running.close()
        self._operator = self._start_operator()

    def _wake(self, operator: _Operator, before: Any, after: Any) -> None:
        for key in operator.wake(before, after):
            if key in operator.running:
                operator.dirty.add(key)
            operator.due[key] = min(self.seconds, operator.due.get(key, self.seconds))

    def _notice(self, event: str, obj: Object) -> None:
        """The API server has something to tell; it arrives later."""
        if not any(w.kind == obj["kind"] and _selects(w.label_selector, obj) for w in KINDS):
            return
        if not self._is_calm and self.rng.random() < self.weather.lost_event:
            self.say(f"event lost: {event} {obj['kind']} {obj['metadata']['name']}")
            return
        self._operator.events.setdefault(obj["kind"], deque()).append((event, obj))

    def _deliver(self, kind: str) -> None:
        event, obj = self._operator.events[kind].popleft()
        if event == "DELETED":
            self._operator.store.remove(obj)
        else:
            self._operator.store.put(obj)

    def _begin(self, key: Key) -> None:
        operator = self._operator
        del operator.due[key]
        operator.running[key] = operator.reconcilers[key.kind].reconcile(key)
        self._advance(key)

    def _advance(self, key: Key) -> None:
        """The pass goes on to its next request, or ends."""
        operator = self._operator
        again: float | None = None
        try:
            operator.running[key].send(None)
            return
        except StopIteration as end:
            again = end.value
        except KubeFault as fault:
            self.say(f"pass of {key} failed: {fault.message}")
            again = RETRY_SECONDS
        del operator.running[key]
        if key in operator.dirty:
            operator.dirty.discard(key)
            again = 0.0
        if again is not None:
            due = self.seconds + again
            operator.due[key] = min(due, operator.due.get(key, due))

    def _complete(self, key: Key) -> None:
        self._begin_quietly(key)
        while key in self._operator.running:
            self._advance(key)

    def _begin_quietly(self, key: Key) -> None:
        self._operator.due[key] = self.seconds
        self._begin(key)

    async def _gate(self, what: str, is_done: bool) -> None:
        """Before and after each request: others act, and the network has its moods."""
        await _Pause()
        if self._is_calm:
            return
        chance = self.weather.lost_answer if is_done else self.weather.fault
        if self.rng.random() < chance:
            self.say(f"{'answer lost' if is_done else 'no answer'}: {what}")
            raise Unreachable(f"{what}: connection reset")

    async def read(
        self, repository: str, request_key: str, digest: str | None
    ) -> BuildResult | RegistryProblem:
        """The artifact registry, when it is up."""
        await _Pause()
        if not self.hardware.is_registry_up:
            return RegistryProblem("RegistryUnreachable", f"{repository} does not answer")
        report = self.hardware.registry.get(str(digest))
        if report is None:
            return RegistryProblem("ArtifactMissing", f"{repository} holds no {digest}")
        return BuildResult(str(digest), report)

    def _resync(self) -> None:
        operator = self._operator
        operator.resync_at = self.seconds + RESYNC_SECONDS
        self.say("resync")
        for watched in KINDS:
            operator.store.replace(watched.kind, None, self._listed(watched), self.cluster.version)
        for key in self._all_keys():
            operator.due.setdefault(key, self.seconds)

    # The rest ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.seconds += TICK_SECONDS
        self.ticks += 1
        self._controllers.tick(self.now())

    def _check(self) -> None:
        """Tell what was written, and hold it against the invariants."""
        writes = self.cluster.writes[self._seen_writes :]
        self._seen_writes = len(self.cluster.writes)
        for write in writes:
            self.say(str(write))
        if writes and (broken := self._checks.find_broken(writes)):
            self.fail(broken)

    def _is_idle(self) -> bool:
        operator = self._operator
        waits = any(due <= self.seconds for due in operator.due.values())
        moving = any(operator.events.values()) or operator.running or waits
        return not moving and not self._is_moving()

    def _is_moving(self) -> bool:
        """Whether a rollout or a build has not come to its end."""
        for deployment in self.cluster.peek("Deployment"):
            status = deployment.get("status", {})
            wanted = deployment["spec"]["replicas"]
            counts = [status.get(f"{kind}Replicas") for kind in ("updated", "available")]
            if status.get("replicas") != wanted or counts != [wanted, wanted]:
                return True
        return False

    def _all_keys(self) -> list[Key]:
        keys = [Key("Nodes", "", "")]
        for kind in ("InferenceModel", "ModelBuild"):
            keys += [
                Key(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
                for obj in self._operator.store.list(kind)
            ]
        return keys

    def _listed(self, watched: Any) -> list[Object]:
        return [
            copied(obj)
            for obj in self.cluster.list(watched.kind)
            if _selects(watched.label_selector, obj)
        ]


class _Silent:
    """Builds that say nothing of how far they are."""

    async def read(self, pod: Any) -> None:
        return None


def _selects(selector: str, obj: Object) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(
        labels.get(part.partition("=")[0]) == part.partition("=")[2]
        for part in selector.split(",")
        if part
    )
