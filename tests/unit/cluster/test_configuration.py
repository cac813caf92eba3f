"""What each program is told: the facts that cost a day each when they are wrong."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from e2e.cluster.addons import render_manifest
from e2e.cluster.containerd import (
    ContainerdPaths,
    build_cni_configuration,
    build_configuration,
    build_registry_hosts,
)
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubeconfig import build_kubeconfig
from e2e.cluster.kwok import Kwok
from e2e.cluster.netns import NetworkNamespace
from e2e.cluster.node import (
    build_kubelet_configuration,
    build_node_manifest,
    build_proxy_configuration,
)
from e2e.cluster.pki import Pki, Subject
from e2e.cluster.registry import build_configuration as build_registry_configuration
from e2e.cluster.spec import ADDONS, ClusterSpec, Layout, NodeAddress

HUB = NetworkNamespace(Path("/state/netns/hub"))
N2 = NodeAddress(2)


def control_plane(*, in_namespace: bool, audit_log: bool = False) -> ControlPlane:
    layout = Layout(Path("/state"))
    address = "10.77.0.1" if in_namespace else "127.0.0.1"
    namespace = HUB if in_namespace else None
    pki = Pki(layout.pki)
    return ControlPlane(layout, pki, address, namespace=namespace, audit_log=audit_log)


def test_api_server_reaches_kubelets_by_address_because_no_name_server_knows_them() -> None:
    command = control_plane(in_namespace=True).apiserver().command

    assert "--kubelet-preferred-address-types=InternalIP" in command
    assert "--bind-address=0.0.0.0" in command


def test_control_plane_without_nodes_listens_on_loopback_only() -> None:
    plane = control_plane(in_namespace=False)

    for component in (
        plane.etcd(),
        plane.apiserver(),
        plane.controller_manager(),
        plane.scheduler(),
    ):
        assert component.namespace is None
        assert not any("=0.0." in flag for flag in component.command)
    # A loopback address is refused in the endpoints of the kubernetes service.
    assert "--endpoint-reconciler-type=none" in plane.apiserver().command


@pytest.mark.parametrize("audit_log", [True, False])
def test_audit_log_is_written_when_asked_for(*, audit_log: bool) -> None:
    command = control_plane(in_namespace=False, audit_log=audit_log).apiserver().command

    assert ("--audit-log-path=/state/log/audit.jsonl" in command) == audit_log


def test_lost_nodes_are_not_declared_lost_within_one_lease_period() -> None:
    command = control_plane(in_namespace=True).controller_manager().command

    (grace,) = [f.partition("=")[2] for f in command if f.startswith("--node-monitor-grace")]
    assert int(grace.removesuffix("s")) > 14


def test_containerd_reads_its_configuration_and_pulls_no_pause_image() -> None:
    folder = Path('/state/nodes/n 2"')
    paths = ContainerdPaths(folder, folder / "cni", Path("/registries"), "/usr/sbin/runc")

    text = build_configuration(paths, pause_image="localhost/pause:1", cni_plugins=Path("/cni"))

    content = tomllib.loads(text)
    plugins = content["plugins"]
    images, runtime = (plugins[f"io.containerd.cri.v1.{n}"] for n in ("images", "runtime"))
    assert content["root"] == str(folder / "root")
    assert images["pinned_images"]["sandbox"] == "localhost/pause:1"
    assert images["registry"]["config_path"] == "/registries"
    assert runtime["netns_mounts_under_state_dir"] is True
    options = runtime["containerd"]["runtimes"]["runc"]["options"]
    assert options == {
        "BinaryName": "/usr/sbin/runc",
        "Root": str(folder / "runc"),
        "SystemdCgroup": False,
    }


def test_registries_are_known_by_their_scheme_and_authority() -> None:
    hosts = build_registry_hosts(Path("/pki/ca.crt"))

    plain, secured = (tomllib.loads(hosts[f"10.77.0.1:{port}"])["host"] for port in (5000, 5443))
    assert list(plain) == ["http://10.77.0.1:5000"]
    assert secured["https://10.77.0.1:5443"]["ca"] == "/pki/ca.crt"


def test_pod_network_keeps_source_addresses() -> None:
    text = build_cni_configuration(network="x", pod_range=N2.pod_range, leases=Path("/leases"))

    bridge, ports = json.loads(text)["plugins"]
    assert bridge["ipMasq"] is False
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.2.0/24"}]]
    assert ports["capabilities"] == {"portMappings": True}


def test_kubelets_of_one_machine_share_nothing() -> None:
    first, second = (
        build_kubelet_configuration(
            NodeAddress(index),
            group=f"group-n{index}",
            directory=Path(f"/state/nodes/n{index}"),
            socket=Path(f"/state/nodes/n{index}/containerd.sock"),
            pki=Pki(Path("/pki")),
        )
        for index in (1, 2)
    )

    for setting in (
        "address",
        "cgroupRoot",
        "containerRuntimeEndpoint",
        "podLogsDir",
        "resolvConf",
    ):
        assert first[setting] != second[setting]
    assert first["failCgroupV1"] is False
    assert first["imageGCHighThresholdPercent"] == 100


def test_node_object_fixes_the_pod_range() -> None:
    manifest = build_node_manifest(N2, {"zone": "edge"})

    assert manifest["spec"] == {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"]}
    assert manifest["metadata"] == {
        "name": "n2",
        "labels": {"kubernetes.io/hostname": "n2", "zone": "edge"},
    }


def test_kube_proxy_leaves_the_machines_connection_tracking_alone() -> None:
    conntrack = build_proxy_configuration(N2, Path("/kubeconfig"))["conntrack"]

    assert conntrack == {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    }


def test_secured_registry_asks_for_a_password_over_tls() -> None:
    storage, passwords = Path("/data"), Path("/htpasswd")

    plain = json.loads(build_registry_configuration(storage, port=5000))
    tls = (Path("/crt"), Path("/key"))
    secured = json.loads(
        build_registry_configuration(storage, port=5443, tls=tls, passwords=passwords)
    )

    assert "auth" not in plain
    assert "tls" not in plain["http"]
    assert secured["http"]["tls"] == {"certificate": "/crt", "key": "/key"}
    assert secured["auth"]["htpasswd"]["path"] == "/htpasswd"


@pytest.mark.parametrize("name", ADDONS)
def test_addon_uses_the_imported_image_and_never_pulls(name: str) -> None:
    authority = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"

    objects = list(yaml.safe_load_all(render_manifest(name, "localhost/it:1", authority)))

    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("localhost/it:1", "Never")
    for each in objects:
        if each["kind"] == "ConfigMap" and "ca.crt" in each["data"]:
            assert each["data"]["ca.crt"] == authority


def test_kwok_plays_only_nodes_that_say_so() -> None:
    kwok = Kwok(Path("/kwok"), Path("/kubeconfig"), 10247, [Path("/a.yaml"), Path("/b.yaml")])

    component = kwok.component()

    assert "--manage-all-nodes=false" in component.command
    assert "--config=/b.yaml" in component.command
    assert component.configuration[2:] == (Path("/a.yaml"), Path("/b.yaml"))


def test_played_nodes_need_no_stage_files_of_the_caller() -> None:
    stages = Kwok(Path("/kwok"), Path("/kubeconfig"), 10247).all_stages

    kinds = [
        stage["spec"]["resourceRef"]["kind"]
        for path in stages
        for stage in yaml.safe_load_all(path.read_text())
    ]
    assert kinds == ["Node", "Pod", "Pod", "Pod"]


def test_kubeconfig_holds_everything_itself(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure_authority("ca")
    pki.ensure_issued("admin", Subject("admin"))

    text = build_kubeconfig("https://127.0.0.1:1", pki, "admin", cluster_name="test")

    assert str(tmp_path) not in text
    assert yaml.safe_load(text)["current-context"] == "test"


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a/b", "a" * 33, "a.b"])
def test_cluster_name_that_is_no_file_and_cgroup_name_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="no cluster name"):
        ClusterSpec(name=name)


@pytest.mark.parametrize("nodes", [0, 10])
def test_node_count_out_of_range_is_refused(nodes: int) -> None:
    with pytest.raises(ClusterError, match="1 to 9 are possible"):
        ClusterSpec(nodes=nodes)


@pytest.mark.parametrize(
    ("spec", "last"),
    [
        (ClusterSpec(), "kube-scheduler"),
        (ClusterSpec(control_plane_only=True), "kube-apiserver"),
        (ClusterSpec(control_plane_only=True, controller_manager=True), "kube-controller-manager"),
        (ClusterSpec(control_plane_only=True, kwok=True), "kube-scheduler"),
    ],
)
def test_control_plane_is_as_large_as_asked_for(spec: ClusterSpec, last: str) -> None:
    assert spec.control_plane[:2] == ("etcd", "kube-apiserver")
    assert spec.control_plane[-1] == last
