from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelwright_operator.apply.applier import Applier
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.client import ApiClient, Request
from modelwright_operator.kube.config import load_kubeconfig
from modelwright_operator.kube.resources import resource_of
from modelwright_operator.plan.types import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from e2e.cluster import Cluster

CRDS = Path(__file__).parents[3] / "crds"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with our CRDs and the operator's namespace."""
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    manifest = '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"modelwright-system"}}'
    cluster.kubectl("apply", "-f", "-", input=manifest)
    return cluster


class Room:
    """A client, a store and an applier on a real API server, and what they asked of it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.requests: list[Request] = []
        config = load_kubeconfig([cluster.kubeconfig])
        self.client = ApiClient(config, on_request=self.requests.append)
        self.store = Store()
        self.applier = Applier(self.client, self.store)

    async def apply(self, *manifests: Any) -> Any:
        return await self.applier.execute(Plan(apply=manifests))

    async def live(self, kind: str, name: str) -> Any:
        return await self.client.get(kind, self.namespace, name)

    async def refresh(self, kind: str, name: str) -> Any:
        """Take in what others did, as the watch would."""
        live = await self.live(kind, name)
        self.store.put(live)
        return live

    def writes(self) -> list[str]:
        """Every write since the last look."""
        found = [
            f"{r.verb} {r.resource.plural}{'/' + r.subresource if r.subresource else ''}"
            for r in self.requests
            if r.verb not in ("get", "list")
        ]
        self.requests.clear()
        return found

    async def patch_as(self, manager: str, kind: str, name: str, body: Any, sub: str = "") -> None:
        """Change an object the way another program does."""
        path = resource_of(kind).path(self.namespace, name, sub or None)
        answer = await self.client._http.patch(
            path,
            json=body,
            params={"fieldManager": manager},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        answer.raise_for_status()


@pytest.fixture
async def room(installed: Cluster) -> AsyncIterator[Room]:
    """A namespace of the test's own."""
    namespace = f"operator-{next(_numbers)}"
    installed.kubectl("create", "namespace", namespace)
    made = Room(installed, namespace)
    async with made.client:
        yield made
