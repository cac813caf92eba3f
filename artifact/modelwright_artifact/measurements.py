"""What was measured of a variant: the figures that manifest and report share.

Units stand in the names: micros are microseconds of wall time, bytes are bytes. A drop is
positive where the variant is worse than the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import Fields, check_choice

PRECISIONS: Final = ("fp32", "int8", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One declared way to make a graph: a name and its passes, `{"name": …, **parameters}`."""

    name: str
    passes: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, fields: Fields) -> Recipe:
        """Parse the recipe of a variant."""
        passes = tuple(_read_pass(value, fields.where) for value in fields.items("passes"))
        return cls(name=fields.text("name"), passes=passes)

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return {"name": self.name, "passes": [dict(step) for step in self.passes]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The metric on the gate rows, and how far it falls below the reference.

    The interval holds the true drop with 95 % confidence. Metrics that compare with the
    reference itself and have no scale for a drop (SQNR) carry the value's interval only.
    """

    metric: str
    value: float
    rows: int
    unit: str
    reference: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    value_low: float | None = None
    value_high: float | None = None

    @classmethod
    def read(cls, fields: Fields) -> Accuracy:
        """Parse the accuracy of a variant."""
        return cls(
            metric=fields.text("metric"),
            value=fields.number("value"),
            rows=fields.integer("rows"),
            unit=fields.text("unit"),
            reference=fields.maybe("reference", fields.number),
            drop=fields.maybe("drop", fields.number),
            drop_low=fields.maybe("dropLow", fields.number),
            drop_high=fields.maybe("dropHigh", fields.number),
            value_low=fields.maybe("valueLow", fields.number),
            value_high=fields.maybe("valueHigh", fields.number),
        )

    def to_json(self) -> dict[str, Any]:
        """The accuracy as JSON; what is unknown is absent."""
        return without_none(
            {
                "metric": self.metric,
                "value": self.value,
                "rows": self.rows,
                "unit": self.unit,
                "reference": self.reference,
                "drop": self.drop,
                "dropLow": self.drop_low,
                "dropHigh": self.drop_high,
                "valueLow": self.value_low,
                "valueHigh": self.value_high,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One row at a time, over all interleaved rounds."""

    p50_micros: float
    p99_micros: float
    mean_micros: float
    rounds: int

    @classmethod
    def read(cls, fields: Fields) -> Latency:
        """Parse the latency of a variant."""
        return cls(
            p50_micros=fields.number("p50Micros"),
            p99_micros=fields.number("p99Micros"),
            mean_micros=fields.number("meanMicros"),
            rounds=fields.integer("rounds"),
        )

    def to_json(self) -> dict[str, Any]:
        """The latency as JSON."""
        return {
            "p50Micros": self.p50_micros,
            "p99Micros": self.p99_micros,
            "meanMicros": self.mean_micros,
            "rounds": self.rounds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times faster than fp32, with a 95 % bootstrap interval over the rounds."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, fields: Fields) -> Speedup:
        """Parse the speed-up of a variant."""
        return cls(
            value=fields.number("value"), low=fields.number("low"), high=fields.number("high")
        )

    def to_json(self) -> dict[str, Any]:
        """The speed-up as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPoint:
    """One point of the batch curve c(b): the median time of a call with so many rows."""

    rows: int
    micros: float

    @classmethod
    def read(cls, fields: Fields) -> BatchPoint:
        """Parse one point of a batch curve."""
        return cls(rows=fields.integer("rows"), micros=fields.number("micros"))

    def to_json(self) -> dict[str, Any]:
        """The point as JSON."""
        return {"rows": self.rows, "micros": self.micros}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was measured of one variant; None where it was not, or not reliably."""

    accuracy: Accuracy | None = None
    latency: Latency | None = None
    speedup: Speedup | None = None
    batch_curve: tuple[BatchPoint, ...] = field(default=())
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None

    @classmethod
    def read(cls, fields: Fields) -> Figures:
        """Parse the figures among a variant's other fields."""

        def read_curve(name: str) -> tuple[BatchPoint, ...]:
            return tuple(BatchPoint.read(point) for point in fields.objects(name))

        return cls(
            accuracy=fields.maybe("accuracy", lambda name: Accuracy.read(fields.nested(name))),
            latency=fields.maybe("latency", lambda name: Latency.read(fields.nested(name))),
            speedup=fields.maybe("speedup", lambda name: Speedup.read(fields.nested(name))),
            batch_curve=fields.maybe("batchCurve", read_curve) or (),
            size_bytes=fields.maybe("sizeBytes", fields.integer),
            peak_memory_bytes=fields.maybe("peakMemoryBytes", fields.integer),
        )

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON; what was not measured is absent."""
        return without_none(
            {
                "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
                "latency": None if self.latency is None else self.latency.to_json(),
                "speedup": None if self.speedup is None else self.speedup.to_json(),
                "batchCurve": [point.to_json() for point in self.batch_curve],
                "sizeBytes": self.size_bytes,
                "peakMemoryBytes": self.peak_memory_bytes,
            }
        )


def check_precision(precision: str, where: str) -> None:
    """Raise unless the precision is a known one."""
    check_choice(precision, PRECISIONS, f"{where}.precision")


def without_none(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the fields that are unknown: absent, never null."""
    return {name: value for name, value in document.items() if value is not None}


def _read_pass(value: object, where: str) -> Mapping[str, Any]:
    fields = Fields(value, f"{where}.passes[]")
    fields.text("name")
    if not isinstance(value, Mapping):
        raise ArtifactError(f"{where}.passes must hold objects.")
    return dict(value)
