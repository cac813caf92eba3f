"""Configuration of a node's containerd, CNI and registry access."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from e2e.cluster.spec import HUB_ADDRESS, REGISTRY_PORT, REGISTRY_TLS_PORT

if TYPE_CHECKING:
    from pathlib import Path

# Each needs something that this node has not, and says so at every start.
DISABLED_PLUGINS: Final = (
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
)


@dataclass(frozen=True, slots=True)
class ContainerdPaths:
    """Files of one containerd."""

    directory: Path
    cni: Path
    registries: Path
    runc: str

    @property
    def socket(self) -> Path:
        return self.directory / "containerd.sock"

    @property
    def configuration(self) -> Path:
        return self.directory / "config.toml"


def build_configuration(paths: ContainerdPaths, *, pause_image: str, cni_plugins: Path) -> str:
    """Return config.toml (version 3, which every 2.x reads)."""
    disabled = ", ".join(_quote(plugin) for plugin in DISABLED_PLUGINS)
    return f"""\
version = 3
root = {_quote(paths.directory / "root")}
state = {_quote(paths.directory / "state")}
disabled_plugins = [{disabled}]
imports = []

[grpc]
  address = {_quote(paths.socket)}

[ttrpc]
  address = {_quote(f"{paths.socket}.ttrpc")}

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = {_quote(pause_image)}
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = {_quote(paths.registries)}

[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  # Else a mount over /run/netns by others would keep pods from ending.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {_quote(paths.runc)}
        Root = {_quote(paths.directory / "runc")}
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{_quote(cni_plugins)}]
    conf_dir = {_quote(paths.cni)}
"""


def build_cni_configuration(*, network: str, pod_range: str, leases: Path) -> str:
    """Return a conflist: a bridge of pods without masquerade, so that sources stay true."""
    subnet = [[{"subnet": pod_range}]]
    routes = [{"dst": "0.0.0.0/0"}]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(leases),
            "ranges": subnet,
            "routes": routes,
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    content = {"cniVersion": "1.0.0", "name": network, "plugins": [bridge, ports]}
    return json.dumps(content, indent=1) + "\n"


def build_registry_hosts(authority: Path) -> dict[str, str]:
    """Return the hosts.toml of each registry, by `host:port`."""
    plain, secured = f"{HUB_ADDRESS}:{REGISTRY_PORT}", f"{HUB_ADDRESS}:{REGISTRY_TLS_PORT}"
    return {
        plain: _build_hosts(f"http://{plain}"),
        secured: _build_hosts(f"https://{secured}", f"  ca = {_quote(authority)}\n"),
    }


def _build_hosts(server: str, extra: str = "") -> str:
    host = f"[host.{_quote(server)}]"
    return f'server = {_quote(server)}\n\n{host}\n  capabilities = ["pull", "resolve"]\n{extra}'


def _quote(value: object) -> str:
    """Write a TOML string; JSON's escapes are TOML's."""
    return json.dumps(str(value))
