"""Puts a sample's files into an OCI registry and prints its manifest with everything pinned.

    python -m samples.publish digits --registry registry.example > digits.yaml
    kubectl apply -f digits.yaml

The same files always get the same digests.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelwright_artifact.oci import RegistryOptions
from modelwright_artifact.registry import MANIFEST_MEDIA_TYPE, Reference, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAMPLES: Final = ("digits", "minilm")
FILES: Final = {
    "model": "model.onnx",
    "evaluation": "evaluation.npz",
    "calibration": "calibration.npz",
}
ARTIFACT_TYPE: Final = "application/vnd.modelwright.source.v1"
EMPTY: Final = b"{}"
EMPTY_MEDIA_TYPE: Final = "application/vnd.oci.empty.v1+json"
_PLACEHOLDER: Final = re.compile(r"oci://registry\.example/samples/[a-z]+/([a-z]+)@sha256:0{64}")
_CHUNK_BYTES: Final = 1 << 20


def publish_sample(
    folder: Path, prefix: str, options: RegistryOptions, *, seen_as: str | None = None
) -> dict[str, str]:
    """Push the sample's files below `prefix` (`host[:port]/path`) and return their pinned URIs.

    `seen_as` replaces the prefix in the URIs where the cluster knows the registry by another name.
    """
    pinned = {}
    for stem, name in FILES.items():
        path = folder / name
        if path.exists():
            digest = push_file(path, f"{prefix}/{stem}", options)
            pinned[stem] = f"oci://{seen_as or prefix}/{stem}@{digest}"
    return pinned


def push_file(path: Path, repository: str, options: RegistryOptions) -> str:
    """Push one file as an OCI artifact, tagged by its content; the digest of the manifest."""
    digest, size = _measure(path)
    layer = {
        "mediaType": "application/octet-stream",
        "digest": digest,
        "size": size,
        "annotations": {"org.opencontainers.image.title": path.name},
    }
    empty_digest = f"sha256:{hashlib.sha256(EMPTY).hexdigest()}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": EMPTY_MEDIA_TYPE, "digest": empty_digest, "size": len(EMPTY)},
        "layers": [layer],
    }
    body = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    with Registry(Reference.parse(repository), options) as registry:
        registry.put_blob(empty_digest, len(EMPTY), lambda: (EMPTY,))
        registry.put_blob(digest, size, lambda: _read_chunks(path))
        return registry.put_manifest(digest.removeprefix("sha256:")[:16], body, MANIFEST_MEDIA_TYPE)


def render_manifest(sample: str, pinned: Mapping[str, str]) -> str:
    """The sample's manifest, comments and all, with the pinned URIs in place."""
    template = Path(__file__).with_name(f"{sample}.yaml").read_text()
    body = template[template.index("apiVersion:") :]
    return _PLACEHOLDER.sub(lambda match: pinned[match[1]], body)


def _measure(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", path.stat().st_size


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="samples.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sample", choices=SAMPLES)
    parser.add_argument(
        "--registry", required=True, metavar="HOST[:PORT][/PATH]", help="where to push to"
    )
    parser.add_argument(
        "--seen-as", metavar="HOST[:PORT][/PATH]", help="the same registry, as the cluster calls it"
    )
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    parser.add_argument("--ca-bundle", type=Path, help="file with certificates to trust as well")
    parser.add_argument(
        "--docker-config", type=Path, help="folder with a config.json that holds credentials"
    )
    options = parser.parse_args(arguments)
    host = options.registry.partition("/")[0]
    folder: Path = importlib.import_module(f"samples.{options.sample}").ensure()
    pinned = publish_sample(
        folder,
        f"{options.registry}/samples/{options.sample}",
        RegistryOptions(
            insecure_hosts=frozenset({host} if options.insecure else ()),
            ca_bundle=options.ca_bundle,
            docker_config=options.docker_config,
        ),
        seen_as=options.seen_as and f"{options.seen_as}/samples/{options.sample}",
    )
    sys.stdout.write(render_manifest(options.sample, pinned))
    return 0


if __name__ == "__main__":
    sys.exit(main())
