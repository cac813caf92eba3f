"""Before a model is loaded the ports answer, and say so. In process, to hold the state still."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx
import pytest
import uvloop

from modelwright_runtime.dataplane import DataPlane
from modelwright_runtime.grpc_server import GrpcServer
from modelwright_runtime.http_server import HttpServer
from modelwright_runtime.metrics import Metrics
from modelwright_runtime.protocol import open_inference_pb2 as pb
from modelwright_runtime.rest_api import RestApi
from modelwright_runtime.settings import HttpLimits
from tests.integration.runtime.server_process import find_free_ports


async def _ask_a_loading_server(path: str, method: str) -> httpx.Response:
    loop = asyncio.get_running_loop()
    metrics = Metrics("digits", "0")
    dataplane = DataPlane("digits", metrics)
    rest = RestApi(loop, dataplane, metrics, version="0", max_body_bytes=1 << 20, decode_limit=8)
    server = HttpServer(loop, rest.handle, HttpLimits(), metrics.count_http_error)
    (port,) = find_free_ports(1)
    await server.listen("127.0.0.1", port)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            return await client.request(method, path, content=b"{}" if method == "POST" else None)
    finally:
        server.close()
        rest.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "want"),
    [
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/v2/health/ready", 503, {"live": True, "ready": False}),
        ("GET", "/v2/models/digits/ready", 503, {"name": "digits", "ready": False}),
        ("GET", "/v2/models/digits", 503, {"error": "model 'digits' is still loading"}),
        ("POST", "/v2/models/digits/infer", 503, {"error": "model 'digits' is still loading"}),
        ("GET", "/v2/models/other/ready", 404, None),
    ],
)
def test_rest_while_loading(method: str, path: str, status: int, want: object) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(_ask_a_loading_server(path, method))
    assert answer.status_code == status
    assert want is None or answer.json() == want
    if status == 503 and "error" in answer.json():
        assert answer.headers["retry-after"] == "1"


async def test_grpc_while_loading() -> None:
    import grpc

    metrics = Metrics("digits", "0")
    server = GrpcServer(
        DataPlane("digits", metrics), metrics, version="0", max_message_bytes=1 << 20
    )
    (port,) = find_free_ports(1)
    await server.listen("127.0.0.1", port)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer = pb.HealthCheckResponse.FromString(await check(b"", timeout=30))
            assert answer.status == pb.HealthCheckResponse.NOT_SERVING
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert pb.ServerLiveResponse.FromString(await live(b"", timeout=30)).live
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            request = pb.ModelInferRequest(model_name="digits").SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(request, timeout=30)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(0)


def test_usage_reports_are_off_before_the_engine_is_imported() -> None:
    script = (
        "import os, sys; from modelwright_runtime import engine;"
        "assert 'onnxruntime' not in sys.modules; engine.engine_version();"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
