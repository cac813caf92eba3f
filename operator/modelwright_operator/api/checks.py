"""Checks an object the way the API server would, without one.

For `modelwright plan` before anything is applied, and for the operator: a stored object may be
older than the rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from modelwright_operator.api.objects import HardwareProfile, InferenceModel, ModelBuild
from modelwright_operator.api.rules import (
    HARDWARE_PROFILE_RULES,
    INFERENCE_MODEL_RULES,
    MODEL_BUILD_RULES,
    Rule,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, and where."""

    path: str
    message: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.path}: {self.message}" if self.path else self.message


def check_inference_model(model: Object, old: Object | None = None) -> list[Violation]:
    """Everything that is wrong with an InferenceModel; `old` is the object before a change."""
    return _check(InferenceModel, INFERENCE_MODEL_RULES, model, old)


def check_model_build(build: Object, old: Object | None = None) -> list[Violation]:
    """Everything that is wrong with a ModelBuild; `old` is the object before a change."""
    return _check(ModelBuild, MODEL_BUILD_RULES, build, old)


def check_hardware_profile(profile: Object, old: Object | None = None) -> list[Violation]:
    """Everything that is wrong with a HardwareProfile; `old` is the object before a change."""
    return _check(HardwareProfile, HARDWARE_PROFILE_RULES, profile, old)


def _check(
    kind: type[BaseModel], rules: Sequence[Rule], document: Object, old: Object | None
) -> list[Violation]:
    """Structure first; rules only where the structure holds, as the API server does.

    The status is not the author's: what an older version wrote there makes no spec wrong.
    """
    document, old = _without_status(document), _without_status(old or {})
    nulls = [*_check_nulls(document.get("spec"), "spec")]
    try:
        value = kind.model_validate(document)
        before = kind.model_validate(old) if old else None
    except ValidationError as error:
        return [*nulls, *(_violation(detail) for detail in error.errors(include_url=False))]
    return [*nulls, *(found for rule in rules for found in _check_rule(rule, value, before))]


def _without_status(document: Object) -> Object:
    return {name: value for name, value in document.items() if name != "status"}


def _check_rule(rule: Rule, document: BaseModel, old: BaseModel | None) -> Iterator[Violation]:
    for path in rule.paths:
        for where, value in _values(document, path):
            if rule.immutable:
                before = next(_values(old, path), None) if old is not None else None
                kept = before is None or rule.holds(value, before[1])
            else:
                kept = rule.holds(value)
            if not kept:
                yield Violation(f"{where}{rule.field or ''}", rule.message)


def _values(document: BaseModel, path: str) -> Iterator[tuple[str, Any]]:
    """The values at a path, with their own paths; none where a part is absent."""
    found: list[tuple[str, Any]] = [("", document)]
    for part in path.split(".") if path else ():
        found = list(_step(found, part))
    yield from found


def _step(found: Sequence[tuple[str, Any]], part: str) -> Iterator[tuple[str, Any]]:
    name = part.removesuffix("[]")
    for where, value in found:
        inner = _field(value, name)
        here = f"{where}.{name}".lstrip(".")
        if inner is None:
            continue
        if part.endswith("[]"):
            yield from ((f"{here}[{index}]", item) for index, item in enumerate(inner))
        else:
            yield here, inner


def _field(value: BaseModel, wire_name: str) -> Any:
    """The field's value.

    Raises:
        KeyError: a rule names a field that does not exist.
    """
    return getattr(value, _wire_names(type(value))[wire_name])


@cache
def _wire_names(kind: type[BaseModel]) -> Mapping[str, str]:
    """From the names on the wire, and in Python, to the names in Python."""
    names = {name: name for name in kind.model_fields}
    aliases = {field.alias: name for name, field in kind.model_fields.items() if field.alias}
    return {**names, **aliases}


def _check_nulls(value: object, path: str) -> Iterator[Violation]:
    """The API server refuses an explicit null, which pydantic takes for absent."""
    if value is None and path != "spec":
        yield Violation(path, "must not be null; leave the field out")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _check_nulls(inner, f"{path}.{name}")


def _violation(detail: ErrorDetails) -> Violation:
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]
    ).lstrip(".")
    return Violation(path, _sentence(detail))


def _sentence(detail: ErrorDetails) -> str:
    """What pydantic found, in the words of the API."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field of this version; check the spelling"
        case "enum" | "literal_error":
            return f"must be {context['expected']}"
        case "value_error":
            return str(context["error"])
        case "string_too_long" | "too_long":
            return f"must not be longer than {context['max_length']}"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "string_pattern_mismatch":
            return "must be a name of lower-case letters, digits, dashes and dots"
        case _:
            return detail["msg"]
