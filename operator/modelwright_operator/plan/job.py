"""The build Job: the optimizer on a node of the profile, measured alone, holding no token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from modelwright_artifact.request import BuildRequest
from modelwright_operator.plan import names
from modelwright_operator.plan.pods import (
    container_security_context,
    pod_security_context,
    pull_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelwright_operator.plan.observed import BuildView, Object, ProfileView
    from modelwright_operator.plan.types import Manifest
    from modelwright_operator.settings import Settings

USER_INPUT_EXIT_CODE = 42
_MAX_NODE_TERMS = 50
_SOURCES = ("model", "evaluation", "calibration")


def build_job_account(build: BuildView) -> Manifest:
    """The identity of a build's pod; it holds no permission and mounts no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(build, build.id.name),
        "automountServiceAccountToken": False,
    }


def build_job(
    build: BuildView,
    profile: ProfileView,
    attempt: int,
    credentials: Mapping[str, str],
    settings: Settings,
) -> Manifest:
    """One attempt at a build.

    `credentials` maps `model`, `evaluation` or `calibration` to the Secret its source needs.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(build, names.job_name(build.id.name, attempt)),
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": settings.build.backoff_limit,
            "activeDeadlineSeconds": settings.build.deadline_seconds,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": names.BUILD_CONTAINER,
                            "operator": "In",
                            "values": [USER_INPUT_EXIT_CODE],
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": {
                "metadata": {"labels": names.build_labels(build.id.name)},
                "spec": _pod_spec(build, profile, credentials, settings),
            },
        },
    }


def pinned_nodes(job: Object) -> frozenset[str]:
    """The nodes a Job was made for; none when labels of nodes select them."""
    pod_spec: Mapping[str, Any] = job["spec"]["template"]["spec"]
    affinity = pod_spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return frozenset(
        node
        for term in required.get("nodeSelectorTerms", [])
        for field in term.get("matchFields", [])
        for node in field.get("values", [])
    )


def pvc_claims(request: BuildRequest) -> tuple[str, ...]:
    """The PersistentVolumeClaims a request reads from, in a stable order."""
    uris = [source.uri for source in _request_sources(request)]
    claims = (uri.removeprefix("pvc://").partition("/")[0] for uri in uris if _is_pvc(uri))
    return tuple(dict.fromkeys(claims))


def _request_sources(request: BuildRequest) -> Iterator[Any]:
    for name in _SOURCES:
        source = getattr(request, name, None)
        if source is not None:
            yield source


def _is_pvc(uri: str) -> bool:
    return uri.startswith("pvc://")


def _pod_spec(
    build: BuildView,
    profile: ProfileView,
    credentials: Mapping[str, str],
    settings: Settings,
) -> dict[str, Any]:
    request = BuildRequest.from_json(build.raw_spec["request"])
    volumes = list(_volumes(request, credentials, settings))
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": build.id.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        **pull_secrets(settings),
        "securityContext": pod_security_context(),
        "affinity": _affinity(profile),
        "containers": [_container(build, request, volumes, settings)],
        "volumes": [volume for volume, _ in volumes],
    }
    if profile.node_selector:
        spec["nodeSelector"] = dict(profile.node_selector)
    return spec


def _container(
    build: BuildView,
    request: BuildRequest,
    volumes: list[tuple[dict[str, Any], dict[str, Any]]],
    settings: Settings,
) -> dict[str, Any]:
    limits = {"cpu": request.resources.cpu, "memory": request.resources.memory}
    return {
        "name": names.BUILD_CONTAINER,
        "image": build.spec.images.optimizer,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["job"],
        "env": [{"name": key, "value": value} for key, value in _environment(build, settings)],
        "ports": [{"name": "progress", "containerPort": names.PROGRESS_PORT, "protocol": "TCP"}],
        # Measured under the limits it will serve with.
        "resources": {"limits": limits, "requests": dict(limits)},
        "securityContext": container_security_context(),
        "volumeMounts": [mount for _, mount in volumes],
    }


def _environment(build: BuildView, settings: Settings) -> Iterator[tuple[str, str]]:
    request = json.dumps(dict(build.raw_spec["request"]), sort_keys=True, separators=(",", ":"))
    yield "MODELWRIGHT_REQUEST", request
    yield "MODELWRIGHT_REPOSITORY", build.spec.repository
    if settings.insecure_registries:
        yield "MODELWRIGHT_INSECURE_REGISTRIES", ",".join(settings.insecure_registries)
    if settings.registry_secret:
        yield "DOCKER_CONFIG", names.REGISTRY_CREDENTIALS_PATH
    if settings.ca_bundle_config_map:
        yield "MODELWRIGHT_CA_BUNDLE", f"{names.CA_BUNDLE_PATH}/{names.CA_BUNDLE_KEY}"
    yield "TMPDIR", names.SCRATCH_PATH
    yield "HOME", names.SCRATCH_PATH


def _volumes(
    request: BuildRequest, credentials: Mapping[str, str], settings: Settings
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Volumes with their mounts."""
    yield (
        {"name": "scratch", "emptyDir": {}},
        {"name": "scratch", "mountPath": names.SCRATCH_PATH},
    )
    if settings.registry_secret:
        yield _secret_volume(
            "registry", settings.registry_secret, names.REGISTRY_CREDENTIALS_PATH, is_docker=True
        )
    if settings.ca_bundle_config_map:
        yield (
            {"name": "ca", "configMap": {"name": settings.ca_bundle_config_map}},
            {"name": "ca", "mountPath": names.CA_BUNDLE_PATH, "readOnly": True},
        )
    for source, secret in sorted(credentials.items()):
        path = f"{names.SOURCE_CREDENTIALS_PATH}/{source}"
        yield _secret_volume(f"credentials-{source}", secret, path)
    for claim in pvc_claims(request):
        volume = names.child_name(claim, prefix="pvc-")
        yield (
            {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            {"name": volume, "mountPath": f"{names.PVC_PATH}/{claim}", "readOnly": True},
        )


def _secret_volume(
    name: str, secret: str, path: str, *, is_docker: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    source: dict[str, Any] = {"secretName": secret}
    if is_docker:
        # Under the name that registry clients look for.
        source["items"] = [{"key": ".dockerconfigjson", "path": "config.json"}]
    return (
        {"name": name, "secret": source},
        {"name": name, "mountPath": path, "readOnly": True},
    )


def _affinity(profile: ProfileView) -> dict[str, Any]:
    """On a node of the profile, and never beside another measuring Job."""
    affinity: dict[str, Any] = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "labelSelector": {
                        "matchLabels": {
                            names.COMPONENT_LABEL: "build",
                            names.MANAGED_BY_LABEL: names.MANAGED_BY,
                        }
                    },
                    "namespaceSelector": {},
                    "topologyKey": "kubernetes.io/hostname",
                }
            ]
        }
    }
    if not profile.node_selector:
        # A metadata.name field takes one value, so each node is a term of its own; terms are ORed.
        terms = [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            for node in profile.nodes[:_MAX_NODE_TERMS]
        ]
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        }
    return affinity


def _metadata(build: BuildView, name: str) -> dict[str, object]:
    owner = names.owner_reference("ModelBuild", build.id.name, build.id.uid, controller=True)
    return names.metadata(name, build.id.namespace, names.build_labels(build.id.name), [owner])
