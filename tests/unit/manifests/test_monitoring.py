"""Alerts and dashboards speak of metrics that exist, and every alert has its runbook."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "manifests" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules" / "modelwright.yaml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((MONITORING / "dashboards").glob("*.json"))
}
METRIC = re.compile(r"\b(?:modelwright|process)_[a-z0-9_]+\b")
SERIES_SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def documented_metrics() -> set[str]:
    """The names in the first column of the two tables."""
    text = "".join((ROOT / "docs" / page).read_text() for page in PAGES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return {name for row in rows for name in METRIC.findall(row.split("|")[1])}


PAGES = ("operator-metrics.md", "server.md")


def expressions(dashboard: dict[str, Any]) -> list[str]:
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [variable["query"] for variable in dashboard["templating"]["list"]]
    return found


def used_metrics() -> set[tuple[str, str]]:
    used = {("alert " + alert["alert"], alert["expr"]) for alert in ALERTS}
    for name, dashboard in DASHBOARDS.items():
        used |= {("dashboard " + name, expression) for expression in expressions(dashboard)}
    return {
        (where, SERIES_SUFFIX.sub("", metric))
        for where, expression in used
        for metric in METRIC.findall(expression)
    }


def test_every_metric_used_is_documented() -> None:
    documented = {SERIES_SUFFIX.sub("", name) for name in documented_metrics()}

    assert documented
    assert not {(where, name) for where, name in used_metrics() if name not in documented}


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_tells_what_happened_and_where_to_read_on(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]
    runbook = ROOT / annotations["runbook_url"]

    assert annotations["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert runbook.read_text().startswith(f"# {alert['alert']}\n")
    assert annotations["summary"]
    assert annotations["description"].endswith(".")
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["for"]


def test_every_runbook_belongs_to_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}

    assert pages == {alert["alert"] for alert in ALERTS}


def test_links_between_runbooks_lead_somewhere() -> None:
    folder = ROOT / "docs" / "runbooks"
    for page in folder.glob("*.md"):
        for link in re.findall(r"\]\(([^)]+\.md)\)", page.read_text()):
            assert (folder / link).exists(), f"{page.name} links to {link}"


def test_the_prometheus_operators_rule_holds_the_same_groups() -> None:
    component = ROOT / "manifests" / "components" / "monitoring" / "prometheus-rule.yaml"

    assert yaml.safe_load(component.read_text())["spec"] == RULES


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_target_uses_the_chosen_data_source(name: str) -> None:
    for panel in DASHBOARDS[name]["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
