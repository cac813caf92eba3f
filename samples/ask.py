"""Shows a server a few real digits and prints what it takes them for.

python -m samples.ask http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import httpx

from samples import digits

Image = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one digit was taken for, how surely, by which variant, and how long it took."""

    label: int
    predicted: int
    probability: float
    variant: str
    millis: float
    image: Image

    @property
    def is_right(self) -> bool:
        return self.predicted == self.label


def ask_server(
    url: str, *, model: str = "digits", examples: Path | None = None, timeout_seconds: float = 30
) -> list[Answer]:
    """One request per example, over the Open Inference Protocol v2."""
    path = examples or digits.ensure() / "examples.json"
    with httpx.Client(base_url=url, timeout=timeout_seconds, trust_env=False) as client:
        return [
            ask_one(client, model, example["label"], example["image"])
            for example in json.loads(path.read_text())
        ]


def ask_one(client: httpx.Client, model: str, label: int, image: list[list[list[float]]]) -> Answer:
    channels, height, width = len(image), len(image[0]), len(image[0][0])
    tensor = {
        "name": "image",
        "shape": [1, channels, height, width],
        "datatype": "FP32",
        "data": list(chain.from_iterable(chain.from_iterable(image))),
    }
    start = time.perf_counter()
    response = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
    millis = (time.perf_counter() - start) * 1000
    response.raise_for_status()
    answer = response.json()
    logits = next(out["data"] for out in answer["outputs"] if out["name"] == "logits")
    predicted = max(range(len(logits)), key=logits.__getitem__)
    return Answer(
        label=label,
        predicted=predicted,
        probability=1 / sum(math.exp(logit - logits[predicted]) for logit in logits),
        variant=response.headers.get("modelwright-variant", "?"),
        millis=millis,
        image=image[0],
    )


def render_answers(answers: Sequence[Answer]) -> str:
    """The digits side by side as they were sent, and below each what came back."""
    pictures = [draw_image(answer.image) for answer in answers]
    captions = [
        (
            f"it is {answer.label}, says {answer.predicted}",
            f"{100 * answer.probability:.1f} % {'right' if answer.is_right else 'WRONG'}",
            f"{answer.variant}",
            f"{answer.millis:.1f} ms",
        )
        for answer in answers
    ]
    lines = [*zip(*pictures, strict=True), *zip(*captions, strict=True)]
    return "\n".join("  ".join(f"{cell:<16}" for cell in line).rstrip() for line in lines)


def draw_image(image: Image) -> list[str]:
    """Two rows of pixels per line of text."""
    shades = " ░▒▓█"
    return [
        "".join(
            shades[min(len(shades) - 1, int((above + below) / 2 * len(shades)))]
            for above, below in zip(upper, lower, strict=True)
        )
        for upper, lower in zip(image[::2], image[1::2], strict=True)
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="samples.ask",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", help="where the model is served, such as http://127.0.0.1:8080")
    parser.add_argument("--model", default="digits", help="its name (default: digits)")
    parser.add_argument("--examples", type=Path, help="examples.json (default: the sample's own)")
    options = parser.parse_args(arguments)
    try:
        answers = ask_server(options.url, model=options.model, examples=options.examples)
    except httpx.HTTPError as error:
        print(f"{options.url} gives no answer: {error}", file=sys.stderr)
        return 1
    print(render_answers(answers))
    return 0 if all(answer.is_right for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
