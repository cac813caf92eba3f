"""Run a command to its end and turn a failure into a sentence."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class CommandError(ClusterError):
    """A command ended with another status than 0; the message ends with what it said."""


def run(
    command: Sequence[str],
    *,
    input_text: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Return the standard output of the command."""
    try:
        done = subprocess.run(
            command,
            input=input_text,
            env=environment,
            cwd=directory,
            timeout=timeout_seconds,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(f"the command {command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        said = f"no end after {timeout_seconds} s"
        raise CommandError(f"{_shorten(command)}: {said}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-3000:]
        raise CommandError(f"{_shorten(command)} failed ({done.returncode}): {said}")
    return done.stdout


def _shorten(command: Sequence[str]) -> str:
    line = " ".join(command)
    return line if len(line) <= 160 else line[:157] + "..."
