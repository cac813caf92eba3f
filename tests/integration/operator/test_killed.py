"""The operator is killed at fifty different requests, and each time the end is the same.

A real API server with the real controllers of Kubernetes, the real operator process, SIGKILL. A
story is told twice undisturbed; then in namespaces of their own with a kill at a seeded request,
after which a new operator goes on. The objects at the end are equal but for what is drawn anew in
every story: uids, versions, times, hashes of names. Events are best effort and not compared.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import os
import random
import re
import signal
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e.cluster import Cluster, ClusterError, ClusterSpec
from e2e.cluster.files import locked
from modelwright_operator.kube.client import ApiClient
from modelwright_operator.kube.config import load_kubeconfig
from modelwright_operator.plan import names
from modelwright_operator.plan.nodes import build_profile
from modelwright_operator.plan.types import ObjectRef
from tests.support import builders as a
from tests.support import playing_kubelet
from tests.support.operator_process import OperatorProcess, Order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.integration

CRDS = Path(__file__).parents[3] / "crds"
RUNS = 50
SIDE_BY_SIDE = 12
DEADLINE_SECONDS = 240.0
LOOK_SECONDS = 0.3
# So long without a write means that nothing more is meant.
QUIET_SECONDS = 2.0
SEED = 20260102
KINDS = (
    "InferenceModel",
    "ModelBuild",
    "Job",
    "Deployment",
    "Service",
    "ServiceAccount",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)
CHANGED = {"uri": "oci://registry.example/digits@sha256:" + "e" * 64}


@dataclass
class Ending:
    """How a story ended."""

    namespace: str
    kill_at: int
    requests: int = 0
    exit_codes: list[int | None] = field(default_factory=list)
    state: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with its controllers; its one node is played."""
    cluster = Cluster(ClusterSpec(name="killed", control_plane_only=True, controller_manager=True))
    with locked(cluster.layout.root.with_suffix(".run.lock")):
        try:
            cluster.clean()
            with warnings.catch_warnings():
                # Its processes are meant to outlive the objects that started them.
                warnings.simplefilter("ignore", ResourceWarning)
                cluster.up()
            cluster.kubectl("apply", "-f", str(CRDS))
            cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            yield cluster
        except ClusterError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no kube-apiserver on this machine: {error}")
        finally:
            cluster.down()


@pytest.fixture(scope="module")
def endings(played: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Ending]:
    """Two undisturbed stories, then all the others side by side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return asyncio.run(Campaign(played, tmp_path_factory.mktemp("operators")).run())


class Campaign:
    """All stories on one cluster."""

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self._cluster = cluster
        self._logs = logs
        self._numbers = itertools.count()

    async def run(self) -> list[Ending]:
        config = load_kubeconfig([self._cluster.kubeconfig])
        async with ApiClient(config) as client:
            await _prepare(client)
            kubelet = asyncio.create_task(playing_kubelet.play(client))
            try:
                undisturbed = await asyncio.gather(self._tell(client), self._tell(client))
                fewest = min(ending.requests for ending in undisturbed)
                moments = _choose_moments(fewest)
                gate = asyncio.Semaphore(SIDE_BY_SIDE)
                stories = [self._tell_when_free(gate, client, moment) for moment in moments]
                return [*undisturbed, *await asyncio.gather(*stories)]
            finally:
                kubelet.cancel()
                with suppress(asyncio.CancelledError):
                    await kubelet

    async def _tell_when_free(
        self, gate: asyncio.Semaphore, client: ApiClient, kill_at: int
    ) -> Ending:
        async with gate:
            return await self._tell(client, kill_at)

    async def _tell(self, client: ApiClient, kill_at: int = 0) -> Ending:
        namespace = f"killed-{next(self._numbers)}"
        story = Story(client, self._cluster, namespace, kill_at, self._logs / f"{namespace}.log")
        return await story.tell()


class Story:
    """A model is made, then changed and scaled, in a namespace of its own."""

    def __init__(
        self, client: ApiClient, cluster: Cluster, namespace: str, kill_at: int, log: Path
    ) -> None:
        self._client = client
        self._order = Order(str(cluster.kubeconfig), namespace, str(log), kill_at)
        self._ending = Ending(namespace, kill_at)
        self._operator: OperatorProcess | None = None

    async def tell(self) -> Ending:
        namespace = self._ending.namespace
        await self._client.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
        self._operator = OperatorProcess(self._order)
        try:
            await self._write_model(scaling={"minReplicas": 2})
            await self._reach(self._serves_generation(1), "the first spec serves")
            await self._write_model(scaling={"minReplicas": 2, "maxReplicas": 4}, model=CHANGED)
            await self._reach(self._serves_generation(2), "the changed spec serves")
            await self._rest()
        except TimeoutError as error:
            self._ending.trouble = f"{error}; the operators' log: {self._order.log}"
        finally:
            self._ending.requests = self._operator.requests
            await self._operator.stop()
            self._ending.exit_codes.append(self._operator.exit_code)
        self._ending.state = await self._look()
        return self._ending

    async def _write_model(self, **spec: Any) -> None:
        """What a person's `kubectl apply` sends."""
        manifest = a.model_object(namespace=self._ending.namespace, **spec)
        manifest["metadata"] = {key: manifest["metadata"][key] for key in ("name", "namespace")}
        del manifest["status"]
        path = (
            f"/apis/{names.API_VERSION}/namespaces/{self._ending.namespace}/inferencemodels/digits"
        )
        answer = await self._client._http.patch(
            path,
            content=json.dumps(manifest),
            params={"fieldManager": "kubectl"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert answer.is_success, answer.text

    def _serves_generation(self, generation: int) -> Callable[[], Awaitable[bool]]:
        async def serves() -> bool:
            model = await self._client.get("InferenceModel", self._ending.namespace, "digits")
            status = (model or {}).get("status", {})
            conditions = {c["type"]: c for c in status.get("conditions", [])}
            scaling = "FixedReplicas" if generation == 1 else "MetricsMissing"
            return (
                status.get("observedGeneration") == generation
                and conditions["Ready"]["reason"] == "Serving"
                and conditions["ScalingReady"]["reason"] == scaling
            )

        return serves

    async def _reach(self, goal: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for a goal; an operator that was killed is followed by another."""
        until = time.monotonic() + DEADLINE_SECONDS
        while not await goal():
            self._follow_up()
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: not within {DEADLINE_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)

    async def _rest(self) -> None:
        """Wait until the operator has not written for a while."""
        assert self._operator is not None
        until = time.monotonic() + DEADLINE_SECONDS
        writes, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            self._follow_up()
            if self._operator.writes != writes:
                writes, since = self._operator.writes, time.monotonic()
            if time.monotonic() > until:
                raise TimeoutError("the operator does not stop writing")
            await asyncio.sleep(LOOK_SECONDS)

    def _follow_up(self) -> None:
        assert self._operator is not None
        code = self._operator.exit_code
        if code is None:
            return
        self._ending.exit_codes.append(code)
        order = self._order
        self._operator = OperatorProcess(Order(order.kubeconfig, order.namespace, order.log))

    async def _look(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for kind in KINDS:
            listing = await self._client.list(kind, self._ending.namespace)
            found += [dict(item) for item in listing.items if item["metadata"]["name"] != "default"]
        return found


async def _prepare(client: ApiClient) -> None:
    """A node whose hardware is known already, so that no operator has to write about it."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    await client.create(node)
    status = {
        "nodeInfo": {
            "bootID": "b1",
            **dict.fromkeys(
                (
                    "machineID",
                    "systemUUID",
                    "kernelVersion",
                    "osImage",
                    "containerRuntimeVersion",
                    "kubeletVersion",
                    "kubeProxyVersion",
                    "operatingSystem",
                    "architecture",
                ),
                "",
            ),
        },
    }
    answer = await client._http.patch(
        "/api/v1/nodes/n1/status",
        json={"status": status},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.is_success, answer.text
    profile = build_profile("x86-avx2", "amd64", ("avx2", "fma"))
    await client.apply(profile)
    said = {"observedGeneration": 1, "nodes": [{"name": "n1", "bootID": "b1", "cores": 8}]}
    await client.apply({**profile, "status": said}, subresource="status", force=True)
    for namespace in ("modelwright-system",):
        await client.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )


def _choose_moments(requests: int) -> list[int]:
    """Fifty different requests, or all there are and some of them twice."""
    rng = random.Random(SEED)  # noqa: S311 - a seed, no secret
    everyone = list(range(1, requests + 1))
    rng.shuffle(everyone)
    return list(itertools.islice(itertools.cycle(everyone), RUNS))


def masked(ending: Ending) -> str:
    """The end as text, without what every story draws anew."""
    text = json.dumps([_bare(obj) for obj in ending.state], sort_keys=True)
    for obj in ending.state:
        name = f"{obj['kind']}-{obj['metadata']['name']}"
        text = text.replace(obj["metadata"]["uid"], f"uid of {name}")
    text = re.sub(rf"\b{ending.namespace}\b", "NAMESPACE", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    # A ReplicaSet's name ends in a hash of the template, which names the repository.
    text = re.sub(r"digits-default-[0-9a-z]{6,10}\b", "REPLICASET", text)
    return yaml.safe_dump(json.loads(text), sort_keys=True)


def _bare(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    metadata["managedFields"] = sorted(
        ({k: v for k, v in entry.items() if k != "time"} for entry in metadata["managedFields"]),
        key=lambda entry: (entry["manager"], entry["operation"], entry.get("subresource", "")),
    )
    bare = {**obj, "metadata": metadata}
    if obj["kind"] == "Service":
        addresses = ("clusterIP", "clusterIPs")
        bare["spec"] = {k: v for k, v in obj["spec"].items() if k not in addresses}
    return bare


def test_two_undisturbed_stories_end_alike(endings: list[Ending]) -> None:
    first, second = endings[:2]
    assert not first.trouble
    assert not second.trouble
    assert first.exit_codes == second.exit_codes == [0]
    assert {obj["kind"] for obj in first.state} == set(KINDS)
    assert_same_end(first, second)


@pytest.mark.parametrize("number", range(RUNS))
def test_a_killed_operator_ends_where_an_undisturbed_one_does(
    endings: list[Ending], number: int
) -> None:
    ending = endings[2 + number]
    assert not ending.trouble, ending.trouble
    assert ending.exit_codes == [-signal.SIGKILL, 0], f"killed at request {ending.kill_at}"
    assert_same_end(endings[0], ending)


def assert_same_end(wanted: Ending, ending: Ending) -> None:
    differences = difflib.unified_diff(
        masked(wanted).splitlines(),
        masked(ending).splitlines(),
        "undisturbed",
        f"killed at request {ending.kill_at} in {ending.namespace}",
        lineterm="",
    )
    assert not (told := "\n".join(differences)), told


async def test_deleting_a_model_leaves_nothing_behind_with_no_operator(
    played: Cluster, endings: list[Ending]
) -> None:
    """Every operator has ended; the owner references are enough for the garbage collector."""
    namespace = endings[0].namespace
    async with ApiClient(load_kubeconfig([played.kubeconfig])) as client:
        ref = ObjectRef(names.API_VERSION, "InferenceModel", namespace, "digits")
        await client.delete(ref)
        until = time.monotonic() + DEADLINE_SECONDS
        while left := await _left_behind(client, namespace):
            assert time.monotonic() < until, left
            await asyncio.sleep(LOOK_SECONDS)


async def _left_behind(client: ApiClient, namespace: str) -> list[str]:
    found = []
    for kind in (*KINDS, "Pod"):
        listing = await client.list(kind, namespace)
        found += [f"{kind} {item['metadata']['name']}" for item in listing.items]
    return [name for name in found if name != "ServiceAccount default"]
