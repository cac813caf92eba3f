"""From pydantic types to Kubernetes structural schemas.

Structural (apiextensions-apiserver, pkg/apiserver/schema/validation.go): a type everywhere, no
references, no `null` alternatives, no closed objects. Nothing here knows a particular kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from modelwright_operator.api.rules import Rule

Schema = dict[str, Any]

_REFERENCE = "#/$defs/"
_FIRST = ("description", "type", "format", "default")


class _Structural(GenerateJsonSchema):
    """Leaves out what Kubernetes forbids: null, defaults, const, titles."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """An optional field is absent, never null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults live in the plan: here they would land in users' objects."""
        return self.generate_inner(schema["schema"])

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """A literal is an enumeration, also with one member."""
        return {"type": "string", "enum": list(schema["expected"])}

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """An enumeration of strings; its description is that of the field."""
        return {"type": "string", "enum": [member.value for member in schema["members"]]}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - given
        """No titles: they repeat the names."""
        return False


def build_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a type, every reference inlined."""
    raw = model.model_json_schema(schema_generator=_Structural, mode="validation")
    definitions: Mapping[str, Schema] = raw.pop("$defs", {})
    return _clean(raw, definitions, ())


def attach_rules(schema: Schema, rules: Sequence[Rule]) -> None:
    """Put each rule where it holds."""
    for rule in rules:
        for path in rule.paths:
            target = find(schema, path)
            target.setdefault("x-kubernetes-validations", []).append(_validation(rule))


def find(schema: Schema, path: str) -> Schema:
    """The part of a schema at a path; `[]` steps into a list's items."""
    for part in path.split(".") if path else ():
        schema = schema["properties"][part.removesuffix("[]")]
        if part.endswith("[]"):
            schema = schema["items"]
    return schema


def _validation(rule: Rule) -> Schema:
    validation = {"rule": rule.cel, "message": rule.message}
    if rule.field is not None:
        validation["fieldPath"] = rule.field
    return validation


def _clean(schema: Schema, definitions: Mapping[str, Schema], inside: tuple[str, ...]) -> Schema:
    """Inline references, drop what is forbidden, put the parts in a fixed order."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        if name in inside:
            raise ValueError(f"{name} contains itself; a structural schema cannot")
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return _clean({**definitions[name], **siblings}, definitions, (*inside, name))
    result: Schema = {}
    for key, value in schema.items():
        match key:
            case "title":
                continue
            case "description":
                result[key] = " ".join(value.split())
            case "additionalProperties" if value is False:
                continue
            case "properties":
                result[key] = {
                    name: _clean(inner, definitions, inside) for name, inner in value.items()
                }
            case "items" | "additionalProperties":
                result[key] = _clean(value, definitions, inside)
            case _:
                result[key] = value
    return {key: result[key] for key in sorted(result, key=_position)}


def _position(key: str) -> int:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)
