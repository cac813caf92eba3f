"""The API server's audit log: who wrote what, and when."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from pathlib import Path

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_HTTP_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was asked of the API server, granted or not."""

    at: datetime
    verb: str
    resource: str
    namespace: str
    name: str
    code: int

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Write:
        target = entry.get("objectRef", {})
        parts = (target.get("resource", "?"), target.get("subresource"))
        return cls(
            at=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
            verb=entry["verb"],
            resource="/".join(part for part in parts if part),
            namespace=target.get("namespace", ""),
            name=target.get("name", ""),
            code=int(entry.get("responseStatus", {}).get("code", 0)),
        )

    @property
    def is_lease(self) -> bool:
        return self.resource == "leases"

    @property
    def has_failed(self) -> bool:
        return self.code >= _HTTP_ERROR

    def __str__(self) -> str:
        target = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.at:%H:%M:%S} {self.verb} {self.resource} {target} -> {self.code}"


@dataclass
class AuditLog:
    """Follows the log of one user, across the rotations of the file."""

    path: Path
    user: str
    writes: list[Write] = field(default_factory=list)
    reads: Counter[str] = field(default_factory=Counter)
    _file: TextIO | None = None
    _rest: str = ""

    def read(self) -> None:
        """Take in what was added since the last call."""
        if self._file is None:
            self._file = self.path.open(encoding="utf-8")
        self._take(self._file.read())
        if self._is_rotated(self._file):
            self._take(self._file.read())
            self._file.close()
            self._file = self.path.open(encoding="utf-8")
            self._take(self._file.read())

    def between(self, start: datetime, end: datetime | None = None) -> list[Write]:
        """The writes of a time, the Lease's aside."""
        self.read()
        last = end or datetime.now(UTC)
        return [write for write in self.writes if not write.is_lease and start <= write.at < last]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_rotated(self, file: TextIO) -> bool:
        return os.fstat(file.fileno()).st_ino != self.path.stat().st_ino

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # Cheap first: most lines are somebody else's.
            if self.user in line:
                self._take_entry(json.loads(line))

    def _take_entry(self, entry: dict[str, Any]) -> None:
        if entry["user"]["username"] != self.user or entry["stage"] != "ResponseComplete":
            return
        if entry["verb"] in WRITES:
            self.writes.append(Write.of(entry))
        else:
            self.reads[f"{entry['verb']} {entry.get('objectRef', {}).get('resource', '?')}"] += 1


def count_writes(writes: list[Write]) -> dict[str, int]:
    """Writes by verb and resource, the most frequent first."""
    return dict(Counter(f"{write.verb} {write.resource}" for write in writes).most_common())


def count_failures(writes: list[Write]) -> dict[str, int]:
    """Writes that were refused, by verb, resource and code."""
    refused = (
        f"{write.verb} {write.resource} {write.code}" for write in writes if write.has_failed
    )
    return dict(Counter(refused).most_common())
