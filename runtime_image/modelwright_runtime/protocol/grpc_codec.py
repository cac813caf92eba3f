"""gRPC messages of the Open Inference Protocol v2 to and from the neutral ones. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright_runtime.errors import InvalidRequest, Unsupported
from modelwright_runtime.protocol import open_inference_pb2 as pb
from modelwright_runtime.protocol.datatypes import (
    Datatype,
    count_elements,
    decode_raw,
    encode_raw,
    resolve_datatype,
)
from modelwright_runtime.protocol.messages import InferRequest, InferResult, Tensor
from modelwright_runtime.protocol.rest_codec import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from modelwright_runtime.protocol.messages import ModelDescription, TensorSpec

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def decode_infer_request(message: pb.ModelInferRequest) -> InferRequest:
    """Read an infer request; raises InvalidRequest or Unsupported with a sentence."""
    parameters = _decode_parameters(message.parameters, "the request")
    names: list[str] = []
    for output in message.outputs:
        if "classification" in _decode_parameters(output.parameters, f"output '{output.name}'"):
            raise Unsupported("the classification extension is not supported")
        names.append(output.name)
    return InferRequest(
        inputs=_decode_inputs(message),
        output_names=names or None,
        request_id=message.id or None,
        parameters=parameters,
    )


def encode_infer_response(
    result: InferResult, model: ModelDescription, request_id: str | None
) -> pb.ModelInferResponse:
    """Write an answer; all tensors travel raw, which every client reads."""
    message = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request_id or ""
    )
    message.parameters["variant"].string_param = model.variant
    for tensor in result.outputs:
        message.outputs.add(
            name=tensor.name, datatype=tensor.datatype.name, shape=tensor.array.shape
        )
        message.raw_output_contents.append(encode_raw(tensor.datatype, tensor.array))
    return message


def build_model_metadata(model: ModelDescription) -> pb.ModelMetadataResponse:
    """What the model takes and gives."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[model.version],
        platform=PLATFORM,
        inputs=[_metadata(spec) for spec in model.inputs],
        outputs=[_metadata(spec) for spec in model.outputs],
    )


def _metadata(spec: TensorSpec) -> pb.TensorMetadata:
    return pb.TensorMetadata(name=spec.name, datatype=spec.datatype.name, shape=spec.shape)


def _decode_parameters(
    parameters: Mapping[str, pb.InferParameter], where: str
) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequest(f"{where}: parameter '{name}' has no value")
        values[name] = getattr(parameter, kind)
    if "shared_memory_region" in values:
        raise Unsupported(f"{where}: shared memory is not supported, send the data itself")
    return values


def _decode_inputs(message: pb.ModelInferRequest) -> list[Tensor]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs: all or none"
        )
    tensors: list[Tensor] = []
    for index, entry in enumerate(message.inputs):
        name = entry.name
        kind = resolve_datatype(entry.datatype, name)
        shape = list(entry.shape)
        _decode_parameters(entry.parameters, f"tensor '{name}'")
        if not raw:
            array = _decode_contents(kind, shape, entry)
        elif entry.HasField("contents"):
            raise InvalidRequest(f"tensor '{name}': contents beside raw_input_contents")
        else:
            array = decode_raw(kind, shape, raw[index], name)
        tensors.append(Tensor(name, kind, array))
    return tensors


def _decode_contents(kind: Datatype, shape: list[int], entry: pb.InferInputTensor) -> NDArray[Any]:
    name = entry.name
    field = _CONTENTS.get(kind.name)
    if field is None:
        raise InvalidRequest(f"tensor '{name}': {kind.name} must be sent in raw_input_contents")
    filled = [one.name for one, _ in entry.contents.ListFields()]
    if filled not in ([], [field]):
        wrong = ", ".join(sorted(set(filled) - {field}))
        raise InvalidRequest(f"tensor '{name}': {kind.name} travels in {field}, not in {wrong}")
    values = list(getattr(entry.contents, field))
    count = count_elements(shape, name)
    if len(values) != count:
        raise InvalidRequest(
            f"tensor '{name}': {len(values)} elements, but shape {shape} takes {count}"
        )
    if kind.is_bytes:
        array: NDArray[Any] = np.empty(count, dtype=object)
        array[:] = values
        return array.reshape(shape)
    try:
        return np.array(values, kind.numpy).reshape(shape)
    except OverflowError:
        raise InvalidRequest(f"tensor '{name}': a value does not fit {kind.name}") from None
