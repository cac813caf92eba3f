"""The children that serve a model: ServiceAccount, Deployment, Service, disruption budget.

Builders only: what to serve is decided in `plan.model`. The pod template holds nothing that
changes with the operator's own version, so that upgrading the operator rolls no pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelwright_operator.plan import names
from modelwright_operator.plan.pods import (
    container_security_context,
    pod_security_context,
    pull_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelwright_operator.api.inference_model import ServedArtifact
    from modelwright_operator.plan.observed import ModelView
    from modelwright_operator.plan.scale import Replicas
    from modelwright_operator.plan.types import Manifest
    from modelwright_operator.settings import Settings

DRAIN_SECONDS = 5
GRACE_SECONDS = 40


def build_service_account(model: ModelView) -> Manifest:
    """The identity of the servers; it holds no permission and mounts no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(model, names.service_account_name(model.id.name)),
        "automountServiceAccountToken": False,
    }


def build_service(model: ModelView) -> Manifest:
    """One Service over all pools, with the protocol of each port said aloud."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(model, names.service_name(model.id.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": {names.MODEL_LABEL: names.model_label(model.id.name)},
            "ports": [
                _service_port("http", names.SERVICE_HTTP_PORT, "http"),
                _service_port("grpc", names.GRPC_PORT, "kubernetes.io/h2c"),
                _service_port("metrics", names.METRICS_PORT, "http"),
            ],
        },
    }


def build_disruption_budget(model: ModelView) -> Manifest:
    """Let node drains take one server at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(model, names.workload_name(model.id.name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector_labels(model.id.name)},
        },
    }


def build_deployment(
    model: ModelView,
    served: Sequence[ServedArtifact],
    *,
    pinned: str | None,
    resources: Mapping[str, Mapping[str, str]],
    replicas: Replicas,
    settings: Settings,
) -> Manifest:
    """The servers of the default pool; `pinned` is a variant to serve instead of the chosen."""
    name = model.id.name
    spec: dict[str, Any] = {
        "selector": {"matchLabels": names.selector_labels(name)},
        # Never below the wanted capacity during an update: new pods come first.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
        },
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 3,
        "template": {
            "metadata": {
                "labels": {
                    **names.model_labels(name, "server"),
                    **names.selector_labels(name),
                },
            },
            "spec": _pod_spec(model, served, pinned, resources, settings),
        },
    }
    if replicas.number is not None:
        spec["replicas"] = replicas.number
    metadata = _metadata(model, names.workload_name(name), pool=names.DEFAULT_POOL)
    if replicas.as_seen_at is not None:
        metadata["resourceVersion"] = replicas.as_seen_at
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def service_url(model: ModelView, cluster_domain: str) -> str:
    """Where clients inside the cluster reach the model (Open Inference Protocol, REST)."""
    service = names.service_name(model.id.name)
    host = f"{service}.{model.id.namespace}.svc.{cluster_domain}"
    return f"http://{host}/v2/models/{model.id.name}"


def artifact_reference(artifact: ServedArtifact) -> str:
    """An artifact pinned by digest."""
    return f"{artifact.repository}@{artifact.digest}"


def _pod_spec(
    model: ModelView,
    served: Sequence[ServedArtifact],
    pinned: str | None,
    resources: Mapping[str, Mapping[str, str]],
    settings: Settings,
) -> dict[str, Any]:
    volumes = [
        {
            "name": _volume_name(artifact.profile),
            "image": {"reference": artifact_reference(artifact), "pullPolicy": "IfNotPresent"},
        }
        for artifact in served
    ]
    return {
        "serviceAccountName": names.service_account_name(model.id.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **pull_secrets(settings),
        "securityContext": pod_security_context(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": names.selector_labels(model.id.name)},
            }
        ],
        "containers": [_server_container(model, served, pinned, resources, settings)],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }


def _server_container(
    model: ModelView,
    served: Sequence[ServedArtifact],
    pinned: str | None,
    resources: Mapping[str, Mapping[str, str]],
    settings: Settings,
) -> dict[str, Any]:
    mounts = [
        {
            "name": _volume_name(artifact.profile),
            "mountPath": f"{names.ARTIFACTS_PATH}/{artifact.profile}",
            "readOnly": True,
        }
        for artifact in served
    ]
    return {
        "name": names.SERVER_CONTAINER,
        "image": served[0].runtime_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": _server_arguments(model, served, pinned),
        "ports": [
            {"name": "http", "containerPort": names.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": names.GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": {kind: dict(values) for kind, values in resources.items()},
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"},
            "initialDelaySeconds": 1,
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": "http"},
            "initialDelaySeconds": 30,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security_context(),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _server_arguments(
    model: ModelView, served: Sequence[ServedArtifact], pinned: str | None
) -> list[str]:
    arguments = ["serve", "--model-name", model.id.name, "--host", "0.0.0.0"]  # noqa: S104
    for artifact in served:
        arguments += ["--artifact", f"{names.ARTIFACTS_PATH}/{artifact.profile}"]
    if pinned is not None:
        arguments += ["--variant", pinned]
    return [
        *arguments,
        *("--http-port", str(names.HTTP_PORT)),
        *("--grpc-port", str(names.GRPC_PORT)),
        *("--metrics-port", str(names.METRICS_PORT)),
        *("--drain-seconds", str(DRAIN_SECONDS)),
    ]


def _volume_name(profile: str) -> str:
    return names.child_name(profile, prefix="artifact-")


def _service_port(name: str, port: int, protocol: str) -> dict[str, Any]:
    return {
        "name": name,
        "port": port,
        "targetPort": name,
        "protocol": "TCP",
        "appProtocol": protocol,
    }


def _metadata(model: ModelView, name: str, pool: str | None = None) -> dict[str, object]:
    labels = names.model_labels(model.id.name, "server")
    if pool is not None:
        labels[names.POOL_LABEL] = pool
    owner = names.owner_reference("InferenceModel", model.id.name, model.id.uid, controller=True)
    return names.metadata(name, model.id.namespace, labels, [owner])
