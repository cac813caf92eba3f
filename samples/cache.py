"""Samples are made once: what a script wrote is kept under the hash of the script."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def ensure_sample(name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> Path:
    """The folder with the sample's files; made now when no earlier run of these scripts left it.

    A killed run leaves nothing that looks finished: the folder gets its name at the end.
    """
    folder = cache_root() / f"{name}-{hash_sources(sources)}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        _rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def cache_root() -> Path:
    root = os.environ.get("MODELWRIGHT_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "modelwright") / "samples"


def hash_sources(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _rename(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # else a second run was faster; its files are as good
            raise
