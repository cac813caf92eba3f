"""A real server process on free loopback ports, as a pod or a person would run it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

PATIENCE_SECONDS = 60.0
SOON_SECONDS = 0.02


def find_free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all held at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for_http(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the process answers 200 there; AssertionError when it ends or never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError("the server ended")
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        pause(process)
    raise AssertionError(f"not ready after {PATIENCE_SECONDS} s")


def pause(process: subprocess.Popen[bytes]) -> None:
    """A moment between two looks; ends early when the process does."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(SOON_SECONDS)


class ServerProcess:
    """`python -m modelwright_runtime serve` with its ports, logs and last words."""

    def __init__(
        self,
        folder: Path,
        *artifacts: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        file_bytes: int | None = None,
    ) -> None:
        self.http_port, self.grpc_port, self.metrics_port = find_free_ports(3)
        self.termination_log = folder / "termination-log"
        self.termination_log.touch()
        self.termination_log.chmod(0o666)
        self.stderr = folder / "stderr"
        self.stdout = folder / "stdout"
        command = [
            *(sys.executable, "-m", "modelwright_runtime", "serve"),
            *("--http-port", str(self.http_port)),
            *("--grpc-port", str(self.grpc_port)),
            *("--metrics-port", str(self.metrics_port)),
            *("--termination-log", str(self.termination_log)),
            *("--log-format", "json", "--drain-seconds", "0"),
            *(part for path in artifacts for part in ("--artifact", str(path))),
            *arguments,
        ]
        with self.stderr.open("wb") as stderr, self.stdout.open("wb") as stdout:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                env={**os.environ, **(environment or {})},
            )
        if file_bytes is not None:
            limits = (file_bytes, file_bytes)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def logs(self) -> str:
        return self.stderr.read_text()

    def termination(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.termination_log.read_text())
        return document

    def wait_ready(self) -> Self:
        """Until the readiness probe holds; fails with the log if the server ends before."""
        try:
            wait_for_http(self.process, f"{self.url}/v2/health/ready")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.logs()}") from None
        return self

    def wait_announced(self) -> str:
        """What a person was told, once it is told in full."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "curl" not in (text := self.stdout.read_text()) and time.monotonic() < deadline:
            pause(self.process)
        return text

    def wait_exit(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its exit code."""
        self.process.send_signal(number)
        return self.wait_exit()

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).text
