"""A thin face of the buildah command: which images are here, build, commit, push.

Images live in a store of their own inside the cache folder, so that the machine's own images stay
untouched and cleaning up is removing one folder. Isolation is `chroot`: it needs no container
runtime and works inside containers and on cgroup v1.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class ImageBuildError(RuntimeError):
    """An image could not be built or pushed; the message ends with what buildah said."""


@dataclass(frozen=True, slots=True)
class Buildah:
    """Buildah with a store of its own below `store`."""

    store: Path

    def run(self, *arguments: str, log: Path | None = None) -> str:
        """Run one buildah command and return its standard output, or append all to `log`."""
        command = ["buildah", *self._store_options(), *arguments]
        if log is None:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            said, output = done.stderr, done.stdout
        else:
            with log.open("w") as stream:
                done = subprocess.run(command, check=False, stdout=stream, stderr=stream, text=True)
            said = output = log.read_text()
        if done.returncode != 0:
            raise ImageBuildError(f"buildah {arguments[0]} failed: {said.strip()[-3000:]}")
        return output

    def has(self, reference: str) -> bool:
        command = ["buildah", *self._store_options(), "inspect", "--type", "image", reference]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def size_bytes(self, reference: str) -> int:
        """Return the unpacked size of an image."""
        listed = cast("list[dict[str, Any]]", json.loads(self.run("images", "--json", reference)))
        return _bytes_of(str(listed[0]["size"]))

    def commit_rootfs(self, rootfs: Path, reference: str, *, architecture: str) -> None:
        """Make a one-layer image of a folder; equal folders give equal digests."""
        container = self.run("from", "--arch", architecture, "scratch").strip()
        try:
            self.run("add", "--quiet", container, str(rootfs), "/")
            path = "PATH=/usr/local/bin:/usr/bin"
            self.run("config", "--arch", architecture, "--env", path, container)
            self.run("config", "--env", "LANG=C.UTF-8", "--cmd", '["python3"]', container)
            self.run("commit", "--quiet", "--timestamp", "0", container, reference)
        finally:
            self.run("rm", container)

    def build(
        self,
        context: Path,
        reference: str,
        *,
        target: str,
        architecture: str,
        arguments: Mapping[str, str],
        volumes: Sequence[str],
        log: Path,
    ) -> None:
        """Build one target of the context's Dockerfile; everything it says goes to `log`."""
        options = [f"--build-arg={name}={value}" for name, value in sorted(arguments.items())]
        options += [f"--volume={volume}" for volume in volumes]
        self.run(
            "build",
            "--isolation=chroot",
            "--timestamp=0",
            "--layers",
            "--pull-never",
            f"--platform=linux/{architecture}",
            f"--target={target}",
            f"--tag={reference}",
            *options,
            str(context),
            log=log,
        )

    def push(self, reference: str, destination: str, *, tls: bool) -> None:
        verify = "true" if tls else "false"
        self.run("push", "--quiet", f"--tls-verify={verify}", reference, f"docker://{destination}")

    def pull_container(self, reference: str, *, architecture: str, tls: bool) -> str:
        """Make a container of an image in a registry; the caller removes it."""
        options = (f"--tls-verify={'true' if tls else 'false'}", f"--arch={architecture}")
        return self.run("from", "--quiet", *options, f"docker://{reference}").strip()

    def _store_options(self) -> list[str]:
        return [f"--root={self.store / 'images'}", f"--runroot={self.store / 'run'}"]


def _bytes_of(size: str) -> int:
    """Read buildah's `143 MB` (powers of ten)."""
    number, unit = size.split()
    factor = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()]
    return round(float(number) * factor)
