from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelwright_runtime.errors import InvalidRequest, Unsupported
from modelwright_runtime.protocol import open_inference_pb2 as pb
from modelwright_runtime.protocol.datatypes import DATATYPES, encode_raw
from modelwright_runtime.protocol.grpc_codec import (
    decode_infer_request,
    encode_infer_response,
)
from modelwright_runtime.protocol.messages import InferResult, ModelDescription, Tensor

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
MODEL = ModelDescription("digits", "0123456789ab", "fp32", (), ())


@st.composite
def tensors(draw: st.DrawFn, names: tuple[str, ...] = tuple(DATATYPES)) -> Tensor:
    kind = DATATYPES[draw(st.sampled_from(names))]
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    if kind.is_bytes:
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = draw(st.binary(max_size=5))
    else:
        array = draw(hnp.arrays(kind.numpy, shape))
    return Tensor(draw(st.text(min_size=1, max_size=5)), kind, array)


def message_of(*inputs: Tensor, raw: bool) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="digits")
    for tensor in inputs:
        entry = message.inputs.add(
            name=tensor.name, datatype=tensor.datatype.name, shape=tensor.array.shape
        )
        if raw:
            message.raw_input_contents.append(encode_raw(tensor.datatype, tensor.array))
        else:
            field = getattr(entry.contents, CONTENTS[tensor.datatype.name])
            field.extend(tensor.array.reshape(-1).tolist())
    return pb.ModelInferRequest.FromString(message.SerializeToString())


def bits(tensor: Tensor) -> object:
    if tensor.datatype.is_bytes:
        return tensor.array.shape, tensor.array.reshape(-1).tolist()
    return tensor.array.shape, tensor.array.dtype, tensor.array.tobytes()


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_raw_inputs_decode_to_the_same_bits(inputs: list[Tensor]) -> None:
    decoded = decode_infer_request(message_of(*inputs, raw=True)).inputs
    assert [tensor.name for tensor in decoded] == [tensor.name for tensor in inputs]
    assert list(map(bits, decoded)) == list(map(bits, inputs))


@given(tensors(names=tuple(CONTENTS)))
def test_typed_contents_decode_to_the_same_values(tensor: Tensor) -> None:
    (decoded,) = decode_infer_request(message_of(tensor, raw=False)).inputs
    if tensor.datatype.numpy.kind == "f":
        np.testing.assert_array_equal(decoded.array, tensor.array)  # NaN payloads may differ
    else:
        assert bits(decoded) == bits(tensor)


def test_encoded_answers_are_raw_for_every_datatype() -> None:
    outputs = [
        Tensor("y", DATATYPES["FP32"], np.array([[0.5, 1.0]], np.float32)),
        Tensor("word", DATATYPES["BYTES"], np.array([b"ab"], dtype=object)),
    ]
    message = encode_infer_response(InferResult(outputs), MODEL, "7")
    assert message.raw_output_contents == [bytes.fromhex("0000003f0000803f"), b"\2\0\0\0ab"]
    assert [(one.name, one.datatype, list(one.shape)) for one in message.outputs] == [
        ("y", "FP32", [1, 2]),
        ("word", "BYTES", [1]),
    ]
    assert (message.id, message.model_name, message.model_version) == (
        "7",
        "digits",
        "0123456789ab",
    )
    assert message.parameters["variant"].string_param == "fp32"


def request_with(**fields: Any) -> pb.ModelInferRequest:
    entry = {"name": "x", "datatype": "INT8", "shape": [2], "contents": {"int_contents": [1, 2]}}
    return pb.ModelInferRequest(inputs=[entry | fields])


@pytest.mark.parametrize(
    ("message", "want"),
    [
        (request_with(contents={"int_contents": [1]}), "1 elements, but shape [2] takes 2"),
        (request_with(contents={"int_contents": [1, 128]}), "does not fit INT8"),
        (request_with(contents={"fp32_contents": [1, 2]}), "travels in int_contents"),
        (request_with(shape=[-2]), "integers of at least 0"),
        (request_with(datatype="FP16"), "must be sent in raw_input_contents"),
        (request_with(datatype="NOPE"), "unknown datatype"),
        (request_with(parameters={"p": {}}), "has no value"),
    ],
)
def test_decode_refuses_with_a_sentence(message: pb.ModelInferRequest, want: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_infer_request(message)
    assert want in caught.value.message


def test_raw_and_typed_contents_exclude_each_other() -> None:
    message = request_with()
    message.raw_input_contents.append(b"ab")
    with pytest.raises(InvalidRequest, match="beside raw_input_contents"):
        decode_infer_request(message)
    message.raw_input_contents.append(b"ab")
    with pytest.raises(InvalidRequest, match="all or none"):
        decode_infer_request(message)


def test_extensions_that_are_not_there_are_named() -> None:
    shared = request_with(parameters={"shared_memory_region": {"string_param": "r"}})
    with pytest.raises(Unsupported, match="shared memory"):
        decode_infer_request(shared)
    classified = request_with()
    classified.outputs.add(name="y").parameters["classification"].int64_param = 3
    with pytest.raises(Unsupported, match="classification"):
        decode_infer_request(classified)


def test_parameters_keep_their_types() -> None:
    message = request_with()
    message.parameters["a"].bool_param = True
    message.parameters["b"].int64_param = -1
    message.parameters["c"].string_param = "s"
    message.parameters["d"].double_param = 0.5
    message.parameters["e"].uint64_param = 1 << 63
    want = {"a": True, "b": -1, "c": "s", "d": 0.5, "e": 1 << 63}
    assert decode_infer_request(message).parameters == want
