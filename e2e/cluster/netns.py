"""Network namespaces as files: create, enter, connect inside, delete.

A namespace is a bind mount on a file of ours, not an entry in /run/netns: `ip netns add` would
mount over that folder, and pods made before would hang while they end.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.commands import run

if TYPE_CHECKING:
    from pathlib import Path

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    path: Path

    def exists(self) -> bool:
        """Tell whether the file is a namespace: after a reboot it is only a file."""
        if not self.path.exists():
            return False
        return self.path.stat().st_dev == os.stat("/proc/self/ns/net").st_dev

    def create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        run(["unshare", f"--net={self.path}", "true"])

    def delete(self) -> None:
        """Let go of the namespace; its interfaces vanish with its last process."""
        if self.exists():
            run(["umount", "--lazy", str(self.path)])
        self.path.unlink(missing_ok=True)

    def wrap(self, *command: str) -> tuple[str, ...]:
        """Return the command as it runs inside.

        Not `ip netns exec`, which mounts /sys anew and hides the cgroup v1 hierarchies.
        """
        return ("nsenter", f"--net={self.path}", *command)

    def run(self, *command: str, input_text: str | None = None) -> str:
        return run(self.wrap(*command), input_text=input_text)

    def connect(self, address: str, port: int, *, timeout_seconds: float) -> socket.socket:
        """Return a connection made inside; a socket stays in the namespace it was made in."""
        made: list[socket.socket] = []
        faults: list[OSError] = []

        def connect_inside() -> None:
            try:
                enter(self.path)
                made.append(socket.create_connection((address, port), timeout_seconds))
            except OSError as error:
                faults.append(error)

        # A thread of its own, because entering a namespace is for good.
        worker = threading.Thread(target=connect_inside)
        worker.start()
        worker.join()
        if faults:
            raise faults[0]
        return made[0]


def enter(path: Path) -> None:
    """Move the calling thread into the namespace (os.setns exists from Python 3.12 on)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot enter {path}: {os.strerror(code)}")
    finally:
        os.close(descriptor)
