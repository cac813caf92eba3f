"""Editing, rolling back, sharing, deleting: no answer is lost and nothing is built twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from e2e.tests import models
from e2e.tests.kube import condition, inference_model, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.tests.conftest import Perceptron, Product
    from e2e.tests.kube import Kube, Object, Sources


class Client(threading.Thread):
    """Asks without pause until stopped; every answer that is no 200 counts as lost."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._stopped = threading.Event()
        self.answers = 0
        self.lost: list[str] = []

    def run(self) -> None:
        tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
        while not self._stopped.is_set():
            try:
                answer = httpx.post(self._url, json={"inputs": [tensor]}, timeout=30)
                if answer.status_code == httpx.codes.OK:
                    self.answers += 1
                else:
                    self.lost.append(f"{answer.status_code} {answer.text[:80]}")
            except httpx.HTTPError as error:
                self.lost.append(repr(error))
            self._stopped.wait(0.02)

    def stop(self) -> None:
        self._stopped.set()
        self.join(timeout=60)


@pytest.fixture
def served(kube: Kube, perceptron: Perceptron) -> Object:
    kube.apply(inference_model("small", perceptron.model, perceptron.data))
    return kube.wait_ready("small")


@pytest.fixture
def client(kube: Kube, served: Object) -> Iterator[Client]:
    port = kube.cluster.forward(f"{kube.namespace}/small:80")
    client = Client(f"http://127.0.0.1:{port}/v2/models/small/infer")
    client.start()
    yield client
    client.stop()


def digest_of(model: Object) -> str:
    digest: str = model["status"]["serving"][0]["digest"]
    return digest


def test_a_changed_model_switches_without_losing_an_answer_and_back_at_once(
    kube: Kube, client: Client, served: Object, perceptron: Perceptron, sources: Sources
) -> None:
    other = models.build_model(seed=5)
    changed = inference_model(
        "small",
        sources.publish("other", other, "model.onnx"),
        sources.publish("other-rows", models.build_dataset(other), "data.npz"),
    )
    kube.apply(changed)
    while_building = kube.wait(
        "the change is seen", lambda: status_of(kube.model("small"), "Reconciling") == "True"
    )
    assert while_building
    assert digest_of(kube.model("small")) == digest_of(served)
    new = kube.wait_ready("small")
    assert digest_of(new) != digest_of(served)

    builds = {build["metadata"]["name"] for build in kube.list("modelbuilds")}
    kube.apply(inference_model("small", perceptron.model, perceptron.data))
    back = kube.wait_ready("small")
    assert digest_of(back) == digest_of(served)
    assert {build["metadata"]["name"] for build in kube.list("modelbuilds")} == builds
    client.stop()
    assert client.lost == []
    assert client.answers > 20


def test_a_broken_change_leaves_the_last_good_build_serving(
    kube: Kube, client: Client, served: Object, perceptron: Perceptron, sources: Sources
) -> None:
    broken = sources.publish("nothing", b"", "model.onnx")
    kube.apply(inference_model("small", broken, perceptron.data))
    model = kube.wait_reason("small", "ModelInvalid")
    assert "keeps serving" in condition(model, "Ready")["message"]
    assert status_of(model, "WorkloadReady") == "True"
    assert digest_of(model) == digest_of(served)
    client.stop()
    assert client.lost == []


def test_two_models_with_the_same_sources_share_one_build(
    kube: Kube, served: Object, perceptron: Perceptron
) -> None:
    kube.apply(inference_model("twin", perceptron.model, perceptron.data))
    twin = kube.wait_ready("twin")
    assert digest_of(twin) == digest_of(served)
    (build,) = kube.list("modelbuilds")
    owners = [owner["name"] for owner in build["metadata"]["ownerReferences"]]
    assert owners == ["small", "twin"]
    kube.run("delete", "inferencemodel", "twin")
    kube.wait(
        "the build is small's alone",
        lambda: len(kube.list("modelbuilds")[0]["metadata"]["ownerReferences"]) == 1,
    )


def test_an_edit_during_a_build_and_a_delete_during_a_build(
    kube: Kube, perceptron: Perceptron
) -> None:
    document = inference_model("hasty", perceptron.model, perceptron.data, rebuildToken="one")
    kube.apply(document)
    kube.wait("a Job runs", lambda: kube.list("jobs"))
    document["spec"]["rebuildToken"] = "two"
    kube.apply(document)
    kube.wait_ready("hasty")
    (served,) = kube.model("hasty")["status"]["serving"]
    assert kube.need("modelbuild", served["build"])["spec"]["request"]["rebuildToken"] == "two"

    document["spec"]["rebuildToken"] = "three"
    kube.apply(document)
    kube.wait("the third build's Job runs", lambda: len(kube.list("modelbuilds")) >= 2)
    kube.run("delete", "inferencemodel", "hasty")
    kube.wait("all is gone", lambda: not leftovers(kube))


def test_mode_none_takes_the_servers_away_and_keeps_the_build(
    kube: Kube, served: Object, perceptron: Perceptron
) -> None:
    build_only = inference_model(
        "small", perceptron.model, perceptron.data, serving={"mode": "None"}
    )
    kube.apply(build_only)
    model = kube.wait_reason("small", "BuildOnly")
    assert status_of(model, "Ready") == "True"
    kube.wait("no server is left", lambda: not kube.list("deployments"))
    assert len(kube.list("modelbuilds")) == 1
    kube.apply(inference_model("small", perceptron.model, perceptron.data))
    assert digest_of(kube.wait_ready("small")) == digest_of(served)


def test_deleting_a_model_cleans_up_with_the_operator_stopped(
    kube: Kube, served: Object, product: Product
) -> None:
    product.scale_operator(0)
    try:
        kube.run("delete", "inferencemodel", "small", "--timeout=60s")
        kube.wait("all is gone", lambda: not leftovers(kube))
    finally:
        product.scale_operator(1)


def test_an_operator_killed_in_the_middle_of_a_build_goes_on(
    kube: Kube, product: Product, perceptron: Perceptron
) -> None:
    kube.apply(inference_model("sturdy", perceptron.model, perceptron.data, rebuildToken="k"))
    kube.wait("a Job runs", lambda: kube.list("jobs"))
    operator = ("-l", "app.kubernetes.io/component=operator")
    kube.run("-n", "modelwright-system", "delete", "pod", *operator, "--force", "--grace-period=0")
    kube.wait_ready("sturdy")
    assert len(kube.list("modelbuilds")) == 1
    assert len(kube.list("jobs")) <= 1


def leftovers(kube: Kube) -> list[str]:
    kinds = "modelbuilds,jobs,deployments,services,serviceaccounts,pods,hpa,pdb"
    names = kube.run("get", kinds, "-o", "name").split()
    return [name for name in names if name != "serviceaccount/default"]
