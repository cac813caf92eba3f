"""etcd, API server, controller manager and scheduler: commands, order and health."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from e2e.cluster.files import write_if_changed
from e2e.cluster.kubeconfig import build_kubeconfig
from e2e.cluster.pki import Subject
from e2e.cluster.probes import Endpoint
from e2e.cluster.processes import Component
from e2e.cluster.spec import API_PORT, HUB_ADDRESS, KUBERNETES_SERVICE, POD_RANGE, SERVICE_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2e.cluster.netns import NetworkNamespace
    from e2e.cluster.pki import Pki
    from e2e.cluster.processes import Supervisor
    from e2e.cluster.progress import Progress
    from e2e.cluster.spec import Layout

DEADLINE_SECONDS: Final = 180.0
LOOPBACK: Final = "127.0.0.1"
AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
# Short waits, so that tests see in seconds what takes minutes elsewhere. A lease is renewed every
# 10 s: a grace period below 14 s would flap.
SHORT_WAITS: Final = (
    "--horizontal-pod-autoscaler-sync-period=5s",
    "--horizontal-pod-autoscaler-downscale-stabilization=20s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
    "--node-monitor-period=2s",
    "--node-monitor-grace-period=16s",
)


@dataclass(frozen=True, slots=True)
class ControlPlanePorts:
    api: int = API_PORT
    etcd: int = 2379
    etcd_peer: int = 2380
    controller_manager: int = 10257
    scheduler: int = 10259
    kwok: int = 10247


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane at one address, in a network namespace or on this machine's loopback."""

    layout: Layout
    pki: Pki
    address: str = LOOPBACK
    ports: ControlPlanePorts = ControlPlanePorts()
    namespace: NetworkNamespace | None = None
    audit_log: bool = False

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.ports.api}"

    def ensure_pki(self) -> None:
        pki = self.pki
        pki.ensure_authority("ca")
        pki.ensure_authority("front-proxy-ca")
        pki.ensure_signing_key("service-account")
        hosts = ("localhost", *_service_names(), LOOPBACK, HUB_ADDRESS, KUBERNETES_SERVICE)
        pki.ensure_issued("kube-apiserver", Subject("kube-apiserver", hosts=hosts))
        pki.ensure_issued("admin", Subject("admin", "system:masters"))
        pki.ensure_issued("kwok", Subject("kwok", "system:masters"))
        pki.ensure_issued("kubelet-client", Subject("kube-apiserver", "system:masters"))
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            pki.ensure_issued(name, Subject(f"system:{name}"))
        front_proxy = Subject("front-proxy-client")
        pki.ensure_issued("front-proxy-client", front_proxy, authority="front-proxy-ca")

    def write_configuration(self) -> None:
        for user in ("kube-controller-manager", "kube-scheduler", "kwok"):
            content = build_kubeconfig(self.server, self.pki, user, cluster_name="local")
            write_if_changed(self.kubeconfig(user), content, mode=0o600)
        write_if_changed(self._audit_policy(), json.dumps(AUDIT_POLICY, indent=1) + "\n")

    def etcd(self) -> Component:
        client = f"http://{LOOPBACK}:{self.ports.etcd}"
        peer = f"http://{LOOPBACK}:{self.ports.etcd_peer}"
        flags = (
            "--name=local",
            f"--data-dir={self.layout.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=local={peer}",
            # Data of tests: a lost machine loses the cluster anyway.
            "--unsafe-no-fsync=true",
        )
        return self._component("etcd", flags)

    def apiserver(self) -> Component:
        pki = self.pki
        flags = [
            f"--etcd-servers=http://{LOOPBACK}:{self.ports.etcd}",
            f"--bind-address={self._bind_address()}",
            f"--secure-port={self.ports.api}",
            f"--advertise-address={self.address}",
            f"--tls-cert-file={pki.certificate('kube-apiserver')}",
            f"--tls-private-key-file={pki.key('kube-apiserver')}",
            f"--client-ca-file={pki.certificate('ca')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.public_key('service-account')}",
            f"--service-account-signing-key-file={pki.key('service-account')}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--requestheader-client-ca-file={pki.certificate('front-proxy-ca')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki.certificate('front-proxy-client')}",
            f"--proxy-client-key-file={pki.key('front-proxy-client')}",
            f"--kubelet-client-certificate={pki.certificate('kubelet-client')}",
            f"--kubelet-client-key={pki.key('kubelet-client')}",
            f"--kubelet-certificate-authority={pki.certificate('ca')}",
            # Host names come first otherwise, and no name server knows the nodes.
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-aggregator-routing=true",
        ]
        if self.namespace is None:
            # A loopback address is not allowed in the endpoints of the kubernetes service.
            flags.append("--endpoint-reconciler-type=none")
        if self.audit_log:
            flags += [
                f"--audit-policy-file={self._audit_policy()}",
                f"--audit-log-path={self.layout.audit_log}",
            ]
        configuration = (self._audit_policy(),) if self.audit_log else ()
        return self._component("kube-apiserver", flags, *configuration)

    def controller_manager(self) -> Component:
        pki = self.pki
        flags = (
            *self._client_flags("kube-controller-manager", self.ports.controller_manager),
            f"--service-account-private-key-file={pki.key('service-account')}",
            f"--root-ca-file={pki.certificate('ca')}",
            f"--cluster-signing-cert-file={pki.certificate('ca')}",
            f"--cluster-signing-key-file={pki.key('ca')}",
            "--use-service-account-credentials",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={POD_RANGE}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            *SHORT_WAITS,
        )
        name = "kube-controller-manager"
        return self._component(name, flags, self.kubeconfig(name))

    def scheduler(self) -> Component:
        name = "kube-scheduler"
        flags = self._client_flags(name, self.ports.scheduler)
        return self._component(name, flags, self.kubeconfig(name))

    def api_endpoint(self) -> Endpoint:
        return self._endpoint(self.ports.api, self.address, tls=self.pki.client_context("admin"))

    def up(self, supervisor: Supervisor, progress: Progress, *, names: tuple[str, ...]) -> None:
        """Start what is dead among `names`, each when the one before is ready."""
        steps = {
            "etcd": (self.etcd, self._endpoint(self.ports.etcd), "/health", None),
            "kube-apiserver": (self.apiserver, self.api_endpoint(), "/readyz", "ok"),
            "kube-controller-manager": (
                self.controller_manager,
                self._endpoint(self.ports.controller_manager, tls=_any_tls()),
                "/healthz",
                "ok",
            ),
            "kube-scheduler": (
                self.scheduler,
                self._endpoint(self.ports.scheduler, tls=_any_tls()),
                "/healthz",
                "ok",
            ),
        }
        for name in names:
            component, endpoint, path, body = steps[name]
            with progress.step(name) as step:
                if not supervisor.ensure(component()):
                    step.was_done()
                supervisor.wait_ready(
                    name,
                    endpoint.probe(path, body=body),
                    deadline_seconds=DEADLINE_SECONDS,
                )

    def _component(self, name: str, flags: Sequence[str], *configuration: Path) -> Component:
        command = (str(self.layout.binaries / name), *flags)
        return Component(name, command, self.namespace, configuration=configuration)

    def _client_flags(self, user: str, port: int) -> tuple[str, ...]:
        kubeconfig = self.kubeconfig(user)
        return (
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={port}",
            "--leader-elect=false",
        )

    def _bind_address(self) -> str:
        return LOOPBACK if self.namespace is None else "0.0.0.0"  # noqa: S104 - its own namespace

    def _endpoint(
        self, port: int, address: str = LOOPBACK, *, tls: ssl.SSLContext | None = None
    ) -> Endpoint:
        return Endpoint(address, port, self.namespace, tls)

    def kubeconfig(self, user: str) -> Path:
        return self.layout.configuration / f"{user}.kubeconfig"

    def _audit_policy(self) -> Path:
        return self.layout.configuration / "audit-policy.json"


def choose_ports(path: Path, *, keep: bool) -> ControlPlanePorts:
    """Return free ports of this machine and remember them, or those remembered."""
    if keep and path.exists():
        return ControlPlanePorts(**json.loads(path.read_text()))
    free = find_free_ports(6)
    ports = ControlPlanePorts(*free)
    write_if_changed(path, json.dumps(asdict(ports)) + "\n")
    return ports


def find_free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _service_names() -> tuple[str, ...]:
    name = "kubernetes"
    return (name, f"{name}.default", f"{name}.default.svc", f"{name}.default.svc.cluster.local")


def _any_tls() -> ssl.SSLContext:
    """Trust any server: controller manager and scheduler sign their own certificates."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
