"""What a cluster is asked to be, its addresses, and where it keeps its files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY_ROOT: Final = Path(__file__).parents[2]
DEFAULT_NAME: Final = "modelwright"
ADDONS: Final = ("coredns", "metrics-server")

# Addresses inside the cluster's own network namespaces, the same in every cluster.
HUB_ADDRESS: Final = "10.77.0.1"
UNDERLAY: Final = "10.77.0.0/24"
POD_RANGE: Final = "10.244.0.0/16"
SERVICE_RANGE: Final = "10.96.0.0/16"
KUBERNETES_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
API_PORT: Final = 6443
REGISTRY_PORT: Final = 5000
REGISTRY_TLS_PORT: Final = 5443
MAX_NODES: Final = 9


@dataclass(frozen=True, slots=True)
class HostPorts:
    """Ports on 127.0.0.1 of this machine that lead into the cluster."""

    api: int = 26443
    registry: int = 25000
    registry_tls: int = 25443


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What to run. Everything has a default; two names give two clusters side by side.

    `controller_manager` and `scheduler` ask for them in a control plane without nodes; a cluster
    with nodes always has them, and so has one with KWOK, whose nodes are only played.
    """

    name: str = DEFAULT_NAME
    nodes: int = 1
    addons: tuple[str, ...] = ADDONS
    node_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    host_ports: HostPorts | None = None
    control_plane_only: bool = False
    controller_manager: bool = False
    scheduler: bool = False
    audit_log: bool = False
    kwok: bool = False
    kwok_stages: tuple[Path, ...] = ()

    @property
    def control_plane(self) -> tuple[str, ...]:
        """The control plane's programs in the order in which they start."""
        played = not self.control_plane_only or self.kwok
        names = ["etcd", "kube-apiserver"]
        if played or self.controller_manager:
            names.append("kube-controller-manager")
        if played or self.scheduler:
            names.append("kube-scheduler")
        return tuple(names)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise ClusterError(f"{self.name!r} is no cluster name: use a-z, 0-9 and '-', up to 32")
        if not 1 <= self.nodes <= MAX_NODES:
            raise ClusterError(f"{self.nodes} nodes asked for: 1 to {MAX_NODES} are possible")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Name and addresses of node number `index`, counted from 1."""

    index: int

    @property
    def name(self) -> str:
        return f"n{self.index}"

    @property
    def address(self) -> str:
        return f"10.77.0.{self.index}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.index}.0/24"


def cache_directory() -> Path:
    """Return where built things are kept, shared by all clusters and checkouts."""
    return Path(os.environ.get("MODELWRIGHT_CACHE") or Path.home() / ".cache/modelwright")


def state_directory() -> Path:
    default = Path.home() / ".local/state/modelwright"
    return Path(os.environ.get("MODELWRIGHT_STATE") or default)


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster."""

    root: Path

    @classmethod
    def of(cls, name: str) -> Layout:
        return cls(state_directory() / name)

    @property
    def binaries(self) -> Path:
        return self.root / "bin"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def configuration(self) -> Path:
        return self.root / "etc"

    @property
    def nodes(self) -> Path:
        return self.root / "nodes"

    @property
    def namespaces(self) -> Path:
        return self.root / "netns"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.jsonl"
