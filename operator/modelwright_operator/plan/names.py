"""Every name, label, port and path that more than one module must agree on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "modelwright.dev"
API_VERSION = f"{GROUP}/v1alpha1"
FIELD_MANAGER = "modelwright"

MODEL_LABEL = f"{GROUP}/model"
BUILD_LABEL = f"{GROUP}/build"
POOL_LABEL = f"{GROUP}/pool"
NODE_LABEL = f"{GROUP}/node"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "modelwright"
COMPONENT_LABEL = "app.kubernetes.io/component"
SOURCE_PVC_LABEL = f"{GROUP}/source"

DEFAULT_POOL = "default"

SERVER_CONTAINER = "server"
BUILD_CONTAINER = "optimizer"
PROBE_CONTAINER = "probe"

HTTP_PORT = 8080
GRPC_PORT = 9000
METRICS_PORT = 8082
PROGRESS_PORT = 8090
SERVICE_HTTP_PORT = 80

ARTIFACTS_PATH = "/artifacts"
REGISTRY_CREDENTIALS_PATH = "/var/run/modelwright/registry"
SOURCE_CREDENTIALS_PATH = "/var/run/modelwright/sources"
CA_BUNDLE_PATH = "/var/run/modelwright/ca"
CA_BUNDLE_KEY = "ca.crt"
SCRATCH_PATH = "/scratch"
PVC_PATH = "/sources/pvc"

RUN_AS_USER = 10001

MAX_LABEL = 63
_HASH_LENGTH = 8


def child_name(
    base: str,
    suffix: str = "",
    prefix: str = "",
    limit: int = MAX_LABEL,
    *,
    always_hash: bool = False,
) -> str:
    """Join the parts of a child's name; past `limit` the base is cut and a hash keeps it unique.

    Dots, legal in our kind's names but not in a label value's or Service's, become dashes
    (with the hash, so that `a.b` and `a-b` stay apart).
    """
    flat = base.replace(".", "-")
    whole = f"{prefix}{flat}{suffix}"
    if flat == base and len(whole) <= limit and not always_hash:
        return whole
    digest = hashlib.sha256(base.encode()).hexdigest()[:_HASH_LENGTH]
    room = limit - len(prefix) - len(suffix) - _HASH_LENGTH - 1
    return f"{prefix}{flat[:room].rstrip('-')}-{digest}{suffix}"


def model_label(model: str) -> str:
    """The model's name as a label value (at most 63 characters)."""
    return child_name(model)


def build_name(request_key: str) -> str:
    """A ModelBuild's name: content-addressed, so the same request meets the same build."""
    return f"build-{request_key[:16]}"


def job_name(build: str, attempt: int) -> str:
    """The Job of one attempt at a build."""
    return f"{build}-{attempt}"


def workload_name(model: str, pool: str = DEFAULT_POOL) -> str:
    """Deployment, autoscaler and disruption budget of a model in one pool."""
    return child_name(model, suffix=f"-{pool}")


def service_name(model: str) -> str:
    """A model's Service; it must begin with a letter, and `m-3d` may be a model of its own."""
    if model[:1].isalpha():
        return child_name(model)
    return child_name(model, prefix="m-", always_hash=True)


def service_account_name(model: str) -> str:
    """The identity of a model's servers."""
    return child_name(model, prefix="mw-")


def probe_name(node: str) -> str:
    """The probe pod of a node."""
    return child_name(node, prefix="modelwright-probe-")


def selector_labels(model: str, pool: str = DEFAULT_POOL) -> dict[str, str]:
    """The immutable minimum that selects a model's servers in a pool."""
    return {MODEL_LABEL: model_label(model), POOL_LABEL: pool}


def common_labels(component: str, name: str) -> dict[str, str]:
    """The recommended labels every child carries."""
    return {
        "app.kubernetes.io/name": name,
        COMPONENT_LABEL: component,
        "app.kubernetes.io/part-of": MANAGED_BY,
        MANAGED_BY_LABEL: MANAGED_BY,
    }


def model_labels(model: str, component: str) -> dict[str, str]:
    """Labels of a model's children."""
    return {**common_labels(component, model_label(model)), MODEL_LABEL: model_label(model)}


def build_labels(build: str) -> dict[str, str]:
    """Labels of a build's children."""
    return {**common_labels("build", build), BUILD_LABEL: build}


def owner_reference(
    kind: str, name: str, uid: str, *, controller: bool, api_version: str = API_VERSION
) -> dict[str, object]:
    """An ownerReference, so that the garbage collector cleans up without us."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": controller,
        "blockOwnerDeletion": controller,
    }


def metadata(
    name: str,
    namespace: str | None,
    labels: Mapping[str, str],
    owners: list[dict[str, object]] | None = None,
) -> dict[str, object]:
    """Metadata of a child."""
    result: dict[str, object] = {"name": name, "labels": dict(labels)}
    if namespace is not None:
        result["namespace"] = namespace
    if owners:
        result["ownerReferences"] = owners
    return result
