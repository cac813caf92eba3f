"""Faults of the server as the inside of the house knows them.

No protocol's codes live here: `rest_api.py` and `grpc_server.py` map the classes, so that
both protocols answer the same fault alike.
"""

from __future__ import annotations

MESSAGE_LIMIT = 1024  # characters a user is shown


class InferenceFault(Exception):  # noqa: N818  # answered, not a defect
    """Base of every fault that is answered to a caller; the message is a sentence for them."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))

    @property
    def message(self) -> str:
        """The sentence the caller is shown."""
        return str(self.args[0])


class InvalidRequest(InferenceFault):
    """The request contradicts itself, the protocol or the model's inputs."""


class TooLarge(InferenceFault):
    """The request is bigger than this server accepts."""


class NotServed(InferenceFault):
    """No such model or version here."""


class Unsupported(InferenceFault):
    """A part of the protocol that this server does not have."""


class NotReady(InferenceFault):
    """The model is known but not (or no longer) ready to answer."""


class Overloaded(InferenceFault):
    """The queue is full; the caller should come back."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Cancelled(InferenceFault):
    """The caller went away before the model ran."""


class ModelFailed(InferenceFault):
    """The model or the engine broke on a request that looked right."""


class StartupError(Exception):
    """The server can not start: a reason for machines, a sentence for people, an exit code."""

    def __init__(self, reason: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.exit_code = exit_code


def shorten(message: str) -> str:
    """Cut a sentence to what a caller may be shown."""
    if len(message) <= MESSAGE_LIMIT:
        return message
    return message[: MESSAGE_LIMIT - 1] + "…"
