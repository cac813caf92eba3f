"""Every golden manifest is taken by a real API server, in namespaces of the strictest Pod Security.

A dry run: the server validates, defaults and admits as ever, and keeps nothing. What makes pods is
sent a second time as the pod it would make, since Pod Security refuses only those.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from modelwright_operator.kube.resources import resource_of
from tests.integration.api.server import APPLY, connect
from tests.support import golden_plans as golden

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from e2e.cluster import Cluster

pytestmark = pytest.mark.integration

SUFFIX = "-golden"
CASES = golden.list_cases()


def read_manifests(case: str) -> list[dict[str, Any]]:
    """A case's reviewed file, moved to the test's namespaces, without a version."""
    text = (golden.CASES / case / "apply.yaml").read_text("utf-8")
    manifests = [item for item in yaml.safe_load_all(text) if item]
    for manifest in manifests:
        meta = manifest["metadata"]
        meta.pop("resourceVersion", None)
        if "namespace" in meta:
            meta["namespace"] += SUFFIX
    return manifests


ALL = [manifest for case in CASES for manifest in read_manifests(case)]


@pytest.fixture(scope="module")
def strict(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Namespaces that enforce `restricted`, with the service accounts the pods name."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    for namespace in sorted(
        {m["metadata"]["namespace"] for m in ALL if "namespace" in m["metadata"]}
    ):
        made = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels},
        }
        account = {"metadata": {"name": "default", "namespace": namespace}}
        account |= {"apiVersion": "v1", "kind": "ServiceAccount"}
        for manifest in (made, account):
            installed.kubectl("apply", "-f", "-", input=yaml.safe_dump(manifest))
    accounts = {
        (m["metadata"]["namespace"], m["metadata"]["name"]): m
        for m in ALL
        if m["kind"] == "ServiceAccount"
    }
    installed.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(accounts.values()))
    with connect(installed.kubeconfig, tmp_path_factory.mktemp("strict")) as client:
        yield client


def ask(client: httpx.Client, manifest: dict[str, Any]) -> httpx.Response:
    """Have the server say what it would do."""
    meta = manifest["metadata"]
    return client.patch(
        resource_of(manifest["kind"]).path(meta.get("namespace"), meta["name"]),
        params={"dryRun": "All", "fieldManager": "modelwright", "fieldValidation": "Strict"},
        headers={"Content-Type": APPLY},
        content=json.dumps(manifest),
    )


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_taken(strict: httpx.Client, case: str) -> None:
    for manifest in read_manifests(case):
        answer = ask(strict, manifest)
        assert answer.is_success, answer.text
        assert "warning" not in answer.headers, answer.headers["warning"]
        pod = pod_of(manifest)
        if pod is not None:
            answer = ask(strict, pod)
            assert answer.is_success, answer.text


def test_the_namespaces_do_refuse_what_is_not_restricted(strict: httpx.Client) -> None:
    pod = next(pod for manifest in ALL if (pod := pod_of(manifest)) is not None)
    loose = copy.deepcopy(pod)
    del loose["spec"]["securityContext"]["runAsNonRoot"]
    answer = ask(strict, loose)
    assert answer.status_code == 403
    assert "runAsNonRoot" in answer.json()["message"]


def pod_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that a controller would make of a manifest."""
    template = manifest.get("spec", {}).get("template")
    if template is None:
        return None
    meta = {"name": "made-by-a-controller", "namespace": manifest["metadata"]["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], **meta},
        "spec": template["spec"],
    }
