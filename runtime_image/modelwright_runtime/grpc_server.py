"""The gRPC face of the data plane, on grpcio's asyncio server.

The one place that gives faults their gRPC status, and the only importer of grpc: without
grpcio the rest of the server runs. Services are bound by their public names.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio

from modelwright_runtime import errors
from modelwright_runtime.protocol import grpc_codec
from modelwright_runtime.protocol import open_inference_pb2 as pb
from modelwright_runtime.protocol.rest_codec import build_server_metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from modelwright_runtime.dataplane import DataPlane, Outcome, ServedModel
    from modelwright_runtime.metrics import Metrics
    from modelwright_runtime.protocol.messages import InferRequest, InferResult

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
VARIANT_KEY = "modelwright-variant"

_WATCH_SECONDS = 1.0  # how often a health watcher looks for a change

_CODES: tuple[tuple[type[errors.InferenceFault], grpc.StatusCode], ...] = (
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotServed, grpc.StatusCode.NOT_FOUND),
    (errors.TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Cancelled, grpc.StatusCode.CANCELLED),
    (errors.Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    (errors.NotReady, grpc.StatusCode.UNAVAILABLE),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
)


def resolve_code(fault: errors.InferenceFault) -> grpc.StatusCode:
    """The gRPC status of a fault."""
    found = (code for kind, code in _CODES if isinstance(fault, kind))
    return next(found, grpc.StatusCode.INTERNAL)


class GrpcServer:
    """The gRPC port."""

    def __init__(
        self, dataplane: DataPlane, metrics: Metrics, *, version: str, max_message_bytes: int
    ) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a port in use is an error, not a shared port
            ]
        )
        inference = _Inference(dataplane, metrics, version)
        health = _Health(dataplane)
        self._server.add_generic_rpc_handlers((inference.handler(), health.handler()))

    async def listen(self, host: str, port: int) -> None:
        """Accept calls from now on; raises OSError when the port is not to be had."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if not bound:
            raise OSError("in use, or not allowed")
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls; let those in work end within that time."""
        await self._server.stop(grace_seconds)


class _Inference:
    """inference.GRPCInferenceService."""

    def __init__(self, dataplane: DataPlane, metrics: Metrics, version: str) -> None:
        self._dataplane = dataplane
        self._metrics = metrics
        self._server_metadata = pb.ServerMetadataResponse(
            name=build_server_metadata(version)["name"], version=version
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """The methods under the service's public name."""
        return grpc.method_handlers_generic_handler(
            INFERENCE_SERVICE,
            {
                "ServerLive": _unary(self.server_live, pb.ServerLiveRequest),
                "ServerReady": _unary(self.server_ready, pb.ServerReadyRequest),
                "ServerMetadata": _unary(self.server_metadata, pb.ServerMetadataRequest),
                "ModelReady": _unary(self.model_ready, pb.ModelReadyRequest),
                "ModelMetadata": _unary(self.model_metadata, pb.ModelMetadataRequest),
                "ModelInfer": _unary(self.model_infer, pb.ModelInferRequest),
            },
        )

    async def server_live(self, _: pb.ServerLiveRequest, __: object) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest, __: object) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._dataplane.is_ready)

    async def server_metadata(
        self, _: pb.ServerMetadataRequest, __: object
    ) -> pb.ServerMetadataResponse:
        return self._server_metadata

    async def model_ready(
        self, request: pb.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelReadyResponse:
        try:
            self._dataplane.find_model(request.name, request.version)
        except errors.NotReady:
            return pb.ModelReadyResponse(ready=False)
        except errors.InferenceFault as fault:
            await _abort(context, fault)
        return pb.ModelReadyResponse(ready=self._dataplane.is_ready)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelMetadataResponse:
        try:
            model = self._dataplane.find_model(request.name, request.version)
            return grpc_codec.build_model_metadata(model.description)
        except errors.InferenceFault as fault:
            await _abort(context, fault)

    async def model_infer(
        self, message: pb.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelInferResponse:
        started = time.monotonic()
        code = grpc.StatusCode.CANCELLED
        try:
            model = self._dataplane.find_model(message.model_name, message.model_version)
            context.set_trailing_metadata(((VARIANT_KEY, model.description.variant),))
            request = grpc_codec.decode_infer_request(message)
            result = await self._run(model, request)
            code = grpc.StatusCode.OK
            return grpc_codec.encode_infer_response(result, model.description, request.request_id)
        except errors.InferenceFault as fault:
            code = resolve_code(fault)
            await _abort(context, fault)
        finally:
            self._metrics.observe_request("grpc", code.name, time.monotonic() - started)

    async def _run(self, model: ServedModel, request: InferRequest) -> InferResult:
        future: asyncio.Future[InferResult] = asyncio.get_running_loop().create_future()

        def deliver(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, errors.InferenceFault):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        job = self._dataplane.submit(model, request, deliver)
        try:
            return await future
        except asyncio.CancelledError:
            job.cancel()
            raise


class _Health:
    """grpc.health.v1.Health: the server as a whole, and the inference service by name."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    def handler(self) -> grpc.GenericRpcHandler:
        """The methods under the service's public name."""
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": _unary(self.check, pb.HealthCheckRequest),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    self.watch,
                    request_deserializer=pb.HealthCheckRequest.FromString,
                    response_serializer=_serialize,
                ),
            },
        )

    async def check(
        self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> pb.HealthCheckResponse:
        status = self._status(request.service)
        if status == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service '{request.service}'")
        return pb.HealthCheckResponse(status=status)

    async def watch(
        self, request: pb.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        told: int | None = None
        while not context.cancelled():
            status = self._status(request.service)
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            await asyncio.sleep(_WATCH_SECONDS)

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus:
        if service not in ("", INFERENCE_SERVICE):
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        if self._dataplane.is_ready:
            return pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse.NOT_SERVING


async def _abort(context: grpc.aio.ServicerContext, fault: errors.InferenceFault) -> NoReturn:
    """End the call with the fault's status."""
    await context.abort(resolve_code(fault), fault.message)
    raise fault  # abort has raised already; this tells the type checker


def _unary(method: Callable[..., Awaitable[object]], request: type[Any]) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=_serialize
    )


def _serialize(message: pb.ModelInferResponse) -> bytes:
    """Any message of ours: they share the method, not a typed base."""
    return bytes(message.SerializeToString())
