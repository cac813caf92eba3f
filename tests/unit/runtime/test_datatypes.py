from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

if TYPE_CHECKING:
    from numpy.typing import NDArray

from modelwright_runtime.errors import InvalidRequest, Unsupported
from modelwright_runtime.protocol.datatypes import (
    DATATYPES,
    count_elements,
    decode_raw,
    encode_raw,
    resolve_datatype,
)

FIXED = sorted(name for name, kind in DATATYPES.items() if not kind.is_bytes)


@st.composite
def fixed_tensors(draw: st.DrawFn) -> tuple[str, NDArray[Any]]:
    name = draw(st.sampled_from(FIXED))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    return name, draw(hnp.arrays(DATATYPES[name].numpy, shape))


@st.composite
def byte_tensors(draw: st.DrawFn) -> NDArray[Any]:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        array[index] = draw(st.binary(max_size=12))
    return array


@given(fixed_tensors())
def test_raw_round_trip_keeps_every_bit_and_the_shape(tensor: tuple[str, NDArray[Any]]) -> None:
    name, array = tensor
    kind = DATATYPES[name]
    raw = encode_raw(kind, array)
    assert len(raw) == array.size * kind.itemsize
    again = decode_raw(kind, array.shape, raw, "t")
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


@given(byte_tensors())
def test_raw_bytes_round_trip_keeps_each_element(array: NDArray[Any]) -> None:
    kind = DATATYPES["BYTES"]
    again = decode_raw(kind, array.shape, encode_raw(kind, array), "t")
    assert again.shape == array.shape
    assert again.reshape(-1).tolist() == array.reshape(-1).tolist()


@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(0, 5), max_size=4),
    st.binary(max_size=64),
)
def test_decode_raw_of_any_bytes_gives_a_tensor_or_a_sentence(
    name: str, shape: list[int], raw: bytes
) -> None:
    try:
        array = decode_raw(DATATYPES[name], shape, raw, "t")
    except InvalidRequest:
        return
    assert array.shape == tuple(shape)


def test_raw_is_little_endian_row_major_without_padding() -> None:
    big_endian = np.array([[1, 2], [3, 4]], ">i2")
    assert encode_raw(DATATYPES["INT16"], big_endian) == bytes.fromhex("0100020003000400")
    columns = np.asfortranarray(np.array([[1, 2], [3, 4]], "<i2"))
    assert encode_raw(DATATYPES["INT16"], columns) == bytes.fromhex("0100020003000400")
    words = np.array([b"ab", b""], dtype=object)
    assert encode_raw(DATATYPES["BYTES"], words) == bytes.fromhex("020000006162 00000000")


@pytest.mark.parametrize(
    ("name", "shape", "raw", "want"),
    [
        ("FP32", [2], b"\0" * 7, "7 bytes, but FP32 [2] takes 8"),
        ("FP32", [2], b"\0" * 12, "12 bytes, but FP32 [2] takes 8"),
        ("BOOL", [2], b"\x00\x02", "must be 0 or 1"),
        ("BYTES", [2], b"\1\0\0\0a", "can not hold 2 elements"),
        ("BYTES", [1], b"\xff\xff\xff\xffa", "reaches past the end"),
        ("BYTES", [1], b"\1\0\0\0ab", "1 bytes left over"),
        ("BYTES", [1 << 62], b"", "can not hold"),
        ("INT8", [1 << 40, 1 << 40], b"", "takes 1208925819614629174706176"),
    ],
)
def test_decode_raw_refuses_lengths_that_lie(
    name: str, shape: list[int], raw: bytes, want: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_raw(DATATYPES[name], shape, raw, "t")
    assert want in caught.value.message


@pytest.mark.parametrize("shape", [[-1], [True], [1.0], ["1"], [None], [[1]], [1] * 33])
def test_count_elements_refuses_what_is_no_shape(shape: list[object]) -> None:
    with pytest.raises(InvalidRequest):
        count_elements(shape, "t")


def test_resolve_datatype_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="FP32"):
        resolve_datatype("FLOAT", "t")
    with pytest.raises(InvalidRequest):
        resolve_datatype(None, "t")
    with pytest.raises(InvalidRequest):
        resolve_datatype(["FP32"], "t")
    with pytest.raises(Unsupported, match="BF16"):
        resolve_datatype("BF16", "t")
