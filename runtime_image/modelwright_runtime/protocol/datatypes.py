"""The tensor datatypes of the Open Inference Protocol and their numpy form. Pure.

BYTES tensors are numpy object arrays of `bytes`. BF16 has no numpy form and is refused by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_runtime.errors import InvalidRequest, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LENGTH_PREFIX_BYTES = 4  # little-endian, before each element of a raw BYTES tensor
MAX_RANK = 32


@dataclass(frozen=True, slots=True)
class Datatype:
    """One protocol datatype: `itemsize` is 0 for BYTES, `python_types` are those of its JSON."""

    name: str
    numpy: np.dtype[Any]
    itemsize: int
    python_types: frozenset[type]

    @property
    def is_bytes(self) -> bool:
        """Whether elements vary in length."""
        return self.itemsize == 0

    @property
    def has_json(self) -> bool:
        """Whether the protocol lets JSON carry it (16-bit floats travel as binary only)."""
        return bool(self.python_types)


_INTEGERS = frozenset({int})
_REALS = frozenset({int, float})


def _datatype(name: str, code: str, python_types: frozenset[type]) -> Datatype:
    dtype = np.dtype(code)
    return Datatype(name, dtype, 0 if name == "BYTES" else dtype.itemsize, python_types)


DATATYPES: Final[dict[str, Datatype]] = {
    kind.name: kind
    for kind in (
        _datatype("BOOL", "?", frozenset({bool})),
        _datatype("UINT8", "|u1", _INTEGERS),
        _datatype("UINT16", "<u2", _INTEGERS),
        _datatype("UINT32", "<u4", _INTEGERS),
        _datatype("UINT64", "<u8", _INTEGERS),
        _datatype("INT8", "|i1", _INTEGERS),
        _datatype("INT16", "<i2", _INTEGERS),
        _datatype("INT32", "<i4", _INTEGERS),
        _datatype("INT64", "<i8", _INTEGERS),
        _datatype("FP16", "<f2", frozenset()),
        _datatype("FP32", "<f4", _REALS),
        _datatype("FP64", "<f8", _REALS),
        _datatype("BYTES", "O", frozenset({str})),
    )
}


def resolve_datatype(name: object, tensor: str) -> Datatype:
    """The datatype of that protocol name; InvalidRequest or Unsupported in the tensor's name."""
    kind = DATATYPES.get(name) if isinstance(name, str) else None
    if kind is not None:
        return kind
    if name == "BF16":
        raise Unsupported(f"tensor '{tensor}': datatype BF16 is not supported, send FP32 or FP16")
    known = ", ".join(DATATYPES)
    raise InvalidRequest(f"tensor '{tensor}': unknown datatype {name!r}, expected one of {known}")


def count_elements(shape: Sequence[object], tensor: str) -> int:
    """Number of elements of a shape that came from outside (Python integers: no overflow)."""
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"tensor '{tensor}': {len(shape)} dimensions, at most {MAX_RANK}")
    for dimension in shape:
        if type(dimension) is not int or dimension < 0:
            raise InvalidRequest(
                f"tensor '{tensor}': shape {list(shape)} must hold integers of at least 0"
            )
    return math.prod(shape)  # type: ignore[arg-type]  # checked above


def decode_raw(
    kind: Datatype, shape: Sequence[int], raw: bytes | memoryview, tensor: str
) -> NDArray[Any]:
    """A tensor from little-endian row-major bytes; a view on `raw` where the type has a width."""
    count = count_elements(shape, tensor)
    if kind.is_bytes:
        return _split_byte_elements(raw, count, tensor).reshape(tuple(shape))
    want = count * kind.itemsize
    if len(raw) != want:
        raise InvalidRequest(
            f"tensor '{tensor}': {len(raw)} bytes, but {kind.name} {list(shape)} takes {want}"
        )
    array: NDArray[Any] = np.frombuffer(raw, kind.numpy)
    if kind.name == "BOOL" and count and int(array.view(np.uint8).max()) > 1:
        raise InvalidRequest(f"tensor '{tensor}': a BOOL byte must be 0 or 1")
    return array.reshape(tuple(shape))


def encode_raw(kind: Datatype, array: NDArray[Any]) -> bytes:
    """The bytes of a tensor as the binary extension and gRPC's raw contents carry them."""
    if kind.is_bytes:
        return _join_byte_elements(array)
    return np.ascontiguousarray(array, kind.numpy).tobytes()


def _split_byte_elements(raw: bytes | memoryview, count: int, tensor: str) -> NDArray[Any]:
    if count * LENGTH_PREFIX_BYTES > len(raw):
        raise InvalidRequest(f"tensor '{tensor}': {len(raw)} bytes can not hold {count} elements")
    view = memoryview(raw)
    elements = np.empty(count, dtype=object)
    offset = 0
    for index in range(count):
        start = offset + LENGTH_PREFIX_BYTES
        end = start + int.from_bytes(view[offset:start], "little")
        if start > len(view) or end > len(view):
            raise InvalidRequest(
                f"tensor '{tensor}': element {index} reaches past the end of its data"
            )
        elements[index] = bytes(view[start:end])
        offset = end
    if offset != len(view):
        raise InvalidRequest(
            f"tensor '{tensor}': {len(view) - offset} bytes left over after {count} elements"
        )
    return elements


def _join_byte_elements(array: NDArray[Any]) -> bytes:
    parts: list[bytes] = []
    for element in array.reshape(-1):
        parts.append(len(element).to_bytes(LENGTH_PREFIX_BYTES, "little"))
        parts.append(element)
    return b"".join(parts)
