"""The cluster's programs, built from public Go modules and kept by what they are made of."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.commands import run
from e2e.cluster.files import locked
from e2e.cluster.spec import cache_directory
from e2e.cluster.toolchain import find_go, go_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from e2e.cluster.progress import Progress

GO_MODULES: Final = Path(__file__).parent / "go"
KUBERNETES_VERSION: Final = "v1.36.4"
BUILD_FLAGS: Final = ("-mod=readonly", "-trimpath", "-buildvcs=false")
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Binary:
    """One program: which package of which module."""

    name: str
    module: str
    package: str
    stamped: bool = False

    @property
    def module_directory(self) -> Path:
        return GO_MODULES / self.module

    def sources(self) -> list[Path]:
        """List the files that decide what is built: versions, checksums and our own code."""
        own = self.module_directory / self.package
        mains = sorted(own.glob("*.go")) if self.package.startswith("./") else []
        return [self.module_directory / "go.mod", self.module_directory / "go.sum", *mains]

    def linker_flags(self) -> str:
        return f"-s -w {version_stamp(KUBERNETES_VERSION)}" if self.stamped else "-s -w"

    def key(self, go_version: str) -> str:
        """Return the name of the folder that this build is kept in."""
        said = hashlib.sha256()
        for part in (go_version, self.package, self.linker_flags(), *BUILD_FLAGS):
            said.update(part.encode() + b"\0")
        for path in self.sources():
            said.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return said.hexdigest()[:16]


def _kubernetes(name: str) -> Binary:
    return Binary(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", stamped=True)


def _containerd(name: str) -> Binary:
    return Binary(name, "containerd", f"github.com/containerd/containerd/v2/cmd/{name}")


BINARIES: Final = {
    binary.name: binary
    for binary in (
        Binary("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _kubernetes("kubectl"),
        Binary("metrics-server", "kubernetes", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
        Binary("kwok", "kubernetes", "sigs.k8s.io/kwok/cmd/kwok"),
        Binary("coredns", "kubernetes", "./cmd/coredns"),
        Binary("pause", "kubernetes", "./cmd/pause"),
        Binary("webtool", "kubernetes", "./cmd/webtool"),
        Binary("kstatus", "kubernetes", "./cmd/kstatus"),
        _containerd("containerd"),
        _containerd("containerd-shim-runc-v2"),
        _containerd("ctr"),
    )
}
# What a cluster with real nodes runs.
WHOLE_CLUSTER: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "kubelet",
    "kube-proxy",
    "pause",
)


def version_stamp(version: str) -> str:
    """Return linker flags that make a Kubernetes program know its version.

    Without them /version is no semantic version, and clients stumble.
    """
    major, minor, _ = version.removeprefix("v").split(".")
    base, client = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
    values = {
        f"{base}.gitVersion": version,
        f"{base}.gitMajor": major,
        f"{base}.gitMinor": minor,
        f"{base}.gitTreeState": "clean",
        f"{base}.gitCommit": "0000000",
        f"{base}.buildDate": "2026-01-01T00:00:00Z",
        f"{client}.gitVersion": version,
    }
    return " ".join(f"-X {name}={value}" for name, value in values.items())


def architecture() -> str:
    """Return this machine's architecture as Go and OCI name it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class BinaryCache:
    """Built programs, each in a folder named by the hash of what it is made of."""

    directory: Path

    @classmethod
    def default(cls) -> BinaryCache:
        return cls(cache_directory() / "bin")

    def path(self, name: str) -> Path:
        binary = BINARIES[name]
        return self.directory / binary.key(go_version()) / name

    def ensure(self, names: Iterable[str], progress: Progress) -> dict[str, Path]:
        """Build what is missing and return the path of each."""
        paths = {name: self.path(name) for name in names}
        if all(path.exists() for path in paths.values()):
            return paths
        waiting = "another build is under way; waiting for it"
        with locked(self.directory / "lock", on_wait=lambda: progress.say(waiting)):
            for name, path in paths.items():
                if not path.exists():
                    with progress.step(f"build {name}", key=f"build {name}"):
                        build(BINARIES[name], path)
        return paths


def build(binary: Binary, target: Path) -> None:
    """Build one program; the target appears only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    flags = (*BUILD_FLAGS, f"-ldflags={binary.linker_flags()}", "-o", str(unfinished))
    try:
        run(
            [find_go(), "build", *flags, binary.package],
            directory=binary.module_directory,
            environment=environment,
        )
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def link_binaries(paths: dict[str, Path], directory: Path) -> None:
    """Make one folder of links: a PATH for people, and where containerd looks for its shim."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        link = directory / name
        if link.is_symlink() and link.readlink() == path:
            continue
        temporary = directory / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path)
        temporary.replace(link)
