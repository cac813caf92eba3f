"""The ground all API types stand on: group, version, base classes and bounded scalars.

Types say the structure (fields, sizes, enumerations); what holds between fields stands in
`checks`, and what a default means in `plan.resolve`: the schema itself sets none in a spec.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP: Final = "modelwright.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MAX_NAME: Final = 63
MAX_OBJECT_NAME: Final = 253
MAX_PHRASE: Final = 64
MAX_TEXT: Final = 1024


class ApiModel(BaseModel):
    """A part of an object: camelCase on the wire, frozen in the process."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> dict[str, Any]:
        """The part as it goes over the wire: wire names, nothing that is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SpecModel(ApiModel):
    """Written by people: a field nobody knows is a mistake and is refused."""

    model_config = ConfigDict(extra="forbid")


class StatusModel(ApiModel):
    """Written by the operator: fields of a newer version are ignored, not refused."""

    model_config = ConfigDict(extra="ignore")


def list_type(kind: str, *keys: str) -> dict[str, Any]:
    """The schema markers that tell server-side apply how a list merges."""
    marker: dict[str, Any] = {"x-kubernetes-list-type": kind}
    if keys:
        marker["x-kubernetes-list-map-keys"] = list(keys)
    return marker


def integer(least: int, most: int, form: str = "int32") -> Any:
    """A whole number with bounds; text that looks like one is none."""
    return Field(strict=True, ge=least, le=most, json_schema_extra={"format": form})


def _refuse_duplicates(items: tuple[Any, ...]) -> tuple[Any, ...]:
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"must not hold {str(item)!r} twice")
    return items


UNIQUE: Final = AfterValidator(_refuse_duplicates)
"""What `list_type("set")` means to the API server, for us."""


def _cut_to(most: int) -> BeforeValidator:
    def cut(value: object) -> object:
        if isinstance(value, str) and len(value) > most:
            return f"{value[: most - 1]}…"
        return value

    return BeforeValidator(cut)


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
"""A name that becomes a label, a path or a volume."""

ObjectName = Annotated[str, Field(min_length=1, max_length=MAX_OBJECT_NAME)]
"""The name of a Kubernetes object."""

Sentence = Annotated[str, _cut_to(MAX_TEXT), Field(max_length=MAX_TEXT)]
"""Words for a person, cut rather than refused when they are too many."""

Phrase = Annotated[str, _cut_to(MAX_PHRASE), Field(max_length=MAX_PHRASE)]
"""A word or two, cut in the same way."""

DecimalText = Annotated[str, Field(min_length=1, max_length=32)]
"""A decimal number as text: the API has no floats."""

Digest = Annotated[str, Field(min_length=71, max_length=71)]
"""`sha256:` and 64 hex digits."""

Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
"""A moment in UTC, whole seconds (RFC 3339)."""

Count = Annotated[int, integer(0, 2**31 - 1)]
"""A number of things."""

BigCount = Annotated[int, integer(0, 2**53, "int64")]
"""A number of bytes or microseconds; every JSON reader holds it exactly."""

Generation = Annotated[int, integer(-1, 2**53, "int64")]
"""The generation of a spec; -1 before the operator has seen the object."""
