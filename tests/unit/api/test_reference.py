from __future__ import annotations

import pytest

from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.api.crds import KINDS
from modelwright_operator.api.reference import member_docs, render_reference


@pytest.mark.parametrize("enumeration", [Reason, ConditionType])
def test_every_member_is_explained(enumeration: type[Reason] | type[ConditionType]) -> None:
    docs = member_docs(enumeration)
    assert set(docs) == {member.value for member in enumeration}
    for text in docs.values():
        assert text.endswith(".")


def test_every_rule_and_reason_is_in_the_reference() -> None:
    pages = render_reference()
    for kind in KINDS:
        page = pages[f"{kind.name.lower()}.md"].replace("\\|", "|").replace("&lt;", "<")
        for rule in kind.rules:
            assert rule.message in page
    for reason in Reason:
        assert f"| `{reason}` |" in pages["conditions.md"]
