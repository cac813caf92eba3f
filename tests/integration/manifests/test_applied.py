"""The installation on a real API server: accepted, the same again, and granting what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from e2e.cluster import Cluster

OVERLAYS = Path(__file__).resolve().parents[3] / "manifests" / "overlays"
HOME = "modelwright-system"
OPERATOR = f"system:serviceaccount:{HOME}:modelwright-operator"
EVERYWHERE_BINDING = ("delete", "clusterrolebinding", "modelwright-operator", "--ignore-not-found")
# verb, group, resource, namespace: what the operator does in a namespace that it serves
SERVED = [
    ("list", "modelwright.dev", "inferencemodels"),
    ("patch", "modelwright.dev", "inferencemodels/status"),
    ("create", "modelwright.dev", "modelbuilds"),
    ("patch", "modelwright.dev", "modelbuilds/status"),
    ("create", "batch", "jobs"),
    ("patch", "apps", "deployments"),
    ("delete", "", "services"),
    ("create", "", "serviceaccounts"),
    ("watch", "", "pods"),
    ("get", "", "persistentvolumeclaims"),
    ("create", "", "events"),
    ("patch", "autoscaling", "horizontalpodautoscalers"),
    ("patch", "policy", "poddisruptionbudgets"),
]
NEVER = [
    ("get", "", "secrets"),
    ("list", "", "secrets"),
    ("get", "", "configmaps"),
    ("create", "", "pods"),
    ("create", "", "pods/exec"),
    ("create", "", "serviceaccounts/token"),
    ("patch", "modelwright.dev", "inferencemodels"),
    ("delete", "modelwright.dev", "inferencemodels"),
    ("patch", "rbac.authorization.k8s.io", "roles"),
    ("bind", "rbac.authorization.k8s.io", "clusterroles"),
    ("impersonate", "", "serviceaccounts"),
]
Question = tuple[str, str, str]


def allowed(
    cluster: Cluster, namespace: str, questions: list[Question], user: str = OPERATOR
) -> list[Question]:
    """Which of the questions the API server answers with yes."""
    reviews = [build_review(user, namespace, question) for question in questions]
    document = {"apiVersion": "v1", "kind": "List", "items": reviews}
    said = cluster.kubectl(
        "create", "-f", "-", "-o", "jsonpath={.status.allowed} ", input=json.dumps(document)
    )
    answers = zip(questions, said.split(), strict=True)
    return [question for question, answer in answers if answer == "true"]


def build_review(user: str, namespace: str, question: Question) -> dict[str, Any]:
    verb, group, resource = question
    attributes = {"verb": verb, "group": group, "namespace": namespace}
    attributes["resource"], _, subresource = resource.partition("/")
    if subresource:
        attributes["subresource"] = subresource
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }


@pytest.fixture
def production(cluster: Cluster) -> Cluster:
    cluster.kubectl("apply", "-k", str(OVERLAYS / "production"))
    return cluster


@pytest.fixture
def namespaced(cluster: Cluster) -> Cluster:
    cluster.kubectl(*EVERYWHERE_BINDING)
    models = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(models))
    cluster.kubectl("apply", "-k", str(OVERLAYS / "namespaced"))
    return cluster


def test_a_second_apply_changes_nothing(production: Cluster) -> None:
    before = versions(production)

    production.kubectl("apply", "-k", str(OVERLAYS / "production"))

    assert len(before) > 10
    assert versions(production) == before


def versions(cluster: Cluster) -> dict[str, str]:
    """The resource version of every object of the overlay."""
    template = "{range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}"
    said = cluster.kubectl("get", "-k", str(OVERLAYS / "production"), "-o", f"jsonpath={template}")
    return dict(item.split("=") for item in said.split())


def test_the_operator_may_do_its_work_in_every_namespace(production: Cluster) -> None:
    assert allowed(production, "default", SERVED) == SERVED


def test_the_operator_may_do_nothing_else(production: Cluster) -> None:
    assert allowed(production, "default", NEVER) == []


def test_the_operator_probes_and_leads_at_home_only(production: Cluster) -> None:
    questions = [("create", "", "pods"), ("create", "coordination.k8s.io", "leases")]

    assert allowed(production, HOME, questions) == questions
    assert allowed(production, "kube-system", questions) == []


def test_in_namespaced_mode_other_namespaces_are_closed(namespaced: Cluster) -> None:
    assert allowed(namespaced, "models", SERVED) == SERVED
    assert allowed(namespaced, "kube-system", SERVED) == []
    assert allowed(namespaced, "default", SERVED) == [("create", "", "events")]


def test_in_namespaced_mode_hardware_is_still_found(namespaced: Cluster) -> None:
    questions = [("list", "", "nodes"), ("patch", "modelwright.dev", "hardwareprofiles/status")]

    assert allowed(namespaced, "", questions) == questions


def test_the_operators_pod_is_admitted_where_restricted_is_enforced(production: Cluster) -> None:
    pod = operators_pod(production)

    create_dry(production, pod)

    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Exception, match="violates PodSecurity"):
        create_dry(production, pod)


def operators_pod(cluster: Cluster) -> dict[str, Any]:
    deployment = json.loads(
        cluster.kubectl("-n", HOME, "get", "deployment", "modelwright-operator", "-o", "json")
    )
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "operator-try", "namespace": HOME}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def create_dry(cluster: Cluster, pod: dict[str, Any]) -> None:
    cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))


def test_built_in_roles_reach_our_kinds(production: Cluster) -> None:
    """The aggregation itself is a controller's work; here its labels select our roles."""
    for role, extends in (("view", "view"), ("edit", "edit"), ("edit", "admin")):
        built_in = json.loads(production.kubectl("get", "clusterrole", extends, "-o", "json"))
        (selector,) = built_in["aggregationRule"]["clusterRoleSelectors"]
        (label,) = selector["matchLabels"].items()
        found = production.kubectl("get", "clusterrole", "-l", "=".join(label), "-o", "name")
        assert f"clusterrole.rbac.authorization.k8s.io/modelwright-{role}" in found.split()
