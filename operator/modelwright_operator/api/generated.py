"""Keeps generated files in step with their source: writes them, or says which are stale.

A file is ours when it carries the mark; others in the same folder are left alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

MARK = "Generated from operator/modelwright_operator/api by `make generate`. Do not edit."

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_or_compare(directory: Path, files: Mapping[str, str], *, check: bool) -> int:
    """Write `files` into `directory`, or with `check` only compare; the exit status."""
    stale = [name for name, text in files.items() if _read(directory / name) != text]
    strays = sorted(
        path.name
        for path in (directory.iterdir() if directory.is_dir() else ())
        if path.name not in files and MARK in (_read(path) or "")
    )
    if check:
        for name in (*stale, *strays):
            sys.stderr.write(f"{directory / name} is stale; run `make generate`\n")
        return 1 if stale or strays else 0
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (directory / name).write_text(files[name], encoding="utf-8")
        sys.stdout.write(f"wrote {directory / name}\n")
    for name in strays:
        (directory / name).unlink()
        sys.stdout.write(f"removed {directory / name}\n")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
