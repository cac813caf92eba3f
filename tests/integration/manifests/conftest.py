"""The real tools that read our manifests: kubectl's kustomize, Helm, kstatus, promtool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from e2e.cluster.binaries import Binary, BinaryCache, build
from e2e.cluster.files import locked
from e2e.cluster.toolchain import go_version

ROOT = Path(__file__).resolve().parents[3]
KUBECTL = Binary("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", stamped=True)
KSTATUS = Binary("kstatus", "kubernetes", "./cmd/kstatus")
HELM = Binary("helm", "helm", "helm.sh/helm/v3/cmd/helm")


def ensure(binary: Binary) -> Path:
    """The program, built when it is not there: named by environment, else kept in the cache."""
    if named := os.environ.get(f"MODELWRIGHT_{binary.name.upper()}"):
        return Path(named)
    directory = BinaryCache.default().directory
    path = directory / binary.key(go_version()) / binary.name
    with locked(directory / f"{binary.name}.lock"):
        if not path.exists():
            build(binary, path)
    return path


@pytest.fixture(scope="session")
def kubectl() -> Path:
    return ensure(KUBECTL)


@pytest.fixture(scope="session")
def kstatus() -> Path:
    return ensure(KSTATUS)


@pytest.fixture(scope="session")
def helm() -> Path:
    return ensure(HELM)


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus"
    return found
