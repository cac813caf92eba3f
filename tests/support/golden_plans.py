"""Golden cases of the planner: each a step in the story of a cluster, told in YAML.

`in.yaml` of a case says what stands before (`after`: another case's end), what has changed since,
and which key is reconciled. The real observing, planning, applying and telling run on a cluster
in memory; what they decide comes back as documents.

    title:      a sentence
    after:      the case that went before; without it the cluster is empty
    minute:     minutes since the story began
    settings:   changes to the installation's settings, kept by later cases
    given:      objects that come; `owner: Kind glob` makes them a child
    changes:    - {object: Kind glob, <fields to merge>}, or {..., scale: 4} as an autoscaler does
    gone:       [Kind glob]
    registry:   what the artifact registry says: {digest, report} or {reason, message}
    progress:   what a running build says of itself
    reconcile:  Kind [namespace/]glob, or Nodes
"""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modelwright_operator.api.conditions import Condition
from modelwright_operator.apply.applier import Applier
from modelwright_operator.apply.status import StatusWriter
from modelwright_operator.kube.cache import Store
from modelwright_operator.observe.builds import observe_build
from modelwright_operator.observe.models import observe_model
from modelwright_operator.observe.nodes import observe_nodes
from modelwright_operator.plan.build import plan_build
from modelwright_operator.plan.build_status import build_build_status
from modelwright_operator.plan.conditions import object_ref, transition_events
from modelwright_operator.plan.model import plan_model
from modelwright_operator.plan.model_status import build_model_status
from modelwright_operator.plan.nodes import plan_nodes
from modelwright_operator.plan.nodes_status import build_profile_status
from modelwright_operator.plan.observed import BuildResult, Progress, RegistryProblem
from modelwright_operator.plan.types import ObjectRef, Plan, Settled
from tests.support import builders as a
from tests.support.memory_cluster import MemoryClient, MemoryCluster, copied

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelwright_operator.api.base import StatusModel
    from modelwright_operator.plan.types import Applied, EventNote, Manifest
    from modelwright_operator.settings import Settings

CASES = Path(__file__).parents[1] / "golden" / "plan"
SYSTEM = "modelwright-system"


@dataclass(frozen=True)
class Outcome:
    """What came out of a case: the plan as it is, and the documents people review."""

    apply: tuple[Manifest, ...]
    decision: dict[str, Any]
    status: dict[str, Any]

    def files(self) -> dict[str, str]:
        """The golden files by name."""
        documents = "---\n".join(dump(item) for item in self.apply) or "# nothing\n"
        return {
            "apply.yaml": documents,
            "decision.yaml": dump(self.decision),
            "status.yaml": dump(self.status),
        }


@dataclass
class Story:
    """A cluster and the installation on it, as a case leaves them."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    settings: dict[str, Any] = field(default_factory=dict)
    minute: int = 0


def list_cases() -> list[str]:
    return sorted(path.parent.name for path in CASES.glob("*/in.yaml"))


def play(name: str, **settings: Any) -> Outcome:
    """Tell the story up to the end of a case; `settings` are those of another installation."""
    return _tell(name, json.dumps(settings))[0]


def retell(name: str) -> Story:
    """The cluster as a case leaves it."""
    return copy.deepcopy(_tell(name, "{}")[1])


def plan_again(story: Story, target: str, **settings: Any) -> Outcome:
    """Reconcile another key where a story has ended."""
    scene = _Scene(story, {"settings": settings, "reconcile": target})
    return asyncio.run(scene.reconcile())


def dump(document: Any) -> str:
    return yaml.dump(
        copied(document),
        Dumper=yaml.CSafeDumper,
        sort_keys=False,
        width=100,
        allow_unicode=True,
        default_flow_style=False,
    )


@cache
def _tell(name: str, settings: str) -> tuple[Outcome, Story]:
    document: dict[str, Any] = yaml.load(
        (CASES / name / "in.yaml").read_text("utf-8"), yaml.CSafeLoader
    )
    before = document.get("after")
    story = copy.deepcopy(_tell(before, settings)[1]) if before else Story()
    scene = _Scene(story, document, json.loads(settings))
    scene.prepare()
    return asyncio.run(scene.reconcile()), story


class _Scene:
    """One case on the cluster of a story."""

    def __init__(
        self, story: Story, document: dict[str, Any], settings: dict[str, Any] | None = None
    ) -> None:
        self._story = story
        self._cluster = story.cluster
        self._document = document
        story.settings |= document.get("settings", {}) | (settings or {})
        story.minute = document.get("minute", story.minute)
        self._now = a.NOW + timedelta(minutes=story.minute)
        self._cluster._now = lambda: self._now
        self._store = Store()
        self._client: Any = MemoryClient(story.cluster)

    @property
    def _settings(self) -> Settings:
        return a.settings(**self._story.settings)

    def prepare(self) -> None:
        for change in self._document.get("changes", ()):
            self._change(**change)
        for pattern in self._document.get("gone", ()):
            victim = self._find(pattern)
            meta = victim["metadata"]
            ref = ObjectRef(
                victim["apiVersion"], victim["kind"], meta.get("namespace"), meta["name"]
            )
            self._cluster.delete(ref, "someone")
        for given in self._document.get("given", ()):
            self._come(copied(given))

    async def reconcile(self) -> Outcome:
        for obj in self._cluster.everything():
            self._store.put(obj)
        target = self._document["reconcile"]
        if target == "Nodes":
            return await self._nodes()
        kind, _, _ = target.partition(" ")
        raw = self._find(target)
        return await (self._model(raw) if kind == "InferenceModel" else self._build(raw))

    async def _model(self, raw: dict[str, Any]) -> Outcome:
        observed = await observe_model(raw, self._store, self._client, self._settings, self._now)
        result = plan_model(observed, self._settings)
        applied = await self._apply(result.plan)
        status = build_model_status(observed, result, applied, self._settings)
        about = object_ref("InferenceModel", observed.model.id)
        return await self._tell(result.plan, applied, about, observed.model.status, status)

    async def _build(self, raw: dict[str, Any]) -> Outcome:
        observed = await observe_build(raw, self._store, self, _Says(self._document), self._now)
        result = plan_build(observed, self._settings)
        applied = await self._apply(result.plan)
        status = build_build_status(observed, result, applied)
        about = object_ref("ModelBuild", observed.build.id)
        return await self._tell(result.plan, applied, about, observed.build.status, status)

    async def _nodes(self) -> Outcome:
        observed = observe_nodes(self._store, SYSTEM, self._now)
        result = plan_nodes(observed, self._settings)
        applied = await self._apply(result.plan)
        views = {view.profile.name: view for view in observed.profiles}
        statuses = {}
        for state in result.profiles:
            if (view := views.get(state.name)) is None:
                continue
            status = build_profile_status(observed, state, view).to_json()
            statuses[state.name] = status
            ref = ObjectRef(a.names.API_VERSION, "HardwareProfile", None, state.name, view.uid)
            await StatusWriter(self._client, self._store).write(ref, status)
        return Outcome(result.plan.apply, _decision(result.plan, applied, ()), statuses)

    async def read(
        self, repository: str, request_key: str, digest: str | None
    ) -> BuildResult | RegistryProblem:
        """What the case says the registry holds."""
        said = self._document.get("registry")
        if said is None:
            return RegistryProblem("ArtifactMissing", f"{repository} holds no build")
        if "reason" in said:
            return RegistryProblem(said["reason"], said["message"])
        report = {"requestKey": request_key, **said["report"]}
        return BuildResult(digest or said["digest"], report)

    async def _apply(self, plan: Plan) -> Applied:
        return await Applier(self._client, self._store).execute(plan)

    async def _tell(
        self, plan: Plan, applied: Applied, about: ObjectRef, before: Any, status: StatusModel
    ) -> Outcome:
        document = status.to_json()
        after = [Condition.model_validate(item) for item in document["conditions"]]
        events = transition_events(about, before.conditions or (), after)
        await StatusWriter(self._client, self._store).write(about, document)
        return Outcome(plan.apply, _decision(plan, applied, events), document)

    def _change(self, object: str, scale: int | None = None, **fields: Any) -> None:  # noqa: A002
        live = self._find(object)
        if scale is not None:
            live["spec"]["replicas"] = scale
            self._cluster.update(live, "kube-controller-manager", subresource="scale")
            return
        if "status" in fields:
            live["status"] = _merged(live.get("status", {}), fields.pop("status"))
            live = self._cluster.update(live, "a-controller", subresource="status")
        if fields:
            self._cluster.update(_merged(live, fields), "a-person")

    def _come(self, obj: dict[str, Any]) -> None:
        owner = obj.pop("owner", None)
        status = obj.pop("status", None)
        if owner is not None:
            parent = self._find(owner)
            reference = {key: parent[key] for key in ("apiVersion", "kind")}
            meta = parent["metadata"]
            reference |= {"name": meta["name"], "uid": meta["uid"], "controller": True}
            obj["metadata"]["ownerReferences"] = [reference]
        made = self._cluster.create(obj, "a-person")
        if status is not None:
            self._cluster.update({**made, "status": status}, "a-controller", subresource="status")

    def _find(self, pattern: str) -> dict[str, Any]:
        """The one object of a kind whose name fits."""
        kind, _, name = pattern.partition(" ")
        namespace, _, name = name.rpartition("/")
        fitting = [
            obj
            for obj in self._cluster.list(kind, namespace or None)
            if fnmatchcase(obj["metadata"]["name"], name)
        ]
        found = [obj["metadata"]["name"] for obj in fitting]
        assert len(fitting) == 1, f"{pattern} means {found or 'nothing'}"
        return fitting[0]


@dataclass(frozen=True)
class _Says:
    """A build's own words about how far it is."""

    document: Mapping[str, Any]

    async def read(self, pod: Any) -> Progress | None:
        said = self.document.get("progress")
        return Progress(**said) if said else None


def _decision(plan: Plan, applied: Applied, events: tuple[EventNote, ...]) -> dict[str, Any]:
    """Everything of a plan but its manifests."""
    return dict(_decision_parts(plan, applied, events))


def _decision_parts(
    plan: Plan, applied: Applied, events: tuple[EventNote, ...]
) -> Iterator[tuple[str, Any]]:
    outcome = plan.outcome
    if isinstance(outcome, Settled):
        yield "outcome", {"kind": "Settled"}
    else:
        yield (
            "outcome",
            {
                "kind": type(outcome).__name__,
                "reason": str(outcome.reason),
                "message": outcome.message,
            },
        )
    yield "wakeAfterSeconds", plan.wake_after_seconds
    yield "delete", [f"{ref.kind} {ref.name}" for ref in plan.delete]
    yield "notes", list(plan.notes)
    yield "events", [f"{note.type} {note.reason}: {note.message}" for note in events]
    if applied.faults:
        yield "faults", [f"{fault.kind}: {fault.message}" for fault in applied.faults]


def _merged(base: Any, changes: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(changes, dict):
        return copied(changes)
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
