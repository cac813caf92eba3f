"""Breaks every constraint of a schema, one at a time, in an object that is otherwise good.

Nothing is listed by hand: a constraint that is added later is broken here as well.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_operator.api.structural import Schema
    from tests.unit.api.samples import Object

Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Breach:
    """A document and the one field that is wrong with it."""

    name: str
    path: str
    document: Object
    unknown_field: bool = False
    dropped_null: bool = False
    """An optional field that is null: dropped on create, refused by server-side apply."""


def breaches(schema: Schema, document: Object, part: str) -> Iterator[Breach]:
    """All breaches below `part` (spec or status) of a document that sets every field."""
    yield from _walk(schema["properties"][part], document, (part,))


def show(steps: Steps) -> str:
    """A path as the API server writes it."""
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _walk(schema: Schema, document: Object, steps: Steps) -> Iterator[Breach]:
    value = _get(document, steps)
    for name, bad in _bad_values(schema, value):
        yield Breach(f"{show(steps)} {name}", show(steps), _set(document, steps, bad))
    if "properties" in schema:
        yield from _object_breaches(schema, document, steps, value)
    if "items" in schema:
        for index, _ in enumerate(value[:1]):
            yield from _walk(schema["items"], document, (*steps, index))


def _object_breaches(
    schema: Schema, document: Object, steps: Steps, value: Object
) -> Iterator[Breach]:
    stranger = {**value, "stranger": 1}
    here = show((*steps, "stranger"))
    yield Breach(here, here, _set(document, steps, stranger), unknown_field=True)
    for name in schema.get("required", ()):
        without = {key: inner for key, inner in value.items() if key != name}
        where = show((*steps, name))
        yield Breach(f"{where} is missing", where, _set(document, steps, without))
    missing = schema["properties"].keys() - value.keys()
    assert not missing, f"the sample leaves out {missing} of {show(steps)}"
    for name, inner in schema["properties"].items():
        null, where = {**value, name: None}, show((*steps, name))
        optional = name not in schema.get("required", ())
        yield Breach(f"{where} is null", where, _set(document, steps, null), dropped_null=optional)
        yield from _walk(inner, document, (*steps, name))


def _bad_values(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    match schema.get("type"):
        case "string":
            yield "is a number", 7
            if "enum" in schema:
                yield "is an unknown word", "Nonsense"
            elif schema.get("format") == "date-time":
                yield "is no time", "yesterday"
            else:
                yield "is too long", "a" * (schema["maxLength"] + 1)
            if schema.get("minLength"):
                yield "is empty", ""
        case "integer":
            yield "is too small", schema["minimum"] - 1
            yield "is too large", schema["maximum"] + 1
            yield "is text", "7"
            yield "is a fraction", 1.5
        case "boolean":
            yield "is text", "true"
        case "array":
            yield "is text", "a"
            yield "is too long", _many(schema, value[0], schema["maxItems"] + 1)
            if schema.get("minItems"):
                yield "is empty", []
        case "object":
            yield "is text", "a"
            if "additionalProperties" in schema:
                yield "has too many keys", {f"k{i}": "" for i in range(schema["maxProperties"] + 1)}
            if schema.get("minProperties"):
                yield "is empty", {}
        case None:
            yield "is a list", [1]
            yield "is a fraction", 1.5
            yield "is too long", "1" * (schema["maxLength"] + 1)


def _many(schema: Schema, item: Any, count: int) -> list[Any]:
    """Items that differ where the list asks for it."""
    if isinstance(item, str):
        return [f"{item[:30]}{index}" for index in range(count)]
    key = schema.get("x-kubernetes-list-map-keys", [None])[0]
    return [{**item, key: f"{item[key]}{i}"} if key else item for i in range(count)]


def _get(document: Object, steps: Steps) -> Any:
    value: Any = document
    for step in steps:
        value = value[step]
    return value


def _set(document: Object, steps: Steps, value: Any) -> Object:
    result = copy.deepcopy(document)
    _get(result, steps[:-1])[steps[-1]] = value
    return result
