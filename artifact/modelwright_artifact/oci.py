"""Artifacts in a registry: push, pull, look up, read the report.

The shape is an OCI image, so that a kubelet mounts it as an image volume; `docs/artifact.md`
says why and in detail. `fetch_source` and the errors are re-exported: this module is what
other planes import.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.digests import verify_files
from modelwright_artifact.errors import (
    ArtifactError,
    DigestMismatch,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnreachable,
)
from modelwright_artifact.fields import Fields, canonical_json, check_digest, parse_object
from modelwright_artifact.layers import Layer, Limits, extract_tar, read_only_file
from modelwright_artifact.manifest import (
    MANIFEST_FILE,
    REPORT_FILE,
    SCHEMA_VERSION,
    Manifest,
    load_manifest,
)
from modelwright_artifact.registry import (
    MANIFEST_MEDIA_TYPE,
    Fetched,
    Reference,
    Registry,
)
from modelwright_artifact.sources import SourceOptions, fetch_source
from modelwright_artifact.transport import RegistryOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ARTIFACT_TYPE",
    "ArtifactError",
    "ArtifactInfo",
    "Descriptor",
    "DigestMismatch",
    "NotFoundInRegistry",
    "RegistryDenied",
    "RegistryError",
    "RegistryOptions",
    "RegistryUnreachable",
    "SourceOptions",
    "build_tag",
    "fetch_report",
    "fetch_source",
    "inspect_artifact",
    "pull_artifact",
    "push_artifact",
    "resolve",
]

ARTIFACT_TYPE: Final = "application/vnd.modelwright.artifact.v1"
CONFIG_MEDIA_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_MEDIA_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
CONTENT_ANNOTATION: Final = "dev.modelwright.content"
SCHEMA_ANNOTATION: Final = "dev.modelwright.schema-version"
REQUEST_KEY_ANNOTATION: Final = "dev.modelwright.request-key"
TENSORS_FOLDER: Final = "tensors/"
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_REPORT_BYTES: Final = 512 << 10
_TAR_OVERHEAD_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One blob of an artifact; `content` says what a layer holds."""

    media_type: str
    digest: str
    size: int
    content: str = ""

    def to_json(self) -> dict[str, Any]:
        """The descriptor as an OCI manifest has it."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.content:
            document["annotations"] = {CONTENT_ANNOTATION: self.content}
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInfo:
    """What the OCI manifest of an artifact says, checked for its shape."""

    digest: str
    request_key: str
    architecture: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    def layer(self, content: str) -> Descriptor:
        """The layer that holds `content`."""
        for layer in self.layers:
            if layer.content == content:
                return layer
        raise ArtifactError(f"The artifact {self.digest} has no layer {content!r}.")


def build_tag(request_key: str) -> str:
    """The tag under which the artifact of a request stands."""
    return f"build-{request_key}"


def push_artifact(
    directory: Path, repository: str, tag: str, options: RegistryOptions | None = None
) -> str:
    """Push the artifact in `directory` and return its digest, `sha256:…`.

    The tree is checked against its manifest first. The tag is written last: a push that is cut
    short leaves no artifact behind, and pushing equal files twice gives one digest.
    """
    manifest = load_manifest(directory)
    verify_files(directory, manifest)
    layers = [(layer, *layer.measure()) for layer in build_layers(directory, manifest)]
    config = canonical_json(build_config(manifest, [digest for _, digest, _ in layers]))
    config_descriptor = _describe_bytes(config, CONFIG_MEDIA_TYPE)
    descriptors = [
        Descriptor(media_type=LAYER_MEDIA_TYPE, digest=digest, size=size, content=layer.content)
        for layer, digest, size in layers
    ]
    body = canonical_json(build_oci_manifest(manifest, config_descriptor, descriptors))
    with Registry(Reference.parse(repository), options or RegistryOptions()) as registry:
        for layer, digest, size in layers:
            registry.put_blob(digest, size, layer.stream)
        registry.put_blob(config_descriptor.digest, len(config), lambda: (config,))
        return registry.put_manifest(tag, body, MANIFEST_MEDIA_TYPE)


def pull_artifact(
    reference: str, directory: Path, options: RegistryOptions | None = None
) -> Manifest:
    """Fetch an artifact into the new folder `directory` and check every file of it."""
    if directory.exists():
        raise ArtifactError(f"{directory} is there already.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    parsed = Reference.parse(reference)
    with (
        Registry(parsed, options or RegistryOptions()) as registry,
        tempfile.TemporaryDirectory(dir=directory.parent, prefix=".pull-") as scratch,
    ):
        info = _read_info(registry, registry.get_manifest(parsed.version))
        tree = Path(scratch, "tree")
        tree.mkdir()
        for layer in info.layers:
            with tempfile.TemporaryFile(dir=scratch) as blob:
                registry.get_blob(layer.digest, layer.size, blob)
                blob.seek(0)
                extract_tar(blob, tree, Limits(total_bytes=layer.size))
        manifest = load_manifest(tree)
        verify_files(tree, manifest)
        tree.rename(directory)
    return manifest


def resolve(reference: str, options: RegistryOptions | None = None) -> str:
    """The digest a reference points to now; `NotFoundInRegistry` when to nothing."""
    parsed = Reference.parse(reference)
    with Registry(parsed, options or RegistryOptions()) as registry:
        return registry.get_manifest(parsed.version).digest


def inspect_artifact(reference: str, options: RegistryOptions | None = None) -> ArtifactInfo:
    """Read an artifact's OCI manifest and config, and make sure that its blobs are there.

    Raises `ArtifactError` when the shape is not the one a kubelet can mount: other shapes
    mount as an empty folder without an error.
    """
    parsed = Reference.parse(reference)
    with Registry(parsed, options or RegistryOptions()) as registry:
        info = _read_info(registry, registry.get_manifest(parsed.version))
        for layer in info.layers:
            if not registry.has_blob(layer.digest):
                raise ArtifactError(f"The registry has lost a layer of {reference}.")
        return info


def fetch_report(
    repository: str,
    digest: str,
    max_bytes: int = MAX_REPORT_BYTES,
    options: RegistryOptions | None = None,
) -> dict[str, Any]:
    """The report of the artifact with that digest; a longer one than `max_bytes` is refused."""
    parsed = Reference.parse(f"{repository}@{digest}")
    with (
        Registry(parsed, options or RegistryOptions()) as registry,
        tempfile.SpooledTemporaryFile(max_size=max_bytes + _TAR_OVERHEAD_BYTES) as blob,
    ):
        layer = _parse_info(registry.get_manifest(parsed.version)).layer("report")
        if layer.size > max_bytes + _TAR_OVERHEAD_BYTES:
            raise ArtifactError(f"The report layer is {layer.size} bytes long; too long to read.")
        registry.get_blob(layer.digest, layer.size, blob)
        blob.seek(0)
        content = read_only_file(blob, REPORT_FILE, max_bytes)
    parse_object(content, "report")
    report: dict[str, Any] = json.loads(content)
    return report


def build_layers(directory: Path, manifest: Manifest) -> list[Layer]:
    """The layers in their order: shared weights, graphs, report."""
    tensors = tuple(name for name in manifest.files if name.startswith(TENSORS_FOLDER))
    others = (*(name for name in manifest.files if name not in tensors), MANIFEST_FILE)
    layers = [
        Layer("tensors", directory, tensors),
        Layer("model", directory, others),
        Layer("report", directory, (REPORT_FILE,)),
    ]
    return [layer for layer in layers if layer.names]


def build_config(manifest: Manifest, diff_ids: Sequence[str]) -> dict[str, Any]:
    """The image config that makes the layers mountable; no time in it, so that it is stable."""
    return {
        "architecture": manifest.profile.architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }


def build_oci_manifest(
    manifest: Manifest, config: Descriptor, layers: Sequence[Descriptor]
) -> dict[str, Any]:
    """The OCI image manifest of an artifact."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": {
            SCHEMA_ANNOTATION: str(SCHEMA_VERSION),
            REQUEST_KEY_ANNOTATION: manifest.request_key,
        },
    }


def _read_info(registry: Registry, fetched: Fetched) -> ArtifactInfo:
    info = _parse_info(fetched)
    if info.config.size > MAX_CONFIG_BYTES:
        raise ArtifactError("The image config is too long.")
    with tempfile.SpooledTemporaryFile(max_size=MAX_CONFIG_BYTES) as blob:
        registry.get_blob(info.config.digest, info.config.size, blob)
        blob.seek(0)
        config = parse_object(blob.read(), "image config")
    diff_ids = config.nested("rootfs").texts("diff_ids")
    if diff_ids != tuple(layer.digest for layer in info.layers):
        raise ArtifactError("The image config does not name the artifact's layers: rebuild it.")
    return ArtifactInfo(
        digest=info.digest,
        request_key=info.request_key,
        architecture=config.text("architecture"),
        config=info.config,
        layers=info.layers,
    )


def _parse_info(fetched: Fetched) -> ArtifactInfo:
    root = parse_object(fetched.body, "OCI manifest")
    annotations = root.maybe("annotations", root.mapping) or {}
    if not root.has("artifactType") or root.text("artifactType") != ARTIFACT_TYPE:
        raise ArtifactError(f"{fetched.digest} is no Modelwright artifact.")
    if annotations.get(SCHEMA_ANNOTATION) != str(SCHEMA_VERSION):
        raise ArtifactError(
            f"The artifact has schema version {annotations.get(SCHEMA_ANNOTATION)}; this version "
            f"of Modelwright reads {SCHEMA_VERSION}."
        )
    config = _parse_descriptor(root.nested("config"))
    layers = tuple(_parse_descriptor(layer) for layer in root.objects("layers"))
    if config.media_type != CONFIG_MEDIA_TYPE or not layers:
        raise ArtifactError("The artifact is not shaped as an OCI image: a node would mount none.")
    if any(layer.media_type != LAYER_MEDIA_TYPE for layer in layers):
        raise ArtifactError(f"A layer of the artifact is not of type {LAYER_MEDIA_TYPE}.")
    return ArtifactInfo(
        digest=fetched.digest,
        request_key=str(annotations.get(REQUEST_KEY_ANNOTATION, "")),
        architecture="",
        config=config,
        layers=layers,
    )


def _parse_descriptor(fields: Fields) -> Descriptor:
    annotations: Mapping[str, Any] = fields.maybe("annotations", fields.mapping) or {}
    digest = fields.text("digest")
    check_digest(digest, f"{fields.where}.digest")
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=digest,
        size=fields.integer("size"),
        content=str(annotations.get(CONTENT_ANNOTATION, "")),
    )


def _describe_bytes(body: bytes, media_type: str) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    return Descriptor(media_type=media_type, digest=digest, size=len(body))
