"""What the server is told: parsed once by `cli`, frozen, passed down.

Imports the standard library only: `modelwright --help` reads the defaults without the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HTTP_PORT = 8080
GRPC_PORT = 9000
METRICS_PORT = 8082
TERMINATION_LOG = Path("/dev/termination-log")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may ask of a connection."""

    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 65_536
    header_seconds: float = 10.0  # from the first byte of a request to the end of its headers
    body_seconds: float = 30.0  # for a body's start; every further `body_bytes_per_second` adds 1 s
    body_bytes_per_second: int = 65_536
    idle_seconds: float = 75.0  # between requests
    max_connections: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One server; a port of 0 is turned off, except for HTTP, where it means any free one."""

    artifacts: tuple[Path, ...]
    model_name: str = "model"
    variant: str | None = None
    host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    metrics_port: int = METRICS_PORT
    cpus: int | None = None  # None: what the cgroup and the affinity allow
    queue_limit: int = 256
    drain_seconds: float = 5.0  # how long new requests are still taken after SIGTERM
    shutdown_seconds: float = 20.0  # how long the last answers may then take
    termination_log: Path = TERMINATION_LOG
    http: HttpLimits = field(default_factory=HttpLimits)
