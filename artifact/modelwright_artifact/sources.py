"""Fetches a model or dataset, and checks its digest before anything opens it.

`oci://` pulls the layers of a manifest named by digest; `http(s)://` and `pvc://` copy one
file whose SHA-256 was given. Whatever the way, the caller gets a file of its own in a fresh
folder that nobody else writes to.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import httpx

from modelwright_artifact.credentials import load_credential
from modelwright_artifact.errors import (
    ArtifactError,
    DigestMismatch,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnreachable,
    SourceDenied,
    SourceInvalid,
    SourceNotFound,
    SourceUnreachable,
)
from modelwright_artifact.fields import Fields, check_digest, check_plain_path, parse_object
from modelwright_artifact.layers import Limits, extract_tar
from modelwright_artifact.registry import MAX_REDIRECTS, Reference, Registry
from modelwright_artifact.transport import (
    RegistryOptions,
    Unreachable,
    build_client,
    check_passing,
    retry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelwright_artifact.request import SourceRef

VOLUMES: Final = Path("/sources/pvc")
DEFAULT_MAX_BYTES: Final = 8 << 30
TITLE_ANNOTATION: Final = "org.opencontainers.image.title"
UNPACK_ANNOTATION: Final = "io.deis.oras.content.unpack"
_CHUNK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to reach sources: registries, own credentials, mounted claims, and how much is too much.

    `credentials` is a folder as `modelwright_artifact.credentials` reads it; without it the
    registry's own docker config is used.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    credentials: Path | None = None
    volumes: Path = VOLUMES
    max_bytes: int = DEFAULT_MAX_BYTES


def fetch_source(
    source: SourceRef, suffix: str, directory: Path, options: SourceOptions | None = None
) -> Path:
    """Bring the one `*<suffix>` file of a source into the empty folder `directory`.

    Files that lie beside it in an OCI source (external tensor data) come along. Raises
    `DigestMismatch` or a `SourceError`.
    """
    options = options or SourceOptions()
    directory.mkdir(parents=True, exist_ok=True)
    scheme = source.uri.partition("://")[0]
    if scheme == "oci":
        return _fetch_oci(source, suffix, directory, options)
    target = directory / f"source{suffix}"
    if scheme == "pvc":
        _copy_from_claim(source, target, options)
    elif scheme in {"http", "https"}:
        _download(source, target, options)
    else:
        raise SourceInvalid(f"Nothing is fetched from {scheme}:// addresses.")
    return target


def _fetch_oci(source: SourceRef, suffix: str, directory: Path, options: SourceOptions) -> Path:
    try:
        _pull_layers(source, directory, options)
    except RegistryUnreachable as error:
        raise SourceUnreachable(str(error)) from error
    except RegistryDenied as error:
        raise SourceDenied(str(error)) from error
    except NotFoundInRegistry as error:
        raise SourceNotFound(str(error)) from error
    except (DigestMismatch, SourceInvalid):
        raise
    except (RegistryError, ArtifactError) as error:
        raise SourceInvalid(f"{source.uri} is no usable source: {error}") from error
    found = sorted(path for path in directory.rglob(f"*{suffix}") if path.is_file())
    if len(found) != 1:
        raise SourceInvalid(
            f"{source.uri} must hold exactly one {suffix} file; it holds {len(found)}."
        )
    return found[0]


def _pull_layers(source: SourceRef, directory: Path, options: SourceOptions) -> None:
    reference = Reference.parse(source.uri)
    registry_options = options.registry
    if options.credentials is not None:
        registry_options = replace(registry_options, docker_config=options.credentials)
    with Registry(reference, registry_options) as registry:
        root = parse_object(registry.get_manifest(source.digest).body, "OCI manifest")
        if not root.has("layers"):
            raise SourceInvalid(
                f"{source.uri} is an image index; name the manifest of one artifact in it."
            )
        budget = options.max_bytes
        for layer in root.objects("layers"):
            budget -= _pull_layer(registry, layer, directory, budget)


def _pull_layer(registry: Registry, layer: Fields, directory: Path, budget: int) -> int:
    digest, size = layer.text("digest"), layer.integer("size")
    check_digest(digest, f"{layer.where}.digest")
    if not 0 <= size <= budget:
        raise SourceInvalid("The source is larger than is allowed.")
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".layer-", delete=False) as blob:
        path = Path(blob.name)
        try:
            registry.get_blob(digest, size, blob)
            blob.flush()
            return _place_layer(blob, path, layer, directory, budget)
        finally:
            path.unlink(missing_ok=True)


def _place_layer(blob: IO[bytes], path: Path, layer: Fields, directory: Path, budget: int) -> int:
    annotations = layer.maybe("annotations", layer.mapping) or {}
    title = str(annotations.get(TITLE_ANNOTATION, ""))
    is_raw = bool(title) and annotations.get(UNPACK_ANNOTATION) != "true"
    if is_raw and not layer.text("mediaType").endswith("gzip"):
        # ORAS gives plain files the tar media type too: the title tells a file from an archive.
        check_plain_path(title, "The title of a layer")
        target = directory / title
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise SourceInvalid(f"The source holds {title} twice.")
        path.rename(target)
        return target.stat().st_size
    blob.seek(0)
    compressed = blob.read(2) == _GZIP_MAGIC
    blob.seek(0)
    names = extract_tar(blob, directory, Limits(total_bytes=budget), compressed=compressed)
    return sum((directory / name).stat().st_size for name in names)


def _copy_from_claim(source: SourceRef, target: Path, options: SourceOptions) -> None:
    claim, _, name = source.uri.removeprefix("pvc://").partition("/")
    check_plain_path(name, "The path in a claim")
    root = (options.volumes / claim).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise SourceInvalid(f"{source.uri} points outside its claim.")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise SourceNotFound(f"{source.uri}: the claim holds no such file.") from error
    except PermissionError as error:
        raise SourceDenied(f"{source.uri} cannot be read by the build's user.") from error
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise SourceInvalid(f"{source.uri} is not a regular file.")
        chunks = iter(lambda: stream.read(_CHUNK_BYTES), b"")
        _write_checked(source, target, chunks, options.max_bytes)


def _download(source: SourceRef, target: Path, options: SourceOptions) -> None:
    def fetch() -> None:
        with build_client(options.registry) as client:
            response = _get_following(client, source.uri, options)
            try:
                check_passing(response)
                _check_answer(response, source.uri)
                _write_checked(source, target, response.iter_raw(_CHUNK_BYTES), options.max_bytes)
            finally:
                response.close()

    try:
        retry(options.registry, fetch)
    except Unreachable as error:
        raise SourceUnreachable(f"{_without_secrets(source.uri)}: {error}.") from error


def _get_following(client: httpx.Client, uri: str, options: SourceOptions) -> httpx.Response:
    url = httpx.URL(uri)
    for _ in range(MAX_REDIRECTS):
        headers = _source_headers(url, options)
        response = client.send(client.build_request("GET", url, headers=headers), stream=True)
        if not response.has_redirect_location:
            return response
        response.close()
        target = url.join(response.headers["location"])
        if url.scheme == "https" and target.scheme != "https":
            raise SourceInvalid(f"{_without_secrets(uri)} redirects from https to {target.scheme}.")
        url = target
    raise SourceInvalid(f"{_without_secrets(uri)} redirects without end.")


def _source_headers(url: httpx.URL, options: SourceOptions) -> dict[str, str]:
    credential = load_credential(options.credentials, url.netloc.decode())
    if credential is None:
        return {}
    bearer = f"Bearer {credential.token}"
    return {"Authorization": bearer if credential.token else credential.basic()}


def _check_answer(response: httpx.Response, uri: str) -> None:
    status, place = response.status_code, _without_secrets(uri)
    if status in {401, 403}:
        raise SourceDenied(f"{place} refuses access (HTTP {status}): check the credentials.")
    if status in {404, 410}:
        raise SourceNotFound(f"{place} does not exist (HTTP {status}).")
    if not response.is_success:
        raise SourceInvalid(f"{place} answers HTTP {status}.")


def _write_checked(
    source: SourceRef, target: Path, chunks: Iterable[bytes], max_bytes: int
) -> None:
    digest, size = hashlib.sha256(), 0
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as stream:
            for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise SourceInvalid(
                        f"{_without_secrets(source.uri)} is larger than {max_bytes} bytes."
                    )
                digest.update(chunk)
                stream.write(chunk)
        found = f"sha256:{digest.hexdigest()}"
        if found != source.digest:
            raise DigestMismatch(
                f"{_without_secrets(source.uri)} has the digest {found}, not {source.digest}: "
                "the file has changed, or the digest is of another file "
                "(modelwright pin FILE prints it)."
            )
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _without_secrets(uri: str) -> str:
    """The address without user, password and query, which may hold a signature."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{PurePosixPath(unquote(parts.path))}"
