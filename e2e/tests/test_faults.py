"""What the cluster can do to a model: each fault shows its own reason, and heals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.cluster.registry import PASSWORD, USER
from e2e.tests.kube import Kube, condition, inference_model, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.tests.conftest import Perceptron, Product

REGISTRY_SECRET = "modelwright-registry"  # noqa: S105
CA_BUNDLE = "modelwright-ca"


@pytest.fixture
def restored(product: Product) -> Iterator[Product]:
    """The installation, put back as it was."""
    yield product
    product.install()


def test_a_runtime_image_that_cannot_be_pulled_is_named_and_others_serve_on(
    kube: Kube, restored: Product, perceptron: Perceptron
) -> None:
    kube.apply(inference_model("before", perceptron.model, perceptron.data))
    kube.wait_ready("before")
    template = kube.need("deployment", "before-default")["spec"]["template"]

    missing = restored.images["runtime"].partition("@")[0] + ":no-such-tag"
    restored.install(images={"runtime": missing})
    kube.apply(inference_model("pulled", perceptron.model, perceptron.data, rebuildToken="pull"))
    model = kube.wait_reason("pulled", "ImagePullFailed")
    assert "no-such-tag" in condition(model, "Ready")["message"]
    # Another installation, the same spec: no pod template changes, no build starts.
    assert kube.need("deployment", "before-default")["spec"]["template"] == template
    assert status_of(kube.model("before"), "Ready") == "True"


def test_a_crashing_server_is_named_with_its_last_words(
    kube: Kube, restored: Product, perceptron: Perceptron
) -> None:
    # The optimizer's image does not know how to serve.
    restored.install(images={"runtime": restored.images["optimizer"]})
    kube.apply(inference_model("crash", perceptron.model, perceptron.data, rebuildToken="crash"))
    model = kube.wait_reason("crash", "ServerCrashing")
    assert "exited with code" in condition(model, "Ready")["message"]
    assert status_of(model, "Built") == "True"


def test_no_node_of_the_profile(kube: Kube, perceptron: Perceptron) -> None:
    kube.apply(
        {
            "apiVersion": "modelwright.dev/v1alpha1",
            "kind": "HardwareProfile",
            "metadata": {"name": "somewhere-else"},
            "spec": {"architecture": "arm64", "features": ["i8mm"]},
        }
    )
    optimization = {"profiles": ["somewhere-else"]}
    kube.apply(
        inference_model("lost", perceptron.model, perceptron.data, optimization=optimization)
    )
    model = kube.wait_reason("lost", "NoMatchingNode")
    assert "somewhere-else" in condition(model, "Ready")["message"]
    kube.run("delete", "hardwareprofile", "somewhere-else")
    kube.wait_reason("lost", "UnknownProfile")


def test_a_registry_with_tls_a_private_authority_and_a_password(
    kube: Kube, restored: Product, perceptron: Perceptron
) -> None:
    registry = kube.cluster.registry_tls
    for namespace in (kube.namespace, "modelwright-system"):
        home = Kube(kube.cluster, namespace)
        home.apply(
            home.run(
                *("create", "secret", "docker-registry", REGISTRY_SECRET, "--dry-run=client"),
                *("-o", "yaml", f"--docker-server={registry}"),
                *(f"--docker-username={USER}", f"--docker-password={PASSWORD}"),
            )
        )
        home.apply(
            home.run(
                *("create", "configmap", CA_BUNDLE, "--dry-run=client", "-o", "yaml"),
                f"--from-file=ca.crt={kube.cluster.ca_bundle}",
            )
        )
    restored.install(
        components=("ca-bundle",),
        artifactRepository=f"{registry}/private",
        registrySecret=REGISTRY_SECRET,
        caBundleConfigMap=CA_BUNDLE,
    )
    kube.apply(inference_model("private", perceptron.model, perceptron.data, rebuildToken="tls"))
    model = kube.wait_ready("private")
    assert model["status"]["serving"][0]["repository"].startswith(registry)
