"""What a person reads at the end of the demo: the line, the table, the predictions, the way on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEADINGS = (
    "variant",
    "accuracy",
    "drop (95 %)",
    "p50",
    "p99",
    "speedup (95 %)",
    "size",
    "verdict",
)


def variant_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every candidate of a build: what was measured, and why it was kept or not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("variant", "verdict") else "right")
    for row in rows:
        chosen = row.get("verdict") == "Chosen"
        table.add_row(
            str(row["name"]),
            str(row.get("accuracy", "-")),
            _interval(row, "drop", "dropLow", "dropHigh"),
            _millis(row.get("p50Micros")),
            _millis(row.get("p99Micros")),
            _interval(row, "speedup", "speedupLow", "speedupHigh"),
            _mebibytes(row.get("sizeBytes")),
            str(row.get("verdict", "")),
            style="bold green" if chosen else None,
        )
    return table


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per candidate."""
    return [f"{row['name']}: {row['why']}" for row in rows if row.get("why")]


def prediction_table(answers: Sequence[Mapping[str, Any]]) -> Table:
    """What the server said of real inputs, beside what they are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("input", "is", "answer", "variant", "milliseconds"):
        table.add_column(heading, justify="right")
    for number, answer in enumerate(answers, start=1):
        right = answer["label"] == answer["prediction"]
        table.add_row(
            str(number),
            str(answer["label"]),
            str(answer["prediction"]),
            str(answer["variant"]),
            f"{answer['millis']:.1f}",
            style=None if right else "red",
        )
    return table


def console() -> Console:
    """A console that does not wrap tables in a narrow log."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=140)


def _interval(row: Mapping[str, Any], value: str, low: str, high: str) -> str:
    if row.get(value) is None:
        return "-"
    if row.get(low) is None or row.get(high) is None:
        return str(row[value])
    return f"{row[value]} [{row[low]}, {row[high]}]"


def _millis(micros: int | None) -> str:
    return "-" if micros is None else f"{micros / 1000:.2f} ms"


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.2f} MiB"
