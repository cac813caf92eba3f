"""One real cluster with Modelwright installed, a namespace for each test, and real sources."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from e2e.cluster import Cluster, ClusterSpec
from e2e.cluster.images import build_images
from e2e.cluster.installation import NAMESPACE, write_installation
from e2e.tests import models
from e2e.tests.kube import Kube, Sources
from modelwright_artifact.oci import RegistryOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CLUSTER_NAME = "e2e"
ROLLOUT_SECONDS = 300

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Product:
    """Modelwright as installed, and the means to install it otherwise."""

    cluster: Cluster
    images: Mapping[str, str]
    folder: Path

    def install(
        self,
        *,
        images: Mapping[str, str] | None = None,
        components: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """`kubectl apply -k`, and wait until the operator runs with these settings."""
        overlay = write_installation(
            self.folder,
            {**self.images, **(images or {})},
            settings={
                "artifactRepository": f"{self.cluster.registry}/modelwright",
                "insecureRegistries": [self.cluster.registry],
                "build": {"retrySeconds": 20, "backoffLimit": 0},
                **settings,
            },
            components=components,
        )
        self.cluster.kubectl("apply", "-k", str(overlay))
        self.wait_rolled_out()

    def wait_rolled_out(self) -> None:
        """Wait until the operator's Deployment is up to date."""
        self.cluster.kubectl(
            *("-n", NAMESPACE, "rollout", "status", "deployment/modelwright-operator"),
            f"--timeout={ROLLOUT_SECONDS}s",
        )

    def scale_operator(self, replicas: int) -> None:
        """Stop the operator, or start it again."""
        self.cluster.kubectl(
            *("-n", NAMESPACE, "scale", "deployment/modelwright-operator"),
            f"--replicas={replicas}",
        )
        if replicas:
            self.wait_rolled_out()
        else:
            self.cluster.kubectl(
                *("-n", NAMESPACE, "wait", "--for=delete", "pod", "--timeout=60s"),
                *("-l", "app.kubernetes.io/component=operator"),
            )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of its own, left as it is on failure when E2E_KEEP is set."""
    cluster = Cluster(ClusterSpec(name=CLUSTER_NAME, audit_log=True))
    cluster.up()
    yield cluster
    if not os.environ.get("E2E_KEEP"):
        cluster.down()


@pytest.fixture(scope="session")
def product(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """Modelwright installed from today's tree."""
    images = build_images(cluster.host_registry, registry_pull=cluster.registry, tls=False)
    product = Product(cluster, images, tmp_path_factory.mktemp("installation"))
    product.install()
    return product


@pytest.fixture
def kube(product: Product) -> Iterator[Kube]:
    """A fresh namespace."""
    yield from _namespace(product)


@pytest.fixture(scope="module")
def shared_kube(product: Product) -> Iterator[Kube]:
    """One namespace for a whole module."""
    yield from _namespace(product)


def _namespace(product: Product) -> Iterator[Kube]:
    name = f"e2e-{os.getpid()}-{next(_numbers)}"
    product.cluster.kubectl("create", "namespace", name)
    yield Kube(product.cluster, name)
    product.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def sources(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A place to publish models and data."""
    options = RegistryOptions(insecure_hosts=frozenset({cluster.host_registry}))
    folder = tmp_path_factory.mktemp("sources")
    return Sources(cluster.host_registry, cluster.registry, options, folder)


@dataclass(frozen=True)
class Perceptron:
    """A good model and its data, published."""

    content: bytes
    model: str
    data: str


@pytest.fixture(scope="session")
def perceptron(sources: Sources) -> Perceptron:
    """The model most tests serve."""
    content = models.build_model()
    return Perceptron(
        content,
        sources.publish("perceptron", content, "model.onnx"),
        sources.publish("rows", models.build_dataset(content), "data.npz"),
    )
