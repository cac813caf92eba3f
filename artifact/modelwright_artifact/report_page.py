"""The report as one self-contained HTML page: no script, no network, light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from modelwright_artifact.report import Candidate, Report, build_rows, format_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --soft: #8888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
p.lead { margin-top: .3rem } .soft { opacity: .7 }
div.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-top: 1px solid var(--line);
  vertical-align: top; white-space: nowrap }
td.why { white-space: normal; border-top: none; padding-top: 0; opacity: .8 }
tr.chosen td:first-child { font-weight: 600; color: var(--good) }
code, pre { font: 13px/1.4 ui-monospace, monospace } pre { overflow-x: auto }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0;
  overflow-wrap: anywhere }
"""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 300, 70, 40


def render_html(report: Report | Mapping[str, Any]) -> str:
    """Render a report, parsed or as the JSON object `fetch_report` returns."""
    if not isinstance(report, Report):
        report = Report.from_json(report)
    parts = [
        f"<h1>{escape(report.chosen)}</h1>",
        f'<p class="lead">{escape(_summarize(report))}</p>',
        _render_plot(report.variants),
        "<h2>What was tried</h2>",
        _render_table(report),
        "<h2>How it was judged</h2>",
        _render_facts(report),
        "<h2>Reproduce</h2>",
        f"<pre>{escape(report.reproduce)}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Build {escape(report.request_key[:16])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _summarize(report: Report) -> str:
    chosen = next((c for c in report.variants if c.name == report.chosen), None)
    return f"Chosen for {report.profile.name}. {'' if chosen is None else chosen.why}"


def _render_table(report: Report) -> str:
    heading, *rows = build_rows(report)
    body = []
    for row, candidate in zip(rows, report.variants, strict=True):
        kind = ' class="chosen"' if candidate.name == report.chosen else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body.append(f"<tr{kind}>{cells}</tr>")
        body.append(f'<tr><td class="why" colspan="{len(row)}">{escape(candidate.why)}</td></tr>')
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def _render_facts(report: Report) -> str:
    rows = report.rows
    facts = {
        "Metric": report.metric.name,
        "Budget": f"{report.budget.type} {report.budget.value}",
        "Rows": f"{rows.calibration} to calibrate, {rows.search} to search, {rows.gate} to judge",
        "Profile": f"{report.profile.name} ({', '.join(report.profile.features) or 'baseline'})",
        "Noise": ", ".join(f"{name} {value}" for name, value in report.noise.items()),
        "Tools": ", ".join(f"{name} {version}" for name, version in report.tools.items()),
        "Started": f"{report.start_time}, took {report.duration_seconds:.0f} s",
        "Model": report.model_digest,
        "Evaluation": report.evaluation_digest,
        "Request": report.request_key,
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _render_plot(candidates: Sequence[Candidate]) -> str:
    """Latency (x) against accuracy drop with its interval (y, down is worse)."""
    points = [point for point in map(_plot_point, candidates) if point is not None]
    if len(points) < 2:
        return ""
    slowest = max(p50 for _, p50, _, _, _ in points) * 1.1
    top = min(low for _, _, _, low, _ in points)
    bottom = max(high for _, _, _, _, high in points)
    span = (bottom - top) or 1.0

    def x(p50: float) -> float:
        return _LEFT + p50 / slowest * (_WIDTH - _LEFT - 20)

    def y(drop: float) -> float:
        return 15 + (drop - top) / span * (_HEIGHT - _BOTTOM - 30)

    marks = "".join(
        f'<line x1="{x(p50):.1f}" x2="{x(p50):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" '
        f'stroke="currentColor" opacity=".4"/>'
        f'<circle cx="{x(p50):.1f}" cy="{y(drop):.1f}" r="5" '
        f'fill="{"var(--good)" if c.kept else "var(--soft)"}"/>'
        f'<text x="{x(p50) + 8:.1f}" y="{y(drop) + 4:.1f}">{escape(c.name)}</text>'
        for c, p50, drop, low, high in points
    )
    axis = _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH + 120} {_HEIGHT}" role="img" '
        'aria-label="Accuracy drop against latency">'
        f'<path d="M{_LEFT} 10V{axis}H{_WIDTH}" fill="none" stroke="currentColor"/>'
        f'<text x="4" y="20">{top:.3g}</text><text x="4" y="{axis}">{bottom:.3g}</text>'
        f'<text x="4" y="{axis / 2:.0f}">drop ↓</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 18}">0</text>'
        f'<text x="{_WIDTH - 60}" y="{_HEIGHT - 18}">p50 {format_micros(slowest)}</text>'
        f"{marks}</svg>"
    )


def _plot_point(candidate: Candidate) -> tuple[Candidate, float, float, float, float] | None:
    accuracy, latency = candidate.figures.accuracy, candidate.figures.latency
    if accuracy is None or latency is None:
        return None
    if accuracy.drop is None or accuracy.drop_low is None or accuracy.drop_high is None:
        return None
    return candidate, latency.p50_micros, accuracy.drop, accuracy.drop_low, accuracy.drop_high
