"""The alert rules through Prometheus' own checker and simulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "manifests" / "monitoring" / "rules" / "modelwright.yaml"
SCENARIOS = Path(__file__).parent / "rules_test.yaml"


def test_the_rules_are_valid(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))


def test_alerts_fire_when_they_should_and_only_then(promtool: str) -> None:
    run(promtool, "test", "rules", str(SCENARIOS))


def test_every_alert_has_a_scenario_in_which_it_fires() -> None:
    rules = yaml.safe_load(RULES.read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    fired = {
        check["alertname"]
        for scenario in yaml.safe_load(SCENARIOS.read_text())["tests"]
        for check in scenario["alert_rule_test"]
        if check.get("exp_alerts")
    }

    assert fired == alerts


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
