"""One pass over one key, for each kind of key: observe, plan, apply, tell.

Nothing is decided here and nothing remembered: kill the process anywhere in a pass and the next
one ends in the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelwright_operator.api.conditions import Condition, ConditionType, Reason
from modelwright_operator.observe.builds import observe_build
from modelwright_operator.observe.models import is_deleting, observe_model
from modelwright_operator.observe.nodes import observe_nodes
from modelwright_operator.observe.parse import parse_identity
from modelwright_operator.plan import names
from modelwright_operator.plan.build import plan_build
from modelwright_operator.plan.build_status import build_build_status
from modelwright_operator.plan.conditions import (
    Finding,
    build_conditions,
    object_ref,
    transition_events,
)
from modelwright_operator.plan.model import plan_model
from modelwright_operator.plan.model_status import build_model_status
from modelwright_operator.plan.nodes import plan_nodes
from modelwright_operator.plan.nodes_status import build_profile_status
from modelwright_operator.plan.types import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelwright_operator.api.base import StatusModel
    from modelwright_operator.control.contract import Context
    from modelwright_operator.observe.builds import ProgressReader, ResultReader
    from modelwright_operator.plan.observed import ModelObserved
    from modelwright_operator.plan.types import Applied, Key, Manifest

# After a write that failed, look again although nothing may have changed.
FAULT_RETRY_SECONDS = 10.0


class ModelReconciler:
    """Brings one InferenceModel to where it should be."""

    def __init__(self, context: Context) -> None:
        """Act through `context`."""
        self._context = context

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds to look again."""
        context = self._context
        raw = context.store.get("InferenceModel", key.namespace, key.name)
        if raw is None or is_deleting(raw):
            return None
        observed = await observe_model(
            raw, context.store, context.client, context.settings, context.now()
        )
        plan = plan_model(observed, context.settings)
        applied = await context.applier.execute(plan.plan)
        if await self._was_overtaken(observed, applied):
            return 0.0
        status = build_model_status(observed, plan, applied, context.settings)
        about = object_ref("InferenceModel", observed.model.id)
        await _tell(context, about, observed.model.status.conditions or (), status)
        return _again(plan.plan.wake_after_seconds, applied)

    async def _was_overtaken(self, observed: ModelObserved, applied: Applied) -> bool:
        """Whether another model's pass has made a build that this one meant to make.

        Its spec, immutable, names that model: our refused write is no fault of the user's.
        """
        for fault in applied.faults:
            ref = fault.ref
            meant_to_make = ref.kind == "ModelBuild" and observed.build(ref.name) is None
            if fault.kind != "Invalid" or not meant_to_make:
                continue
            made = await self._context.client.get(ref.kind, ref.namespace, ref.name)
            if made is not None:
                self._context.store.put(made)
                return True
        return False


class BuildReconciler:
    """Brings one ModelBuild to its end."""

    def __init__(self, context: Context, results: ResultReader, progress: ProgressReader) -> None:
        """Act through `context`; read results and progress through the readers."""
        self._context = context
        self._results = results
        self._progress = progress

    async def reconcile(self, key: Key) -> float | None:
        """One pass; returns in how many seconds to look again."""
        context = self._context
        raw = context.store.get("ModelBuild", key.namespace, key.name)
        if raw is None or is_deleting(raw):
            return None
        observed = await observe_build(
            raw, context.store, self._results, self._progress, context.now()
        )
        plan = plan_build(observed, context.settings)
        applied = await context.applier.execute(plan.plan)
        status = build_build_status(observed, plan, applied)
        about = object_ref("ModelBuild", observed.build.id)
        await _tell(context, about, observed.build.status.conditions or (), status)
        return _again(plan.plan.wake_after_seconds, applied)


class NodesReconciler:
    """Keeps the hardware profiles of the cluster's nodes."""

    def __init__(self, context: Context) -> None:
        """Act through `context`."""
        self._context = context

    async def reconcile(self, key: Key) -> float | None:  # noqa: ARG002 - there is only one
        """One pass; returns in how many seconds to look again."""
        context = self._context
        observed = observe_nodes(context.store, context.namespace, context.now())
        plan = plan_nodes(observed, context.settings)
        applied = await context.applier.execute(plan.plan)
        views = {view.profile.name: view for view in observed.profiles}
        for state in plan.profiles:
            view = views.get(state.name)
            if view is None:
                continue
            about = ObjectRef(names.API_VERSION, "HardwareProfile", None, state.name, view.uid)
            status = build_profile_status(observed, state, view)
            await context.status.write(about, status.to_json())
        return _again(plan.plan.wake_after_seconds, applied)


class CrashTeller:
    """Says in an object's status that a pass over it crashed: silence would look like health."""

    def __init__(self, context: Context) -> None:
        """Write through `context`."""
        self._context = context

    async def tell(self, key: Key, error: Exception) -> None:
        """Set Ready to Unknown with the reason InternalError, and leave the rest as it stands."""
        context = self._context
        raw = context.store.get(key.kind, key.namespace, key.name)
        if raw is None or key.kind not in ("InferenceModel", "ModelBuild"):
            return
        identity = parse_identity(raw)
        before = [Condition.model_validate(item) for item in _conditions(raw)]
        finding = Finding(
            ConditionType.READY,
            "Unknown",
            Reason.INTERNAL_ERROR,
            f"the operator failed on this object and tries again: {type(error).__name__}: {error}",
        )
        ready = build_conditions(
            (finding,), before, generation=identity.generation, now=context.now()
        )
        others = [item for item in before if item.type != ConditionType.READY]
        status = {
            **raw.get("status", {}),
            "conditions": [item.to_json() for item in (*ready, *others)],
        }
        await context.status.write(object_ref(key.kind, identity), status)


def _conditions(raw: Manifest) -> Sequence[Manifest]:
    found: Sequence[Manifest] = raw.get("status", {}).get("conditions", ())
    return found


async def _tell(
    context: Context, about: ObjectRef, before: Sequence[Condition], status: StatusModel
) -> None:
    """Write the status if it differs, and an Event for each condition that moved."""
    document: dict[str, Any] = status.to_json()
    sent = await context.status.write(about, document)
    if sent:
        after = [Condition.model_validate(item) for item in document.get("conditions", ())]
        await context.events.record(transition_events(about, before, after))


def _again(planned: float | None, applied: Applied) -> float | None:
    if not applied.faults:
        return planned
    return FAULT_RETRY_SECONDS if planned is None else min(planned, FAULT_RETRY_SECONDS)
