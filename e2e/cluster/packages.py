"""Debian packages that the cluster takes as they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.commands import run
from e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2e.cluster.progress import Progress

CNI_PLUGINS: Final = Path("/usr/lib/cni")
SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"

# Package, and a file by which it is known to be there.
NODE_PACKAGES: Final = {
    "runc": "runc",
    "containernetworking-plugins": str(CNI_PLUGINS / "bridge"),
    "docker-registry": "docker-registry",
    "apache2-utils": "htpasswd",
    "nftables": "nft",
    "iptables": "iptables",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "util-linux": "nsenter",
    "mount": "mount",
}
IMAGE_PACKAGES: Final = {"buildah": "buildah", "skopeo": "skopeo"}
# What tests try the product against: Prometheus' own checker, and CPUs this machine has not.
TEST_PACKAGES: Final = {"prometheus": "promtool", "qemu-user-static": "qemu-aarch64-static"}


def find_program(name: str) -> str | None:
    """Find a program also in the folders that only root's PATH names."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")


def list_missing(packages: dict[str, str]) -> list[str]:
    return [package for package, witness in packages.items() if not _is_there(witness)]


def ensure_packages(packages: dict[str, str], progress: Progress) -> None:
    """Install what is missing.

    Raises:
        ClusterError: something is missing and cannot be installed from here.
    """
    missing = list_missing(packages)
    if not missing:
        return
    _check_can_install(missing)
    with progress.step("install Debian packages") as step:
        step.note = " ".join(missing)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
        run([*quiet, "update"], environment=environment)
        install = ("install", "--yes", "--no-install-recommends", *missing)
        run([*quiet, *install], environment=environment)
    still_missing = list_missing(packages)
    if still_missing:
        raise ClusterError(f"not there after their installation: {' '.join(still_missing)}")


def _is_there(witness: str) -> bool:
    return Path(witness).exists() if "/" in witness else find_program(witness) is not None


def _check_can_install(missing: Iterable[str]) -> None:
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if find_program("apt-get") is None:
        raise ClusterError(f"these Debian packages are needed, or what they hold: {command}")
    if os.geteuid() != 0:
        raise ClusterError(f"please install what the cluster needs, as root: {command}")
