"""Layers: deterministic tar streams out, and a distrustful reader back in.

A layer is generated twice, once to know its digest and once to send it, so that no copy of
the weights stands in memory or on disk. Reading accepts plain relative names, regular files
and folders, nothing that is there already, and no more than the caller allows.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import check_plain_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_CHUNK_BYTES: Final = 1 << 20
_FILE_MODE: Final = 0o444
_FOLDER_MODE: Final = 0o555


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tar may hold when unpacked."""

    total_bytes: int
    files: int = 10_000


@dataclass(frozen=True, slots=True)
class Layer:
    """Files of a folder as one uncompressed tar; equal files give equal bytes."""

    content: str
    directory: Path
    names: tuple[str, ...]

    def stream(self) -> Iterator[bytes]:
        """The tar's bytes, from the start."""
        for folder in _list_folders(self.names):
            yield _header(folder, tarfile.DIRTYPE, 0, _FOLDER_MODE)
        for name in sorted(self.names):
            yield from self._stream_file(name)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def measure(self) -> tuple[str, int]:
        """Digest (`sha256:…`) and length of the tar."""
        digest, size = hashlib.sha256(), 0
        for chunk in self.stream():
            digest.update(chunk)
            size += len(chunk)
        return f"sha256:{digest.hexdigest()}", size

    def _stream_file(self, name: str) -> Iterator[bytes]:
        with (self.directory / name).open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            yield _header(name, tarfile.REGTYPE, size, _FILE_MODE)
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
        if size % tarfile.BLOCKSIZE:
            yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def extract_tar(
    source: IO[bytes], directory: Path, limits: Limits, *, compressed: bool = False
) -> tuple[str, ...]:
    """Unpack a tar into an existing folder and return the files' names."""
    names: list[str] = []
    total = 0
    try:
        with tarfile.open(fileobj=source, mode="r|gz" if compressed else "r|") as archive:
            for member in archive:
                name = _check_member(member)
                if member.isdir():
                    (directory / name).mkdir(parents=True, exist_ok=True)
                    continue
                total += member.size
                if total > limits.total_bytes or len(names) >= limits.files:
                    raise ArtifactError("The archive holds more than is allowed.")
                _extract_file(archive, member, directory / name)
                names.append(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArtifactError(f"The archive cannot be unpacked: {error}.") from error
    return tuple(names)


def read_only_file(source: IO[bytes], name: str, limit: int) -> bytes:
    """The bytes of the one file a tar holds, at most `limit` of them."""
    try:
        with tarfile.open(fileobj=source, mode="r:") as archive:
            members = [member for member in archive if not member.isdir()]
            if len(members) != 1 or _check_member(members[0]) != name:
                raise ArtifactError(f"The layer must hold {name} and nothing else.")
            if members[0].size > limit:
                raise ArtifactError(f"{name} is longer than {limit} bytes.")
            content = archive.extractfile(members[0])
            return b"" if content is None else content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ArtifactError(f"The layer of {name} cannot be read: {error}.") from error


def _check_member(member: tarfile.TarInfo) -> str:
    name = member.name.removeprefix("./").rstrip("/")
    if member.isdir() and name in {"", "."}:
        return "."
    check_plain_path(name, "A name in the archive")
    if not member.isreg() and not member.isdir():
        raise ArtifactError(f"{name} in the archive is neither a regular file nor a folder.")
    return name


def _extract_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o644), "wb") as target:
        while content is not None and (chunk := content.read(_CHUNK_BYTES)):
            target.write(chunk)


def _list_folders(names: Sequence[str]) -> list[str]:
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return sorted(folders)


def _header(name: str, kind: bytes, size: int, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, size, mode, 0
    return info.tobuf(tarfile.PAX_FORMAT)
