from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from modelwright_artifact.request import Metric
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.metrics import (
    Classes,
    Energies,
    Errors,
    Hits,
    Similarities,
    build_scores,
    has_invalid_values,
    macro_f1,
)

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
LABELS = np.array([1, 1, 0, 2])


def score(name: str, outputs: Any, reference: Any = None, labels: Any = LABELS, **more: Any) -> Any:
    reference = outputs if reference is None else reference
    return build_scores(Metric(name=name, **more), {"y": outputs}, {"y": reference}, labels)


def test_accuracy_takes_the_largest_score() -> None:
    assert score("Accuracy", SCORES) == Hits(pytest.approx(np.array([True, False, False, True])))


def test_accuracy_takes_classes_as_they_are() -> None:
    hits = score("Accuracy", np.array([1, 0, 0, 2]))
    assert hits.right.tolist() == [True, False, True, True]


def test_accuracy_takes_scores_with_axes_of_one() -> None:
    hits = score("Accuracy", SCORES.reshape(4, 3, 1, 1))
    assert hits.right.tolist() == [True, False, False, True]


def test_topk_counts_ties_against_the_label() -> None:
    hits = score("TopK", SCORES, top_k=2)
    assert hits.right.tolist() == [True, True, False, True]


def test_f1_is_the_macro_average_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    true, given = generator.integers(0, 5, 300), generator.integers(0, 5, 300)
    want = f1_score(true, given, average="macro")
    assert macro_f1(given.astype(np.int64), true.astype(np.int64)) == pytest.approx(want)


def test_f1_keeps_classes() -> None:
    classes = score("F1", SCORES)
    assert isinstance(classes, Classes)
    assert classes.given.tolist() == [1, 0, 2, 2]


def test_rmse_is_of_each_row() -> None:
    errors = score("RMSE", np.array([[1.0, 2.0], [0.0, 0.0]]), labels=np.array([[1, 0], [3, 4.0]]))
    assert isinstance(errors, Errors)
    assert errors.squared.tolist() == [2.0, 12.5]


def test_similarity_is_one_only_for_the_same_direction() -> None:
    ours = np.array([[1.0, 0.0], [2.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    theirs = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    scores = score("CosineSimilarity", ours, theirs)
    assert isinstance(scores, Similarities)
    assert scores.cosine.tolist() == pytest.approx([1, 1, 1, 0])


def test_energies_are_of_reference_and_difference() -> None:
    scores = score("SQNR", np.array([[3.0, 4.5]]), np.array([[3.0, 4.0]]))
    assert isinstance(scores, Energies)
    assert (scores.signal.tolist(), scores.noise.tolist()) == ([25.0], [0.25])


BAD = {
    "labels beyond the classes": (
        lambda: score("Accuracy", SCORES, labels=np.array([0, 1, 2, 3])),
        "labels go up to 3; the model has 3 classes",
    ),
    "outputs that are no scores": (
        lambda: score("Accuracy", np.zeros((4, 3, 5))),
        r"shape \[4, 3, 5\]; this metric takes class scores",
    ),
    "one score per row": (lambda: score("F1", np.zeros((4, 1))), "one score per row"),
    "k of all classes": (lambda: score("TopK", SCORES, top_k=3), "every answer would be right"),
    "labels of another shape": (
        lambda: score("RMSE", np.zeros((4, 2)), labels=np.zeros(4)),
        "a label for every output value",
    ),
    "nothing to compare": (
        lambda: score("SQNR", np.zeros((4, 2), np.int64)),
        "no floating point output",
    ),
}


@pytest.mark.parametrize(("work", "want"), BAD.values(), ids=BAD.keys())
def test_a_metric_does_not_fit_with(work: Any, want: str) -> None:
    with pytest.raises(BuildFailure, match=want) as caught:
        work()
    assert caught.value.reason == Reason.EVALUATION_INVALID


def test_invalid_values_are_seen_in_any_output() -> None:
    good = np.zeros(3)
    assert not has_invalid_values({"a": good, "k": np.array([1])})
    assert has_invalid_values({"a": good, "b": np.array([0, np.inf])})
