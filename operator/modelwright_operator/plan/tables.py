"""From a build's report to the table of variants in a status: small facts, decimals as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelwright_operator.api.variants import VariantRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelwright_operator.plan.observed import Object

MAX_ROWS = 64


def build_rows(report: Object, profile: str) -> tuple[VariantRow, ...]:
    """One row per candidate of a report, in the report's order."""
    variants: Iterable[Mapping[str, Any]] = report.get("variants", [])
    return tuple(_row(variant, profile) for variant in list(variants)[:MAX_ROWS])


def _row(variant: Mapping[str, Any], profile: str) -> VariantRow:
    accuracy = variant.get("accuracy") or {}
    latency = variant.get("latency") or {}
    speedup = variant.get("speedup") or {}
    recipe = variant.get("recipe") or {}
    return VariantRow(
        profile=profile,
        name=str(variant["name"]),
        recipe=str(recipe.get("name", variant["name"])),
        precision=str(variant.get("precision", "")),
        kept=bool(variant.get("kept", False)),
        verdict=str(variant.get("verdict", "")),
        why=str(variant.get("why", ""))[:512],
        accuracy=decimal(accuracy.get("value"), 4),
        drop=decimal(accuracy.get("drop"), 3),
        drop_low=decimal(accuracy.get("dropLow"), 3),
        drop_high=decimal(accuracy.get("dropHigh"), 3),
        p50_micros=_integer(latency.get("p50Micros")),
        p99_micros=_integer(latency.get("p99Micros")),
        speedup=decimal(speedup.get("value"), 2),
        speedup_low=decimal(speedup.get("low"), 2),
        speedup_high=decimal(speedup.get("high"), 2),
        size_bytes=_integer(variant.get("sizeBytes")),
        peak_memory_bytes=_integer(variant.get("peakMemoryBytes")),
    )


def decimal(value: Any, places: int) -> str | None:
    """A number as the API carries it: a decimal string, never a float."""
    if value is None:
        return None
    text = f"{float(value):.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _integer(value: Any) -> int | None:
    return None if value is None else round(float(value))
