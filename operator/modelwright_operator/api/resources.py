"""CPU and memory, as Kubernetes writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import GetJsonSchemaHandler, PlainValidator

from modelwright_operator.api.base import SpecModel

if TYPE_CHECKING:
    from pydantic_core import core_schema

MAX_QUANTITY: Final = 20


class _IntOrString:
    """Describes `int | str` the way Kubernetes does."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"x-kubernetes-int-or-string": True, "maxLength": MAX_QUANTITY}


def _check_quantity(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a quantity such as 2, 500m or 1Gi")  # noqa: TRY004 - for pydantic
    if len(str(value)) > MAX_QUANTITY:
        raise ValueError(f"must not be longer than {MAX_QUANTITY} characters")
    return value


Quantity = Annotated[int | str, PlainValidator(_check_quantity), _IntOrString]
"""A Kubernetes quantity: 2, 500m, 1Gi."""


class ResourceList(SpecModel):
    """An amount of each resource."""

    cpu: Quantity | None = None
    """cpu is in cores: 2, or 500m for half a core. Default: as for its parent."""
    memory: Quantity | None = None
    """memory is in bytes: 512Mi, 2Gi. Default: as for its parent."""


class Resources(SpecModel):
    """What one server gets, and what a build measures with."""

    requests: ResourceList | None = None
    """requests is what is set aside for a server. Default: the limits."""
    limits: ResourceList | None = None
    """limits is what a server may use at most, and what builds are measured with: changing it
    starts a new build. Default: set by the installation."""
