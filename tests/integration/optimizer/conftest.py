"""A real registry (Debian's docker-registry) on a free loopback port, per test or module."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from modelwright_artifact.transport import RegistryOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGISTRY_BINARY = "docker-registry"


@dataclass
class RegistryServer:
    """One registry process and its folder; can be stopped and started again."""

    folder: Path
    port: int
    extra_config: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def options(self) -> RegistryOptions:
        return RegistryOptions(
            insecure_hosts=frozenset({self.host}), attempts=2, backoff_seconds=0.01
        )

    def start(self) -> None:
        config = self.folder / "config.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder / 'storage'}}}}}\n"
            f"http:\n  addr: {self.host}\n{self.extra_config}"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [REGISTRY_BINARY, "serve", str(config)],
                stdout=log,
                stderr=log,
                env={"OTEL_TRACES_EXPORTER": "none", "PATH": "/usr/bin:/bin", **self.environment},
            )
        self._wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: RegistryServer) -> Iterator[RegistryServer]:
    if shutil.which(REGISTRY_BINARY) is None:
        pytest.fail("docker-registry is missing: apt-get install docker-registry")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(RegistryServer(folder, free_port())) as server:
        yield server


def get(url: str) -> httpx.Response:
    with httpx.Client() as client:
        return client.get(url)
