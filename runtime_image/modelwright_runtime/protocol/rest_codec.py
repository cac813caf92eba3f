"""REST bodies of the Open Inference Protocol v2, JSON and the binary tensor extension. Pure.

Bytes in, `RestInferRequest` out; `InferResult` in, body parts out. It checks what a request says
about itself (types, counts, lengths); whether it fits the model is the data plane's question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from modelwright_runtime.errors import InvalidRequest, Unsupported
from modelwright_runtime.protocol.datatypes import (
    Datatype,
    count_elements,
    decode_raw,
    encode_raw,
    resolve_datatype,
)
from modelwright_runtime.protocol.messages import InferRequest, InferResult, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from modelwright_runtime.protocol.messages import ModelDescription, TensorSpec

PLATFORM = "onnx_onnxv1"
MAX_ID_CHARACTERS = 1024
TEMPLATE_LIMIT = 1024  # distinct shapes of answers remembered per model

_EMPTY: Mapping[str, Any] = {}


@dataclass(slots=True)
class RestInferRequest:
    """A decoded request and how its answer is to be written."""

    request: InferRequest
    binary_default: bool = False
    binary_by_output: Mapping[str, bool] = field(default_factory=dict)

    def wants_binary(self, output: str) -> bool:
        """Whether that output leaves as bytes behind the JSON."""
        return self.binary_by_output.get(output, self.binary_default)


@dataclass(slots=True)
class EncodedBody:
    """An answer's body in order; `json_length` is set when binary tensors follow the JSON."""

    parts: Sequence[bytes]
    json_length: int | None


# --- requests ---------------------------------------------------------------------------------


def decode_infer_request(body: bytes | memoryview, json_length: int | None) -> RestInferRequest:
    """Read an infer request; raises InvalidRequest or Unsupported with a sentence.

    Args:
        body: the whole (uncompressed) body.
        json_length: `Inference-Header-Content-Length`, or None when all of it is JSON.
    """
    if json_length is None:
        header, binary = body, memoryview(b"")
    elif json_length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes"
        )
    else:
        view = memoryview(body)
        header, binary = view[:json_length], view[json_length:]
    document = _parse_object(header)
    parameters = _parameters(document, "the request")
    binary_default = _flag(parameters, "binary_data_output", "the request")
    output_names, binary_by_output = _decode_outputs(document.get("outputs"))
    request = InferRequest(
        inputs=_decode_inputs(document, binary),
        output_names=output_names,
        request_id=_request_id(document),
        parameters=parameters,
    )
    return RestInferRequest(request, bool(binary_default), binary_by_output)


def _parse_object(header: bytes | memoryview) -> dict[str, Any]:
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the request must be a JSON object")
    return document


def _request_id(document: Mapping[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or len(request_id) > MAX_ID_CHARACTERS:
        raise InvalidRequest(f"id must be a string of at most {MAX_ID_CHARACTERS} characters")
    return request_id


def _parameters(owner: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return _EMPTY
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: parameters must be an object")
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{where}: shared memory is not supported, send the data itself")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidRequest(f"{where}: parameter {name} must be true or false")


def _objects(value: object, where: str) -> Sequence[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"{where} must be a list of objects")
    return value


def _tensor_name(entry: Mapping[str, Any], where: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"each of {where} needs a name")
    return name


def _decode_outputs(value: object) -> tuple[list[str] | None, Mapping[str, bool]]:
    if value is None:
        return None, _EMPTY
    names: list[str] = []
    binary: dict[str, bool] = {}
    for entry in _objects(value, "outputs"):
        name = _tensor_name(entry, "outputs")
        where = f"output '{name}'"
        parameters = _parameters(entry, where)
        if "classification" in parameters:
            raise Unsupported(f"{where}: the classification extension is not supported")
        flag = _flag(parameters, "binary_data", where)
        if flag is not None:
            binary[name] = flag
        names.append(name)
    return names or None, binary


def _decode_inputs(document: Mapping[str, Any], binary: memoryview) -> list[Tensor]:
    tensors: list[Tensor] = []
    offset = 0
    for entry in _objects(document.get("inputs"), "inputs"):
        name = _tensor_name(entry, "inputs")
        kind = resolve_datatype(entry.get("datatype"), name)
        shape = entry.get("shape")
        if not isinstance(shape, list):
            raise InvalidRequest(f"tensor '{name}': shape must be a list of integers")
        size = _binary_size(entry, name)
        if size is None:
            array = _decode_json_data(kind, shape, entry, name)
        elif size > len(binary) - offset:
            raise InvalidRequest(
                f"tensor '{name}': binary_data_size is {size}, "
                f"but {len(binary) - offset} bytes are left in the body"
            )
        else:
            array = decode_raw(kind, shape, binary[offset : offset + size], name)
            offset += size
        tensors.append(Tensor(name, kind, array))
    if offset != len(binary):
        raise InvalidRequest(f"{len(binary) - offset} bytes follow the last binary tensor")
    return tensors


def _binary_size(entry: Mapping[str, Any], name: str) -> int | None:
    size = _parameters(entry, f"tensor '{name}'").get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"tensor '{name}': binary_data_size must be an integer of at least 0")
    if entry.get("data") is not None:
        raise InvalidRequest(f"tensor '{name}': has both data and binary_data_size")
    return size


def _decode_json_data(
    kind: Datatype, shape: Sequence[int], entry: Mapping[str, Any], name: str
) -> NDArray[Any]:
    if not kind.has_json:
        raise InvalidRequest(f"tensor '{name}': {kind.name} must be sent as binary data, not JSON")
    count = count_elements(shape, name)
    data = entry.get("data")
    if not isinstance(data, list):
        raise InvalidRequest(f"tensor '{name}': data must be a list")
    flat, types = _flatten(data, name)
    if len(flat) != count:
        raise InvalidRequest(
            f"tensor '{name}': {len(flat)} elements, but shape {list(shape)} takes {count}"
        )
    if not types <= kind.python_types:
        wrong = sorted(_JSON_NAMES[found] for found in types - kind.python_types)
        raise InvalidRequest(f"tensor '{name}': {kind.name} data holds {' and '.join(wrong)}")
    return _build_array(kind, flat, name).reshape(tuple(shape))


_JSON_NAMES: Mapping[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a fraction or too big a number",
    int: "a number",
    list: "a list beside single values",
    str: "a string",
    type(None): "null",
}


def _flatten(data: list[Any], name: str) -> tuple[list[Any], set[type]]:
    """The elements in row-major order and their types; nested lists must be rectangular."""
    types = set(map(type, data))
    while types == {list}:
        if len(set(map(len, data))) > 1:
            raise InvalidRequest(f"tensor '{name}': nested data is ragged")
        data = list(chain.from_iterable(data))
        types = set(map(type, data))
    return data, types


def _build_array(kind: Datatype, flat: list[Any], name: str) -> NDArray[Any]:
    if kind.is_bytes:
        elements = np.empty(len(flat), dtype=object)
        elements[:] = [text.encode() for text in flat]
        return elements
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, kind.numpy)
    except OverflowError:
        raise InvalidRequest(f"tensor '{name}': a value does not fit {kind.name}") from None
    if kind.numpy.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(f"tensor '{name}': a value does not fit {kind.name}")
    return array


# --- answers ----------------------------------------------------------------------------------


class AnswerEncoder:
    """Writes answers of one served variant; the JSON around the data is a template per shape."""

    def __init__(self, model: ModelDescription) -> None:
        self._opening = b'{"model_name":%s,"model_version":%s' % (
            orjson.dumps(model.name),
            orjson.dumps(model.version),
        )
        self._parameters = b',"parameters":{"variant":%s},"outputs":[' % orjson.dumps(model.variant)
        self._templates: dict[tuple[object, ...], bytes] = {}

    def encode(self, result: InferResult, asked: RestInferRequest) -> EncodedBody:
        """The body that answers; raises InvalidRequest when JSON can not carry an output."""
        pieces = [self._opening]
        if asked.request.request_id is not None:
            pieces.append(b',"id":%s' % orjson.dumps(asked.request.request_id))
        pieces.append(self._parameters)
        blobs: list[bytes] = []
        separator = b""
        for tensor in result.outputs:
            binary = asked.wants_binary(tensor.name)
            blob = encode_raw(tensor.datatype, tensor.array) if binary else b""
            pieces += separator, self._prefix(tensor, len(blob) if binary else None)
            if binary:
                blobs.append(blob)
            else:
                pieces += _encode_json_data(tensor), b"}"
            separator = b","
        pieces.append(b"]}")
        header = b"".join(pieces)
        return EncodedBody([header, *blobs], len(header) if blobs else None)

    def _prefix(self, tensor: Tensor, binary_size: int | None) -> bytes:
        """The tensor's JSON up to its data; all of it when the data is binary."""
        key = (tensor.name, tensor.array.shape, binary_size)
        prefix = self._templates.get(key)
        if prefix is None:
            prefix = _build_prefix(tensor, binary_size)
            if len(self._templates) < TEMPLATE_LIMIT:
                self._templates[key] = prefix
        return prefix


def _build_prefix(tensor: Tensor, binary_size: int | None) -> bytes:
    opening = b'{"name":%s,"datatype":"%s","shape":%s' % (
        orjson.dumps(tensor.name),
        tensor.datatype.name.encode(),
        orjson.dumps(list(tensor.array.shape)),
    )
    if binary_size is None:
        return opening + b',"data":'
    return opening + b',"parameters":{"binary_data_size":%d}}' % binary_size


def _encode_json_data(tensor: Tensor) -> bytes:
    kind, array = tensor.datatype, tensor.array
    ask_binary = "ask for it with the parameter binary_data: true"
    if kind.is_bytes:
        try:
            return orjson.dumps([element.decode() for element in array.reshape(-1)])
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"output '{tensor.name}' holds bytes that are not UTF-8 text: {ask_binary}"
            ) from None
    if not kind.has_json:
        raise InvalidRequest(f"output '{tensor.name}' is {kind.name}: {ask_binary}")
    if kind.numpy.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(
            f"output '{tensor.name}' holds NaN or infinity, which JSON can not carry: {ask_binary}"
        )
    flat = np.ascontiguousarray(array, kind.numpy).reshape(-1)
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)


# --- metadata ---------------------------------------------------------------------------------


def build_server_metadata(version: str) -> dict[str, Any]:
    """`GET /v2`."""
    return {"name": "modelwright", "version": version, "extensions": ["binary_tensor_data"]}


def build_model_metadata(model: ModelDescription) -> dict[str, Any]:
    """`GET /v2/models/{name}`."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [_spec(spec) for spec in model.inputs],
        "outputs": [_spec(spec) for spec in model.outputs],
    }


def build_example_request(
    model: ModelDescription, json_limit: int = 64
) -> tuple[dict[str, Any], int]:
    """A request of zeros that this model accepts, free dimensions set to 1.

    Tensors of up to `json_limit` elements carry their data; bigger ones are announced as binary.

    Returns:
        The JSON document and how many zero bytes must follow it.
    """
    inputs: list[dict[str, Any]] = []
    zero_bytes = 0
    for spec in model.inputs:
        shape = [1 if dimension < 0 else dimension for dimension in spec.shape]
        entry: dict[str, Any] = {
            "name": spec.name,
            "datatype": spec.datatype.name,
            "shape": shape,
        }
        count = math.prod(shape)
        if spec.datatype.is_bytes:
            entry["data"] = [""] * count
        elif count <= json_limit and spec.datatype.has_json:
            entry["data"] = np.zeros(count, spec.datatype.numpy).tolist()
        else:
            size = count * spec.datatype.itemsize
            entry["parameters"] = {"binary_data_size": size}
            zero_bytes += size
        inputs.append(entry)
    return {"inputs": inputs}, zero_bytes


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": list(spec.shape)}
