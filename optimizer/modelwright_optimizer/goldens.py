"""Golden inputs and outputs, and a tolerance made of the noise that is seen.

What may differ on another machine of the profile is the order of floating point sums: threads,
kernels, fused or not. That is provoked here (other thread counts, no graph optimization, inputs
moved by an ulp or so), and the largest difference, times a margin, is the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_optimizer.engine import Tensors, open_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MARGIN: Final = 4.0
# Of the largest golden value: what fp32 sums may differ by even where no run here differed.
FLOOR: Final = 5e-5
GOLDEN_ROWS: Final = 8
MAX_GOLDEN_BYTES: Final = 4 << 20
_JITTER: Final = 2e-7
_JITTER_SEEDS: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class GoldenOutputs:
    """A variant's outputs on the golden inputs, and the tolerance for them."""

    outputs: Tensors
    atol: float
    rtol: float


@dataclass(frozen=True, slots=True)
class Probe:
    """A variant's outputs on the candidate rows, as measured first and when provoked."""

    first: Tensors
    provoked: tuple[Tensors, ...]

    def stable_rows(self) -> NDArray[np.bool_]:
        """Rows whose integer outputs never moved; a near tie would be a false alarm."""
        rows = len(next(iter(self.first.values())))
        stable = np.ones(rows, np.bool_)
        for name, values in self.first.items():
            if np.issubdtype(values.dtype, np.inexact):
                continue
            for other in self.provoked:
                stable &= (other[name] == values).reshape(rows, -1).all(axis=1)
        return stable


def choose_candidates(
    inputs: Mapping[str, NDArray[Any]], fixed_rows: int | None
) -> dict[str, NDArray[Any]]:
    """The first rows, twice as many as are wanted and no more than the size allows."""
    step = fixed_rows or 1
    row_bytes = max(sum(array[:1].nbytes for array in inputs.values()), 1)
    rows = min(2 * GOLDEN_ROWS, max(MAX_GOLDEN_BYTES // row_bytes, 1))
    rows = max(rows - rows % step, step)
    have = min(len(array) for array in inputs.values())
    if have < rows:
        rows = max(have - have % step, step)
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}


def probe_variant(model: bytes | Path, inputs: Mapping[str, NDArray[Any]], threads: int) -> Probe:
    """Run a variant as it will be served, and in the ways that move its last bits."""
    served = open_graph(model, threads)
    first = served.run_rows(inputs)
    provoked = [served.run_rows(inputs)]
    provoked += [served.run_rows(_jitter(inputs, seed)) for seed in _JITTER_SEEDS]
    del served
    provoked.append(open_graph(model, threads, optimize=False).run_rows(inputs))
    provoked.append(open_graph(model, threads + 1).run_rows(inputs))
    return Probe(first, tuple(provoked))


def choose_rows(probes: Sequence[Probe], fixed_rows: int | None) -> NDArray[np.int64]:
    """The rows on which every variant is stable; the first ones where none is."""
    stable = np.logical_and.reduce([probe.stable_rows() for probe in probes])
    step = fixed_rows or 1
    wanted = max(GOLDEN_ROWS - GOLDEN_ROWS % step, step)
    if step > 1 or not stable.any():
        return np.arange(min(wanted, len(stable)), dtype=np.int64)
    return np.flatnonzero(stable)[:wanted].astype(np.int64)


def build_golden_outputs(probe: Probe, rows: NDArray[np.int64]) -> GoldenOutputs:
    """Outputs and tolerance on the chosen rows."""
    outputs = {name: values[rows] for name, values in probe.first.items()}
    largest = distance = 0.0
    for name, values in outputs.items():
        if not np.issubdtype(values.dtype, np.inexact):
            continue
        largest = max(largest, float(np.abs(values).max(initial=0.0)))
        for other in probe.provoked:
            moved = np.abs(other[name][rows].astype(np.float64) - values.astype(np.float64))
            distance = max(distance, float(moved.max(initial=0.0)))
    atol = max(MARGIN * distance, FLOOR * largest)
    return GoldenOutputs(outputs, atol=float(f"{atol:.3g}"), rtol=0.0)


def _jitter(inputs: Mapping[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """Floating point inputs moved by about one part in five million, up or down."""
    generator = np.random.default_rng(seed)

    def move(array: NDArray[Any]) -> NDArray[Any]:
        if not np.issubdtype(array.dtype, np.floating):
            return array
        signs = generator.choice(np.array([-_JITTER, _JITTER]), size=array.shape)
        moved: NDArray[Any] = (array * (1 + signs)).astype(array.dtype)
        return moved

    return {name: move(array) for name, array in inputs.items()}
