"""The cluster's network: a hub with the bridge, and one namespace per further node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.netns import NetworkNamespace
from e2e.cluster.spec import HUB_ADDRESS, SERVICE_RANGE, UNDERLAY

if TYPE_CHECKING:
    from e2e.cluster.spec import NodeAddress

BRIDGE: Final = "br0"
PREFIX_LENGTH: Final = UNDERLAY.partition("/")[2]
# A kubelet, its containerd and CoreDNS take several; with the usual 128 the third kubelet dies.
INOTIFY_LIMITS: Final = {"max_user_instances": 8192, "max_user_watches": 1048576}


@dataclass(frozen=True, slots=True)
class Network:
    """Namespaces of one cluster; interfaces inside need no names of their own per cluster."""

    directory: Path

    @property
    def hub(self) -> NetworkNamespace:
        """The namespace of the API server, the registry and the first node."""
        return NetworkNamespace(self.directory / "hub")

    def of_node(self, node: NodeAddress) -> NetworkNamespace:
        return self.hub if node.index == 1 else NetworkNamespace(self.directory / node.name)

    def ensure_hub(self) -> bool:
        """Make the hub unless it is there; tell whether it was made."""
        if not self.hub.exists():
            self.hub.delete()
            self.hub.create()
        if _is_marked(self.hub):
            return False
        _ip(self.hub, "link set lo up")
        if not _has_link(self.hub, BRIDGE):
            _ip(self.hub, f"link add {BRIDGE} type bridge")
        _ip(self.hub, f"address replace {HUB_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}")
        _ip(self.hub, f"link set {BRIDGE} up")
        # Without a route the kernel refuses a service address before kube-proxy's rules see it.
        _ip(self.hub, f"route replace {SERVICE_RANGE} dev {BRIDGE} src {HUB_ADDRESS}")
        _finish(self.hub)
        return True

    def ensure_node(self, node: NodeAddress) -> None:
        """Give a further node its namespace, joined to the hub's bridge by a cable."""
        namespace = self.of_node(node)
        if namespace == self.hub or (namespace.exists() and _is_marked(namespace)):
            return
        namespace.delete()
        namespace.create()
        if _has_link(self.hub, node.name):
            _ip(self.hub, f"link delete {node.name}")
        _ip(self.hub, f"link add {node.name} type veth peer name eth0 netns {namespace.path}")
        _ip(self.hub, f"link set {node.name} master {BRIDGE} up")
        _ip(namespace, "link set lo up")
        _ip(namespace, f"address add {node.address}/{PREFIX_LENGTH} dev eth0")
        _ip(namespace, "link set eth0 up")
        _ip(namespace, f"route add default via {HUB_ADDRESS}")
        _ip(self.hub, f"route replace {node.pod_range} via {node.address}")
        _finish(namespace)

    def delete(self) -> None:
        for path in sorted(self.directory.glob("*")):
            NetworkNamespace(path).delete()

    def set_link(self, node: NodeAddress, *, up: bool) -> None:
        """Cut or heal the cable of a further node."""
        _ip(self.hub, f"link set {node.name} {'up' if up else 'down'}")


def ensure_inotify_limits() -> None:
    """Raise the machine's limits where they are lower: they hold for all namespaces."""
    for name, wanted in INOTIFY_LIMITS.items():
        limit = Path("/proc/sys/fs/inotify") / name
        if int(limit.read_text()) < wanted:
            limit.write_text(str(wanted))


def _ip(namespace: NetworkNamespace, arguments: str) -> None:
    namespace.run("ip", *arguments.split())


def _has_link(namespace: NetworkNamespace, name: str) -> bool:
    listed = namespace.run("ip", "-brief", "link", "show")
    return any(line.split()[0].partition("@")[0] == name for line in listed.splitlines())


def _finish(namespace: NetworkNamespace) -> None:
    """Let packets pass; last, because it also says that the namespace is complete."""
    namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def _is_marked(namespace: NetworkNamespace) -> bool:
    return namespace.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
