"""Paths of the REST protocol: target bytes in, `Route` out. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


class Endpoint(enum.Enum):
    """What a path asks for; the value is the one method it takes (HEAD goes with GET)."""

    SERVER_METADATA = b"GET", "v2"
    SERVER_LIVE = b"GET", "v2/health/live"
    SERVER_READY = b"GET", "v2/health/ready"
    MODEL_METADATA = b"GET", "v2/models/{model}"
    MODEL_READY = b"GET", "v2/models/{model}/ready"
    MODEL_INFER = b"POST", "v2/models/{model}/infer"

    @property
    def method(self) -> bytes:
        """The method it takes."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, and the model and version it is asked of."""

    endpoint: Endpoint
    model: str = ""
    version: str | None = None


_SERVER_ROUTES = {
    ("v2",): Route(Endpoint.SERVER_METADATA),
    ("v2", "health", "live"): Route(Endpoint.SERVER_LIVE),
    ("v2", "health", "ready"): Route(Endpoint.SERVER_READY),
}
_MODEL_ENDPOINTS = {
    (): Endpoint.MODEL_METADATA,
    ("ready",): Endpoint.MODEL_READY,
    ("infer",): Endpoint.MODEL_INFER,
}


def parse_target(target: bytes) -> Route | None:
    """The route of a request target (its query is ignored), or None when there is no such path."""
    path = target.partition(b"?")[0].strip(b"/")
    try:
        parts = tuple(unquote_to_bytes(part).decode() for part in path.split(b"/"))
    except UnicodeDecodeError:
        return None
    if parts[:2] != ("v2", "models"):
        return _SERVER_ROUTES.get(parts)
    if len(parts) < 3 or not parts[2]:
        return None
    model, rest = parts[2], parts[3:]
    version = None
    if rest[:1] == ("versions",) and len(rest) >= 2 and rest[1]:
        version, rest = rest[1], rest[2:]
    endpoint = _MODEL_ENDPOINTS.get(rest)
    return None if endpoint is None else Route(endpoint, model, version)
