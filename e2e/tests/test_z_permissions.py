"""After everything else: the operator was denied nothing, and holds nothing it never used.

Read from the API server's audit log of this run, so it comes last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from e2e.cluster.installation import MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.tests.conftest import Product

OPERATOR = "system:serviceaccount:modelwright-system:modelwright-operator"
CREATED = 201
Rule = tuple[str, str, str]

# Granted for a situation that this run does not bring about, each with its reason.
UNUSED_HERE: dict[Rule, str] = {
    ("modelwright.dev", "inferencemodels", "get"): "read again after a lost race on its status",
    ("modelwright.dev", "modelbuilds", "get"): "read again after a lost race",
    ("batch", "jobs", "get"): "read again after a lost race",
    ("autoscaling", "horizontalpodautoscalers", "get"): "read again after a lost race",
    ("policy", "poddisruptionbudgets", "get"): "read again after a lost race",
    ("", "events", "patch"): "an Event that repeats is counted",
    ("", "events", "get"): "an Event that repeats is counted",
}


def requests(product: Product) -> Iterator[dict[str, Any]]:
    log: Path = product.cluster.layout.audit_log
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event.get("user", {}).get("username") == OPERATOR and "objectRef" in event:
            yield event


def rules_of(event: dict[str, Any]) -> Iterator[Rule]:
    """What a request needed; an apply that creates is authorized as a create as well."""
    target = event["objectRef"]
    resource = target["resource"]
    if target.get("subresource"):
        resource = f"{resource}/{target['subresource']}"
    yield target.get("apiGroup", ""), resource, event["verb"]
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == CREATED:
        yield target.get("apiGroup", ""), resource, "create"


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
        rule
        for event in requests(product)
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        for rule in rules_of(event)
    }
    assert denied == set()


def test_every_granted_rule_was_used(product: Product) -> None:
    used = {rule for event in requests(product) for rule in rules_of(event)}
    assert granted() - used - set(UNUSED_HERE) == set()
