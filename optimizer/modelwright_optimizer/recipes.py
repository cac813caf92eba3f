"""Recipes: what to try, as data.

Which integers a CPU multiplies exactly decides which recipe is safe, so that knowledge is one
table. ONNX Runtime's U8S8 kernel on AVX2 without VNNI uses VPMADDUBSW, which saturates at 16
bits: with 8-bit weights a trained MobileNet lost 6.5 points, with 7-bit ones none (upstream
onnxruntime#5849, #6004, #14642; ONNX Runtime docs, "Quantize ONNX models", data type choice).
S8S8 is the documented first choice on arm64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.measurements import Recipe

if TYPE_CHECKING:
    from collections.abc import Collection

    from modelwright_artifact.request import Profile

FUSION: Final = "Fusion"
STATIC_INT8: Final = "StaticInt8"
DYNAMIC_INT8: Final = "DynamicInt8"

STATIC_VARIANTS: Final = {"static-int8": "MinMax", "static-int8-percentile": "Percentile"}

# Operators that dynamic quantization makes integer and that gain from it on CPUs; its
# convolutions run no faster than fp32.
DYNAMIC_OPERATORS: Final = ("Attention", "Gemm", "LSTM", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerKernels:
    """How a class of CPUs multiplies 8-bit integers.

    `needs`: the features that make a CPU one of the class. `requires`: what a CPU must have to
    give the answers that were judged; empty where the arithmetic is exact everywhere.
    """

    architecture: str
    needs: tuple[str, ...]
    activations: str
    weights: str
    reduce_range: bool
    requires: tuple[str, ...]


# The first row whose needs a profile meets counts.
INTEGER_KERNELS: Final = (
    IntegerKernels(
        architecture="amd64",
        needs=("avx512_vnni",),
        activations="QUInt8",
        weights="QInt8",
        reduce_range=False,
        requires=("avx512_vnni",),
    ),
    IntegerKernels(
        architecture="amd64",
        needs=("avx_vnni",),
        activations="QUInt8",
        weights="QInt8",
        reduce_range=False,
        requires=("avx_vnni",),
    ),
    IntegerKernels(
        architecture="amd64",
        needs=("avx2",),
        activations="QUInt8",
        weights="QInt8",
        reduce_range=True,
        requires=("avx2",),
    ),
    IntegerKernels(
        architecture="amd64",
        needs=(),
        activations="QUInt8",
        weights="QInt8",
        reduce_range=True,
        requires=(),
    ),
    IntegerKernels(
        architecture="arm64",
        needs=(),
        activations="QInt8",
        weights="QInt8",
        reduce_range=False,
        requires=(),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVariant:
    """A variant to make: its recipe, and what the recipe makes of it."""

    name: str
    precision: str
    recipe: Recipe
    requires: tuple[str, ...] = ()

    @property
    def is_dynamic(self) -> bool:
        """Whether the graph takes its ranges from each batch it sees."""
        return any(step["name"] == "quantize-dynamic" for step in self.recipe.passes)


def plan_variants(
    profile: Profile, techniques: Collection[str], operators: Collection[str]
) -> tuple[PlannedVariant, ...]:
    """Everything worth trying for a graph with these operators; fp32 comes first, always."""
    kernels = resolve_kernels(profile)
    preparation = _plan_preparation(techniques)
    planned = [_plan("fp32", "fp32", preparation)]
    if "DequantizeLinear" in operators:
        # Quantized by its makers already: its precision is theirs to choose.
        return tuple(planned)
    if STATIC_INT8 in techniques:
        for name, calibration in (
            ("static-int8", "MinMax"),
            ("static-int8-percentile", "Percentile"),
        ):
            steps = (*preparation, _plan_static(kernels, calibration))
            planned.append(_plan(name, "int8", steps, kernels.requires))
    if DYNAMIC_INT8 in techniques and set(DYNAMIC_OPERATORS) & set(operators):
        steps = (*preparation, _plan_dynamic(kernels))
        planned.append(_plan("dynamic-int8", "int8", steps, kernels.requires))
    return tuple(planned)


def resolve_kernels(profile: Profile) -> IntegerKernels:
    """The row of the table for a profile."""
    for kernels in INTEGER_KERNELS:
        if kernels.architecture == profile.architecture and set(kernels.needs) <= set(
            profile.features
        ):
            return kernels
    raise LookupError(f"no integer kernels are known for {profile.architecture}")


def _plan_preparation(techniques: Collection[str]) -> tuple[dict[str, Any], ...]:
    return ({"name": "simplify"}, {"name": "fuse"}) if FUSION in techniques else ()


def _plan_static(kernels: IntegerKernels, calibration: str) -> dict[str, Any]:
    step: dict[str, Any] = {
        "name": "quantize-static",
        "format": "QDQ",
        "activations": kernels.activations,
        "weights": kernels.weights,
        "perChannel": True,
        "reduceRange": kernels.reduce_range,
        "calibration": calibration,
    }
    return step | ({"percentile": 99.99} if calibration == "Percentile" else {})


def _plan_dynamic(kernels: IntegerKernels) -> dict[str, Any]:
    return {
        "name": "quantize-dynamic",
        "weights": kernels.weights,
        "perChannel": True,
        "reduceRange": kernels.reduce_range,
        "operators": list(DYNAMIC_OPERATORS),
    }


def _plan(
    name: str,
    precision: str,
    steps: tuple[dict[str, Any], ...],
    requires: tuple[str, ...] = (),
) -> PlannedVariant:
    recipe = Recipe(name=name, passes=steps)
    return PlannedVariant(name=name, precision=precision, recipe=recipe, requires=requires)
