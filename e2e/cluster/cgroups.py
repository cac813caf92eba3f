"""The cgroups that pods of a node live in, on machines with cgroup v1 and v2."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster.errors import ClusterError

MOUNT_INFO: Final = Path("/proc/self/mountinfo")
NEEDED_CONTROLLERS: Final = ("cpu", "cpuset", "memory", "pids")
KILL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where cgroups are made: one folder on v2, one per controller on v1.

    `beside` are v2 mounts on a v1 machine: the runtime makes empty groups there.
    """

    roots: tuple[Path, ...]
    unified: bool
    beside: tuple[Path, ...] = ()

    @classmethod
    def of_machine(cls) -> Hierarchies:
        return parse_hierarchies(MOUNT_INFO.read_text())

    def create(self, name: str) -> None:
        """Make the cgroup everywhere; the kubelet does not make its own root."""
        if self.unified:
            _delegate_controllers(self.roots[0])
        for root in self.roots:
            group = root / name
            group.mkdir(exist_ok=True)
            # On v1 a new cpuset is empty, and nothing can run in it.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if not self.unified and (root / setting).exists():
                    (group / setting).write_text((root / setting).read_text())
        if self.unified:
            _delegate_controllers(self.roots[0] / name)

    def kill(self, name: str) -> None:
        """Kill what runs below the cgroup until nothing does: the containers of a node."""
        deadline = time.monotonic() + KILL_SECONDS
        while pids := self._pids(name):
            if time.monotonic() > deadline:
                raise ClusterError(f"processes {sorted(pids)} in cgroup {name} do not end")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def remove(self, name: str) -> None:
        for root in (*self.roots, *self.beside):
            folders = [path for path, _, _ in os.walk(root / name, topdown=False)]
            for folder in folders:
                with contextlib.suppress(FileNotFoundError):
                    Path(folder).rmdir()

    def _pids(self, name: str) -> set[int]:
        pids: set[int] = set()
        for root in self.roots:
            # os.walk passes over what vanishes meanwhile.
            for folder, _, _ in os.walk(root / name):
                with contextlib.suppress(OSError):
                    said = (Path(folder) / "cgroup.procs").read_text()
                    pids.update(int(pid) for pid in said.split())
        # 0 stands for a process that this one cannot see.
        return pids - {0}


def parse_hierarchies(mountinfo: str) -> Hierarchies:
    """Read the mounted hierarchies; v1 wins where both are.

    Raises:
        ClusterError: no cgroups are mounted.
    """
    v1: list[Path] = []
    v2: list[Path] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            (v1 if kind == "cgroup" else v2).append(Path(before.split()[4]))
    if v1:
        return Hierarchies(tuple(v1), unified=False, beside=tuple(v2))
    if v2:
        return Hierarchies((v2[0],), unified=True)
    raise ClusterError("no cgroups are mounted; real nodes need them")


def _delegate_controllers(group: Path) -> None:
    """Let child groups of a v2 group limit what pods limit."""
    available = (group / "cgroup.controllers").read_text().split()
    missing = [name for name in NEEDED_CONTROLLERS if name not in available]
    if missing:
        raise ClusterError(f"cgroup v2 at {group} lacks the controllers {' '.join(missing)}")
    control = group / "cgroup.subtree_control"
    enabled = control.read_text().split()
    wanted = [f"+{name}" for name in NEEDED_CONTROLLERS if name not in enabled]
    try:
        if wanted:
            control.write_text(" ".join(wanted))
    except OSError as error:
        raise ClusterError(
            f"cannot enable {' '.join(wanted)} in {control}: {error.strerror}. In a container, "
            "move its processes into a child group first"
        ) from error
