"""Every kind the operator talks about, as data: where it lives in the API.

The API client builds paths from this table and nothing else, so RBAC can be checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from modelwright_operator.plan import names
from modelwright_operator.plan.types import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API: its version, its plural, and whether it lives in a namespace."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version inside the group."""
        return self.api_version.rpartition("/")[2]

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL path of a collection, an object or an object's subresource."""
        parts = ["apis" if self.group else "api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/" + "/".join(parts)


_TABLE = (
    Resource(names.API_VERSION, "InferenceModel", "inferencemodels"),
    Resource(names.API_VERSION, "ModelBuild", "modelbuilds"),
    Resource(names.API_VERSION, "HardwareProfile", "hardwareprofiles", namespaced=False),
    Resource("batch/v1", "Job", "jobs"),
    Resource("v1", "Pod", "pods"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("apps/v1", "ReplicaSet", "replicasets"),
    Resource("v1", "Service", "services"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("v1", "Secret", "secrets"),
    Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource("v1", "Node", "nodes", namespaced=False),
    Resource("v1", "Namespace", "namespaces", namespaced=False),
    Resource("v1", "Event", "events"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
)

_BY_KIND = {resource.kind: resource for resource in _TABLE}

# Owners of others before others: what is referred to stands first.
APPLY_ORDER = (
    "Namespace",
    "HardwareProfile",
    "ModelBuild",
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "PodDisruptionBudget",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
    "Pod",
)


class UnknownKindError(LookupError):
    """A kind that the table does not hold."""


def resource_of(kind: str) -> Resource:
    """Find a kind in the table.

    Raises:
        UnknownKindError: the table does not hold it.
    """
    try:
        return _BY_KIND[kind]
    except KeyError:
        raise UnknownKindError(f"kind {kind} is not in the table of kube/resources.py") from None


def apply_rank(kind: str) -> int:
    """Where a kind stands in the order of applying; unknown kinds come last."""
    return APPLY_ORDER.index(kind) if kind in APPLY_ORDER else len(APPLY_ORDER)


def object_reference(manifest: Manifest) -> ObjectRef:
    """A manifest's reference; with a uid when it is a live object."""
    metadata = manifest["metadata"]
    return ObjectRef(
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        namespace=metadata.get("namespace"),
        name=metadata["name"],
        uid=metadata.get("uid"),
    )
