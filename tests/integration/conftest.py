"""A real etcd and kube-apiserver on loopback, one for the whole run; no root needed."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import pytest

from e2e.cluster import Cluster, ClusterError, ClusterSpec
from e2e.cluster.files import locked

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """An empty cluster without nodes or controllers; tests play both.

    Two runs at a time take turns. Logs stay behind until the next run.
    """
    name = f"integration-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    cluster = Cluster(ClusterSpec(name=name, control_plane_only=True))
    with locked(cluster.layout.root.with_suffix(".run.lock")):
        try:
            _start(cluster)
            yield cluster
        finally:
            cluster.down()


def _start(cluster: Cluster) -> None:
    try:
        cluster.clean()
        with warnings.catch_warnings():
            # Its processes are meant to outlive the objects that started them.
            warnings.simplefilter("ignore", ResourceWarning)
            cluster.up()
    except ClusterError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no kube-apiserver on this machine: {error}")
