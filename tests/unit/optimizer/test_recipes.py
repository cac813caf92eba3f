from __future__ import annotations

import json

import pytest

from modelwright_artifact.hardware import PROFILES
from modelwright_artifact.request import TECHNIQUES, Profile
from modelwright_optimizer.passes import PASSES
from modelwright_optimizer.recipes import PlannedVariant, plan_variants, resolve_kernels

BY_NAME = {profile.name: profile for profile in PROFILES}
CNN = {"Conv", "Relu", "Gemm"}


def plan(
    profile: str = "x86-avx2", techniques: tuple[str, ...] = TECHNIQUES, operators: set[str] = CNN
) -> dict[str, PlannedVariant]:
    return {one.name: one for one in plan_variants(BY_NAME[profile], techniques, operators)}


def quantization_of(variant: PlannedVariant) -> dict[str, object]:
    (step,) = [step for step in variant.recipe.passes if step["name"].startswith("quantize")]
    return dict(step)


KERNELS = {
    # Without VNNI, eight-bit weights saturate: seven bits.
    "x86-baseline": ("QUInt8", True, ()),
    "x86-avx2": ("QUInt8", True, ("avx2",)),
    "x86-avx512": ("QUInt8", True, ("avx2",)),
    "x86-avx-vnni": ("QUInt8", False, ("avx_vnni",)),
    "x86-avx512-vnni": ("QUInt8", False, ("avx512_vnni",)),
    "x86-amx": ("QUInt8", False, ("avx512_vnni",)),
    "arm64-baseline": ("QInt8", False, ()),
    "arm64-dotprod": ("QInt8", False, ()),
    "arm64-i8mm": ("QInt8", False, ()),
}


@pytest.mark.parametrize(("name", "want"), KERNELS.items(), ids=KERNELS.keys())
def test_the_recipe_is_safe_for(name: str, want: tuple[str, bool, tuple[str, ...]]) -> None:
    variant = plan(name)["static-int8"]
    step = quantization_of(variant)
    assert (step["activations"], step["reduceRange"], variant.requires) == want
    assert (step["weights"], step["perChannel"]) == ("QInt8", True)


def test_every_profile_has_a_row_and_requires_only_what_it_has() -> None:
    assert set(KERNELS) == set(BY_NAME)
    for profile in PROFILES:
        assert set(resolve_kernels(profile).requires) <= set(profile.features)


def test_an_unknown_architecture_has_no_row() -> None:
    profile = Profile(name="x", architecture="arm64")
    object.__setattr__(profile, "architecture", "riscv64")
    with pytest.raises(LookupError, match="riscv64"):
        resolve_kernels(profile)


TECHNIQUE_SETS = {
    "all of them": (TECHNIQUES, {"fp32", "static-int8", "static-int8-percentile", "dynamic-int8"}),
    "none": ((), {"fp32"}),
    "fusion alone": (("Fusion",), {"fp32"}),
    "dynamic alone": (("DynamicInt8",), {"fp32", "dynamic-int8"}),
    "static alone": (("StaticInt8",), {"fp32", "static-int8", "static-int8-percentile"}),
}


@pytest.mark.parametrize(("techniques", "want"), TECHNIQUE_SETS.values(), ids=TECHNIQUE_SETS.keys())
def test_only_allowed_techniques_are_tried(techniques: tuple[str, ...], want: set[str]) -> None:
    planned = plan(techniques=techniques)
    assert set(planned) == want
    assert next(iter(planned)) == "fp32"
    is_fused = [any(s["name"] == "fuse" for s in one.recipe.passes) for one in planned.values()]
    assert all(is_fused) if "Fusion" in techniques else not any(is_fused)


def test_dynamic_quantization_needs_something_to_quantize() -> None:
    assert "dynamic-int8" not in plan(operators={"Conv", "Relu"})


def test_a_quantized_model_keeps_its_makers_precision() -> None:
    assert set(plan(operators={"Conv", "DequantizeLinear"})) == {"fp32"}


def test_recipes_are_data_and_name_known_passes() -> None:
    for variant in plan().values():
        assert json.loads(json.dumps(variant.recipe.to_json())) == variant.recipe.to_json()
        assert {step["name"] for step in variant.recipe.passes} <= set(PASSES)
    assert [one.name for one in plan().values() if one.is_dynamic] == ["dynamic-int8"]
