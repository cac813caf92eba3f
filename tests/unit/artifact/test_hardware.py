from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from modelwright_artifact.hardware import (
    FEATURES,
    PROFILES,
    Hardware,
    detect,
    profile_name,
    profile_of,
    read_flags,
    resolve_features,
)

AVX2_FLAGS = "fpu avx2 fma sse"
VNNI_FLAGS = f"{AVX2_FLAGS} avx512f avx512bw avx512dq avx512vl avx512_vnni"


def numpy_features(*present: str) -> dict[str, bool]:
    known = [feature.numpy for row in FEATURES.values() for feature in row if feature.numpy]
    return {name: name in present for name in known}


def a_machine(*features: str, architecture: str = "amd64") -> Hardware:
    return Hardware(
        architecture=architecture, features=tuple(sorted(features)), vendor="v", cores=1
    )


AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")
MACHINES = {
    "x86-baseline": a_machine(),
    "x86-avx2": a_machine("avx2", "fma"),
    "x86-avx-vnni": a_machine("avx2", "fma", "avx_vnni"),
    "x86-avx512": a_machine(*AVX512),
    "x86-avx512-vnni": a_machine(*AVX512, "avx512_vnni", "avx_vnni"),
    "x86-amx": a_machine(*AVX512, "avx512_vnni", "amx_tile", "amx_int8"),
    "arm64-baseline": a_machine(architecture="arm64"),
    "arm64-dotprod": a_machine("asimddp", architecture="arm64"),
    "arm64-i8mm": a_machine("asimddp", "i8mm", "sve", architecture="arm64"),
}


@pytest.mark.parametrize(("want", "machine"), MACHINES.items(), ids=MACHINES.keys())
def test_a_machine_belongs_to(want: str, machine: Hardware) -> None:
    assert profile_name(machine) == want


def test_every_profile_of_the_table_is_reached() -> None:
    assert {profile.name for profile in PROFILES} == set(MACHINES)


def test_every_feature_of_a_profile_can_be_detected() -> None:
    for profile in PROFILES:
        known = {feature.name for feature in FEATURES[profile.architecture]}
        assert set(profile.features) <= known


def test_an_unknown_architecture_has_no_profile() -> None:
    machine = a_machine(architecture="riscv64")
    assert profile_of(machine) is None
    assert profile_name(machine) == "riscv64-baseline"


def test_features_come_from_cpuinfo_where_numpy_is_missing() -> None:
    flags = frozenset(VNNI_FLAGS.split())
    assert resolve_features("amd64", flags, None) == tuple(sorted((*AVX512, "avx512_vnni")))


def test_cpuinfo_adds_what_numpy_does_not_know() -> None:
    flags = frozenset(f"{AVX2_FLAGS} avx_vnni".split())
    assert resolve_features("amd64", flags, numpy_features("AVX2", "FMA3")) == (
        "avx2",
        "avx_vnni",
        "fma",
    )


def test_cpuinfo_of_another_cpu_adds_nothing() -> None:
    """Under emulation the file shows the host: AVX-512 there, AVX2 in the process."""
    flags = frozenset(f"{VNNI_FLAGS} amx_int8 amx_tile".split())
    assert resolve_features("amd64", flags, numpy_features("AVX2", "FMA3")) == ("avx2", "fma")


def test_a_flag_must_be_on_every_processor() -> None:
    text = "flags\t\t: avx2 fma avx_vnni\nprocessor : 1\nflags : avx2 fma\n"
    assert read_flags(text) == {"avx2", "fma"}
    assert read_flags("Features\t: fp asimddp i8mm\n") == {"fp", "asimddp", "i8mm"}
    assert read_flags("") == frozenset()


def test_this_machine_is_of_some_profile() -> None:
    hardware = detect()
    assert hardware.cores >= 1
    assert hardware.to_json()["profile"] == profile_name(hardware)


@pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None or sys.platform != "linux",
    reason="qemu-x86_64-static is not installed",
)
def test_an_emulated_haswell_is_seen_as_one() -> None:
    script = "from modelwright_artifact.hardware import *; print(profile_name(detect()))"
    run = subprocess.run(
        ["qemu-x86_64-static", "-cpu", "Haswell", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "x86-avx2"
