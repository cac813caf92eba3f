"""The golden check: does this machine reproduce what the build saw?

Pure numpy. The optimizer writes golden files and derives tolerances, the server runs a variant
on the golden inputs before it becomes ready and compares here. `docs/artifact.md` has the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelwright_artifact.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from modelwright_artifact.manifest import Golden

Tensors = Mapping[str, NDArray[Any]]

INPUT_PREFIX: Final = "inputs/"
OUTPUT_PREFIX: Final = "outputs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One output that is not what the build saw."""

    output: str
    sentence: str


def load_golden_inputs(directory: Path, golden: Golden) -> dict[str, NDArray[Any]]:
    """The golden inputs by graph input name; first axis = rows."""
    return load_arrays(directory / golden.inputs, INPUT_PREFIX)


def load_golden_outputs(directory: Path, golden: Golden) -> dict[str, NDArray[Any]]:
    """The golden outputs by graph output name; first axis = rows."""
    return load_arrays(directory / golden.outputs, OUTPUT_PREFIX)


def save_arrays(path: Path, prefix: str, arrays: Tensors) -> None:
    """Write an .npz whose names carry the prefix; equal arrays give equal bytes."""
    named = {f"{prefix}{name}": arrays[name] for name in sorted(arrays)}
    np.savez(path, allow_pickle=False, **named)


def load_arrays(path: Path, prefix: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz whose names carry the prefix, never a pickle."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {
                name.removeprefix(prefix): archive[name]
                for name in archive.files
                if name.startswith(prefix)
            }
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path.name} cannot be read as golden data: {error}.") from error


def compare_outputs(
    outputs: Tensors, golden: Tensors, *, atol: float, rtol: float
) -> tuple[Mismatch, ...]:
    """Every golden output that `outputs` does not reproduce; empty means attested.

    Floating point: |y - g| <= atol + rtol * |g| for every element, NaN only where the golden
    has NaN, infinities equal. Integers, booleans and strings: equal.
    """
    found = (_compare(name, outputs.get(name), golden[name], atol, rtol) for name in sorted(golden))
    return tuple(mismatch for mismatch in found if mismatch is not None)


def _compare(
    name: str, output: NDArray[Any] | None, golden: NDArray[Any], atol: float, rtol: float
) -> Mismatch | None:
    if output is None:
        return Mismatch(output=name, sentence=f"Output {name!r} is missing.")
    if output.shape != golden.shape or output.dtype != golden.dtype:
        return Mismatch(
            output=name,
            sentence=(
                f"Output {name!r} is {output.dtype}{list(output.shape)}, "
                f"golden is {golden.dtype}{list(golden.shape)}."
            ),
        )
    if np.issubdtype(golden.dtype, np.inexact):
        agree = np.isclose(output, golden, rtol=rtol, atol=atol, equal_nan=True)
    else:
        agree = output == golden
    wrong = int(agree.size - np.count_nonzero(agree))
    if wrong == 0:
        return None
    return Mismatch(
        output=name,
        sentence=(
            f"Output {name!r} differs from its golden values in {wrong} of {agree.size} elements "
            f"({_describe_distance(output, golden)}; allowed {atol:g} + {rtol:g} of the value)."
        ),
    )


def _describe_distance(output: NDArray[Any], golden: NDArray[Any]) -> str:
    if not np.issubdtype(golden.dtype, np.number):
        return "not equal"
    with np.errstate(all="ignore"):
        distance = np.abs(output.astype(np.float64) - golden.astype(np.float64))
    finite = distance[np.isfinite(distance)]
    largest = float(finite.max()) if finite.size else float("nan")
    return f"by up to {largest:g}"
