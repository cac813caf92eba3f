"""Why a build ends without an artifact: a reason for programs, a sentence for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

EXIT_USER: Final = 42
EXIT_RETRY: Final = 1


class Reason(StrEnum):
    """Reasons are API: the operator shows them as they are."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    DIGEST_MISMATCH = "DigestMismatch"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_DENIED = "SourceDenied"
    MODEL_INVALID = "ModelInvalid"
    EVALUATION_INVALID = "EvaluationInvalid"
    CALIBRATION_INVALID = "CalibrationInvalid"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    REGISTRY_DENIED = "RegistryDenied"
    OUT_OF_MEMORY = "OutOfMemory"
    INTERNAL_ERROR = "InternalError"


# The rest may pass: the Job tries again.
USER_FAULTS: Final = frozenset(
    {
        Reason.SOURCE_NOT_FOUND,
        Reason.DIGEST_MISMATCH,
        Reason.SOURCE_DENIED,
        Reason.MODEL_INVALID,
        Reason.EVALUATION_INVALID,
        Reason.CALIBRATION_INVALID,
    }
)


class BuildFailure(Exception):  # noqa: N818
    """The build cannot go on; `message` says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def exit_code(self) -> int:
        """42 when only the user can help, 1 when a retry may."""
        return EXIT_USER if self.reason in USER_FAULTS else EXIT_RETRY
