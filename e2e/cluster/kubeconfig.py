"""Kubeconfig files with everything inside, so that a copy works anywhere."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.cluster.pki import Pki


def build_kubeconfig(server: str, pki: Pki, user: str, *, cluster_name: str) -> str:
    """Return a kubeconfig (JSON is YAML) for the client certificate `user`."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster_name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(pki.certificate("ca")),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(pki.certificate(user)),
                    "client-key-data": _base64(pki.key(user)),
                },
            }
        ],
        "contexts": [
            {"name": cluster_name, "context": {"cluster": cluster_name, "user": user}},
        ],
        "current-context": cluster_name,
    }
    return json.dumps(content, indent=1) + "\n"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
