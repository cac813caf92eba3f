"""One real node: containerd, kubelet and kube-proxy in one network namespace."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.cgroups import Hierarchies
from e2e.cluster.commands import CommandError, run
from e2e.cluster.containerd import (
    ContainerdPaths,
    build_cni_configuration,
    build_configuration,
    build_registry_hosts,
)
from e2e.cluster.errors import ClusterError
from e2e.cluster.files import write_if_changed
from e2e.cluster.kubeconfig import build_kubeconfig
from e2e.cluster.mounts import unmount_below
from e2e.cluster.packages import CNI_PLUGINS, SYSTEM_FOLDERS, find_program
from e2e.cluster.pki import Subject
from e2e.cluster.probes import Endpoint, wait_until
from e2e.cluster.processes import Component
from e2e.cluster.spec import DNS_SERVICE, POD_RANGE, UNDERLAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2e.cluster.addons import Image
    from e2e.cluster.kubectl import Kubectl
    from e2e.cluster.netns import NetworkNamespace
    from e2e.cluster.pki import Pki
    from e2e.cluster.processes import Supervisor
    from e2e.cluster.spec import Layout, NodeAddress

DEADLINE_SECONDS: Final = 240.0
CONTAINER_LOG_LINKS: Final = Path("/var/log/containers")
CNI_RESULTS: Final = Path("/var/lib/cni/results")


# Not the caller's PATH: another shell must not look like another configuration.
FIXED_PATH: Final = f"/usr/local/bin:/usr/bin:/bin:{SYSTEM_FOLDERS}"


@dataclass(frozen=True, slots=True)
class Node:
    """Files, configuration and processes of one node."""

    cluster: str
    at: NodeAddress
    layout: Layout
    pki: Pki
    namespace: NetworkNamespace
    server: str
    pause_image: str

    @property
    def directory(self) -> Path:
        return self.layout.nodes / self.at.name

    @property
    def group(self) -> str:
        """The name of the node's cgroup and of its pod network, unlike any other cluster's."""
        return f"modelwright-{self.cluster}-{self.at.name}"

    @property
    def component_names(self) -> tuple[str, ...]:
        """The node's processes in the order in which they are started."""
        return tuple(f"{self.at.name}-{name}" for name in ("containerd", "kubelet", "kube-proxy"))

    @property
    def containerd_paths(self) -> ContainerdPaths:
        runc = find_program("runc")
        if runc is None:
            raise ClusterError("runc is not installed")
        return ContainerdPaths(
            directory=self.directory / "containerd",
            cni=self.directory / "cni",
            registries=self.layout.configuration / "registries",
            runc=runc,
        )

    def prepare(self) -> None:
        """Write certificates and configuration, and make the cgroup."""
        name, address = self.at.name, self.at.address
        identity = f"system:node:{name}"
        server = Subject(identity, "system:nodes", hosts=(name, address))
        self.pki.ensure_issued(f"{name}-kubelet", Subject(identity, "system:nodes"))
        self.pki.ensure_issued(f"{name}-kubelet-server", server)
        Hierarchies.of_machine().create(self.group)
        self._write_containerd_configuration()
        self._write_kubelet_configuration()
        self._write_proxy_configuration()

    def register(self, kubectl: Kubectl, labels: Mapping[str, str]) -> None:
        """Make the Node object, so that its pod range is ours and labels are there at once.

        A kubelet adds `--node-labels` only to a Node that it makes itself.
        """
        kubectl.apply(build_node_manifest(self.at, labels))

    def start_runtime(self, supervisor: Supervisor, images: Sequence[Image]) -> bool:
        """Start containerd and import images; tell whether anything was done."""
        name = self.component_names[0]
        started = supervisor.ensure(self._containerd())
        supervisor.wait_ready(name, self._runtime_answers, deadline_seconds=DEADLINE_SECONDS)
        imported = [self._import(image) for image in images]
        return started or any(imported)

    def start_kubelet(self, supervisor: Supervisor) -> bool:
        _, name, _ = self.component_names
        started = supervisor.ensure(self._kubelet())
        health = Endpoint("127.0.0.1", 10248, self.namespace)
        supervisor.wait_ready(name, health.probe("/healthz"), deadline_seconds=DEADLINE_SECONDS)
        return started

    def start_proxy(self, supervisor: Supervisor) -> bool:
        *_, name = self.component_names
        started = supervisor.ensure(self._proxy())
        health = Endpoint("127.0.0.1", 10256, self.namespace)
        supervisor.wait_ready(name, health.probe("/livez"), deadline_seconds=DEADLINE_SECONDS)
        return started

    def wait_until_ready(self, kubectl: Kubectl) -> None:
        path = '{.status.conditions[?(@.type=="Ready")].status}'

        def is_ready() -> bool:
            try:
                said = kubectl("get", "node", self.at.name, "--output", f"jsonpath={path}")
            except CommandError:
                return False
            return said == "True"

        wait_until(f"node {self.at.name} Ready", is_ready, deadline_seconds=DEADLINE_SECONDS)

    def down(self, supervisor: Supervisor) -> None:
        """End the node and remove what it made; its pods are killed, not asked."""
        containerd, kubelet, proxy = self.component_names
        hierarchies = Hierarchies.of_machine()
        supervisor.stop(proxy)
        supervisor.stop(kubelet)
        hierarchies.kill(self.group)
        supervisor.stop(containerd)
        self._end_shims()
        hierarchies.kill(self.group)
        unmount_below(self.directory)
        hierarchies.remove(self.group)
        self._remove_traces()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_containerd_configuration(self) -> None:
        paths = self.containerd_paths
        content = build_configuration(paths, pause_image=self.pause_image, cni_plugins=CNI_PLUGINS)
        write_if_changed(paths.configuration, content)
        network = build_cni_configuration(
            network=self.group, pod_range=self.at.pod_range, leases=self.directory / "leases"
        )
        write_if_changed(paths.cni / "10-bridge.conflist", network)
        for host, hosts in build_registry_hosts(self.pki.certificate("ca")).items():
            write_if_changed(paths.registries / host / "hosts.toml", hosts)

    def _write_kubelet_configuration(self) -> None:
        # Pods look up nothing outside: CoreDNS answers, and what it does not know is not there.
        write_if_changed(self.directory / "resolv.conf", "# no name server outside the cluster\n")
        content = build_kubelet_configuration(
            self.at,
            group=self.group,
            directory=self.directory,
            socket=self.containerd_paths.socket,
            pki=self.pki,
        )
        write_if_changed(self._configuration("kubelet"), json.dumps(content, indent=1) + "\n")
        self._write_kubeconfig("kubelet", f"{self.at.name}-kubelet")

    def _write_proxy_configuration(self) -> None:
        content = build_proxy_configuration(self.at, self._kubeconfig("kube-proxy"))
        write_if_changed(self._configuration("kube-proxy"), json.dumps(content, indent=1) + "\n")
        self._write_kubeconfig("kube-proxy", "kube-proxy")

    def _write_kubeconfig(self, program: str, user: str) -> None:
        content = build_kubeconfig(self.server, self.pki, user, cluster_name="local")
        write_if_changed(self._kubeconfig(program), content, mode=0o600)

    def _configuration(self, program: str) -> Path:
        return self.directory / f"{program}.yaml"

    def _kubeconfig(self, program: str) -> Path:
        return self.directory / f"{program}.kubeconfig"

    def _containerd(self) -> Component:
        paths = self.containerd_paths
        command = (self._program("containerd"), "--config", str(paths.configuration))
        # containerd looks for its shim in PATH.
        path = f"{self.layout.binaries}:{FIXED_PATH}"
        return Component(
            self.component_names[0],
            command,
            self.namespace,
            environment={"PATH": path},
            configuration=(paths.configuration,),
        )

    def _kubelet(self) -> Component:
        configuration, kubeconfig = self._configuration("kubelet"), self._kubeconfig("kubelet")
        command = (
            self._program("kubelet"),
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={self.directory / 'kubelet'}",
            f"--cert-dir={self.directory / 'kubelet-pki'}",
            f"--hostname-override={self.at.name}",
            f"--node-ip={self.at.address}",
            # cAdvisor reads pod labels through these two.
            f"--containerd={self.containerd_paths.socket}",
            "--containerd-namespace=k8s.io",
        )
        environment = {"PATH": FIXED_PATH}
        return Component(
            self.component_names[1],
            command,
            self.namespace,
            environment,
            (configuration, kubeconfig),
        )

    def _proxy(self) -> Component:
        configuration, kubeconfig = (
            self._configuration("kube-proxy"),
            self._kubeconfig("kube-proxy"),
        )
        command = (self._program("kube-proxy"), f"--config={configuration}")
        environment = {"PATH": FIXED_PATH}
        return Component(
            self.component_names[2],
            command,
            self.namespace,
            environment,
            (configuration, kubeconfig),
        )

    def _program(self, name: str) -> str:
        return str(self.layout.binaries / name)

    def _ctr(self, *arguments: str) -> str:
        socket = str(self.containerd_paths.socket)
        return run([self._program("ctr"), "--address", socket, "--namespace", "k8s.io", *arguments])

    def _runtime_answers(self) -> bool:
        try:
            self._ctr("version")
        except CommandError:
            return False
        return True

    def _import(self, image: Image) -> bool:
        """Import an archive unless its image is there; a reference names its content."""
        if image.reference in self._ctr("images", "list", "--quiet").splitlines():
            return False
        self._ctr("images", "import", str(image.archive))
        return True

    def _end_shims(self) -> None:
        """End the shims that outlived their containerd, known by the socket they report to."""
        socket = f"-address\0{self.directory / 'containerd'}/"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                if "containerd-shim" in command and socket in command:
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue

    def _remove_traces(self) -> None:
        """Remove links and records that kubelet and CNI keep outside their folders."""
        for link in CONTAINER_LOG_LINKS.glob("*"):
            if link.is_symlink() and link.readlink().is_relative_to(self.directory):
                link.unlink(missing_ok=True)
        for record in CNI_RESULTS.glob(f"{self.group}-*"):
            record.unlink(missing_ok=True)


def build_node_manifest(at: NodeAddress, labels: Mapping[str, str]) -> dict[str, object]:
    all_labels = {"kubernetes.io/hostname": at.name, **labels}
    spec = {"podCIDR": at.pod_range, "podCIDRs": [at.pod_range]}
    metadata = {"name": at.name, "labels": all_labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def build_kubelet_configuration(
    at: NodeAddress, *, group: str, directory: Path, socket: Path, pki: Pki
) -> dict[str, object]:
    server = f"{at.name}-kubelet-server"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "address": at.address,
        "port": 10250,
        "healthzPort": 10248,
        "tlsCertFile": str(pki.certificate(server)),
        "tlsPrivateKeyFile": str(pki.key(server)),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": str(pki.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(directory / "resolv.conf"),
        # Two kubelets on one machine would share /var/log/pods.
        "podLogsDir": str(directory / "pod-logs"),
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # Imported images are nowhere to be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "nodeStatusReportFrequency": "1m",
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "makeIPTablesUtilChains": False,
        "logging": {"verbosity": 2},
    }


def build_proxy_configuration(at: NodeAddress, kubeconfig: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": at.name,
        "clusterCIDR": POD_RANGE,
        "bindAddress": at.address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": [UNDERLAY],
        # The limits of connection tracking are the machine's, not ours to set.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
