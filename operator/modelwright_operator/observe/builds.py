"""Gather everything the plan of one ModelBuild depends on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from modelwright_operator.observe.models import is_deleting, list_profiles
from modelwright_operator.observe.parse import parse_build
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import BuildObserved, BuildView, Object
from modelwright_operator.plan.podstate import termination_message

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from modelwright_operator.kube.cache import Store
    from modelwright_operator.plan.observed import (
        BuildResult,
        ProfileView,
        Progress,
        RegistryProblem,
    )

_SOURCES = ("model", "evaluation", "calibration")


class ResultReader(Protocol):
    """Reads finished builds from the artifact registry."""

    async def read(
        self, repository: str, request_key: str, digest: str | None
    ) -> BuildResult | RegistryProblem:
        """The result, or why it cannot be read."""


class ProgressReader(Protocol):
    """Asks a running build how far it is."""

    async def read(self, pod: Object) -> Progress | None:
        """The progress, or None: losing it changes nothing."""


async def observe_build(
    raw: Object,
    store: Store,
    results: ResultReader,
    progress: ProgressReader,
    now: datetime,
) -> BuildObserved:
    """Read the caches; the registry only when a Job has ended well and its result is not known."""
    build = parse_build(raw)
    jobs = tuple(job for job in store.owned_by(build.id.uid, "Job") if not is_deleting(job))
    pods = tuple(pod for job in jobs for pod in store.owned_by(job["metadata"]["uid"], "Pod"))
    running = next((pod for pod in pods if _phase(pod) == "Running"), None)
    return BuildObserved(
        build=build,
        now=now,
        jobs=jobs,
        pods=pods,
        profile=_find_profile(build, store),
        credentials=_credentials(raw, store),
        result=await _read_result(build, jobs, pods, results),
        progress=await progress.read(running) if running is not None else None,
    )


def _find_profile(build: BuildView, store: Store) -> ProfileView | None:
    name = build.spec.profile
    return next((profile for profile in list_profiles(store) if profile.name == name), None)


def _credentials(raw: Object, store: Store) -> Mapping[str, str]:
    """Secrets that the sources need, as the first owning model names them."""
    namespace = raw["metadata"]["namespace"]
    for owner in raw["metadata"].get("ownerReferences", []):
        model = store.get("InferenceModel", namespace, owner["name"])
        if model is None:
            continue
        spec = model.get("spec", {})
        found = {
            source: reference["name"]
            for source in _SOURCES
            if (reference := spec.get(source, {}).get("secretRef"))
        }
        if found:
            return found
    return {}


async def _read_result(
    build: BuildView,
    jobs: tuple[Object, ...],
    pods: tuple[Object, ...],
    results: ResultReader,
) -> BuildResult | RegistryProblem | None:
    if build.status.digest or not any(_is_complete(job) for job in jobs):
        return None
    digest = next((said for pod in pods if (said := _said_digest(pod)) is not None), None)
    return await results.read(build.spec.repository, build.spec.request_key, digest)


def _said_digest(pod: Object) -> str | None:
    """The digest in a finished pod's last words."""
    try:
        said = json.loads(termination_message(pod, names.BUILD_CONTAINER) or "")
    except ValueError:
        return None
    digest = said.get("digest") if isinstance(said, dict) else None
    return digest if isinstance(digest, str) else None


def _is_complete(job: Object) -> bool:
    return any(
        condition.get("type") == "Complete" and condition.get("status") == "True"
        for condition in job.get("status", {}).get("conditions", [])
    )


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))
