"""One-layer OCI image archives made of static binaries, without any image tool."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from e2e.cluster.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
# A higher level takes 15 s for 80 MB and saves little.
GZIP_LEVEL = 1


def write_archive(target: Path, *, reference: str, binary: Path, architecture: str) -> None:
    """Write an archive whose image runs `binary`; equal inputs give equal bytes."""
    layer = _build_tar([(binary.name, binary.read_bytes(), 0o755)])
    compressed = gzip.compress(layer, GZIP_LEVEL, mtime=0)
    config = _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": [f"/{binary.name}"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _describe("application/vnd.oci.image.config.v1+json", config),
            "layers": [_describe("application/vnd.oci.image.layer.v1.tar+gzip", compressed)],
        }
    )
    names = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**_describe(MANIFEST_TYPE, manifest), "annotations": names}],
    }
    entries = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", _encode(index))]
    entries += [(f"blobs/sha256/{_digest(b)[7:]}", b) for b in (config, manifest, compressed)]
    write_atomically(target, _build_tar([(name, data, 0o644) for name, data in entries]))


def _build_tar(entries: Sequence[tuple[str, bytes, int]]) -> bytes:
    """Return a tar without times or owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data, mode in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _encode(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
