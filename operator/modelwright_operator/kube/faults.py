"""The five ways a request to the API server can fail, made here and nowhere else.

KubeFault
├── Conflict      somebody else was faster, or owns it: read again, decide again
├── Unreachable   no usable answer: try again later
│   └── Fenced    not sent at all: this process is not (or no longer) the leader
├── Forbidden     the API server says no: a permission or a quota is missing
├── Invalid       the object is refused: the same request never succeeds
└── Gone          the object, its namespace or its kind is not there
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright_operator.plan.types import FaultKind

MAX_MESSAGE = 1024


class KubeFault(Exception):  # noqa: N818 - faults, in the words of the style guide
    """A request to the API server that did not succeed."""

    kind: ClassVar[FaultKind] = "Unreachable"

    def __init__(self, message: str, *, code: int = 0, retry_after_seconds: float = 0.0) -> None:
        """Keep the sentence, the HTTP code (0: no answer) and the pause the server asked for."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class Conflict(KubeFault):
    """Somebody else was faster, or owns what was asked for."""

    kind = "Conflict"


class Unreachable(KubeFault):
    """No usable answer."""

    kind = "Unreachable"


class Fenced(Unreachable):
    """Not sent."""


class Forbidden(KubeFault):
    """A permission or a quota is missing."""

    kind = "Forbidden"


class Invalid(KubeFault):
    """The API server refuses the object as it is."""

    kind = "Invalid"


class Gone(KubeFault):
    """The object, its namespace or its kind is not there."""

    kind = "Gone"


_BY_CODE: Mapping[int, type[KubeFault]] = {
    400: Invalid,
    401: Unreachable,  # a token being rotated; a wrong one stays visible in the message
    403: Forbidden,
    404: Gone,
    405: Invalid,
    406: Invalid,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unreachable,
}

# Server-side apply answers an unknown field with 500, as if it were the server's trouble.
_UNKNOWN_FIELD = "failed to create typed patch object"


def fault_of_response(
    code: int, body: bytes, *, what: str, retry_after: str | None = None
) -> KubeFault:
    """Turn an answer of 400 or above into a fault with the server's own words."""
    status = _parse_status(body)
    message = str(status.get("message") or f"HTTP {code}")
    fault = _BY_CODE.get(code, Invalid if code < 500 else Unreachable)
    if fault is Forbidden and _is_terminating(status):
        fault = Gone
    if fault is Unreachable and _UNKNOWN_FIELD in message:
        fault = Invalid
    return fault(
        f"{what}: {message}"[:MAX_MESSAGE],
        code=code,
        retry_after_seconds=_parse_seconds(retry_after),
    )


def fault_of_transport(error: Exception, *, what: str) -> KubeFault:
    """Turn a failed connection or a timeout into a fault."""
    return Unreachable(f"{what}: {type(error).__name__} {error}".rstrip()[:MAX_MESSAGE])


def _parse_status(body: bytes) -> Mapping[str, Any]:
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _is_terminating(status: Mapping[str, Any]) -> bool:
    """A namespace on its way out refuses new objects with 403."""
    details = status.get("details") or {}
    causes = details.get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _parse_seconds(retry_after: str | None) -> float:
    try:
        return max(float(retry_after or 0), 0.0)
    except ValueError:
        return 0.0
