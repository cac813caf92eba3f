"""Parts of pod templates that servers, builds and probes share: locked down, by one definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelwright_operator.plan import names

if TYPE_CHECKING:
    from modelwright_operator.settings import Settings


def pod_security_context() -> dict[str, Any]:
    """What the Pod Security Standard `restricted` asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": names.RUN_AS_USER,
        "runAsGroup": names.RUN_AS_USER,
        "fsGroup": names.RUN_AS_USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> dict[str, Any]:
    """What the Pod Security Standard `restricted` asks of a container, plus a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pull_secrets(settings: Settings) -> dict[str, Any]:
    """The pull secret the installation names; a reference to none would warn for ever."""
    if not settings.registry_secret:
        return {}
    return {"imagePullSecrets": [{"name": settings.registry_secret}]}
