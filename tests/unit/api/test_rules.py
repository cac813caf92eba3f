from __future__ import annotations

import re

import pytest
import re2

from modelwright_operator.api import rules as rules_module
from modelwright_operator.api.checks import (
    check_hardware_profile,
    check_inference_model,
    check_model_build,
)
from modelwright_operator.api.crds import KINDS
from modelwright_operator.api.inference_model import InferenceModelSpec
from modelwright_operator.api.rules import Rule
from modelwright_operator.plan.observed import ProfileView
from modelwright_operator.plan.resolve import resolve_request
from modelwright_operator.settings import parse_settings
from tests.unit.api.cases import CASES, Case
from tests.unit.api.cel import check_rules

RULES = {kind.name: kind.rules for kind in KINDS}
CHECKS = {
    "InferenceModel": check_inference_model,
    "ModelBuild": check_model_build,
    "HardwareProfile": check_hardware_profile,
}
SETTINGS = parse_settings(
    {"artifactRepository": "r.example/artifacts", "images": {"optimizer": "o", "runtime": "r"}}
)
MESSAGES = {rule.message: rule.name for rules in RULES.values() for rule in rules}


def _ids(case: Case) -> str:
    return f"{case.kind}: {case.name}"


def test_cases_have_names_of_their_own() -> None:
    names = [_ids(case) for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_the_python_twin_finds_what_is_wrong(case: Case) -> None:
    found = CHECKS[case.kind](case.document, case.old)
    assert {(v.path, MESSAGES.get(v.message, v.message)) for v in found} == set(case.want)


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_cel_finds_what_is_wrong(case: Case) -> None:
    assert check_rules(RULES[case.kind], case.document, case.old) == set(case.want)


@pytest.mark.parametrize(
    ("rule", "path"),
    [(rule, path) for rules in RULES.values() for rule in rules for path in rule.paths],
    ids=lambda value: value.name if isinstance(value, Rule) else value or "(root)",
)
def test_every_rule_is_broken_somewhere_at_each_of_its_places(rule: Rule, path: str) -> None:
    want = re.compile(re.escape(path).replace(r"\[\]", r"\[\d+\]") + re.escape(rule.field or ""))
    assert any(
        name == rule.name and want.fullmatch(where) for case in CASES for where, name in case.want
    )


def test_rules_have_names_and_messages_of_their_own() -> None:
    every = [rule for rules in RULES.values() for rule in rules]
    assert len({rule.name for rule in every}) == len(every)
    assert len({rule.message for rule in every}) == len(every)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_messages_fit_into_one_readable_line(rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        assert "\n" not in rule.message
        assert 20 <= len(rule.message) <= 300, rule.name
        assert not rule.message.endswith("."), rule.name


def test_patterns_are_re2_and_fit_into_a_raw_string() -> None:
    patterns = {
        name: value
        for name, value in vars(rules_module).items()
        if re.fullmatch(r"_?[A-Z_]+", name) and isinstance(value, str) and "[" in value
    }
    assert len(patterns) >= 10
    for name, pattern in patterns.items():
        assert "'" not in pattern, name
        re2.compile(pattern)
        for construct in ("(?=", "(?!", "(?<", r"\1"):
            assert construct not in pattern, name


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.kind == "InferenceModel" and not c.want], ids=_ids
)
def test_what_is_let_through_can_be_asked_for(case: Case) -> None:
    """The build request is made by other code with checks of its own; they must not disagree."""
    spec = InferenceModelSpec.model_validate(case.document["spec"])
    profile = ProfileView(name="x86-avx2", architecture="amd64", features=("avx2", "fma"))
    request = resolve_request(spec, profile, SETTINGS)
    assert len(request.key()) == 64


def test_a_password_is_not_repeated() -> None:
    case = next(case for case in CASES if case.name == "a password in an https uri as model")
    assert all("secret@" not in str(found) for found in check_inference_model(case.document))
