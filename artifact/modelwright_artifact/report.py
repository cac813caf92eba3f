"""report.json: what was tried, what came of it, and why. For the operator and for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import Fields, check_choice, parse_object
from modelwright_artifact.manifest import REPORT_FILE, SCHEMA_VERSION, check_schema_version
from modelwright_artifact.measurements import Figures, Recipe, check_precision
from modelwright_artifact.request import Budget, Metric, Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VERDICTS: Final = (
    "Chosen",
    "Kept",
    "Reference",
    "OverBudget",
    "Undecided",
    "NotFaster",
    "Dominated",
    "Failed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One variant that was tried, kept or not; `why` is a sentence."""

    name: str
    precision: str
    recipe: Recipe
    kept: bool
    verdict: str
    why: str
    requires: tuple[str, ...] = ()
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        check_precision(self.precision, self.name)
        check_choice(self.verdict, VERDICTS, f"{self.name}.verdict")

    @classmethod
    def read(cls, fields: Fields) -> Candidate:
        """Parse one candidate of a report."""
        return cls(
            name=fields.text("name"),
            precision=fields.text("precision"),
            recipe=Recipe.read(fields.nested("recipe")),
            kept=fields.flag("kept"),
            verdict=fields.text("verdict"),
            why=fields.text("why"),
            requires=fields.texts("requires"),
            figures=Figures.read(fields),
        )

    def to_json(self) -> dict[str, Any]:
        """The candidate as JSON."""
        return {
            "name": self.name,
            "precision": self.precision,
            "recipe": self.recipe.to_json(),
            "requires": list(self.requires),
            **self.figures.to_json(),
            "kept": self.kept,
            "verdict": self.verdict,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How the rows were divided; the three parts share no row."""

    calibration: int
    search: int
    gate: int

    @classmethod
    def read(cls, fields: Fields) -> RowCounts:
        """Parse the row counts."""
        return cls(
            calibration=fields.integer("calibration"),
            search=fields.integer("search"),
            gate=fields.integer("gate"),
        )

    def to_json(self) -> dict[str, int]:
        """The row counts as JSON."""
        return {"calibration": self.calibration, "search": self.search, "gate": self.gate}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole of report.json."""

    request_key: str
    model_digest: str
    evaluation_digest: str
    profile: Profile
    chosen: str
    metric: Metric
    budget: Budget
    variants: tuple[Candidate, ...]
    rows: RowCounts
    noise: Mapping[str, Any]
    start_time: str
    duration_seconds: float
    tools: Mapping[str, str]
    reproduce: str

    @classmethod
    def from_json(cls, document: str | bytes | Mapping[str, Any]) -> Report:
        """Parse a report; `ArtifactError` names the field that is wrong."""
        root = parse_object(document, "report")
        check_schema_version(root)
        metric, budget = root.nested("metric"), root.nested("budget")
        return cls(
            request_key=root.text("requestKey"),
            model_digest=root.nested("model").text("digest"),
            evaluation_digest=root.nested("evaluation").text("digest"),
            profile=Profile.read(root.nested("profile")),
            chosen=root.text("chosen"),
            metric=Metric(name=metric.text("name"), top_k=metric.maybe("topK", metric.integer)),
            budget=Budget(type=budget.text("type"), value=budget.text("value")),
            variants=tuple(Candidate.read(item) for item in root.objects("variants")),
            rows=RowCounts.read(root.nested("rows")),
            noise=root.mapping("noise"),
            start_time=root.text("startTime"),
            duration_seconds=root.number("durationSeconds"),
            tools={name: root.nested("tools").text(name) for name in root.nested("tools").names()},
            reproduce=root.text("reproduce"),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; `from_json` reads it back to an equal value."""
        metric: dict[str, Any] = {"name": self.metric.name}
        if self.metric.top_k is not None:
            metric["topK"] = self.metric.top_k
        return {
            "schemaVersion": SCHEMA_VERSION,
            "requestKey": self.request_key,
            "model": {"digest": self.model_digest},
            "evaluation": {"digest": self.evaluation_digest},
            "profile": self.profile.to_json(),
            "chosen": self.chosen,
            "metric": metric,
            "budget": {"type": self.budget.type, "value": self.budget.value},
            "variants": [candidate.to_json() for candidate in self.variants],
            "rows": self.rows.to_json(),
            "noise": dict(self.noise),
            "startTime": self.start_time,
            "durationSeconds": self.duration_seconds,
            "tools": dict(self.tools),
            "reproduce": self.reproduce,
        }


def load_report(directory: Path) -> Report:
    """Read `directory/report.json`."""
    path = directory / REPORT_FILE
    try:
        return Report.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"There is no report in {directory}.") from error


def build_rows(report: Report) -> list[tuple[str, ...]]:
    """The variant table as text cells, best verdicts first; the first row is the heading."""
    heading = ("VARIANT", "PRECISION", "DROP (95 %)", "P50", "P99", "SPEEDUP", "SIZE", "VERDICT")
    return [heading, *(_build_row(candidate) for candidate in report.variants)]


def render_text(report: Report) -> str:
    """The variant table for a terminal, with the reason under each variant."""
    rows = build_rows(report)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_pad(rows[0], widths)]
    for row, candidate in zip(rows[1:], report.variants, strict=True):
        lines += [_pad(row, widths), f"    {candidate.why}"]
    return "\n".join(lines)


def format_drop(figures: Figures) -> str:
    """`0.11 points (-0.20 … 0.51)`: positive is worse than the reference."""
    accuracy = figures.accuracy
    if accuracy is None:
        return "-"
    unit = accuracy.unit
    if accuracy.drop is None or accuracy.drop_low is None or accuracy.drop_high is None:
        return f"{accuracy.value:.4g} {unit}"
    interval = f"{accuracy.drop_low:.3g} … {accuracy.drop_high:.3g}"
    return f"{accuracy.drop:.3g} {unit} ({interval})"


def format_micros(micros: float) -> str:
    """Microseconds in the unit a person would use."""
    return f"{micros / 1000:.2f} ms" if micros >= 1000 else f"{micros:.0f} µs"


def format_bytes(size: int) -> str:
    """Bytes in the unit a person would use."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} GiB"


def _build_row(candidate: Candidate) -> tuple[str, ...]:
    figures = candidate.figures
    latency, speedup = figures.latency, figures.speedup
    return (
        candidate.name,
        candidate.precision,
        format_drop(figures),
        "-" if latency is None else format_micros(latency.p50_micros),
        "-" if latency is None else format_micros(latency.p99_micros),
        "-"
        if speedup is None
        else f"{speedup.value:.2f}x ({speedup.low:.2f} … {speedup.high:.2f})",
        "-" if figures.size_bytes is None else format_bytes(figures.size_bytes),
        candidate.verdict,
    )


def _pad(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
