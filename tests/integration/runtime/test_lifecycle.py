"""From start to stop: not ready before it is, nothing lost when it ends, nothing needed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import httpx
import numpy as np
import pytest

from modelwright_runtime.protocol import open_inference_pb2 as pb
from tests.integration.runtime import artifacts
from tests.integration.runtime.server_process import (
    ServerProcess,
    find_free_ports,
    pause,
    wait_for_http,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 256
ROW = np.ones((8, SIZE), np.float32)


def write_slow(folder: Path, steps: int = 200) -> Path:
    """A model that works for some milliseconds on 8 rows."""
    model = artifacts.build_slow(steps, SIZE)
    artifacts.write_artifact(
        folder / "artifact",
        {"fp32": model},
        {"x": ROW[:1]},
        inputs=[artifacts.spec("x", "FP32", -1, SIZE)],
        outputs=[artifacts.spec("y", "FP32", -1, SIZE)],
    )
    return folder / "artifact"


def binary_request() -> tuple[bytes, dict[str, str]]:
    header = (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[8,256],'
        b'"parameters":{"binary_data_size":8192}}],"parameters":{"binary_data_output":true}}'
    )
    return header + ROW.tobytes(), {"Inference-Header-Content-Length": str(len(header))}


class Load:
    """Clients that ask without a pause and count what came of each question."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.answered = 0
        self.wrong: list[str] = []
        self.refused_connections = 0
        self.stopping = False

    async def ask_over_http(self) -> None:
        body, headers = binary_request()
        url = f"{self._server.url}/v2/models/model/infer"
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                try:
                    answer = await client.post(url, content=body, headers=headers)
                except httpx.ConnectError:  # nobody listens any more: nothing was asked
                    self.refused_connections += 1
                    return
                except httpx.TransportError as error:
                    self.wrong.append(repr(error))
                    return
                self._count(answer.status_code == 200, answer.text[:200])

    async def ask_over_grpc(self) -> None:
        message = pb.ModelInferRequest(
            model_name="model",
            inputs=[{"name": "x", "datatype": "FP32", "shape": [8, SIZE]}],
            raw_input_contents=[ROW.tobytes()],
        )
        async with grpc.aio.insecure_channel(self._server.grpc_address) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while True:
                try:
                    raw = await ask(message.SerializeToString(), timeout=60)
                except grpc.aio.AioRpcError as error:
                    if error.code() == grpc.StatusCode.UNAVAILABLE and self.stopping:
                        self.refused_connections += 1
                    else:
                        self.wrong.append(str(error))
                    return
                answer = pb.ModelInferResponse.FromString(raw)
                self._count(len(answer.raw_output_contents) == 1, str(answer.id))

    def _count(self, good: bool, text: str) -> None:
        if good:
            self.answered += 1
        else:
            self.wrong.append(text)

    async def wait_answered(self, count: int) -> None:
        while self.answered < count:
            assert not self.wrong
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("drain_seconds", ["0", "0.5"])
async def test_sigterm_under_load_loses_no_answer(tmp_path: Path, drain_seconds: str) -> None:
    arguments = ("--drain-seconds", drain_seconds)
    with ServerProcess(tmp_path, write_slow(tmp_path), arguments=arguments) as server:
        server.wait_ready()
        load = Load(server)
        clients = [asyncio.create_task(load.ask_over_http()) for _ in range(6)]
        if float(drain_seconds) > 0:
            # Without a drain grpcio cancels calls that arrive as it stops (docs/server.md).
            clients += [asyncio.create_task(load.ask_over_grpc()) for _ in range(2)]
        async with asyncio.timeout(60):
            await load.wait_answered(50)
            load.stopping = True
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)
        assert server.wait_exit() == 0
    assert load.wrong == []
    assert load.refused_connections == len(clients)
    assert "every request is answered" in server.logs()


def test_readiness_falls_at_once_and_requests_are_still_taken_for_a_while(tmp_path: Path) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    arguments = ("--drain-seconds", "600")
    with ServerProcess(tmp_path, tmp_path / "artifact", arguments=arguments) as server:
        server.wait_ready()
        with httpx.Client(base_url=server.url, timeout=30) as client:
            server.process.send_signal(signal.SIGTERM)
            while (answer := client.get("/v2/health/ready")).status_code == 200:
                pause(server.process)
            assert answer.json() == {"live": True, "ready": False}
            assert client.get("/v2/models/model/ready").status_code == 503
            assert client.get("/v2/health/live").status_code == 200
            document = {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0] * 4}]
            }
            answer = client.post("/v2/models/model/infer", json=document)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        server.process.send_signal(signal.SIGTERM)  # the impatient second one
        assert server.wait_exit() == 128 + signal.SIGTERM


def test_ctrl_c_is_clean(tmp_path: Path) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    with ServerProcess(tmp_path, tmp_path / "artifact") as server:
        server.wait_ready()
        assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.logs()


def test_a_full_queue_is_503_with_retry_after_while_health_answers(tmp_path: Path) -> None:
    artifact = write_slow(tmp_path, steps=2000)
    arguments = ("--queue-size", "1", "--cpus", "1")

    async def flood(server: ServerProcess) -> list[httpx.Response]:
        body, headers = binary_request()
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            asks = [
                client.post("/v2/models/model/infer", content=body, headers=headers)
                for _ in range(12)
            ]
            asked = asyncio.gather(*asks)
            health = await client.get("/v2/health/ready")
            assert health.status_code == 200
            return list(await asked)

    with ServerProcess(tmp_path, artifact, arguments=arguments) as server:
        server.wait_ready()
        answers = asyncio.run(flood(server))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "already wait" in refused.json()["error"]
        assert f'code="503",variant="fp32"}} {statuses.count(503)}' in server.metrics()
        assert server.stop() == 0


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port", "--metrics-port"])
def test_a_port_in_use_is_a_sentence(tmp_path: Path, flag: str) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    with ServerProcess(tmp_path, tmp_path / "artifact") as first:
        taken = str(first.wait_ready().http_port)
        (tmp_path / "second").mkdir()
        with ServerProcess(
            tmp_path / "second", tmp_path / "artifact", arguments=(flag, taken)
        ) as second:
            assert second.wait_exit() == 2
    assert f"127.0.0.1:{taken}" in second.termination()["message"]
    assert flag in second.logs()
    assert "Traceback" not in second.logs()


def test_without_grpc_and_metrics_the_rest_serves(tmp_path: Path) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    arguments = ("--grpc-port", "0", "--metrics-port", "0")
    with ServerProcess(tmp_path, tmp_path / "artifact", arguments=arguments) as server:
        server.wait_ready()
        assert server.stop() == 0


@pytest.fixture
def block_grpcio(tmp_path: Path) -> dict[str, str]:
    """An environment in which `import grpc` fails, as without the package."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "grpc.py").write_text("raise ImportError('no grpcio here')\n")
    return {"PYTHONPATH": str(tmp_path / "blocked")}


def test_grpcio_is_needed_for_grpc_only(tmp_path: Path, block_grpcio: dict[str, str]) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    with ServerProcess(tmp_path, tmp_path / "artifact", environment=block_grpcio) as server:
        assert server.wait_exit() == 2
    assert "--grpc-port 0" in server.termination()["message"]
    with ServerProcess(
        tmp_path,
        tmp_path / "artifact",
        arguments=("--grpc-port", "0"),
        environment=block_grpcio,
    ) as server:
        server.wait_ready()


def test_serves_where_nothing_can_be_written(tmp_path: Path) -> None:
    """As on a read-only root: no home, no scratch, and every write to a file fails."""
    artifacts.write_classifier(tmp_path / "artifact")
    nothing = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    with ServerProcess(
        tmp_path, tmp_path / "artifact", environment=nothing, file_bytes=0
    ) as server:
        server.wait_ready()
        assert server.stop() == 0
    assert server.logs() == ""  # the log is a file here: the limit did hold


def test_a_person_sees_what_serves_and_how_to_ask(tmp_path: Path) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    with ServerProcess(tmp_path, tmp_path / "artifact", arguments=("--announce",)) as server:
        server.wait_ready()
        text = server.wait_announced()
        line = next(line for line in text.splitlines() if "curl" in line)
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert '"model_name":"model"' in done.stdout
        assert "fp32: chosen by the build" in text
        assert f"{server.url}/v2/models/model" in text


def test_the_curl_line_of_a_large_input_works_too(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, write_slow(tmp_path), arguments=("--announce",)) as server:
        server.wait_ready()
        text = server.wait_announced()
        line = next(line for line in text.splitlines() if "curl" in line)
        assert len(line) < 500
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert '"name":"y"' in done.stdout


def test_modelwright_serve_is_the_same_server(tmp_path: Path) -> None:
    artifacts.write_classifier(tmp_path / "artifact")
    port = find_free_ports(1)[0]
    script = (
        "import argparse, sys; from modelwright_runtime.cli import register;"
        "parser = argparse.ArgumentParser(); register(parser.add_subparsers());"
        "arguments = parser.parse_args(); sys.exit(arguments.run(arguments))"
    )
    command = [
        *(sys.executable, "-c", script, "serve", str(tmp_path / "artifact")),
        *("--http-port", str(port), "--grpc-port", "0", "--metrics-port", "0"),
        *("--drain-seconds", "0"),
    ]
    with subprocess.Popen(command) as process:
        try:
            wait_for_http(process, f"http://127.0.0.1:{port}/v2/health/ready")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
