"""Parts of pod templates that servers, builds and probes share: locked down, by one definition."""

from __future__ import annotations

from typing import Any

from modelwright_operator.plan import names


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
