"""Where a file comes from, and which file it must be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelwright_operator.api.base import ObjectName, SpecModel

MAX_URI = 1024


class SecretReference(SpecModel):
    """A Secret of the same namespace."""

    name: ObjectName
    """name is the Secret's name."""


class Source(SpecModel):
    """A file or artifact by its place and its digest."""

    uri: Annotated[str, Field(min_length=1, max_length=MAX_URI)]
    """uri is where the file lies: oci://host/repository@sha256:…, http(s)://host/path or
    pvc://claim/path. A PersistentVolumeClaim must carry the label modelwright.dev/source=true."""
    sha256: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """sha256 is the SHA-256 of the file, 64 hex digits; required unless uri carries the digest.
    `modelwright pin FILE` fills it in."""
    secret_ref: SecretReference | None = None
    """secretRef names a Secret with credentials for the source: a dockerconfigjson, or one
    labelled modelwright.dev/source-credentials=true with a `host` key. Default: none are sent."""
