"""One-layer OCI images made in memory, and archives of them, without any image tool."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from e2e.cluster.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
# A higher level takes 15 s for 80 MB and saves little.
GZIP_LEVEL: Final = 1
PROGRAM_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class OciImage:
    """The three blobs of an image with one layer."""

    config: bytes
    layer: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def build_image(
    files: Mapping[str, bytes], *, architecture: str, entrypoint: Sequence[str] = ()
) -> OciImage:
    """Return an image that holds the files; equal inputs give equal bytes."""
    layer = _build_tar(files)
    compressed = gzip.compress(layer, GZIP_LEVEL, mtime=0)
    config = _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    )
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _describe(CONFIG_TYPE, config),
            "layers": [_describe(LAYER_TYPE, compressed)],
        }
    )
    return OciImage(config, compressed, manifest)


def write_archive(target: Path, image: OciImage, *, reference: str) -> None:
    """Write an archive that `ctr images import` takes, under the name `reference`."""
    names = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [{**_describe(MANIFEST_TYPE, image.manifest), "annotations": names}],
    }
    blobs = (image.config, image.manifest, image.layer)
    entries = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _encode(index),
        **{f"blobs/sha256/{digest_of(blob).partition(':')[2]}": blob for blob in blobs},
    }
    write_atomically(target, _build_tar(entries))


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _build_tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar without times or owners, readable and runnable by everyone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), PROGRAM_MODE
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _encode(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
