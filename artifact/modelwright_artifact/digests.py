"""SHA-256 of files, and the check that an artifact's tree is what its manifest says."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelwright_artifact.errors import ArtifactError, DigestMismatch
from modelwright_artifact.manifest import UNLISTED_FILES, FileEntry, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES: Final = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in 64 hex digits; the manifest's `files` hold this form."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file as `sha256:<hex>`; sources and registries use this form."""
    return f"sha256:{sha256_file(path)}"


def build_file_entry(path: Path) -> FileEntry:
    """The manifest's entry for a file."""
    return FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Raise unless the tree holds exactly the listed files with exactly the listed bytes.

    `DigestMismatch` where bytes differ; `ArtifactError` where a file is missing, is no regular
    file, or is not listed (manifest, report and signature aside).
    """
    found = set(_walk(directory))
    for path in sorted(found - set(manifest.files) - UNLISTED_FILES):
        raise ArtifactError(f"The artifact holds {path}, which its manifest does not list.")
    for path, entry in manifest.files.items():
        if path not in found:
            raise ArtifactError(f"The artifact lacks {path}, which its manifest lists.")
        _verify_file(directory / path, path, entry)


def _verify_file(path: Path, name: str, entry: FileEntry) -> None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{name} is not a regular file.")
    if status.st_size != entry.bytes:
        raise DigestMismatch(f"{name} is {status.st_size} bytes long, not {entry.bytes}.")
    if sha256_file(path) != entry.sha256:
        raise DigestMismatch(f"{name} does not have the digest sha256:{entry.sha256}.")


def _walk(directory: Path) -> Iterator[str]:
    for folder, names, files in os.walk(directory):
        links = [name for name in names if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            yield Path(folder, name).relative_to(directory).as_posix()
