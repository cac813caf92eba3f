from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.api.server import Server, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from e2e.cluster import Cluster

CRDS = Path(__file__).parents[3] / "crds"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with our CRDs, installed the way a user does it."""
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return cluster


@pytest.fixture(scope="session")
def client(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with connect(installed.kubeconfig, tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.fixture
def server(installed: Cluster, client: httpx.Client) -> Server:
    """A namespace of the test's own."""
    namespace = f"api-{next(_numbers)}"
    installed.kubectl("create", "namespace", namespace)
    return Server(client, namespace)


@pytest.fixture(scope="session")
def asking(installed: Cluster, client: httpx.Client) -> Server:
    """A shared namespace for tests that only ask and keep nothing."""
    installed.kubectl("create", "namespace", "api-asking")
    return Server(client, "api-asking")
