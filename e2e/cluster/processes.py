"""Long-running processes: start detached, know again, stop.

A process writes its own pid file before it becomes the component, so that none is lost when the
harness is killed in between. The file holds the kernel's start time and the boot id beside the pid:
a recycled pid is never taken for ours.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.errors import ClusterError
from e2e.cluster.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from e2e.cluster.netns import NetworkNamespace

POLL_SECONDS = 0.1
TERMINATE_SECONDS = 15.0
KILL_SECONDS = 10.0
START_SECONDS = 30.0
LOG_TAIL_LINES = 15
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# `exec` keeps pid and start time, so what this shell says of itself stays true of the component.
LAUNCHER = 'cat "/proc/$$/stat" "$2" >"$1.new" && mv "$1.new" "$1" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot; no other process is ever equal."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read a copy of /proc/PID/stat followed by the boot id.

        Raises:
            ValueError: the file was cut short.
        """
        stat, separator, boot_id = text.strip().rpartition("\n")
        # The name of the program, in parentheses, may itself hold spaces and parentheses.
        pid, _, _ = stat.partition(" ")
        fields = stat.rpartition(")")[2].split()
        if not separator or len(fields) < 20:
            raise ValueError("not a pid file")
        return cls(int(pid), int(fields[19]), boot_id.strip())

    def is_alive(self) -> bool:
        """Tell whether exactly this process still runs; a zombie does not."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        state = text.rpartition(")")[2].split()[0]
        return state not in "ZX" and Identity.parse(f"{text}{BOOT_ID.read_text()}") == self


@dataclass(frozen=True, slots=True)
class Component:
    """How one long-running process is started."""

    name: str
    command: tuple[str, ...]
    namespace: NetworkNamespace | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: tuple[Path, ...] = ()

    def fingerprint(self) -> str:
        """Return what must be equal for a running process to count as this component."""
        said = hashlib.sha256()
        # A link's target too: it changes when another version of the program was built.
        program = str(Path(self.command[0]).resolve())
        for text in (
            program,
            *self.command,
            *(f"{k}={v}" for k, v in sorted(self.environment.items())),
        ):
            said.update(text.encode() + b"\0")
        for path in self.configuration:
            said.update(path.read_bytes() + b"\0")
        return said.hexdigest()


@dataclass(slots=True)
class Supervisor:
    """The processes of one cluster, each with a pid file and a log of its own."""

    run_directory: Path
    log_directory: Path
    started: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """List every component that was started and not stopped, dead ones too."""
        return sorted(path.stem for path in self.run_directory.glob("*.pid"))

    def identity(self, name: str) -> Identity | None:
        try:
            return Identity.parse(self._pid_file(name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def is_alive(self, name: str) -> bool:
        identity = self.identity(name)
        return identity is not None and identity.is_alive()

    def log(self, name: str) -> Path:
        return self.log_directory / f"{name}.log"

    def ensure(self, component: Component) -> bool:
        """Start the component unless it runs as described; tell whether it was started."""
        fingerprint = component.fingerprint()
        mark = self._fingerprint_file(component.name)
        if self.is_alive(component.name):
            if mark.exists() and mark.read_text() == fingerprint:
                return False
            self.stop(component.name)
        write_atomically(mark, fingerprint)
        self._start(component)
        self.started.append(component.name)
        return True

    def wait_ready(
        self, name: str, is_ready: Callable[[], bool], *, deadline_seconds: float
    ) -> None:
        """Wait for a started component, and give up at once when it ends.

        Raises:
            ClusterError: it ended or was not ready in time; the message ends with its log.
        """
        deadline = time.monotonic() + deadline_seconds
        while not is_ready():
            if not self.is_alive(name):
                raise ClusterError(f"{name} ended.\n{self._log_tail(name)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{name} is not ready after {deadline_seconds:.0f} s.\n{self._log_tail(name)}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self, name: str, *, patience_seconds: float = TERMINATE_SECONDS) -> bool:
        """End the component, gently first; tell whether it was alive."""
        identity = self.identity(name)
        was_alive = identity is not None and end_process(identity, patience_seconds)
        self._pid_file(name).unlink(missing_ok=True)
        self._fingerprint_file(name).unlink(missing_ok=True)
        return was_alive

    def _start(self, component: Component) -> None:
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self.log_directory.mkdir(parents=True, exist_ok=True)
        command = component.command
        if component.namespace is not None:
            command = component.namespace.wrap(*command)
        pid_file = self._pid_file(component.name)
        pid_file.unlink(missing_ok=True)
        launcher = ("/bin/sh", "-c", LAUNCHER, "sh", str(pid_file), str(BOOT_ID), *command)
        with self.log(component.name).open("ab") as log:
            # In a session of its own, and no child of ours: neither Ctrl-C nor our end reaches it.
            subprocess.run(
                ("setsid", "--fork", *launcher),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **component.environment},
                check=True,
            )
        _wait_for_pid_file(pid_file)

    def _pid_file(self, name: str) -> Path:
        return self.run_directory / f"{name}.pid"

    def _fingerprint_file(self, name: str) -> Path:
        return self.run_directory / f"{name}.fingerprint"

    def _log_tail(self, name: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([*(f"    {line[:300]}" for line in lines), f"    (from {log})"])


def end_process(identity: Identity, patience_seconds: float) -> bool:
    """Send TERM, then KILL after `patience_seconds`; tell whether the process was alive."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # Checked after the descriptor was taken: from here on the pid cannot become another's.
        if not identity.is_alive():
            return False
        for number, patience in (
            (signal.SIGTERM, patience_seconds),
            (signal.SIGKILL, KILL_SECONDS),
        ):
            signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], patience)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)
    raise ClusterError(f"process {identity.pid} does not end, not even by SIGKILL")


def _wait_for_pid_file(path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot write {path}; is the disk full?")
        time.sleep(0.005)
