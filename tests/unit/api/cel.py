"""Runs our CEL rules as the API server does, as far as CEL itself goes.

Kubernetes' own functions (quantities) are played by Python; the integration tests use the real
ones.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import celpy
from celpy import celtypes

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.quantities import parse_millicores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelwright_operator.api.rules import Rule
    from tests.unit.api.samples import Object


def _is_quantity(text: Any) -> celtypes.BoolType:
    try:
        parse_millicores(str(text))
    except ArtifactError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _compare(left: Any, right: Any) -> celtypes.IntType:
    try:
        first, second = parse_millicores(str(left)), parse_millicores(str(right))
    except ArtifactError as error:
        raise ValueError(error) from error  # the kind of error that `||` may swallow
    return celtypes.IntType((first > second) - (first < second))


_FUNCTIONS = {"isQuantity": _is_quantity, "quantity": lambda text: text, "compareTo": _compare}


@functools.cache
def _program(expression: str) -> Any:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression), functions=_FUNCTIONS)


def check_rules(
    rules: tuple[Rule, ...], document: Object, old: Object | None
) -> set[tuple[str, str]]:
    """Field paths and names of the rules that refuse a document."""
    return {
        (f"{where}{rule.field or ''}", rule.name)
        for rule in rules
        for path in rule.paths
        for where, value in values(document, path)
        if not _holds(rule, path, value, old)
    }


def _holds(rule: Rule, path: str, value: Any, old: Object | None) -> bool:
    if not rule.immutable:
        return _evaluate(rule.cel, json.dumps({"self": value}))
    if old is None:
        return True
    return _evaluate(rule.cel, json.dumps({"self": value, "oldSelf": next(values(old, path))[1]}))


@functools.cache
def _evaluate(expression: str, context: str) -> bool:
    names = {name: celpy.json_to_cel(value) for name, value in json.loads(context).items()}
    return bool(_program(expression).evaluate(names))


def values(document: Object, path: str) -> Iterator[tuple[str, Any]]:
    """Values at a path of plain JSON; `[]` steps into every item."""
    found: list[tuple[str, Any]] = [("", document)]
    for part in path.split(".") if path else ():
        name = part.removesuffix("[]")
        inner = [(f"{where}.{name}".lstrip("."), v[name]) for where, v in found if name in v]
        if part.endswith("[]"):
            inner = [(f"{w}[{i}]", item) for w, items in inner for i, item in enumerate(items)]
        found = inner
    yield from found
