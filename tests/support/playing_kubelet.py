"""Plays every node of a cluster that has none: builds end well, servers become ready.

Pods stay unbound, so the API server deletes them at once; all else is done by real controllers.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from modelwright_operator.kube.faults import KubeFault
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan import names
from modelwright_operator.plan.observed import BuildResult
from tests.support import builders as a

if TYPE_CHECKING:
    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.plan.observed import Object, RegistryProblem

_LOOK_SECONDS = 0.4


async def play(client: ApiClient) -> None:
    """Look after all pods of ours until cancelled."""
    while True:
        try:
            listing = await client.list(
                "Pod", label_selector=f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
            )
            for pod in listing.items:
                if (status := next_status(pod)) is not None:
                    await _tell(client, pod, status)
        except KubeFault:
            pass  # it went, or somebody was faster: the next look tells
        await asyncio.sleep(_LOOK_SECONDS)


def next_status(pod: Object) -> dict[str, Any] | None:
    """What a kubelet would report of a pod next, or None when there is no news."""
    phase = pod.get("status", {}).get("phase", "Pending")
    if "deletionTimestamp" in pod["metadata"] or phase != "Pending":
        return None
    if pod["metadata"]["labels"][names.COMPONENT_LABEL] == "build":
        return _ended_build(pod)
    return _ready_server()


def digest_of(request_key: str) -> str:
    """The artifact that a request always gives here."""
    return f"sha256:{request_key}"


class PlayedRegistry:
    """Knows the result of every build that said its digest."""

    async def read(
        self, repository: str, request_key: str, digest: str | None
    ) -> BuildResult | RegistryProblem:
        """A report with two candidates."""
        return BuildResult(digest_of(request_key), a.report(request_key=request_key))


class PlayedProgress:
    """Builds here are over before anyone can ask."""

    async def read(self, pod: Object) -> None:
        """Nothing to say."""


def _ended_build(pod: Object) -> dict[str, Any]:
    environment = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
    key = a.request_key(json.loads(environment["MODELWRIGHT_REQUEST"]))
    said = json.dumps({"requestKey": key, "digest": digest_of(key), "reused": False})
    ended = {
        "exitCode": 0,
        "reason": "Completed",
        "message": said,
        "startedAt": "2026-01-02T03:04:05Z",
        "finishedAt": "2026-01-02T03:05:05Z",
    }
    container = _container(names.BUILD_CONTAINER, {"terminated": ended}, is_ready=False)
    return {"phase": "Succeeded", "containerStatuses": [container]}


def _ready_server() -> dict[str, Any]:
    running = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    moment = "2026-01-02T03:04:05Z"
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": moment}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    container = _container(names.SERVER_CONTAINER, running, is_ready=True)
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}


def _container(name: str, state: dict[str, Any], *, is_ready: bool) -> dict[str, Any]:
    return {
        "name": name,
        "image": "image",
        "imageID": "",
        "ready": is_ready,
        "restartCount": 0,
        "state": state,
    }


async def _tell(client: ApiClient, pod: Object, status: dict[str, Any]) -> None:
    meta = pod["metadata"]
    path = resource_of("Pod").path(meta["namespace"], meta["name"], "status")
    answer = await client._http.patch(
        path,
        json={"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status},
        params={"fieldManager": "kubelet"},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    if answer.status_code not in (200, 404, 409):
        raise AssertionError(answer.text)
