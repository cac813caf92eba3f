from __future__ import annotations

from pathlib import Path

import pytest

from modelwright_artifact.hardware import Hardware
from modelwright_artifact.manifest import FileEntry, Golden, Manifest, TensorSpec, Variant
from modelwright_artifact.measurements import Figures, Latency, Recipe
from modelwright_artifact.request import Profile
from modelwright_runtime.choice import Artifact, ArtifactPlan, plan_choice

VNNI = ("avx2", "avx512_vnni", "avx512f")


def cpu(*features: str, architecture: str = "amd64") -> Hardware:
    return Hardware(architecture=architecture, features=features, vendor="test", cores=2)


def variant(name: str, *requires: str, p50: float | None = None) -> Variant:
    latency = (
        None if p50 is None else Latency(p50_micros=p50, p99_micros=p50, mean_micros=p50, rounds=1)
    )
    return Variant(
        name=name,
        file=f"{name}.onnx",
        precision="fp32",
        recipe=Recipe(name=name, passes=()),
        golden=Golden(inputs="golden/inputs.npz", outputs=f"golden/{name}.npz", atol=0, rtol=0),
        requires=requires,
        figures=Figures(latency=latency),
    )


def artifact(
    profile: str,
    features: tuple[str, ...],
    *variants: Variant,
    chosen: str = "fp32",
    architecture: str = "amd64",
) -> Artifact:
    every = (*variants, variant("fp32", p50=100))
    files = {"golden/inputs.npz": FileEntry(sha256="0" * 64, bytes=1)}
    for one in every:
        files[one.file] = files[one.golden.outputs] = files["golden/inputs.npz"]
    manifest = Manifest(
        request_key="0" * 64,
        model_digest=f"sha256:{'0' * 64}",
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1,)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1,)),),
        profile=Profile(name=profile, architecture=architecture, features=features),
        tools={},
        threads=1,
        chosen=chosen,
        variants=every,
        files=files,
    )
    return Artifact(Path(profile), manifest)


def order(plans: list[ArtifactPlan]) -> list[tuple[str, list[str]]]:
    return [
        (plan.artifact.manifest.profile.name, [one.variant.name for one in plan.candidates])
        for plan in plans
    ]


BASE = artifact("baseline", ())
AVX2 = artifact("avx2", ("avx2",), variant("int8", "avx2", p50=50), chosen="int8")
AVX512 = artifact("avx512-vnni", VNNI, variant("int8", "avx512_vnni", p50=30), chosen="int8")


@pytest.mark.parametrize(
    ("hardware", "want"),
    [
        pytest.param(
            cpu(*VNNI),
            [("avx512-vnni", ["int8", "fp32"]), ("avx2", ["int8", "fp32"]), ("baseline", ["fp32"])],
            id="the most specific profile comes first",
        ),
        pytest.param(
            cpu("avx2"),
            [("avx2", ["int8", "fp32"]), ("baseline", ["fp32"]), ("avx512-vnni", ["fp32"])],
            id="what was measured on a better CPU comes last, with fp32 alone",
        ),
        pytest.param(
            cpu(),
            [("baseline", ["fp32"]), ("avx2", ["fp32"]), ("avx512-vnni", ["fp32"])],
            id="a plain CPU gets the plain build",
        ),
        pytest.param(cpu(architecture="arm64"), [], id="another architecture gets nothing"),
    ],
)
def test_artifacts_are_ordered_by_what_the_cpu_can_do(
    hardware: Hardware, want: list[tuple[str, list[str]]]
) -> None:
    assert order(plan_choice([AVX512, BASE, AVX2], hardware, None)) == want


def test_variants_go_from_chosen_over_fast_to_slow_with_fp32_last() -> None:
    one = artifact(
        "avx2",
        ("avx2",),
        variant("slow", p50=200),
        variant("unmeasured"),
        variant("fast", p50=10),
        variant("chosen", p50=50),
        chosen="chosen",
    )
    names = ["chosen", "fast", "slow", "unmeasured", "fp32"]
    assert order(plan_choice([one], cpu("avx2"), None)) == [("avx2", names)]
    (plan,) = plan_choice([one], cpu("avx2"), None)
    assert [one.why for one in plan.candidates][:2] == ["chosen by the build", "in place of chosen"]


def test_a_pinned_variant_comes_first_even_fp32() -> None:
    (plan,) = plan_choice([AVX2], cpu("avx2"), "fp32")
    assert [(one.variant.name, one.why) for one in plan.candidates] == [
        ("fp32", "pinned"),
        ("int8", "in place of fp32"),
    ]


def test_after_a_pinned_variant_comes_the_chosen_one() -> None:
    one = artifact(
        "avx2",
        ("avx2",),
        variant("pinned", p50=90),
        variant("fast", p50=10),
        variant("chosen", p50=50),
        chosen="chosen",
    )
    names = ["pinned", "chosen", "fast", "fp32"]
    assert order(plan_choice([one], cpu("avx2"), "pinned")) == [("avx2", names)]
    assert order(plan_choice([one], cpu("avx2"), "elsewhere")) == [
        ("avx2", ["chosen", "fast", "pinned", "fp32"])
    ]


def test_a_variant_whose_features_are_missing_is_excluded_and_says_so() -> None:
    one = artifact("avx2", ("avx2",), variant("vnni", "avx512_vnni"), chosen="vnni")
    (plan,) = plan_choice([one], cpu("avx2"), None)
    assert [each.variant.name for each in plan.candidates] == ["fp32"]
    assert [(each.variant.name, each.why) for each in plan.excluded] == [
        ("vnni", "this CPU lacks avx512_vnni")
    ]


def test_a_foreign_build_says_why_only_fp32_is_left() -> None:
    one = artifact("avx512-vnni", VNNI, variant("plain-int8"), chosen="plain-int8")
    (plan,) = plan_choice([one], cpu("avx2", "avx512f"), None)
    (excluded,) = plan.excluded
    assert excluded.why == "measured for avx512-vnni, this CPU lacks avx512_vnni"
