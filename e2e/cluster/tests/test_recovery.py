"""A cluster of its own is killed in parts, interrupted and removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.cluster import Cluster, ClusterSpec
from e2e.cluster.cgroups import Hierarchies
from e2e.cluster.commands import run
from e2e.cluster.mounts import list_mounts_below
from e2e.cluster.oci_archive import build_image
from e2e.cluster.probes import wait_until
from e2e.cluster.spec import REPOSITORY_ROOT
from e2e.cluster.tests.push import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.cluster.processes import Identity

pytestmark = pytest.mark.e2e

NAME = "recovery-test"
KILLED = ("etcd", "kube-apiserver", "n1-containerd", "n1-kubelet", "n1-kube-proxy", "forward")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("a real node needs root")
    cluster = Cluster(ClusterSpec(name=NAME, addons=()))
    yield cluster
    cluster.clean()


def identities(cluster: Cluster) -> dict[str, Identity | None]:
    return {name: cluster.supervisor.identity(name) for name in cluster.supervisor.names()}


def is_dead(identity: Identity) -> bool:
    return not identity.is_alive()


def list_traces(cluster: Cluster) -> list[str]:
    """List everything on this machine that names the cluster."""
    root = str(cluster.layout.root)
    traces = list_mounts_below(cluster.layout.root)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{root}/" in command:
            traces.append(command.replace("\0", " "))
    hierarchies = Hierarchies.of_machine()
    for folder in (*hierarchies.roots, *hierarchies.beside):
        traces += [str(path) for path in folder.glob(f"*{cluster.spec.name}*")]
    return traces


def observe_host_network() -> list[str]:
    commands = ("ip -brief address", "ip route", "ip -6 route", "nft list ruleset", "ls /run/netns")
    return [run(["sh", "-c", f"{command} 2>&1 || true"]) for command in commands]


def start_harness() -> subprocess.Popen[bytes]:
    code = f"from e2e.cluster import *;Cluster(ClusterSpec(name={NAME!r}, addons=())).up()"
    return subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY_ROOT)


def test_what_is_killed_comes_back_and_the_rest_stays(cluster: Cluster) -> None:
    host = observe_host_network()
    cluster.up()
    before = identities(cluster)

    cluster.up()
    assert identities(cluster) == before

    for name in KILLED:
        killed = before[name]
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        wait_until(f"{name} dead", partial(is_dead, killed), deadline_seconds=30)
    cluster.up()

    after = identities(cluster)
    restarted = {name for name in before if after[name] != before[name]}
    assert set(KILLED) <= restarted
    # Controllers end by themselves when the API server stays away too long for them.
    assert restarted - set(KILLED) <= {"kube-controller-manager", "kube-scheduler"}
    assert cluster.kubectl("get", "nodes", "--output=name") == "node/n1\n"

    image = build_image({"kept.txt": b"kept"}, architecture="amd64")
    client = RegistryClient(cluster.host_registry)
    digest = client.push("cluster-test/kept", image)

    cluster.down()
    assert list_traces(cluster) == []
    assert observe_host_network() == host
    assert list(cluster.layout.registry.rglob(digest.partition(":")[2]))
    cluster.clean()
    assert not cluster.layout.root.exists()


@pytest.mark.parametrize("component", ["etcd", "n1-containerd"])
def test_interrupt_leaves_nothing_running(cluster: Cluster, component: str) -> None:
    with start_harness() as harness:
        wait_until(component, lambda: cluster.supervisor.is_alive(component), deadline_seconds=300)
        harness.send_signal(signal.SIGINT)
        harness.wait(timeout=120)

    assert harness.returncode != 0
    assert list_traces(cluster) == []


def test_killed_harness_loses_no_process(cluster: Cluster) -> None:
    with start_harness() as harness:
        wait_until(
            "containerd", lambda: cluster.supervisor.is_alive("n1-containerd"), deadline_seconds=300
        )
        harness.kill()
    before = identities(cluster)
    assert {"etcd", "kube-apiserver", "registry"} <= set(before)

    cluster.up()

    after = identities(cluster)
    assert {name: after[name] for name in before} == before
    cluster.clean()
    assert list_traces(cluster) == []
