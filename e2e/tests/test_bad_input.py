"""Everything a person can get wrong in a source: its reason, its sentence, and no hot loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2e.cluster.errors import ClusterError
from e2e.tests import models
from e2e.tests.kube import condition, inference_model, is_current, status_of

if TYPE_CHECKING:
    from e2e.tests.conftest import Perceptron
    from e2e.tests.kube import Kube, Object, Sources


@dataclass(frozen=True)
class Case:
    """A spec that cannot be built, and what must be said of it."""

    name: str
    spec: Object
    reason: str
    words: str
    stalls: bool = True


@pytest.fixture(scope="module")
def cases(perceptron: Perceptron, sources: Sources) -> dict[str, Case]:
    inputs = models.build_inputs()
    labels = models.predict(perceptron.content, inputs)

    def data(name: str, **arrays: Any) -> str:
        content = models.pack({key.replace("inputs_", "inputs/"): v for key, v in arrays.items()})
        return sources.publish(name, content, "data.npz")

    def model(name: str, content: bytes) -> str:
        return sources.publish(name, content, "model.onnx")

    good, rows = perceptron.model, perceptron.data
    narrow, integers = inputs[:, :32], inputs.astype(np.int32)
    poisoned = inputs.copy()
    poisoned[3, 5] = np.nan
    bad_data = {
        "shapes": (data("shapes", inputs_x=narrow, labels=labels), "shape"),
        "dtype": (data("dtype", inputs_x=integers, labels=labels), "float32"),
        "nan": (data("nan", inputs_x=poisoned, labels=labels), "NaN"),
        "no-labels": (data("no-labels", inputs_x=inputs), "labels"),
        "three-rows": (data("three-rows", inputs_x=inputs[:3], labels=labels[:3]), "rows"),
    }
    half = perceptron.content[: len(perceptron.content) // 2]
    bad_models = {
        "truncated": (model("truncated", half), "ModelInvalid", "ONNX"),
        "empty": (model("empty", b""), "ModelInvalid", "empty"),
        "no-such-digest": (f"{good[:-8]}00000000", "SourceNotFound", "no manifest"),
    }
    found = [
        *((name, good, uri, "EvaluationInvalid", words) for name, (uri, words) in bad_data.items()),
        *((name, uri, rows, reason, words) for name, (uri, reason, words) in bad_models.items()),
    ]
    return {
        name: Case(name, inference_model(name, uri, evaluation), reason, words)
        for name, uri, evaluation, reason, words in found
    }


NAMES = (
    *("shapes", "dtype", "nan", "no-labels", "three-rows"),
    *("truncated", "empty", "no-such-digest"),
)


@pytest.fixture(scope="module")
def applied(shared_kube: Kube, cases: dict[str, Case]) -> Kube:
    for case in cases.values():
        shared_kube.apply(case.spec)
    return shared_kube


@pytest.mark.parametrize("name", NAMES)
def test_a_source_at_fault_is_named_and_not_tried_again(
    applied: Kube, cases: dict[str, Case], name: str
) -> None:
    case = cases[name]

    def stalled() -> Object | None:
        model = applied.model(name)
        return model if is_current(model) and status_of(model, "Stalled") == "True" else None

    model = applied.wait(f"{name} is stalled", stalled)
    ready = condition(model, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", case.reason), ready
    assert case.words.lower() in ready["message"].lower()
    (build,) = model["status"]["builds"]
    assert applied.need("modelbuild", build)["status"]["attempts"] == 1


def test_an_unreachable_source_is_tried_again_later(applied: Kube, perceptron: Perceptron) -> None:
    nowhere = perceptron.model.replace(":5000/", ":5999/")
    applied.apply(inference_model("unreachable", nowhere, perceptron.data))

    def tried_twice() -> Object | None:
        build = next(iter(applied.model("unreachable")["status"].get("builds", [])), "")
        found = applied.get("modelbuild", build) if build else None
        return found if found and found["status"].get("attempts", 0) >= 2 else None

    build = applied.wait("a second attempt", tried_twice)
    model = applied.model("unreachable")
    assert condition(model, "Stalled") == {}
    assert build["status"]["attempts"] < 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"model": {"uri": "ftp://x/y", "sha256": "a" * 64}}, "oci://", id="scheme"),
        pytest.param({"scaling": {"minReplicas": 3, "maxReplicas": 2}}, "maxReplicas", id="bounds"),
        pytest.param({"surprise": 1}, "surprise", id="unknown field"),
    ],
)
def test_a_wrong_spec_is_refused_at_admission_with_a_sentence(
    applied: Kube, perceptron: Perceptron, changes: Object, words: str
) -> None:
    document = inference_model("refused", perceptron.model, perceptron.data)
    document["spec"] |= changes
    with pytest.raises(ClusterError, match=words):
        applied.apply(document)
