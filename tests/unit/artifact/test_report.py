from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.measurements import Accuracy, Figures, Latency, Recipe, Speedup
from modelwright_artifact.report import (
    Candidate,
    Report,
    RowCounts,
    format_bytes,
    format_micros,
    render_text,
)
from modelwright_artifact.report_page import render_html
from modelwright_artifact.request import Budget, Metric
from tests.unit.artifact.builders import AVX2, DIGEST, KEY, OTHER_DIGEST


def a_candidate(name: str, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "name": name,
        "precision": "int8",
        "recipe": Recipe(name=name, passes=({"name": "fuse"},)),
        "kept": True,
        "verdict": "Kept",
        "why": "It is as it is.",
        "figures": Figures(
            accuracy=Accuracy(
                metric="Accuracy",
                value=98.0,
                rows=900,
                unit="points",
                reference=98.2,
                drop=0.2,
                drop_low=-0.1,
                drop_high=0.6,
            ),
            latency=Latency(p50_micros=1234.5, p99_micros=2000, mean_micros=1300, rounds=30),
            speedup=Speedup(value=1.7, low=1.6, high=1.8),
            size_bytes=1 << 20,
        ),
    }
    return Candidate(**(values | changes))


def a_report(*candidates: Candidate) -> Report:
    return Report(
        request_key=KEY,
        model_digest=DIGEST,
        evaluation_digest=OTHER_DIGEST,
        profile=AVX2,
        chosen=candidates[0].name,
        metric=Metric(name="TopK", top_k=3),
        budget=Budget(type="AbsoluteDrop", value="1.0"),
        variants=candidates,
        rows=RowCounts(calibration=150, search=50, gate=897),
        noise={"quietRounds": 30},
        start_time="2026-01-01T00:00:00Z",
        duration_seconds=12.5,
        tools={"onnx": "1"},
        reproduce="modelwright optimize model.onnx --data rows.npz",
    )


REPORT = a_report(
    a_candidate("static-int8", verdict="Chosen"),
    a_candidate("fp32", precision="fp32", verdict="Reference"),
    a_candidate(
        "dynamic-int8",
        kept=False,
        verdict="Failed",
        why="It cannot <b>load</b>.",
        figures=Figures(),
    ),
)


def test_parsing_what_was_written_gives_the_same_report() -> None:
    assert Report.from_json(json.dumps(REPORT.to_json())) == REPORT


def test_the_table_tells_figures_and_reasons() -> None:
    text = render_text(REPORT)
    assert "0.2 points (-0.1 … 0.6)" in text
    assert "1.23 ms" in text
    assert "1.70x (1.60 … 1.80)" in text
    assert "    It cannot <b>load</b>." in text
    assert len({line.index("Chosen") for line in text.splitlines() if "Chosen" in line}) == 1


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "path", "line", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = render_html(REPORT)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.addresses == []
    assert "script" not in tags.seen
    assert "svg" in tags.seen
    assert "It cannot &lt;b&gt;load&lt;/b&gt;." in page


def test_the_page_takes_the_json_as_fetched() -> None:
    assert render_html(REPORT.to_json()) == render_html(REPORT)


def test_a_report_without_figures_has_no_plot() -> None:
    page = render_html(a_report(a_candidate("fp32", figures=Figures())))
    assert "<svg" not in page


def test_an_unknown_verdict_is_refused() -> None:
    document = REPORT.to_json()
    document["variants"][0]["verdict"] = "Great"
    with pytest.raises(ArtifactError, match="must be one of Chosen"):
        Report.from_json(document)


@pytest.mark.parametrize(("size", "want"), [(5, "5 B"), (2048, "2 KiB"), (3 << 30, "3 GiB")])
def test_bytes_are_shown_as(size: int, want: str) -> None:
    assert format_bytes(size) == want


@pytest.mark.parametrize(("micros", "want"), [(12.3, "12 µs"), (45678, "45.68 ms")])
def test_times_are_shown_as(micros: float, want: str) -> None:
    assert format_micros(micros) == want
