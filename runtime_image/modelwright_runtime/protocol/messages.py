"""What a request and its answer are, whatever protocol carried them.

Plain slotted dataclasses: they are made once per request on the hot path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from modelwright_runtime.protocol.datatypes import Datatype


@dataclass(slots=True)
class Tensor:
    """A named tensor; BYTES arrays hold `bytes` objects."""

    name: str
    datatype: Datatype
    array: NDArray[Any]


@dataclass(slots=True)
class InferRequest:
    """One inference as asked for; `output_names` is None for all outputs."""

    inputs: Sequence[Tensor]
    output_names: Sequence[str] | None = None
    request_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class InferResult:
    """One answer, with the time it waited and ran; `rows` is the first axis of the first input."""

    outputs: Sequence[Tensor]
    queue_nanos: int = 0
    inference_nanos: int = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A graph input or output as metadata shows it; -1 marks a dimension free to vary."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the protocol says of a served model; `variant` names who answers."""

    name: str
    version: str
    variant: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
