"""The table of variants: what a build tried, measured, kept or rejected, and why."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool

from modelwright_operator.api.base import (
    BigCount,
    DecimalText,
    Name,
    Phrase,
    Sentence,
    StatusModel,
    list_type,
)

MAX_VARIANTS = 64


class VariantRow(StatusModel):
    """One candidate of a build with its measurements."""

    profile: Name
    """profile is the hardware profile it was measured on."""
    name: Name
    """name is the variant's name; serving.variant takes it when it was kept."""
    recipe: Phrase | None = None
    """recipe is the recipe that made it."""
    precision: Phrase | None = None
    """precision is the number format of its weights and activations: fp32, int8."""
    kept: StrictBool | None = None
    """kept tells whether it is in the artifact, so that it can be served."""
    verdict: Phrase | None = None
    """verdict is Chosen, Kept, Reference, OverBudget, Undecided, NotFaster, Dominated or Failed."""
    why: Sentence | None = None
    """why explains the verdict."""
    accuracy: DecimalText | None = None
    """accuracy is the metric's value on the rows kept for judging."""
    drop: DecimalText | None = None
    """drop is the accuracy given up against fp32; below zero it is a gain."""
    drop_low: DecimalText | None = None
    """dropLow is the lower end of the drop's 95 % interval."""
    drop_high: DecimalText | None = None
    """dropHigh is the upper end of the drop's 95 % interval; the budget is held against it."""
    p50_micros: BigCount | None = None
    """p50Micros is the median latency of one request, in microseconds."""
    p99_micros: BigCount | None = None
    """p99Micros is the 99th percentile of the latency, in microseconds."""
    speedup: DecimalText | None = None
    """speedup is how many times faster than fp32 it is."""
    speedup_low: DecimalText | None = None
    """speedupLow is the lower end of the speedup's 95 % interval."""
    speedup_high: DecimalText | None = None
    """speedupHigh is the upper end of the speedup's 95 % interval."""
    size_bytes: BigCount | None = None
    """sizeBytes is the size of its graph and weights."""
    peak_memory_bytes: BigCount | None = None
    """peakMemoryBytes is the memory a process needed at most to run it."""


VariantTable = Annotated[
    tuple[VariantRow, ...],
    Field(max_length=MAX_VARIANTS, json_schema_extra=list_type("atomic")),
]
"""Every candidate, in the report's order."""
