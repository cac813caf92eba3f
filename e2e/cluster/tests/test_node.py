"""What models need of a cluster, shown on the real node."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from e2e.cluster.binaries import architecture
from e2e.cluster.commands import CommandError
from e2e.cluster.oci_archive import OciImage, build_image
from e2e.cluster.probes import wait_until
from e2e.cluster.registry import PASSWORD, USER
from e2e.cluster.tests.push import RegistryClient

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.cluster import Cluster
    from e2e.cluster.tests.workload import Workload

pytestmark = pytest.mark.e2e

CONTENT = "weights of a model"


@pytest.fixture(scope="session")
def model() -> OciImage:
    return build_image({"model.txt": CONTENT.encode()}, architecture=architecture())


@pytest.fixture(scope="session")
def model_volume(cluster: Cluster, model: OciImage) -> dict[str, Any]:
    digest = RegistryClient(cluster.host_registry).push("cluster-test/model", model)
    return {"image": {"reference": f"{cluster.registry}/cluster-test/model@{digest}"}}


def test_pod_reads_an_image_volume_and_answers_by_its_service_name(
    workload: Workload, model_volume: dict[str, Any]
) -> None:
    workload.serve("web", model_volume)
    workload.expose("web")

    phase, said = workload.fetch("client", "http://web/model.txt")

    assert (phase, said) == ("Succeeded", CONTENT)


def test_this_machine_reaches_a_service_through_a_forwarder(
    cluster: Cluster, workload: Workload, model_volume: dict[str, Any]
) -> None:
    workload.serve("web", model_volume)
    workload.expose("web")

    target = f"{workload.namespace}/web:80"
    port = cluster.forward(target)

    wait_until(
        "the service answers",
        lambda: _get(f"http://127.0.0.1:{port}/model.txt") == CONTENT,
        deadline_seconds=60,
    )
    assert cluster.forward(target) == port
    cluster.end_forward(target)
    assert _get(f"http://127.0.0.1:{port}/model.txt") is None


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - ours
            content: bytes = answer.read()
    except OSError:
        return None
    return content.decode()


def test_host_port_answers_on_the_node(workload: Workload) -> None:
    ports = [{"containerPort": 8080, "hostPort": 31080}]
    container = {"name": "web", "image": workload.image, "args": ["serve", ":8080", "/"]}
    workload.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "host"},
            "spec": {"nodeName": "n1", "containers": [{**container, "ports": ports}]},
        }
    )
    workload.kubectl("wait", "--for=condition=Ready", "pod/host", "--timeout=120s")

    phase, _ = workload.fetch("client", "http://10.77.0.1:31080/", hostNetwork=True)

    assert phase == "Succeeded"


def test_persistent_volume_claim_shows_a_folder_of_the_node(
    workload: Workload, tmp_path: Path
) -> None:
    (tmp_path / "model.txt").write_text(CONTENT)
    tmp_path.chmod(0o755)
    volume = f"{workload.namespace}-models"
    spec: dict[str, Any] = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "",
    }
    claim = {**spec, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
    del claim["capacity"]
    workload.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {**spec, "hostPath": {"path": str(tmp_path)}},
        }
    )
    workload.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": claim,
        }
    )

    workload.serve("web", {"persistentVolumeClaim": {"claimName": "models"}})
    workload.expose("web")
    phase, said = workload.fetch("client", "http://web/model.txt")
    workload.cluster.kubectl("delete", "persistentvolume", volume, "--wait=false")

    assert (phase, said) == ("Succeeded", CONTENT)


def test_secured_registry_serves_those_who_know_the_password(
    cluster: Cluster, workload: Workload
) -> None:
    tls = cluster.pki.client_context()
    stranger = RegistryClient(cluster.host_registry_tls, tls)
    assert stranger.status("/v2/") == 401
    client = RegistryClient(cluster.host_registry_tls, tls, f"{USER}:{PASSWORD}")
    # Content of its own: a layer that the node knows would not be pulled again.
    image = build_image({"secret.txt": workload.namespace.encode()}, architecture=architecture())
    digest = client.push("cluster-test/secret", image)
    volume = {"image": {"reference": f"{cluster.registry_tls}/cluster-test/secret@{digest}"}}
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    docker_config = {"auths": {cluster.registry_tls: {"auth": auth}}}
    workload.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(docker_config)},
        }
    )

    with pytest.raises(CommandError, match="timed out"):
        workload.serve("stranger", volume, deadline="8s")
    workload.serve("friend", volume, imagePullSecrets=[{"name": "pull"}])
    workload.expose("friend")

    phase, said = workload.fetch("client", "http://friend/secret.txt")
    assert (phase, said) == ("Succeeded", workload.namespace)


def test_name_outside_the_cluster_is_unknown_at_once(workload: Workload) -> None:
    phase, said = workload.fetch("client", "http://example.com/")

    assert phase == "Failed"
    assert "no such host" in said


def test_pod_metrics_are_there(cluster: Cluster) -> None:
    def has_metrics() -> bool:
        path = "/apis/metrics.k8s.io/v1beta1/namespaces/kube-system/pods"
        return bool(json.loads(cluster.kubectl("get", "--raw", path))["items"])

    wait_until("pod metrics", has_metrics, deadline_seconds=120)
