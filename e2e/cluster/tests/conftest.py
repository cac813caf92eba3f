from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from e2e.cluster import Cluster, ClusterSpec
from e2e.cluster.binaries import BinaryCache, architecture
from e2e.cluster.oci_archive import OciImage, build_image
from e2e.cluster.spec import DEFAULT_NAME
from e2e.cluster.tests.push import RegistryClient
from e2e.cluster.tests.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if os.geteuid() != 0:
        pytest.skip("a real node needs root")
    name = os.environ.get("MODELWRIGHT_CLUSTER", DEFAULT_NAME)
    return Cluster(ClusterSpec(name=name)).up()


@pytest.fixture(scope="session")
def webtool(cluster: Cluster) -> OciImage:
    program = BinaryCache.default().ensure(["webtool"], cluster.progress)["webtool"]
    return build_image(
        {"webtool": program.read_bytes()}, architecture=architecture(), entrypoint=["/webtool"]
    )


@pytest.fixture(scope="session")
def webtool_reference(cluster: Cluster, webtool: OciImage) -> str:
    digest = RegistryClient(cluster.host_registry).push("cluster-test/webtool", webtool)
    return f"{cluster.registry}/cluster-test/webtool@{digest}"


@pytest.fixture
def workload(cluster: Cluster, webtool_reference: str) -> Iterator[Workload]:
    """A namespace of the test's own, gone afterwards."""
    namespace = f"cluster-test-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", namespace)
    yield Workload(cluster, namespace, webtool_reference)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
