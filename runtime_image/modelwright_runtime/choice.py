"""Which artifact and which of its variants this CPU should try, best first. Pure.

The loader tries the candidates in order; the first that is attested serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelwright_artifact.manifest import FALLBACK_VARIANT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from modelwright_artifact.hardware import Hardware
    from modelwright_artifact.manifest import Manifest, Variant


@dataclass(frozen=True, slots=True)
class Artifact:
    """A mounted artifact whose manifest is sound."""

    directory: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant to try, and why it stands where it stands."""

    variant: Variant
    why: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One variant that is not tried, and why."""

    variant: Variant
    why: str


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """What to try of one artifact, in order; `candidates` is never empty."""

    artifact: Artifact
    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]


def plan_choice(
    artifacts: Iterable[Artifact], hardware: Hardware, pinned: str | None
) -> list[ArtifactPlan]:
    """The artifacts worth trying on this CPU, best first; empty when none has a usable variant.

    First those whose profile the CPU fulfils, the most demanding one first. Then those of the
    same architecture that were measured on better CPUs, with fp32 alone: nothing else of them
    is proven here.
    """
    own = [one for one in artifacts if one.manifest.profile.architecture == hardware.architecture]
    own.sort(key=lambda one: _rank_artifact(one, hardware))
    plans = [_plan_artifact(one, hardware, pinned) for one in own]
    return [plan for plan in plans if plan.candidates]


def list_missing_features(artifact: Artifact, hardware: Hardware) -> list[str]:
    """What this CPU lacks of the profile the artifact was measured on."""
    return sorted(set(artifact.manifest.profile.features) - set(hardware.features))


def _rank_artifact(artifact: Artifact, hardware: Hardware) -> tuple[int, int]:
    missing = len(list_missing_features(artifact, hardware))
    return missing, -len(artifact.manifest.profile.features)


def _plan_artifact(artifact: Artifact, hardware: Hardware, pinned: str | None) -> ArtifactPlan:
    """The pinned variant first, then the chosen one, then from fast to slow, fp32 last."""
    manifest = artifact.manifest
    first = manifest.chosen if pinned is None else pinned
    foreign = list_missing_features(artifact, hardware)
    candidates: list[Candidate] = []
    excluded: list[Exclusion] = []
    for variant in sorted(
        manifest.variants, key=lambda one: _rank_variant(one, first, manifest.chosen)
    ):
        lacking = sorted(set(variant.requires) - set(hardware.features))
        if lacking:
            excluded.append(Exclusion(variant, f"this CPU lacks {', '.join(lacking)}"))
        elif foreign and variant.name != FALLBACK_VARIANT:
            why = f"measured for {manifest.profile.name}, this CPU lacks {', '.join(foreign)}"
            excluded.append(Exclusion(variant, why))
        elif variant.name == first:
            candidates.append(Candidate(variant, "chosen by the build" if not pinned else "pinned"))
        else:
            candidates.append(Candidate(variant, f"in place of {first}"))
    return ArtifactPlan(artifact, tuple(candidates), tuple(excluded))


def _rank_variant(variant: Variant, first: str, chosen: str) -> tuple[bool, bool, bool, float, str]:
    name, latency = variant.name, variant.figures.latency
    micros = float("inf") if latency is None else latency.p50_micros
    return name != first, name != chosen, name == FALLBACK_VARIANT, micros, name
