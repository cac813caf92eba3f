"""Reads a JSON object field by field; every complaint names the field's path.

One small reader instead of a schema library, so that the model server needs none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from modelwright_artifact.errors import ArtifactError

T = TypeVar("T")

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHA256_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,128}")


class Fields:
    """One JSON object, and where in the document it stands."""

    __slots__ = ("_taken", "_values", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise ArtifactError(f"{where} must be an object, not {_kind(value)}.")
        self._values = value
        self._taken: set[str] = set()
        self.where = where

    def has(self, name: str) -> bool:
        """Whether the field is there; null counts as absent."""
        return self._values.get(name) is not None

    def names(self) -> tuple[str, ...]:
        """Every field's name, in the document's order."""
        return tuple(str(name) for name in self._values)

    def raw(self, name: str) -> object:
        """The field as it is; raises when absent."""
        self._taken.add(name)
        if not self.has(name):
            raise ArtifactError(f"{self.where} lacks the field {name!r}.")
        return self._values[name]

    def maybe(self, name: str, read: Callable[[str], T]) -> T | None:
        """`read(name)`, or None when the field is absent."""
        self._taken.add(name)
        return read(name) if self.has(name) else None

    def text(self, name: str) -> str:
        """A string."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def integer(self, name: str) -> int:
        """An integer; true and false are none."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "an integer", value)
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.raw(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._wrong(name, "a finite number", value)
        return float(value)

    def items(self, name: str) -> Sequence[object]:
        """A list of anything."""
        value = self.raw(name)
        if not isinstance(value, list | tuple):
            raise self._wrong(name, "a list", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise ArtifactError(f"{self.where}.{name} must hold strings only.")
        return tuple(str(value) for value in values)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of integers."""
        values = self.items(name)
        if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
            raise ArtifactError(f"{self.where}.{name} must hold integers only.")
        return tuple(value for value in values if isinstance(value, int))

    def nested(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self.raw(name), f"{self.where}.{name}")

    def objects(self, name: str) -> tuple[Fields, ...]:
        """A list of objects."""
        where = f"{self.where}.{name}"
        return tuple(Fields(v, f"{where}[{i}]") for i, v in enumerate(self.items(name)))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A nested object, unread."""
        value = self.raw(name)
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object", value)
        return value

    def refuse_unknown(self) -> None:
        """Raise when the object holds a field nobody has asked for."""
        unknown = sorted(set(self._values) - self._taken)
        if unknown:
            raise ArtifactError(f"{self.where} has an unknown field {unknown[0]!r}.")

    def _wrong(self, name: str, wanted: str, value: object) -> ArtifactError:
        return ArtifactError(f"{self.where}.{name} must be {wanted}, not {_kind(value)}.")


def parse_object(document: str | bytes | Mapping[str, Any], where: str) -> Fields:
    """Read a JSON document whose root is an object."""
    if isinstance(document, Mapping):
        return Fields(document, where)
    try:
        return Fields(json.loads(document), where)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is not valid JSON: {error}.") from error


def canonical_json(value: object) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def check_choice(value: str, allowed: Sequence[str], where: str) -> None:
    """Raise unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ArtifactError(f"{where} must be one of {', '.join(allowed)}, not {value!r}.")


def check_digest(value: str, where: str) -> None:
    """Raise unless `value` reads `sha256:<64 hex digits>`."""
    if not _SHA256_DIGEST.fullmatch(value):
        raise ArtifactError(f"{where} must read sha256:<64 hex digits>, not {value[:80]!r}.")


def check_hex(value: str, where: str) -> None:
    """Raise unless `value` is a SHA-256 in 64 hex digits."""
    if not _HEX_DIGEST.fullmatch(value):
        raise ArtifactError(f"{where} must be 64 hex digits, not {value[:80]!r}.")


def check_plain_path(value: str, where: str) -> None:
    """Raise unless `value` is a relative path of plain names that stays in its folder."""
    parts = PurePosixPath(value).parts
    plain = all(_PLAIN_SEGMENT.fullmatch(part) for part in parts)
    if not parts or not plain or "/".join(parts) != value or len(value) > 255:
        raise ArtifactError(f"{where} must be a plain relative path, not {value[:80]!r}.")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
