"""Open Inference Protocol v2 and health over gRPC, with grpcio and with Triton's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from modelwright_runtime.protocol import open_inference_pb2 as pb
from tests.integration.runtime import artifacts
from tests.integration.runtime.test_rest import ROWS, VALUES, check_echo, triton_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.runtime.server_process import ServerProcess


@pytest.fixture
def client(classifier_server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(classifier_server.grpc_address) as client:
        yield client


def x_input() -> triton.InferInput:
    one = triton.InferInput("x", [2, 4], "FP32")
    one.set_data_from_numpy(ROWS)
    return one


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.get_server_metadata().name == "modelwright"
    metadata = client.get_model_metadata("digits")
    assert list(metadata.versions) == [artifacts.VERSION]
    assert metadata.platform == "onnx_onnxv1"
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.outputs] == [
        ("probs", "FP32", [-1, 3]),
        ("label", "INT64", [-1]),
    ]


def test_infer(client: triton.InferenceServerClient) -> None:
    result = client.infer("digits", [x_input()], request_id="r-1", priority=1, timeout=10_000_000)
    np.testing.assert_allclose(result.as_numpy("probs"), artifacts.classify(ROWS), rtol=1e-5)
    assert result.as_numpy("label").tolist() == [2, 2]
    response = result.get_response()
    assert (response.id, response.model_version) == ("r-1", artifacts.VERSION)
    assert response.parameters["variant"].string_param == "fp32"


def test_infer_selects_outputs(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("label")]
    result = client.infer("digits", [x_input()], outputs=outputs, model_version=artifacts.VERSION)
    assert [one.name for one in result.get_response().outputs] == ["label"]


def test_every_datatype(echo_server: ServerProcess) -> None:
    with triton.InferenceServerClient(echo_server.grpc_address) as client:
        result = client.infer("echo", triton_inputs(triton, binary=True))
        check_echo(result)
        assert len(result.get_response().outputs) == len(VALUES)


def call(server: ServerProcess, method: str, request: Any, response: Any, **how: Any) -> Any:
    """A unary call by its public name, with messages of ours."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return stub(request, timeout=30, **how)


INFER = "/inference.GRPCInferenceService/ModelInfer"


def infer_request(**changes: Any) -> pb.ModelInferRequest:
    entry = {
        "name": "x",
        "datatype": "FP32",
        "shape": [2, 4],
        "contents": {"fp32_contents": ROWS.reshape(-1).tolist()},
    }
    model = changes.pop("model_name", "digits")
    version = changes.pop("model_version", "")
    outputs = [{"name": name} for name in changes.pop("outputs", ())]
    return pb.ModelInferRequest(
        model_name=model, model_version=version, inputs=[entry | changes], outputs=outputs
    )


def test_typed_contents_are_read(classifier_server: ServerProcess) -> None:
    answer = call(classifier_server, INFER, infer_request(), pb.ModelInferResponse)
    probs = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(2, 3)
    np.testing.assert_allclose(probs, artifacts.classify(ROWS), rtol=1e-5)


@pytest.mark.parametrize(
    ("request_message", "code", "want"),
    [
        (infer_request(model_name="x"), grpc.StatusCode.NOT_FOUND, "no model 'x'"),
        (infer_request(model_version="9"), grpc.StatusCode.NOT_FOUND, "no version '9'"),
        (infer_request(name="y"), grpc.StatusCode.INVALID_ARGUMENT, "unknown input 'y'"),
        (infer_request(shape=[3, 4]), grpc.StatusCode.INVALID_ARGUMENT, "takes 12"),
        (infer_request(datatype="FP64"), grpc.StatusCode.INVALID_ARGUMENT, "fp64_contents"),
        (infer_request(outputs=["nope"]), grpc.StatusCode.INVALID_ARGUMENT, "'nope'"),
        (
            infer_request(parameters={"shared_memory_region": {"string_param": "r"}}),
            grpc.StatusCode.UNIMPLEMENTED,
            "shared memory",
        ),
    ],
)
def test_faults_have_their_code_and_sentence(
    classifier_server: ServerProcess,
    request_message: pb.ModelInferRequest,
    code: grpc.StatusCode,
    want: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(classifier_server, INFER, request_message, pb.ModelInferResponse)
    assert caught.value.code() == code
    assert want in caught.value.details()


def test_the_variant_travels_in_the_trailer(classifier_server: ServerProcess) -> None:
    with grpc.insecure_channel(classifier_server.grpc_address) as channel:
        stub = channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        _, finished = stub.with_call(infer_request(), timeout=30)
        assert ("modelwright-variant", "fp32") in finished.trailing_metadata()


def test_messages_beyond_the_limit_are_refused(classifier_server: ServerProcess) -> None:
    message = infer_request()
    message.inputs[0].ClearField("contents")
    message.raw_input_contents.append(bytes(1_000_001))
    with pytest.raises(grpc.RpcError) as caught:
        call(classifier_server, INFER, message, pb.ModelInferResponse)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_methods_are_unimplemented(classifier_server: ServerProcess) -> None:
    method = "/inference.GRPCInferenceService/ModelTrain"
    with pytest.raises(grpc.RpcError) as caught:
        call(classifier_server, method, pb.ServerLiveRequest(), pb.ServerLiveResponse)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_end_only_their_call(classifier_server: ServerProcess) -> None:
    with grpc.insecure_channel(classifier_server.grpc_address) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(INFER)(b"\xff\xff\xff\xff", timeout=30)
        answer = channel.unary_unary(INFER)(infer_request().SerializeToString(), timeout=30)
        assert pb.ModelInferResponse.FromString(answer).model_name == "digits"


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_grpc_health(classifier_server: ServerProcess, service: str) -> None:
    method = "/grpc.health.v1.Health/Check"
    request = pb.HealthCheckRequest(service=service)
    answer = call(classifier_server, method, request, pb.HealthCheckResponse)
    assert answer.status == pb.HealthCheckResponse.SERVING


def test_grpc_health_of_an_unknown_service(classifier_server: ServerProcess) -> None:
    request = pb.HealthCheckRequest(service="nope")
    with pytest.raises(grpc.RpcError) as caught:
        call(classifier_server, "/grpc.health.v1.Health/Check", request, pb.HealthCheckResponse)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_health_watch_tells_the_state_at_once(classifier_server: ServerProcess) -> None:
    with grpc.insecure_channel(classifier_server.grpc_address) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )(pb.HealthCheckRequest(), timeout=30)
        assert next(iter(watch)).status == pb.HealthCheckResponse.SERVING
        watch.cancel()


def test_both_protocols_are_counted(classifier_server: ServerProcess) -> None:
    call(classifier_server, INFER, infer_request(), pb.ModelInferResponse)
    with pytest.raises(grpc.RpcError):
        call(classifier_server, INFER, infer_request(name="y"), pb.ModelInferResponse)
    metrics = classifier_server.metrics()
    name = 'modelwright_requests_total{model="digits",protocol="grpc",code='
    assert f'{name}"OK",variant="fp32"}}' in metrics
    assert f'{name}"INVALID_ARGUMENT",variant="fp32"}}' in metrics
    assert 'modelwright_model_ready{model="digits"} 1' in metrics
