"""Evaluation and calibration sets: read without pickle, checked with sentences, divided.

An .npz holds `inputs/<graph input>` for every input and, where the metric needs them,
`labels`; the first axis counts rows.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_optimizer.datatypes import NUMPY_OF_DATATYPE
from modelwright_optimizer.failures import BuildFailure, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from modelwright_artifact.manifest import TensorSpec
    from modelwright_artifact.request import Metric

MIN_EVALUATION_ROWS: Final = 20
MIN_CALIBRATION_ROWS: Final = 8
MAX_UNPACKED_BYTES: Final = 8 << 30
MOST_ROWS_ASIDE: Final = 200
_CALIBRATION_SHARE: Final = 0.75
_INPUT_PREFIX: Final = "inputs/"
_LABELS: Final = "labels"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Arrays by graph input name, first axis = rows, with labels where there are any."""

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return min((len(array) for array in self.inputs.values()), default=0)

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[indices]
        return Dataset({name: array[indices] for name, array in self.inputs.items()}, labels)


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts that share no row: to calibrate, to search, to judge."""

    calibration: Dataset
    search: Dataset
    gate: Dataset


def load_dataset(path: Path, reason: Reason) -> Dataset:
    """Read an .npz; anything wrong with it is a `BuildFailure` with that reason."""
    try:
        _check_archive(path, reason)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise BuildFailure(
            reason,
            f"The file cannot be read as an .npz without pickled objects ({error}): "
            "write it with numpy.savez and plain arrays.",
        ) from error
    inputs = {
        name.removeprefix(_INPUT_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(_INPUT_PREFIX)
    }
    unknown = sorted(set(arrays) - {f"{_INPUT_PREFIX}{name}" for name in inputs} - {_LABELS})
    if unknown:
        raise BuildFailure(
            reason,
            f"The .npz holds {unknown[0]!r}; it must hold inputs/<graph input> arrays and "
            "optionally labels.",
        )
    return Dataset(inputs, arrays.get(_LABELS))


def check_inputs(dataset: Dataset, specs: Sequence[TensorSpec], reason: Reason) -> None:
    """Raise unless the arrays are what the graph's inputs take, row by row."""
    wanted = {spec.name for spec in specs}
    if set(dataset.inputs) != wanted:
        raise BuildFailure(
            reason,
            f"The model's inputs are {_list(wanted)}; the dataset holds "
            f"{_list(dataset.inputs) or 'none'}. Name the arrays inputs/<graph input>.",
        )
    for spec in specs:
        _check_array(spec, dataset.inputs[spec.name], reason)
    lengths = {name: len(array) for name, array in dataset.inputs.items()}
    if len(set(lengths.values())) > 1:
        raise BuildFailure(
            reason,
            "The inputs have different numbers of rows: "
            + ", ".join(f"{name} {count}" for name, count in sorted(lengths.items()))
            + ". The first axis of every array counts rows.",
        )


def check_labels(dataset: Dataset, metric: Metric) -> Dataset:
    """The dataset with labels in the shape the metric takes, or a `BuildFailure`."""
    if not metric.needs_labels:
        return Dataset(dataset.inputs)
    if dataset.labels is None:
        raise _invalid(
            f"{metric.name} compares with labels, and the dataset holds none: add an array "
            "named labels, or choose CosineSimilarity or SQNR."
        )
    labels = dataset.labels
    if len(labels.shape) == 0 or len(labels) != dataset.rows:
        raise _invalid(
            f"There are {labels.shape[0] if labels.shape else 'no'} labels for "
            f"{dataset.rows} rows; there must be one for each."
        )
    if metric.name == "RMSE":
        return Dataset(dataset.inputs, _check_targets(labels))
    return Dataset(dataset.inputs, _check_classes(labels, metric))


def check_row_count(dataset: Dataset, minimum: int, reason: Reason, hint: str = "") -> None:
    """Raise where there are fewer different rows than can say anything."""
    if dataset.rows < minimum:
        raise BuildFailure(
            reason,
            f"The dataset has {dataset.rows} rows; at least {minimum} are needed{hint}.",
        )
    different = len(set(hash_rows(dataset)))
    if different < minimum:
        raise BuildFailure(
            reason,
            f"Only {different} of the {dataset.rows} rows differ from each other; at least "
            f"{minimum} different ones are needed{hint}.",
        )


def split_rows(dataset: Dataset, calibration: Dataset | None = None) -> Split:
    """Divide by the rows' hashes: the same rows always go the same way, copies go together.

    At most a fifth and at most 200 rows are set aside from judging. With a calibration set of
    its own, all of those serve the search, and calibration rows that are judged are left out.
    """
    aside, gate = _divide(dataset, min(MOST_ROWS_ASIDE, dataset.rows // 5))
    if calibration is None:
        kept, search = _divide(aside, int(aside.rows * _CALIBRATION_SHARE))
        return Split(kept, search, gate)
    judged = set(hash_rows(gate))
    unseen = [i for i, digest in enumerate(hash_rows(calibration)) if digest not in judged]
    return Split(calibration.take(np.array(unseen, np.int64)), aside, gate)


def hash_rows(dataset: Dataset) -> list[bytes]:
    """SHA-256 of every row over all inputs; labels do not count."""
    names = sorted(dataset.inputs)
    columns = [np.ascontiguousarray(dataset.inputs[name]) for name in names]
    digests = []
    for row in range(dataset.rows):
        digest = hashlib.sha256()
        for column in columns:
            digest.update(column[row].tobytes())
        digests.append(digest.digest())
    return digests


def _divide(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """At most `count` rows with the smallest hashes, and the rest, both in hash order."""
    digests = hash_rows(dataset)
    order = sorted(range(len(digests)), key=lambda row: (digests[row], row))
    cut = count
    while 0 < cut < len(order) and digests[order[cut]] == digests[order[cut - 1]]:
        cut -= 1
    first, second = np.array(order[:cut], np.int64), np.array(order[cut:], np.int64)
    return dataset.take(first), dataset.take(second)


def _check_archive(path: Path, reason: Reason) -> None:
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > MAX_UNPACKED_BYTES:
        raise BuildFailure(
            reason, f"The .npz unpacks to {total} bytes; more than {MAX_UNPACKED_BYTES}."
        )


def _check_array(spec: TensorSpec, array: NDArray[Any], reason: Reason) -> None:
    wanted = NUMPY_OF_DATATYPE.get(spec.datatype)
    if array.dtype.name != wanted:
        raise BuildFailure(
            reason,
            f"The input {spec.name!r} takes {wanted}; the dataset holds {array.dtype.name}. "
            f"Convert it with .astype(numpy.{wanted}).",
        )
    sizes = zip(array.shape[1:], spec.shape[1:], strict=False)
    if array.ndim != len(spec.shape) or any(
        have != want for have, want in sizes if want not in {-1, have}
    ):
        raise BuildFailure(
            reason,
            f"The input {spec.name!r} takes the shape {_show_shape(spec.shape)}; the dataset "
            f"holds {_show_shape(array.shape)}. The first axis counts rows.",
        )
    if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise BuildFailure(
            reason,
            f"The input {spec.name!r} holds NaN or infinity, first in row {bad}: remove such rows.",
        )


def _check_classes(labels: NDArray[Any], metric: Metric) -> NDArray[Any]:
    flat = labels.reshape(len(labels)) if labels.size == len(labels) else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise _invalid(
            f"{metric.name} takes one integer class per row; the labels are "
            f"{labels.dtype.name}{list(labels.shape)}."
        )
    if (flat < 0).any():
        raise _invalid("The labels hold a negative class; classes count from 0.")
    return flat.astype(np.int64)


def _check_targets(labels: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(labels.dtype, np.number) or np.iscomplexobj(labels):
        raise _invalid(f"RMSE takes numbers as labels, not {labels.dtype.name}.")
    targets = labels.astype(np.float64)
    if not np.isfinite(targets).all():
        raise _invalid("The labels hold NaN or infinity: remove such rows.")
    return targets


def _invalid(message: str) -> BuildFailure:
    return BuildFailure(Reason.EVALUATION_INVALID, message)


def _list(names: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _show_shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join("any" if size == -1 else str(size) for size in shape) + "]"
