"""What `samples.ask` sends is what a server reads, and what it prints is what came back."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from modelwright_runtime.protocol import rest_codec
from samples.ask import Answer, ask_one, draw_image, render_answers

IMAGE = [np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16).tolist()]
LOGITS = [0.0, 1.0, 5.0, -2.0]


def answer_with(status: int = 200) -> tuple[list[httpx.Request], httpx.Client]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        tensor = {"name": "logits", "datatype": "FP32", "shape": [1, 4], "data": LOGITS}
        return httpx.Response(
            status, json={"outputs": [tensor]}, headers={"modelwright-variant": "static-int8"}
        )

    return seen, httpx.Client(base_url="http://server", transport=httpx.MockTransport(handle))


def test_request_is_read_by_the_servers_own_codec() -> None:
    seen, client = answer_with()
    ask_one(client, "digits", 2, IMAGE)
    (request,) = seen
    assert request.url.path == "/v2/models/digits/infer"
    body = json.loads(request.content)
    assert body["inputs"][0]["shape"] == [1, 1, 16, 16]
    decoded = rest_codec.decode_infer_request(request.content, None)
    (tensor,) = decoded.request.inputs
    np.testing.assert_allclose(np.reshape(tensor.array, (16, 16)), IMAGE[0])


def test_answer_is_the_most_likely_class_with_its_probability() -> None:
    _, client = answer_with()
    answer = ask_one(client, "digits", 2, IMAGE)
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert answer.predicted == 2
    assert answer.is_right
    assert answer.probability == pytest.approx(softmax[2])
    assert answer.variant == "static-int8"


def test_refusal_is_an_error() -> None:
    _, client = answer_with(status=503)
    with pytest.raises(httpx.HTTPStatusError):
        ask_one(client, "digits", 2, IMAGE)


def test_wrong_answers_are_called_wrong() -> None:
    answers = [
        Answer(
            label=label, predicted=2, probability=0.5, variant="fp32", millis=1.5, image=IMAGE[0]
        )
        for label in (2, 3)
    ]
    lines = render_answers(answers).splitlines()
    assert len(lines) == 8 + 4
    assert lines[8] == "it is 2, says 2   it is 3, says 2"
    assert lines[9].split() == ["50.0", "%", "right", "50.0", "%", "WRONG"]


def test_ink_is_dark_and_paper_blank() -> None:
    picture = draw_image([[0.0] * 8 + [1.0] * 8] * 16)
    assert picture == [" " * 8 + "█" * 8] * 8
