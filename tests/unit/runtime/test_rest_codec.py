from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

if TYPE_CHECKING:
    from numpy.typing import NDArray

from modelwright_runtime.errors import InferenceFault, InvalidRequest, Unsupported
from modelwright_runtime.protocol.datatypes import DATATYPES, encode_raw
from modelwright_runtime.protocol.messages import (
    InferRequest,
    InferResult,
    ModelDescription,
    Tensor,
    TensorSpec,
)
from modelwright_runtime.protocol.rest_codec import (
    AnswerEncoder,
    RestInferRequest,
    build_example_request,
    build_model_metadata,
    decode_infer_request,
)

FP32 = DATATYPES["FP32"]
MODEL = ModelDescription(
    name="digits",
    version="0123456789ab",
    variant="static-int8",
    inputs=(TensorSpec("x", FP32, (-1, 2)),),
    outputs=(TensorSpec("y", FP32, (-1, 2)),),
)


def decode_json(document: object) -> RestInferRequest:
    return decode_infer_request(json.dumps(document).encode(), None)


def one_input(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]} | fields]}


# --- goldens ----------------------------------------------------------------------------------

GOLDEN_REQUEST = b"""{"id":"r-1","parameters":{"binary_data_output":true,"priority":1},"inputs":[
{"name":"a","datatype":"FP32","shape":[2,2],"data":[[1.5,-2],[0,3e2]]},
{"name":"b","datatype":"INT16","shape":[3],"parameters":{"binary_data_size":6}},
{"name":"c","datatype":"BYTES","shape":[2],"data":["hi","\xc3\xa9"]},
{"name":"d","datatype":"BOOL","shape":[2],"parameters":{"binary_data_size":2}}],
"outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z"}]}"""
GOLDEN_BLOBS = bytes.fromhex("0100 ffff 0080 0100")


def test_decode_mixed_json_and_binary_golden() -> None:
    asked = decode_infer_request(GOLDEN_REQUEST + GOLDEN_BLOBS, len(GOLDEN_REQUEST))
    request = asked.request
    assert request.request_id == "r-1"
    assert request.output_names == ["y", "z"]
    assert request.parameters["priority"] == 1
    assert not asked.wants_binary("y")
    assert asked.wants_binary("z")
    a, b, c, d = request.inputs
    assert a.array.tolist() == [[1.5, -2.0], [0.0, 300.0]]
    assert a.array.dtype == np.float32
    assert b.array.tolist() == [1, -1, -32768]
    assert c.array.tolist() == [b"hi", "é".encode()]
    assert d.array.tolist() == [True, False]
    assert d.array.dtype == np.bool_


def answer(asked: RestInferRequest, *tensors: Tensor) -> tuple[bytes, int | None]:
    body = AnswerEncoder(MODEL).encode(InferResult(tensors), asked)
    return b"".join(body.parts), body.json_length


def asked_for(request_id: str | None = None, **how: Any) -> RestInferRequest:
    return RestInferRequest(InferRequest(inputs=(), request_id=request_id), **how)


def test_encode_json_golden() -> None:
    y = Tensor("y", FP32, np.array([[0.5, 1.0]], np.float32))
    label = Tensor("label", DATATYPES["BYTES"], np.array([b'"caf\xc3\xa9"'], dtype=object))
    body, json_length = answer(asked_for('q"1'), y, label)
    assert json_length is None
    assert body.decode() == (
        '{"model_name":"digits","model_version":"0123456789ab","id":"q\\"1",'
        '"parameters":{"variant":"static-int8"},"outputs":['
        '{"name":"y","datatype":"FP32","shape":[1,2],"data":[0.5,1.0]},'
        '{"name":"label","datatype":"BYTES","shape":[1],"data":["\\"café\\""]}]}'
    )


def test_encode_binary_and_mixed_golden() -> None:
    y = Tensor("y", FP32, np.array([[0.5, 1.0]], np.float32))
    flag = Tensor("flag", DATATYPES["BOOL"], np.array([True]))
    body, json_length = answer(
        asked_for(binary_default=True, binary_by_output={"flag": False}), y, flag
    )
    header = (
        b'{"model_name":"digits","model_version":"0123456789ab",'
        b'"parameters":{"variant":"static-int8"},"outputs":['
        b'{"name":"y","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},'
        b'{"name":"flag","datatype":"BOOL","shape":[1],"data":[true]}]}'
    )
    assert json_length == len(header)
    assert body == header + bytes.fromhex("0000003f 0000803f")


def test_encode_keeps_templates_apart_by_shape() -> None:
    encoder = AnswerEncoder(MODEL)
    for shape in ((1, 2), (2, 1), (2,), (1, 2)):
        tensor = Tensor("y", FP32, np.ones(shape, np.float32))
        body = encoder.encode(InferResult([tensor]), asked_for())
        assert json.loads(b"".join(body.parts))["outputs"][0]["shape"] == list(shape)


def test_model_metadata_golden() -> None:
    assert build_model_metadata(MODEL) == {
        "name": "digits",
        "versions": ["0123456789ab"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "want"),
    [
        ([], "must be a JSON object"),
        ({}, "inputs must be a list"),
        ({"inputs": {}}, "inputs must be a list"),
        ({"inputs": [1]}, "inputs must be a list of objects"),
        ({"inputs": [{}]}, "needs a name"),
        (one_input(name=""), "needs a name"),
        (one_input(name=7), "needs a name"),
        (one_input(datatype="FLOAT"), "unknown datatype"),
        (one_input(datatype=None), "unknown datatype"),
        (one_input(shape="2"), "shape must be a list"),
        (one_input(shape=[-1]), "integers of at least 0"),
        (one_input(shape=[2.0]), "integers of at least 0"),
        (one_input(shape=[3]), "2 elements, but shape [3] takes 3"),
        (one_input(shape=[1 << 40, 1 << 40]), "2 elements"),
        (one_input(data=None), "data must be a list"),
        (one_input(data={"0": 1}), "data must be a list"),
        (one_input(data=["1", "2"]), "FP32 data holds a string"),
        (one_input(data=[1, None]), "holds null"),
        (one_input(data=[1, True]), "holds true or false"),
        (one_input(data=[[1], 2]), "a list beside single values"),
        (one_input(data=[[1], [2, 3]], shape=[3]), "ragged"),
        (one_input(data=[1e300, 0]), "does not fit FP32"),
        (one_input(datatype="INT8", data=[1, 1.5]), "holds a fraction"),
        (one_input(datatype="INT8", data=[1, 128]), "does not fit INT8"),
        (one_input(datatype="UINT8", data=[1, -1]), "does not fit UINT8"),
        (one_input(datatype="UINT64", data=[1, 1 << 64]), "too big a number"),
        (one_input(datatype="BOOL", data=[0, 1]), "holds a number"),
        (one_input(datatype="BYTES", data=[0, 1]), "holds a number"),
        (one_input(datatype="FP16"), "must be sent as binary"),
        (one_input(parameters=3), "parameters must be an object"),
        (one_input(parameters={"binary_data_size": 8}), "both data and binary_data_size"),
        (one_input(parameters={"binary_data_size": -1}, data=None), "binary_data_size"),
        (one_input(parameters={"binary_data_size": True}, data=None), "binary_data_size"),
        (one_input(parameters={"binary_data_size": 8}, data=None), "0 bytes are left"),
        (one_input() | {"id": 5}, "id must be a string"),
        (one_input() | {"id": "x" * 2000}, "id must be a string"),
        (one_input() | {"outputs": ["y"]}, "outputs must be a list of objects"),
        (one_input() | {"outputs": [{}]}, "needs a name"),
        (
            one_input() | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "binary_data must be true or false",
        ),
        (one_input() | {"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
    ],
)
def test_decode_refuses_with_a_sentence(document: object, want: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_json(document)
    assert want in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nul", b'{"inputs":NaN}', b"\xff\xfe", b"[" * 5000, b'{"id":"\\ud800"}']
)
def test_decode_refuses_what_is_no_json(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        decode_infer_request(body, None)


@pytest.mark.parametrize(
    "document",
    [
        one_input(parameters={"shared_memory_region": "r"}),
        one_input() | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        one_input(datatype="BF16"),
    ],
)
def test_decode_names_what_is_not_supported(document: object) -> None:
    with pytest.raises(Unsupported):
        decode_json(document)


def test_decode_checks_the_header_length_against_the_body() -> None:
    body = json.dumps(one_input()).encode()
    with pytest.raises(InvalidRequest, match="but the body has"):
        decode_infer_request(body, len(body) + 1)
    with pytest.raises(InvalidRequest, match="3 bytes follow the last"):
        decode_infer_request(body + b"abc", len(body))
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        decode_infer_request(body, len(body) - 1)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("FP32", np.array([np.nan], np.float32)),
        ("FP64", np.array([-np.inf])),
        ("FP16", np.array([1], np.float16)),
        ("BYTES", np.array([b"\xff"], dtype=object)),
    ],
)
def test_encode_never_writes_json_that_loses_a_value(kind: str, array: NDArray[Any]) -> None:
    tensor = Tensor("y", DATATYPES[kind], array)
    with pytest.raises(InvalidRequest, match="binary_data: true"):
        answer(asked_for(), tensor)
    body, json_length = answer(asked_for(binary_default=True), tensor)
    assert body[json_length:] == encode_raw(DATATYPES[kind], array)


def test_decode_ignores_fields_it_does_not_know() -> None:
    asked = decode_json(one_input(extra=1) | {"model_name": "other", "outputs": []})
    assert asked.request.output_names is None
    assert len(asked.request.inputs) == 1


# --- properties -------------------------------------------------------------------------------

JSON_KINDS = sorted(name for name, kind in DATATYPES.items() if kind.has_json)


@st.composite
def tensors(draw: st.DrawFn, names: list[str] = sorted(DATATYPES)) -> Tensor:  # noqa: B008
    kind = DATATYPES[draw(st.sampled_from(names))]
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    if kind.is_bytes:
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = draw(st.text(max_size=5)).encode()
    else:
        finite: dict[str, Any] = {}
        if kind.numpy.kind == "f":
            finite = {"allow_nan": False, "allow_infinity": False}
        array = draw(hnp.arrays(kind.numpy, shape, elements=hnp.from_dtype(kind.numpy, **finite)))
    name = draw(st.text(min_size=1, max_size=8))
    return Tensor(name, kind, array)


def plain(tensor: Tensor) -> list[Any]:
    values: list[Any] = tensor.array.tolist()
    if tensor.datatype.is_bytes:
        values = json.loads(json.dumps(values, default=bytes.decode))
    return values


def write_request(inputs: list[Tensor], binary: list[bool]) -> tuple[bytes, int]:
    entries = []
    blobs = b""
    for tensor, as_blob in zip(inputs, binary, strict=True):
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype.name,
            "shape": list(tensor.array.shape),
        }
        if as_blob or not tensor.datatype.has_json:
            blob = encode_raw(tensor.datatype, tensor.array)
            blobs += blob
            entry["parameters"] = {"binary_data_size": len(blob)}
        else:
            entry["data"] = plain(tensor)
        entries.append(entry)
    header = json.dumps({"inputs": entries}).encode()
    return header + blobs, len(header)


def same(one: Tensor, two: Tensor) -> bool:
    if one.datatype is not two.datatype or one.array.shape != two.array.shape:
        return False
    if one.datatype.is_bytes:
        return bool(one.array.reshape(-1).tolist() == two.array.reshape(-1).tolist())
    return bool(np.array_equal(one.array, two.array))


@given(st.lists(st.tuples(tensors(), st.booleans()), min_size=1, max_size=4))
def test_decoding_inverts_writing_in_json_binary_and_any_mix(
    given_inputs: list[tuple[Tensor, bool]],
) -> None:
    inputs = [tensor for tensor, _ in given_inputs]
    body, json_length = write_request(inputs, [binary for _, binary in given_inputs])
    decoded = decode_infer_request(body, json_length).request.inputs
    assert [tensor.name for tensor in decoded] == [tensor.name for tensor in inputs]
    assert all(map(same, inputs, decoded))


@given(tensors(names=JSON_KINDS), st.text(max_size=8))
def test_an_answers_json_reads_back_as_the_same_values(tensor: Tensor, request_id: str) -> None:
    body, _ = answer(asked_for(request_id), tensor)
    document = json.loads(body)
    assert document["id"] == request_id
    (output,) = document["outputs"]
    assert (output["name"], output["shape"]) == (tensor.name, list(tensor.array.shape))
    again = decode_json({"inputs": [output]}).request.inputs[0]
    assert same(tensor, again)


@given(st.lists(tensors(), min_size=1, max_size=3, unique_by=lambda one: one.name))
def test_binary_answers_hold_exactly_the_announced_bytes(outputs: list[Tensor]) -> None:
    body, json_length = answer(asked_for(binary_default=True), *outputs)
    assert json_length is not None
    document = json.loads(body[:json_length])
    sizes = [one["parameters"]["binary_data_size"] for one in document["outputs"]]
    assert sum(sizes) == len(body) - json_length
    again = decode_infer_request(
        json.dumps({"inputs": document["outputs"]}).encode() + body[json_length:],
        len(json.dumps({"inputs": document["outputs"]})),
    ).request.inputs
    assert all(map(same, outputs, again))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"name": st.just("x") | json_values},
        optional={
            "datatype": st.sampled_from(sorted(DATATYPES)) | json_values,
            "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
            "data": json_values,
            "parameters": st.just({"binary_data_size": 4}) | json_values,
        },
    ),
    st.binary(max_size=8),
    st.integers(0, 300) | st.none(),
)
def test_any_document_is_decoded_or_refused_but_never_breaks(
    entry: dict[str, Any], tail: bytes, json_length: int | None
) -> None:
    header = json.dumps({"inputs": [entry]}).encode()
    try:
        asked = decode_infer_request(
            header + tail, len(header) if json_length is None else json_length
        )
    except InferenceFault:
        return
    assert len(asked.request.inputs) == 1


def test_example_request_is_accepted_and_names_every_input() -> None:
    kinds = sorted(DATATYPES)
    inputs = tuple(TensorSpec(kind, DATATYPES[kind], (-1, 3)) for kind in kinds)
    big = TensorSpec("big", FP32, (-1, 64, 64))
    model = ModelDescription("m", "v", "fp32", (*inputs, big), ())
    document, zero_bytes = build_example_request(model)
    header = json.dumps(document).encode()
    decoded = decode_infer_request(header + bytes(zero_bytes), len(header)).request.inputs
    assert [tensor.name for tensor in decoded] == [*kinds, "big"]
    assert math.prod(decoded[-1].array.shape) == 4096
    assert zero_bytes == 4096 * 4 + 3 * 2  # the big one, and FP16 which JSON can not carry
