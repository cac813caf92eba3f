"""What this CPU can do, and which hardware profile that makes it.

Two tables carry the knowledge: the features that change how a quantized model runs, and the
profiles made of them. Sources of the feature names: Linux `arch/x86/include/asm/cpufeatures.h`
and `arch/arm64/include/uapi/asm/hwcap.h` (the flags of /proc/cpuinfo), numpy's
`numpy/_core/src/common/npy_cpu_features.h`. Which kernels ONNX Runtime picks for them:
`onnxruntime/core/mlas/lib/platform.cpp`.
"""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.request import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Feature:
    """One CPU feature: our name, its flag in /proc/cpuinfo, numpy's name where it has one."""

    name: str
    cpuinfo: str
    numpy: str | None = None


FEATURES: Final[Mapping[str, tuple[Feature, ...]]] = {
    "amd64": (
        Feature("avx2", "avx2", "AVX2"),
        Feature("fma", "fma", "FMA3"),
        Feature("avx512f", "avx512f", "AVX512F"),
        Feature("avx512bw", "avx512bw", "AVX512BW"),
        Feature("avx512dq", "avx512dq", "AVX512DQ"),
        Feature("avx512vl", "avx512vl", "AVX512VL"),
        Feature("avx512_vnni", "avx512_vnni", "AVX512VNNI"),
        Feature("avx512_bf16", "avx512_bf16"),
        Feature("avx_vnni", "avx_vnni"),
        Feature("amx_tile", "amx_tile"),
        Feature("amx_int8", "amx_int8"),
        Feature("amx_bf16", "amx_bf16"),
    ),
    "arm64": (
        Feature("asimddp", "asimddp", "ASIMDDP"),
        Feature("i8mm", "i8mm"),
        Feature("bf16", "bf16"),
        Feature("sve", "sve", "SVE"),
    ),
}

_AVX512: Final = ("avx2", "avx512bw", "avx512dq", "avx512f", "avx512vl", "fma")

# The most capable first: a CPU belongs to the first profile whose features it has all.
PROFILES: Final[tuple[Profile, ...]] = (
    Profile(
        name="x86-amx",
        architecture="amd64",
        features=(*_AVX512, "avx512_vnni", "amx_tile", "amx_int8"),
    ),
    Profile(name="x86-avx512-vnni", architecture="amd64", features=(*_AVX512, "avx512_vnni")),
    Profile(name="x86-avx-vnni", architecture="amd64", features=("avx2", "fma", "avx_vnni")),
    Profile(name="x86-avx512", architecture="amd64", features=_AVX512),
    Profile(name="x86-avx2", architecture="amd64", features=("avx2", "fma")),
    Profile(name="x86-baseline", architecture="amd64"),
    Profile(name="arm64-i8mm", architecture="arm64", features=("asimddp", "i8mm")),
    Profile(name="arm64-dotprod", architecture="arm64", features=("asimddp",)),
    Profile(name="arm64-baseline", architecture="arm64"),
)

_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One machine's CPU as this process sees it."""

    architecture: str
    features: tuple[str, ...]
    vendor: str
    cores: int

    def to_json(self) -> dict[str, Any]:
        """The hardware as the probe reports it, with the profile it belongs to."""
        return {
            "architecture": self.architecture,
            "features": list(self.features),
            "vendor": self.vendor,
            "cores": self.cores,
            "profile": profile_name(self),
        }


def detect(cpuinfo: Path = CPUINFO) -> Hardware:
    """Look at this machine.

    numpy asks CPUID and is believed. /proc/cpuinfo adds the features numpy does not know, but
    only where both agree on the rest: under user-mode emulation the file shows the host.
    """
    architecture = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    text = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    return Hardware(
        architecture=architecture,
        features=resolve_features(architecture, read_flags(text), _numpy_features()),
        vendor=_read_vendor(text),
        cores=len(os.sched_getaffinity(0)),
    )


def resolve_features(
    architecture: str, flags: frozenset[str], numpy_features: Mapping[str, bool] | None
) -> tuple[str, ...]:
    """Which features of the table the CPU has, sorted; see `detect` for the rule."""
    known = FEATURES.get(architecture, ())
    if numpy_features is None:
        return tuple(sorted(f.name for f in known if f.cpuinfo in flags))
    seen = {f.name for f in known if f.numpy and numpy_features.get(f.numpy, False)}
    told = {f.name for f in known if f.numpy in numpy_features and f.cpuinfo in flags}
    if seen == told:
        seen |= {f.name for f in known if f.numpy not in numpy_features and f.cpuinfo in flags}
    return tuple(sorted(seen))


def profile_of(hardware: Hardware) -> Profile | None:
    """The most capable profile whose features this hardware has all, if any."""
    for profile in PROFILES:
        if profile.architecture == hardware.architecture and set(profile.features) <= set(
            hardware.features
        ):
            return profile
    return None


def profile_name(hardware: Hardware) -> str:
    """The name of the hardware's profile; `<architecture>-baseline` for an unknown one."""
    profile = profile_of(hardware)
    return f"{hardware.architecture}-baseline" if profile is None else profile.name


def read_flags(cpuinfo: str) -> frozenset[str]:
    """The flags (x86) or Features (arm64) every processor of /proc/cpuinfo has."""
    lines = [
        line.partition(":")[2].split()
        for line in cpuinfo.splitlines()
        if line.partition(":")[0].strip() in {"flags", "Features"}
    ]
    return frozenset.intersection(*map(frozenset, lines)) if lines else frozenset()


def _numpy_features() -> Mapping[str, bool] | None:
    try:
        umath = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:
        return None
    return {str(name): bool(present) for name, present in umath.__cpu_features__.items()}


def _read_vendor(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"vendor_id", "CPU implementer"}:
            return value.strip()
    return "unknown"
