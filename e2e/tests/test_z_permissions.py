"""After everything else: the operator was denied nothing, and holds nothing it never used.

Read from the API server's audit log of this run, so it comes last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from e2e.cluster.installation import MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.tests.conftest import Product

OPERATOR = "system:serviceaccount:modelwright-system:modelwright-operator"
Rule = tuple[str, str, str]

# Granted for a situation that this run does not bring about, each with its reason.
UNUSED_HERE: dict[Rule, str] = {}


def requests(product: Product) -> Iterator[dict[str, object]]:
    log: Path = product.cluster.layout.audit_log
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event.get("user", {}).get("username") == OPERATOR and "objectRef" in event:
            yield event


def rule_of(event: dict[str, object]) -> Rule:
    target = event["objectRef"]
    assert isinstance(target, dict)
    resource = target["resource"]
    if target.get("subresource"):
        resource = f"{resource}/{target['subresource']}"
    return target.get("apiGroup", ""), resource, str(event["verb"])


def granted() -> set[Rule]:
    rules: set[Rule] = set()
    for name in ("cluster-role.yaml", "role.yaml"):
        for role in yaml.safe_load_all((MANIFESTS / "base" / name).read_text()):
            for rule in role["rules"]:
                rules |= {
                    (group, resource, verb)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    return rules


def test_nothing_was_denied(product: Product) -> None:
    denied = {
        rule_of(event)
        for event in requests(product)
        if event.get("responseStatus", {}).get("code") == 403  # type: ignore[attr-defined]
    }
    assert denied == set()


def test_every_granted_rule_was_used(product: Product) -> None:
    used = {rule_of(event) for event in requests(product)}
    assert granted() - used - set(UNUSED_HERE) == set()
