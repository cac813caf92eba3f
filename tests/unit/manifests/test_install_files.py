"""What the installation grants and how its pod runs, read from the files people apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate", "deletecollection"}
FORBIDDEN_RESOURCES = {"*", "secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers"}


def load_all(folder: Path) -> list[dict[str, Any]]:
    documents = [
        document
        for path in sorted(folder.rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    return [document for document in documents if document and "metadata" in document]


def operator_rules() -> list[tuple[str, dict[str, Any]]]:
    roles = [d for d in load_all(MANIFESTS / "base") if d["kind"] in ("Role", "ClusterRole")]
    return [
        (f"{role['kind']} {role['metadata']['name']}", rule)
        for role in roles
        if role["metadata"]["name"].startswith("modelwright-operator")
        for rule in role["rules"]
    ]


@pytest.mark.parametrize(("role", "rule"), operator_rules())
def test_a_rule_grants_no_wildcard_and_no_secret(role: str, rule: dict[str, Any]) -> None:
    assert not FORBIDDEN_VERBS & set(rule["verbs"])
    assert not FORBIDDEN_RESOURCES & set(rule["resources"])
    assert "*" not in rule["apiGroups"]


def test_no_permission_is_granted_twice() -> None:
    granted = [
        (role, group, resource, verb, tuple(rule.get("resourceNames", ())))
        for role, rule in operator_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]

    assert len(granted) == len(set(granted))


def test_pods_are_made_at_home_only() -> None:
    (everywhere,) = [
        rule
        for role in load_all(MANIFESTS / "base")
        if role["kind"] == "ClusterRole" and role["metadata"]["name"] == "modelwright-operator"
        for rule in role["rules"]
        if "pods" in rule["resources"]
    ]

    assert set(everywhere["verbs"]) == {"get", "list", "watch"}


def pod_spec() -> dict[str, Any]:
    (deployment,) = [d for d in load_all(MANIFESTS / "base") if d["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def test_the_operator_meets_pod_security_restricted() -> None:
    pod = pod_spec()
    (container,) = pod["containers"]
    security = container["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {key for volume in pod["volumes"] for key in volume} - {"name"}
    assert kinds <= {"configMap", "secret", "emptyDir", "projected", "downwardAPI"}


def test_the_operator_is_bounded_and_probed() -> None:
    (container,) = pod_spec()["containers"]

    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": 8080, "health": 8081}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_the_namespace_enforces_pod_security_restricted() -> None:
    (namespace,) = [d for d in load_all(MANIFESTS / "base") if d["kind"] == "Namespace"]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_users_roles_join_the_built_in_ones() -> None:
    roles = {d["metadata"]["name"]: d for d in load_all(MANIFESTS / "base")}
    prefix = "rbac.authorization.k8s.io/aggregate-to"

    assert roles["modelwright-view"]["metadata"]["labels"] == {f"{prefix}-view": "true"}
    assert roles["modelwright-edit"]["metadata"]["labels"] == {
        f"{prefix}-edit": "true",
        f"{prefix}-admin": "true",
    }
    for name in ("modelwright-view", "modelwright-edit"):
        for rule in roles[name]["rules"]:
            assert rule["apiGroups"] == ["modelwright.dev"]
            assert not any("status" in resource for resource in rule["resources"])


def test_every_selector_meets_the_operators_labels() -> None:
    (deployment,) = [d for d in load_all(MANIFESTS / "base") if d["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        document["spec"]["selector"].get("matchLabels", document["spec"]["selector"])
        for folder in ("base", "overlays/production")
        for document in load_all(MANIFESTS / folder)
        if document["kind"] in ("Service", "Deployment", "PodDisruptionBudget")
        and "selector" in document["spec"]
    ]

    assert len(selectors) == 3
    assert all(selector.items() <= labels.items() for selector in selectors)
