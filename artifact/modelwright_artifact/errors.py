"""Everything that can be wrong with an artifact, a source or a registry.

    ArtifactError
    ├── DigestMismatch
    ├── RegistryError
    │   ├── RegistryUnreachable      passing: worth a retry
    │   ├── RegistryDenied           credentials
    │   └── NotFoundInRegistry
    └── SourceError
        ├── SourceUnreachable        passing: worth a retry
        ├── SourceDenied             credentials
        ├── SourceNotFound
        └── SourceInvalid            fetched, but not what a source must look like

Each message is a sentence a person can act on and holds no secret.
"""

from __future__ import annotations


class ArtifactError(Exception):
    """Something does not keep the contract of `docs/artifact.md`."""


class DigestMismatch(ArtifactError):  # noqa: N818
    """Bytes are not the ones that were named."""


class RegistryError(ArtifactError):
    """The artifact registry did not do what was asked."""


class RegistryUnreachable(RegistryError):  # noqa: N818
    """No answer, or an answer that says to come back later."""


class RegistryDenied(RegistryError):  # noqa: N818
    """The registry wants other credentials, or refuses these."""


class NotFoundInRegistry(RegistryError):  # noqa: N818
    """The registry answers, and has no such thing."""


class SourceError(ArtifactError):
    """A model or dataset could not be fetched."""


class SourceUnreachable(SourceError):  # noqa: N818
    """No answer, or an answer that says to come back later."""


class SourceDenied(SourceError):  # noqa: N818
    """The source wants other credentials, or refuses these."""


class SourceNotFound(SourceError):  # noqa: N818
    """There is nothing at this place."""


class SourceInvalid(SourceError):  # noqa: N818
    """What was fetched does not have the shape of a source."""
