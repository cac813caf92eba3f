"""A real Kubernetes cluster on this machine, for tests, benchmarks and the demo.

The names are loaded when they are used: the forwarder runs from this package and stays small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2e.cluster.cluster import Cluster
    from e2e.cluster.errors import ClusterError
    from e2e.cluster.spec import ClusterSpec

__all__ = ["Cluster", "ClusterError", "ClusterSpec"]

_HOMES = {
    "Cluster": "e2e.cluster.cluster",
    "ClusterError": "e2e.cluster.errors",
    "ClusterSpec": "e2e.cluster.spec",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
