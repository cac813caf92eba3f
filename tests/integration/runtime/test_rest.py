"""Open Inference Protocol v2 over REST, with plain HTTP and with Triton's client."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.integration.runtime import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.runtime.server_process import ServerProcess

ROWS = np.array([[0, 1, 2, 3], [1, 0, -1, 2]], np.float32)
INFER = "/v2/models/digits/infer"


@pytest.fixture
def http(classifier_server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=classifier_server.url, timeout=30) as client:
        yield client


def x_json(**changes: Any) -> dict[str, Any]:
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS.tolist()}
    return {"inputs": [entry | changes]}


# --- health and metadata ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        (
            f"/v2/models/digits/versions/{artifacts.VERSION}/ready",
            {"name": "digits", "ready": True},
        ),
    ],
)
def test_health(http: httpx.Client, path: str, want: dict[str, Any]) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()) == (200, want)
    assert http.head(path).status_code == 200


def test_metadata(http: httpx.Client) -> None:
    for path in ("/v2", "/v2/"):
        server = http.get(path).json()
        assert server["name"] == "modelwright"
        assert server["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/digits", f"/v2/models/digits/versions/{artifacts.VERSION}"):
        assert http.get(path).json() == {
            "name": "digits",
            "versions": [artifacts.VERSION],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [
                {"name": "probs", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "label", "datatype": "INT64", "shape": [-1]},
            ],
        }


# --- inference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ROWS.tolist(), ROWS.reshape(-1).tolist()], ids=["nested", "flat"])
def test_infer_json(http: httpx.Client, data: list[Any]) -> None:
    answer = http.post(INFER, json=x_json(data=data) | {"id": "é-1"})
    assert answer.status_code == 200
    assert answer.headers["modelwright-variant"] == "fp32"
    document = answer.json()
    assert document["id"] == "é-1"
    assert document["model_name"] == "digits"
    assert document["model_version"] == artifacts.VERSION
    assert document["parameters"] == {"variant": "fp32"}
    probs, label = document["outputs"]
    assert (probs["name"], probs["datatype"], probs["shape"]) == ("probs", "FP32", [2, 3])
    np.testing.assert_allclose(
        np.reshape(probs["data"], (2, 3)), artifacts.classify(ROWS), rtol=1e-5
    )
    assert label == {"name": "label", "datatype": "INT64", "shape": [2], "data": [2, 2]}


def test_infer_omits_the_id_that_was_not_sent(http: httpx.Client) -> None:
    assert "id" not in http.post(INFER, json=x_json()).json()


def test_infer_selects_outputs_in_order(http: httpx.Client) -> None:
    asked = x_json() | {"outputs": [{"name": "label"}]}
    assert [one["name"] for one in http.post(INFER, json=asked).json()["outputs"]] == ["label"]
    asked = x_json() | {"outputs": [{"name": "label"}, {"name": "probs"}]}
    names = [one["name"] for one in http.post(INFER, json=asked).json()["outputs"]]
    assert names == ["label", "probs"]


def test_infer_binary_in_and_mixed_out(http: httpx.Client) -> None:
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [2, 4],
                    "parameters": {"binary_data_size": 32},
                }
            ],
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "probs"}, {"name": "label", "parameters": {"binary_data": False}}],
        }
    ).encode()
    answer = http.post(
        INFER,
        content=header + ROWS.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert answer.status_code == 200
    length = int(answer.headers["inference-header-content-length"])
    probs, label = json.loads(answer.content[:length])["outputs"]
    assert probs["parameters"] == {"binary_data_size": 24}
    assert label["data"] == [2, 2]
    np.testing.assert_allclose(
        np.frombuffer(answer.content[length:], np.float32).reshape(2, 3),
        artifacts.classify(ROWS),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_infer_compressed(http: httpx.Client, encoding: str, compress: Any) -> None:
    body = compress(json.dumps(x_json()).encode())
    answer = http.post(INFER, content=body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 200
    assert answer.json()["outputs"][1]["data"] == [2, 2]


def test_infer_with_a_chunked_body(http: httpx.Client) -> None:
    body = json.dumps(x_json()).encode()
    answer = http.post(INFER, content=(body[at : at + 7] for at in range(0, len(body), 7)))
    assert answer.json()["outputs"][1]["data"] == [2, 2]


def test_large_bodies_take_another_way_to_the_same_answer(http: httpx.Client) -> None:
    rows = np.zeros((30_000, 4), np.float32)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [30_000, 4],
                    "parameters": {"binary_data_size": rows.nbytes},
                }
            ],
            "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
        }
    ).encode()
    answer = http.post(
        INFER,
        content=header + rows.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    length = int(answer.headers["inference-header-content-length"])
    assert len(answer.content) - length == 30_000 * 8


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/digits/versions/9", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/digits/versions/9/infer", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/digits", 405),
    ],
)
def test_unknown_paths_models_versions_and_methods(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("document", "want"),
    [
        (x_json(name="y"), "unknown input 'y'"),
        ({"inputs": []}, "missing input: x"),
        ({"inputs": x_json()["inputs"] * 2}, "given twice"),
        (x_json(datatype="FP64"), "the model takes FP32"),
        (x_json(shape=[4, 2]), "the model takes [-1, 4]"),
        (x_json(shape=[8]), "the model takes [-1, 4]"),
        (x_json(shape=[3, 4]), "shape [3, 4] takes 12"),
        (x_json(datatype="INT7"), "unknown datatype"),
        (x_json() | {"outputs": [{"name": "nope"}]}, "unknown output 'nope'"),
        (x_json() | {"outputs": [{"name": "label"}, {"name": "label"}]}, "twice"),
    ],
)
def test_requests_that_do_not_fit_are_400_with_a_sentence(
    http: httpx.Client, document: dict[str, Any], want: str
) -> None:
    answer = http.post(INFER, json=document)
    assert answer.status_code == 400
    assert want in answer.json()["error"]
    assert answer.headers["modelwright-variant"] == "fp32"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b'{"inputs": [', {}, 400),
        (b"{}", {"Inference-Header-Content-Length": "3"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "two"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 501),
        (b"{}", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(bytes(2_000_000)), {"Content-Encoding": "gzip"}, 413),
        (bytes(1_000_001), {}, 413),
        (b"{}", {"Expect": "tea"}, 417),
    ],
)
def test_bad_bodies(
    http: httpx.Client, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = http.post(INFER, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert http.post(INFER, json=x_json()).status_code == 200


def test_extensions_that_are_not_there_are_501(http: httpx.Client) -> None:
    shared = x_json(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 32})
    assert http.post(INFER, json=shared).status_code == 501


# --- every datatype, Triton's client ------------------------------------------------------------

VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -65504]], np.float16),
    "FP32": np.array([[0.1, -3e38]], np.float32),
    "FP64": np.array([[0.1, -1e300]], np.float64),
    "BYTES": np.array([["", "zoë \x00 ✓"]], dtype=object),
}


def triton_inputs(module: Any, binary: bool) -> list[Any]:
    inputs = []
    for name, array in VALUES.items():
        one = module.InferInput(f"in_{name.lower()}", list(array.shape), name)
        as_binary = binary or name == "FP16"
        settings = {"binary_data": as_binary} if module is triton else {}
        one.set_data_from_numpy(array, **settings)
        inputs.append(one)
    return inputs


def check_echo(result: Any) -> None:
    for name, want in VALUES.items():
        got = result.as_numpy(f"out_{name.lower()}")
        if name == "BYTES":
            got = np.array([[one if isinstance(one, str) else one.decode() for one in got[0]]])
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_datatype_in_binary(echo_server: ServerProcess, compression: str | None) -> None:
    with triton.InferenceServerClient(echo_server.url.removeprefix("http://")) as client:
        result = client.infer(
            "echo",
            triton_inputs(triton, binary=True),
            request_id="7",
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
        check_echo(result)
        assert result.get_response()["id"] == "7"


def test_every_datatype_in_json_but_fp16(echo_server: ServerProcess) -> None:
    outputs = [
        triton.InferRequestedOutput(f"out_{name.lower()}", binary_data=name == "FP16")
        for name in VALUES
    ]
    with triton.InferenceServerClient(echo_server.url.removeprefix("http://")) as client:
        check_echo(client.infer("echo", triton_inputs(triton, binary=False), outputs=outputs))


def test_json_never_loses_a_value(echo_server: ServerProcess) -> None:
    entries = [
        {"name": one.name(), "datatype": one.datatype(), "shape": one.shape(), "data": []}
        for one in triton_inputs(triton, binary=False)
    ]
    for entry in entries:
        entry["shape"] = [0, 1]
    by_name = {entry["datatype"]: entry for entry in entries}
    nan = np.array([[np.nan]], np.float32)
    by_name["FP16"]["parameters"] = {"binary_data_size": 0}
    by_name["FP32"] |= {"shape": [1, 1], "parameters": {"binary_data_size": 4}}
    del by_name["FP16"]["data"], by_name["FP32"]["data"]
    for output, status in (("out_fp32", 400), ("out_fp16", 400), ("out_fp64", 200)):
        header = json.dumps({"inputs": entries, "outputs": [{"name": output}]}).encode()
        answer = httpx.post(
            f"{echo_server.url}/v2/models/echo/infer",
            content=header + nan.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(header))},
        )
        assert answer.status_code == status, answer.text
        assert ("binary_data: true" in answer.text) == (status == 400)


def test_tritonclient_sees_health_metadata_and_errors(classifier_server: ServerProcess) -> None:
    with triton.InferenceServerClient(classifier_server.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "modelwright"
        assert client.get_model_metadata("digits", artifacts.VERSION)["name"] == "digits"
        one = triton.InferInput("x", [2, 4], "FP32")
        one.set_data_from_numpy(ROWS)
        result = client.infer("digits", [one], priority=1, timeout=1_000_000)
        np.testing.assert_allclose(result.as_numpy("probs"), artifacts.classify(ROWS), rtol=1e-5)
        with pytest.raises(triton.InferenceServerException, match="no model 'other'"):
            client.infer("other", [one])
        pending = [client.async_infer("digits", [one]) for _ in range(20)]
        assert all(job.get_result().as_numpy("label").tolist() == [2, 2] for job in pending)
