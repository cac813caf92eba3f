"""The operator's own look into the artifact registry: is the build there, and what does it say?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modelwright_artifact.oci import (
    ArtifactError,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryOptions,
    RegistryUnreachable,
    build_tag,
    fetch_report,
    inspect_artifact,
    resolve,
)
from modelwright_artifact.report import Report
from modelwright_operator.api.conditions import Reason
from modelwright_operator.plan.observed import BuildResult, RegistryProblem

if TYPE_CHECKING:
    from modelwright_operator.settings import Settings

_READ_SECONDS = 30


class RegistryReader:
    """Reads reports with the operator's own credential, in a thread of its own."""

    def __init__(self, settings: Settings, options: RegistryOptions) -> None:
        """Remember how to reach the registry; nothing is opened yet."""
        self._max_bytes = settings.build.max_report_bytes
        self._options = options

    async def read(
        self, repository: str, request_key: str, digest: str | None
    ) -> BuildResult | RegistryProblem:
        """Read a build's report; without a digest, the tag of its request says which.

        The artifact's shape is checked too: a wrong one mounts as an empty folder, silently.
        """
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await asyncio.to_thread(self._read, repository, request_key, digest)
        except NotFoundInRegistry as error:
            return RegistryProblem(Reason.ARTIFACT_MISSING, str(error))
        except RegistryDenied as error:
            return RegistryProblem(Reason.REGISTRY_DENIED, str(error))
        except (RegistryUnreachable, TimeoutError) as error:
            message = str(error) or f"{repository} did not answer in {_READ_SECONDS} s"
            return RegistryProblem(Reason.REGISTRY_UNREACHABLE, message)
        except ArtifactError as error:
            return RegistryProblem(Reason.BUILD_FAILED, str(error))

    def _read(self, repository: str, request_key: str, digest: str | None) -> BuildResult:
        if digest is None:
            digest = resolve(f"{repository}:{build_tag(request_key)}", self._options)
        inspect_artifact(f"{repository}@{digest}", self._options)
        report = fetch_report(repository, digest, self._max_bytes, self._options)
        # Written by a Job that ran a stranger's model: a status is made of it, so it must be whole.
        Report.from_json(report)
        return BuildResult(digest, report)
