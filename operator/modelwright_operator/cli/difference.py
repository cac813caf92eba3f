"""What applying a model would change in a real cluster: the operator's plan against what lives."""

from __future__ import annotations

import asyncio
import difflib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from modelwright_operator.control.assembly import KINDS
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.client import ApiClient
from modelwright_operator.kube.config import ConfigError, load_config
from modelwright_operator.kube.faults import KubeFault
from modelwright_operator.observe.models import observe_model
from modelwright_operator.plan.model import plan_model
from modelwright_operator.plan.types import Settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from modelwright_operator.cli.facts import Facts
    from modelwright_operator.plan.observed import ModelView
    from modelwright_operator.plan.types import Manifest

EXIT_UNREACHABLE = 3
# Present in what is planned, but the API server's to decide.
_UNCOMPARED_METADATA = ("resourceVersion", "uid")


def print_difference(models: list[ModelView], facts: Facts, kubeconfig: Path | None) -> int:
    """Print a unified diff for each object that would change; 0 also when nothing would."""
    try:
        return asyncio.run(_print_difference(models, facts, kubeconfig))
    except (ConfigError, KubeFault) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE


async def _print_difference(models: list[ModelView], facts: Facts, kubeconfig: Path | None) -> int:
    async with ApiClient(load_config(kubeconfig)) as client:
        store = await _read_cluster(client)
        for model in models:
            for line in await _difference(model, store, client, facts):
                print(line)
    return 0


async def _read_cluster(client: ApiClient) -> Store:
    """One list of every kind that matters, as the operator primes its caches."""
    store = Store()
    for watched in KINDS:
        listing = await client.list(watched.kind, label_selector=watched.label_selector)
        store.replace(watched.kind, None, listing.items, listing.resource_version)
    return store


async def _difference(model: ModelView, store: Store, client: ApiClient, facts: Facts) -> list[str]:
    raw = _as_applied(model, store)
    observed = await observe_model(raw, store, client, facts.settings, datetime.now(UTC))
    plan = plan_model(observed, facts.settings).plan
    lines = [line for item in plan.apply for line in _compare(item, store)]
    lines += [f"- {ref.kind} {ref.name} is deleted" for ref in plan.delete]
    if not isinstance(plan.outcome, Settled):
        lines.append(f"# {model.id.name}: {plan.outcome.reason}: {plan.outcome.message}")
    return lines or [f"# {model.id.name}: nothing changes"]


def _as_applied(model: ModelView, store: Store) -> Mapping[str, Any]:
    """The model with its new spec and, where it lives already, its own identity and status."""
    live = store.get("InferenceModel", model.id.namespace, model.id.name) or {}
    spec = model.spec.to_json() if model.spec else {}
    meta = {
        "namespace": model.id.namespace,
        "name": model.id.name,
        "uid": model.id.uid,
        **live.get("metadata", {}),
    }
    return {
        "apiVersion": "modelwright.dev/v1alpha1",
        "kind": "InferenceModel",
        "metadata": meta,
        "spec": spec,
        "status": live.get("status", {}),
    }


def _compare(planned: Manifest, store: Store) -> Iterator[str]:
    meta = planned["metadata"]
    live = store.get(planned["kind"], meta.get("namespace"), meta["name"])
    title = f"{planned['kind']}/{meta['name']}"
    before = _dump(project(live, planned)) if live is not None else []
    yield from difflib.unified_diff(
        before, _dump(_comparable(planned)), f"live {title}", f"planned {title}", lineterm=""
    )


def project(live: Any, planned: Any) -> Any:
    """The part of a live object that the plan speaks of, in the plan's own order."""
    match planned:
        case dict():
            if not isinstance(live, dict):
                return live
            return {
                key: project(live[key], value)
                for key, value in planned.items()
                if key in live and key not in _UNCOMPARED_METADATA
            }
        case list() if isinstance(live, list) and len(live) == len(planned):
            return [project(one, two) for one, two in zip(live, planned, strict=True)]
        case _:
            return live


def _comparable(planned: Manifest) -> Any:
    return project(dict(planned), dict(planned))


def _dump(document: Any) -> list[str]:
    return yaml.safe_dump(document, sort_keys=False).splitlines()
