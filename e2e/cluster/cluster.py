"""The order in which a cluster comes up and goes down, and how to reach it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from e2e.cluster.addons import apply_addon, ensure_image, wait_for_addon
from e2e.cluster.binaries import WHOLE_CLUSTER, BinaryCache, link_binaries
from e2e.cluster.controlplane import (
    LOOPBACK,
    ControlPlane,
    choose_ports,
    find_free_ports,
)
from e2e.cluster.errors import ClusterError
from e2e.cluster.files import locked, write_if_changed
from e2e.cluster.forward import Mapping
from e2e.cluster.kubeconfig import build_kubeconfig
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.kwok import NAME as KWOK
from e2e.cluster.kwok import Kwok
from e2e.cluster.mounts import unmount_below
from e2e.cluster.network import Network, ensure_inotify_limits
from e2e.cluster.node import Node
from e2e.cluster.packages import NODE_PACKAGES, ensure_packages
from e2e.cluster.pki import Pki
from e2e.cluster.probes import Endpoint
from e2e.cluster.processes import BOOT_ID, Component, Supervisor
from e2e.cluster.progress import Durations, Progress
from e2e.cluster.registry import Registries
from e2e.cluster.spec import (
    API_PORT,
    DEFAULT_NAME,
    HUB_ADDRESS,
    REGISTRY_PORT,
    REGISTRY_TLS_PORT,
    REPOSITORY_ROOT,
    ClusterSpec,
    HostPorts,
    Layout,
    NodeAddress,
    cache_directory,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from e2e.cluster.addons import Image

FORWARDER: Final = "forward"
FORWARDER_SECONDS: Final = 30.0
STORE_AND_API: Final = ("etcd", "kube-apiserver")


class Cluster:
    """One cluster on this machine, known by its name; every call may be repeated."""

    def __init__(
        self, spec: ClusterSpec | None = None, *, progress: Progress | None = None
    ) -> None:
        self.spec = spec or ClusterSpec()
        self.layout = Layout.of(self.spec.name)
        self.supervisor = Supervisor(self.layout.run, self.layout.logs)
        durations = Durations(cache_directory() / "durations.json")
        self.progress = progress or Progress(durations)
        self.pki = Pki(self.layout.pki)
        self.network = Network(self.layout.namespaces)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig for this machine, complete in itself."""
        return self.layout.kubeconfig

    @property
    def registry(self) -> str:
        """The plain registry as nodes and pods see it."""
        return f"{HUB_ADDRESS}:{REGISTRY_PORT}"

    @property
    def registry_tls(self) -> str:
        """The registry with TLS and password as nodes and pods see it."""
        return f"{HUB_ADDRESS}:{REGISTRY_TLS_PORT}"

    @property
    def host_registry(self) -> str:
        """The plain registry as this machine sees it."""
        return f"{LOOPBACK}:{self.host_ports().registry}"

    @property
    def host_registry_tls(self) -> str:
        return f"{LOOPBACK}:{self.host_ports().registry_tls}"

    @property
    def ca_bundle(self) -> Path:
        """The authority that signed the API server's and the registry's certificates."""
        return self.pki.certificate("ca")

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        return self._kubectl()(*arguments, input_text=input)

    def kubectl_command(self) -> list[str]:
        """Return the start of a command line, for those who stream or interact."""
        return self._kubectl().command()

    def up(self) -> Cluster:
        """Start what is dead and wait until the whole is ready.

        An interrupt stops what this call started.

        Raises:
            ClusterError: something does not start; the message ends with its log.
        """
        with self._locked():
            self._forget_other_boot()
            was_alive = any(self.supervisor.is_alive(name) for name in self.supervisor.names())
            if not was_alive:
                shutil.rmtree(self.layout.logs, ignore_errors=True)
            self.supervisor.started.clear()
            try:
                self._up()
            except KeyboardInterrupt:
                self._undo(everything=not was_alive)
                raise
        return self

    def down(self) -> None:
        """End every process of this cluster; keeps certificates, logs and registry data."""
        with self._locked():
            self._down_step()

    def clean(self) -> None:
        """End the cluster and remove all its files."""
        with self._locked():
            if self.layout.root.exists():
                self._down_step()
                shutil.rmtree(self.layout.root)
            self._lock.unlink()

    def forward(self, target: str, *, host_port: int | None = None) -> int:
        """Lead a port of this machine into the cluster and return it.

        Args:
            target: `namespace/service:port`, or an address that the first node reaches.
            host_port: the port on 127.0.0.1; when not given, the one of the last call for this
                target, or a free one.
        """
        address, _, port = self._resolve(target).rpartition(":")
        name = _forwarder_name(target)
        remembered = self.layout.run / f"{name}.port"
        if host_port is None:
            known = remembered.exists() and self.supervisor.is_alive(name)
            host_port = int(remembered.read_text()) if known else find_free_ports(1)[0]
        self._ensure_forwarder(name, [Mapping(host_port, address, int(port))])
        write_if_changed(remembered, str(host_port))
        return host_port

    def end_forward(self, target: str) -> None:
        """End what `forward` began for the same target."""
        self.supervisor.stop(_forwarder_name(target))

    def nodes(self) -> list[Node]:
        """List the nodes that have files here, running or not."""
        indexes = [
            int(path.name[1:])
            for path in self.layout.nodes.glob("n*")
            if re.fullmatch(r"n[1-9]", path.name)
        ]
        return [self._node(NodeAddress(index), pause_image="") for index in sorted(indexes)]

    def host_ports(self) -> HostPorts:
        """Return the ports of this machine, the same from the first `up` to `clean`."""
        if self.spec.host_ports is not None:
            return self.spec.host_ports
        if self._remembered_ports.exists():
            return HostPorts(**json.loads(self._remembered_ports.read_text()))
        if self.spec.name == DEFAULT_NAME:
            return HostPorts()
        return HostPorts(*find_free_ports(3))

    def environment(self) -> dict[str, str]:
        """Return what a shell needs to work with this cluster."""
        values = {"KUBECONFIG": str(self.kubeconfig)}
        if self._remembered_ports.exists():
            values |= {
                "MODELWRIGHT_REGISTRY": self.host_registry,
                "MODELWRIGHT_REGISTRY_TLS": self.host_registry_tls,
                "MODELWRIGHT_CA_BUNDLE": str(self.ca_bundle),
            }
        return {**values, "PATH": f"{self.layout.binaries}:{os.environ.get('PATH', '')}"}

    @property
    def _remembered_ports(self) -> Path:
        """The file that a cluster with nodes, and so with a forwarder, has."""
        return self.layout.root / "host-ports.json"

    @property
    def _mode(self) -> str:
        return "control-plane" if self.spec.control_plane_only else "cluster"

    def _up(self) -> None:
        self.progress.prefix = f"{self._mode}/"
        write_if_changed(self.layout.root / "boot-id", BOOT_ID.read_text())
        if self.spec.control_plane_only:
            self._up_control_plane_only()
        else:
            self._up_whole()

    def _up_control_plane_only(self) -> None:
        names = self.spec.control_plane
        self._ensure_binaries((*names, "kubectl"))
        keep = any(self.supervisor.is_alive(name) for name in STORE_AND_API)
        ports = choose_ports(self.layout.root / "ports.json", keep=keep)
        plane = ControlPlane(self.layout, self.pki, ports=ports, audit_log=self.spec.audit_log)
        plane.ensure_pki()
        plane.write_configuration()
        self._write_kubeconfig(plane.server)
        plane.up(self.supervisor, self.progress, names=names)
        self._up_kwok(plane, self.kubeconfig)

    def _up_whole(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError("a real node needs root; without it there is --control-plane-only")
        ensure_packages(NODE_PACKAGES, self.progress)
        binaries = self._ensure_binaries((*WHOLE_CLUSTER, *self.spec.addons))
        write_if_changed(self._remembered_ports, json.dumps(asdict(self.host_ports())) + "\n")
        with self.progress.step("network") as step:
            ensure_inotify_limits()
            if not self.network.ensure_hub():
                step.was_done("already there")
        plane = ControlPlane(
            self.layout,
            self.pki,
            address=HUB_ADDRESS,
            namespace=self.network.hub,
            audit_log=self.spec.audit_log,
        )
        plane.ensure_pki()
        plane.write_configuration()
        self._write_kubeconfig(f"https://{LOOPBACK}:{self.host_ports().api}")
        Registries(self.layout, self.pki, self.network.hub).up(self.supervisor, self.progress)
        plane.up(self.supervisor, self.progress, names=self.spec.control_plane)
        self._up_forwarder()
        images = self._ensure_images(binaries)
        for index in range(1, self.spec.nodes + 1):
            self._up_node(NodeAddress(index), images)
        self._up_addons(images)
        self._up_kwok(plane, plane.kubeconfig("kwok"))

    def _ensure_binaries(self, names: tuple[str, ...]) -> dict[str, Path]:
        paths = BinaryCache.default().ensure(names, self.progress)
        link_binaries(paths, self.layout.binaries)
        return paths

    def _ensure_images(self, binaries: dict[str, Path]) -> dict[str, Image]:
        names = ("pause", *self.spec.addons)
        with self.progress.step("images of the add-ons") as step:
            made = {name: ensure_image(binaries[name]) for name in names}
            if not any(was_made for _, was_made in made.values()):
                step.was_done("in the cache")
        return {name: image for name, (image, _) in made.items()}

    def _up_forwarder(self) -> None:
        ports = self.host_ports()
        targets = {
            ports.api: API_PORT,
            ports.registry: REGISTRY_PORT,
            ports.registry_tls: REGISTRY_TLS_PORT,
        }
        mappings = [Mapping(host, HUB_ADDRESS, port) for host, port in targets.items()]
        with self.progress.step("forwarder") as step:
            if not self._ensure_forwarder(FORWARDER, mappings):
                step.was_done()

    def _up_node(self, at: NodeAddress, images: dict[str, Image]) -> None:
        with self.progress.step(f"node {at.name}") as step:
            self.network.ensure_node(at)
            node = self._node(at, pause_image=images["pause"].reference)
            node.prepare()
            labels = self.spec.node_labels.get(at.name, {})
            node.register(self._kubectl(), labels)
            worked = [
                node.start_runtime(self.supervisor, list(images.values())),
                node.start_kubelet(self.supervisor),
                node.start_proxy(self.supervisor),
            ]
            node.wait_until_ready(self._kubectl())
            if not any(worked):
                step.was_done()

    def _up_addons(self, images: dict[str, Image]) -> None:
        if not self.spec.addons:
            return
        with self.progress.step("apply the add-ons") as step:
            for name in self.spec.addons:
                apply_addon(name, images[name], self._kubectl(), self.pki)
            step.note = ", ".join(self.spec.addons)
        for name in self.spec.addons:
            with self.progress.step(f"{name} pods") as step:
                wait_for_addon(name, self._kubectl())
                if not self.supervisor.started:
                    step.was_done()

    def _up_kwok(self, plane: ControlPlane, kubeconfig: Path) -> None:
        """Play kubelets, where asked for; a change of its stages starts it anew."""
        if not self.spec.kwok:
            self.supervisor.stop(KWOK)
            return
        self._ensure_binaries((KWOK,))
        kwok = Kwok(
            self.layout.binaries / KWOK,
            kubeconfig,
            plane.ports.kwok,
            self.spec.kwok_stages,
            plane.namespace,
        )
        with self.progress.step(KWOK) as step:
            if not kwok.up(self.supervisor):
                step.was_done()

    def _ensure_forwarder(self, name: str, mappings: list[Mapping]) -> bool:
        command = (
            sys.executable,
            "-m",
            "e2e.cluster.forward",
            str(self.network.hub.path),
            *(str(mapping) for mapping in mappings),
        )
        environment = {"PYTHONPATH": str(REPOSITORY_ROOT)}
        started = self.supervisor.ensure(Component(name, command, environment=environment))
        endpoint = Endpoint(LOOPBACK, mappings[-1].host_port)
        self.supervisor.wait_ready(name, endpoint.accepts, deadline_seconds=FORWARDER_SECONDS)
        return started

    def _resolve(self, target: str) -> str:
        """Turn `namespace/service:port` into the service's address."""
        match = re.fullmatch(r"([a-z0-9-]+)/([a-z0-9-]+):(\d+)", target)
        if match is None:
            if not re.fullmatch(r"[0-9.]+:\d+", target):
                raise ClusterError(f"{target!r} is neither namespace/service:port nor address:port")
            return target
        namespace, service, port = match.groups()
        path = "jsonpath={.spec.clusterIP}"
        address = self.kubectl("-n", namespace, "get", "service", service, "-o", path)
        return f"{address}:{port}"

    def _node(self, at: NodeAddress, *, pause_image: str) -> Node:
        return Node(
            cluster=self.spec.name,
            at=at,
            layout=self.layout,
            pki=self.pki,
            namespace=self.network.of_node(at),
            server=f"https://{HUB_ADDRESS}:{API_PORT}",
            pause_image=pause_image,
        )

    def _kubectl(self) -> Kubectl:
        return Kubectl(self.layout.binaries / "kubectl", self.kubeconfig)

    def _write_kubeconfig(self, server: str) -> None:
        content = build_kubeconfig(server, self.pki, "admin", cluster_name=self.spec.name)
        write_if_changed(self.kubeconfig, content, mode=0o600)

    def _undo(self, *, everything: bool) -> None:
        self.progress.say("interrupted: stopping what was started")
        if everything:
            self._down()
            return
        for name in reversed(self.supervisor.started):
            self.supervisor.stop(name)

    def _forget_other_boot(self) -> None:
        """Remove what pods left before the machine was started anew: nothing of it lives."""
        remembered = self.layout.root / "boot-id"
        if remembered.exists() and remembered.read_text() != BOOT_ID.read_text():
            self._down()

    def _down_step(self) -> None:
        with self.progress.step("down", key=f"{self._mode}/down") as step:
            if not self.supervisor.names():
                step.was_done("nothing runs")
            self._down()

    def _down(self) -> None:
        stop = self.supervisor.stop
        for name in self.supervisor.names():
            if name.startswith((FORWARDER, KWOK)):
                stop(name)
        for name in ("kube-scheduler", "kube-controller-manager"):
            stop(name)
        for node in reversed(self.nodes()):
            node.down(self.supervisor)
        for name in (*reversed(STORE_AND_API), *self.supervisor.names()):
            stop(name)
        unmount_below(self.layout.nodes)
        self.network.delete()
        for folder in (self.layout.etcd, self.layout.nodes, self.layout.run):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _lock(self) -> Path:
        # Beside the files that `clean` removes while it holds the lock.
        return self.layout.root.with_suffix(".lock")

    def _locked(self) -> AbstractContextManager[None]:
        waiting = f"another command works on cluster {self.spec.name}; waiting for it"
        return locked(self._lock, on_wait=lambda: self.progress.say(waiting))


def _forwarder_name(target: str) -> str:
    return f"{FORWARDER}-{re.sub('[^a-z0-9]', '-', target)}"
