"""Asks where a source lies for the digest of what lies there now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx

from modelwright_artifact.credentials import load_credential
from modelwright_artifact.digests import sha256_file
from modelwright_artifact.oci import resolve
from modelwright_artifact.registry import Reference
from modelwright_artifact.transport import RegistryOptions, build_client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK_BYTES: Final = 1 << 20


class LookupFailure(Exception):  # noqa: N818
    """A digest could not be found out; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A source as it should be written; `sha256` is None where the uri carries the digest."""

    uri: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How to reach sources: registries, credentials for file servers, local copies of claims.

    `files` maps `claim/path` to a file on this machine.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    credentials: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def look_up(uri: str, sha256: str | None, places: Places) -> Pinned:
    """Find a source's digest.

    Raises:
        LookupFailure: the scheme is unknown, a claim's file was not given, or a file server or
            the disk refuses.
        ArtifactError: a registry refuses or has no such thing.
    """
    scheme, _, rest = uri.partition("://")
    match scheme:
        case "oci":
            return _look_up_artifact(uri, sha256, places.registry)
        case "http" | "https":
            return Pinned(uri, _hash_download(uri, places))
        case "pvc":
            return Pinned(uri, _hash_copy(rest, sha256, places))
        case _:
            raise LookupFailure(f"{uri} does not start with oci://, https://, http:// or pvc://")


def _look_up_artifact(uri: str, sha256: str | None, options: RegistryOptions) -> Pinned:
    """Replace a tag by its digest; what has a digest already keeps it.

    The digest goes where one stands: beside the uri, else into it.
    """
    reference = Reference.parse(uri)
    place = f"oci://{reference.repository}"
    if reference.digest is not None and sha256:
        raise LookupFailure("there are two digests, in uri and in sha256; remove sha256")
    if reference.digest is not None:
        return Pinned(f"{place}@{reference.digest}", None)
    if reference.tag is None and sha256:
        return Pinned(place, sha256)
    digest = resolve(uri, options)
    if sha256 is None:
        return Pinned(f"{place}@{digest}", None)
    return Pinned(place, digest.removeprefix("sha256:"))


def _hash_download(uri: str, places: Places) -> str:
    url = httpx.URL(uri)
    if url.userinfo:
        raise LookupFailure("the uri holds a password; take it out and use --credentials")
    digest = hashlib.sha256()
    try:
        with (
            build_client(places.registry) as client,
            client.stream(
                "GET", url, headers=_headers(url, places), follow_redirects=True
            ) as response,
        ):
            _check_answer(response, url)
            for chunk in response.iter_raw(_CHUNK_BYTES):
                digest.update(chunk)
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise LookupFailure(f"{url.host} does not answer: {said}") from error
    return digest.hexdigest()


def _check_answer(response: httpx.Response, asked: httpx.URL) -> None:
    status = response.status_code
    if status in {401, 403}:
        raise LookupFailure(f"{asked.host} refuses access (HTTP {status}); use --credentials")
    if not response.is_success:
        raise LookupFailure(f"{asked.host} answers HTTP {status}; correct the uri")
    if asked.scheme == "https" and response.url.scheme != "https":
        raise LookupFailure(f"{asked.host} redirects from https to {response.url.scheme}")


def _headers(url: httpx.URL, places: Places) -> dict[str, str]:
    credential = load_credential(places.credentials, url.netloc.decode())
    if credential is None:
        return {}
    bearer = f"Bearer {credential.token}"
    return {"Authorization": bearer if credential.token else credential.basic()}


def _hash_copy(place: str, sha256: str | None, places: Places) -> str:
    copy = places.files.get(place)
    if copy is None:
        if sha256:
            return sha256
        raise LookupFailure(
            f"a claim is read only inside the cluster; name a local copy: --file {place}=LOCAL"
        )
    try:
        return sha256_file(copy)
    except OSError as error:
        raise LookupFailure(f"{copy}: {error.strerror}") from error
