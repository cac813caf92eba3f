"""Accuracy per row: what each metric compares, in a form that can be compared in pairs.

Accuracy, TopK and F1 look at the first output as class scores [rows, classes] or as class
numbers [rows]; RMSE at the first output; CosineSimilarity and SQNR at all floating point
outputs together, against the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_optimizer.failures import BuildFailure, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modelwright_artifact.request import Metric
    from modelwright_optimizer.engine import Tensors

SQNR_CEILING_DB: Final = 200.0


@dataclass(frozen=True, slots=True)
class Hits:
    """Accuracy and TopK: whether each row is right; [rows] bool."""

    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Classes:
    """F1: the class given to each row and the true one; [rows] int64."""

    given: NDArray[np.int64]
    true: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Errors:
    """RMSE: the mean squared error of each row, [rows] float64, in the outputs' unit squared."""

    squared: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Similarities:
    """CosineSimilarity: between each row's outputs and the reference's, [rows] float64."""

    cosine: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Energies:
    """SQNR: energy of the reference's outputs and of the difference, [rows] float64 each."""

    signal: NDArray[np.float64]
    noise: NDArray[np.float64]


Scores = Hits | Classes | Errors | Similarities | Energies


def build_scores(
    metric: Metric, outputs: Tensors, reference: Tensors, labels: NDArray[Any] | None
) -> Scores:
    """Score every row; a `BuildFailure` where metric, outputs and labels do not fit together."""
    match metric.name:
        case "Accuracy":
            return Hits(_read_classes(outputs) == _fitting(labels, outputs))
        case "TopK":
            return _build_top_hits(outputs, _fitting(labels, outputs), metric.top_k or 1)
        case "F1":
            return Classes(_read_classes(outputs), _fitting(labels, outputs))
        case "RMSE":
            return _build_errors(outputs, labels)
        case "CosineSimilarity":
            return Similarities(_compare_directions(_join(outputs), _join(reference)))
        case _:
            ours, theirs = _join(outputs), _join(reference)
            return Energies((theirs**2).sum(axis=1), ((ours - theirs) ** 2).sum(axis=1))


def has_invalid_values(outputs: Tensors) -> bool:
    """Whether any floating point output holds NaN or infinity."""
    return any(
        np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all()
        for array in outputs.values()
    )


def macro_f1(given: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Mean over the true classes of 2·TP / (2·TP + FP + FN), as a fraction."""
    classes = np.unique(true)
    hits = given == true
    both = np.array([np.count_nonzero(hits & (true == c)) for c in classes])
    either = np.array([np.count_nonzero(given == c) + np.count_nonzero(true == c) for c in classes])
    return float(np.mean(2 * both / either))


def _first(outputs: Tensors) -> NDArray[Any]:
    return next(iter(outputs.values()))


def _read_classes(outputs: Tensors) -> NDArray[np.int64]:
    scores = _first(outputs)
    if scores.ndim == 1 and np.issubdtype(scores.dtype, np.integer):
        return scores.astype(np.int64)
    classes: NDArray[np.int64] = np.argmax(_class_scores(outputs), axis=1).astype(np.int64)
    return classes


def _class_scores(outputs: Tensors) -> NDArray[Any]:
    scores = _first(outputs)
    if scores.ndim < 2 or any(size != 1 for size in scores.shape[2:]):
        raise _invalid(
            f"The first output has the shape {list(scores.shape)}; this metric takes class "
            "scores [rows, classes]. Choose CosineSimilarity or SQNR instead."
        )
    if scores.shape[1] < 2:
        raise _invalid("The first output has one score per row; this metric takes one per class.")
    return scores.reshape(scores.shape[:2])


def _fitting(labels: NDArray[Any] | None, outputs: Tensors) -> NDArray[np.int64]:
    if labels is None:
        raise _invalid("The metric compares with labels, and the dataset holds none.")
    if _first(outputs).ndim >= 2:
        classes = _class_scores(outputs).shape[1]
        if int(labels.max()) >= classes:
            raise _invalid(
                f"The labels go up to {int(labels.max())}; the model has {classes} classes, "
                f"0 to {classes - 1}."
            )
    return labels.astype(np.int64)


def _build_top_hits(outputs: Tensors, labels: NDArray[np.int64], k: int) -> Hits:
    scores = _class_scores(outputs)
    if k >= scores.shape[1]:
        raise _invalid(
            f"topK is {k} and the model has {scores.shape[1]} classes: every answer would be right."
        )
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    # Ties count against the label, so that equal scores for all classes are no hit.
    better = np.count_nonzero(scores >= own, axis=1) - 1
    return Hits(better < k)


def _build_errors(outputs: Tensors, labels: NDArray[Any] | None) -> Errors:
    values = _first(outputs).astype(np.float64)
    if labels is None:
        raise _invalid("RMSE compares with labels, and the dataset holds none.")
    if values.size != labels.size:
        raise _invalid(
            f"The labels have the shape {list(labels.shape)}; the first output has "
            f"{list(values.shape)}. RMSE needs a label for every output value."
        )
    distance = values.reshape(len(values), -1) - labels.reshape(len(labels), -1)
    return Errors((distance**2).mean(axis=1))


def _join(outputs: Tensors) -> NDArray[np.float64]:
    """All floating point outputs as [rows, values] float64."""
    parts = [
        array.reshape(len(array), -1).astype(np.float64)
        for array in outputs.values()
        if np.issubdtype(array.dtype, np.floating)
    ]
    if not parts:
        raise _invalid("The model has no floating point output to compare: bring labels.")
    return np.concatenate(parts, axis=1)


def _compare_directions(
    ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> NDArray[np.float64]:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    dots = np.einsum("ij,ij->i", ours, theirs)
    same = (ours == theirs).all(axis=1)
    cosine = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.where(same, 1.0, np.clip(cosine, -1.0, 1.0))


def _invalid(message: str) -> BuildFailure:
    return BuildFailure(Reason.EVALUATION_INVALID, message)
