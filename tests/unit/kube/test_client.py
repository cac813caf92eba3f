"""What the client sends and how it reads answers; the transport is an in-process function."""

import asyncio
import json

import httpx
import pytest

from modelwright_operator.kube.client import ApiClient
from modelwright_operator.kube.config import ClusterConfig, StaticToken
from modelwright_operator.kube.discovery import find_missing
from modelwright_operator.kube.faults import Conflict, Fenced, Gone, Invalid, Unreachable
from modelwright_operator.plan.types import ObjectRef

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ns"}}


class Server:
    """Answers from a list, and remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.tokens = []

    async def __call__(self, request):
        self.requests.append(request)
        self.tokens.append(request.headers.get("Authorization"))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)

    @property
    def last(self):
        return self.requests[-1]

    def client(self, tokens=None, **options):
        config = ClusterConfig("http://api.test", tokens=tokens or StaticToken())
        return ApiClient(config, transport=httpx.MockTransport(self), **options)


def refuse(code, message="no", **headers):
    return httpx.Response(code, json={"message": message}, headers=headers)


async def test_apply_is_a_strict_server_side_apply_of_one_manager():
    server = Server(JOB)
    await server.client().apply(JOB)
    assert server.last.method == "PATCH"
    assert server.last.url.path == "/apis/batch/v1/namespaces/ns/jobs/j"
    want = {"fieldManager": "modelwright", "fieldValidation": "Strict"}
    assert dict(server.last.url.params) == want
    assert server.last.headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(server.last.content) == JOB


async def test_force_and_subresource_only_when_asked():
    server = Server(JOB)
    await server.client().apply(JOB, force=True, subresource="status")
    assert server.last.url.path.endswith("/jobs/j/status")
    assert server.last.url.params["force"] == "true"


async def test_delete_names_the_incarnation_it_means():
    server = Server({"kind": "Status"})
    ref = ObjectRef("batch/v1", "Job", "ns", "j", "uid-1")
    await server.client().delete(ref, resource_version="7")
    body = json.loads(server.last.content)
    assert body["preconditions"] == {"uid": "uid-1", "resourceVersion": "7"}
    assert body["propagationPolicy"] == "Background"


async def test_patch_merges():
    server = Server(JOB)
    ref = ObjectRef("batch/v1", "Job", "ns", "j")
    await server.client().patch(ref, {"spec": {"ttlSecondsAfterFinished": 60}})
    assert server.last.headers["Content-Type"] == "application/merge-patch+json"


async def test_missing_object_is_none():
    assert await Server(refuse(404)).client().get("Job", "ns", "j") is None


async def test_list_reads_all_chunks_and_gives_items_their_kind():
    server = Server(
        {
            "metadata": {"resourceVersion": "9", "continue": "t/1"},
            "items": [{"metadata": {"name": "a"}}],
        },
        {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]},
    )
    listing = await server.client().list("Job", label_selector="a=b")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert {item["kind"] for item in listing.items} == {"Job"}
    assert listing.resource_version == "9"
    assert dict(server.last.url.params) == {
        "limit": "500",
        "labelSelector": "a=b",
        "continue": "t/1",
    }


async def test_list_starts_over_when_its_token_expired():
    page = {"metadata": {"resourceVersion": "9", "continue": "t"}, "items": []}
    server = Server(page, refuse(410), {"metadata": {"resourceVersion": "12"}, "items": []})
    assert (await server.client().list("Job")).resource_version == "12"


async def test_list_does_not_start_over_for_ever():
    with pytest.raises(Gone):
        await Server(*[refuse(410)] * 9).client().list("Job")


async def test_list_of_a_kind_that_is_not_installed_is_not_repeated():
    server = Server(refuse(404), {"metadata": {"resourceVersion": "1"}, "items": []})
    with pytest.raises(Gone):
        await server.client().list("ModelBuild")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        refuse(503),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"[]"),
    ],
)
async def test_no_usable_answer_is_unreachable(answer):
    with pytest.raises(Unreachable):
        await Server(answer).client().get("Job", "ns", "j")


async def test_server_that_asks_for_a_pause_is_heard():
    with pytest.raises(Unreachable) as caught:
        await Server(refuse(429, **{"Retry-After": "11"})).client().create(JOB)
    assert caught.value.retry_after_seconds == 11


async def test_refusals_carry_the_servers_words():
    with pytest.raises(Invalid, match=r"patch jobs ns/j: spec\.template: field is immutable"):
        await Server(refuse(422, "spec.template: field is immutable")).client().apply(JOB)
    with pytest.raises(Conflict):
        await Server(refuse(409)).client().create(JOB)


@pytest.mark.parametrize("allowed", [0.0, -5.0])
async def test_nothing_is_written_behind_the_fence(allowed):
    server = Server()
    client = server.client(fence=lambda: allowed)
    ref = ObjectRef("batch/v1", "Job", "ns", "j")
    for write in (
        client.apply(JOB),
        client.create(JOB),
        client.replace(JOB),
        client.patch(ref, {}),
        client.delete(ref),
    ):
        with pytest.raises(Fenced):
            await write
    assert server.requests == []
    await client.get("Job", "ns", "j")
    await client.list("Job")
    await client.unfenced().replace(JOB)
    assert len(server.requests) == 3


async def test_write_does_not_outlive_the_lease_it_stands_on():
    async def hang(_request):
        await asyncio.Event().wait()

    config = ClusterConfig("http://api.test")
    client = ApiClient(config, fence=lambda: 0.01, transport=httpx.MockTransport(hang))
    with pytest.raises(Unreachable, match="TimeoutError"):
        await client.create(JOB)


async def test_rejected_token_is_read_again_once():
    class Rotating:
        def __init__(self):
            self.current, self.next = "old", "new"

        async def read(self):
            return self.current

        def invalidate(self):
            self.current = self.next

    server = Server(refuse(401), JOB)
    await server.client(Rotating()).get("Job", "ns", "j")
    assert server.tokens == ["Bearer old", "Bearer new"]


async def test_rejected_token_that_stays_the_same_is_not_sent_again():
    server = Server(refuse(401, "Unauthorized"))
    with pytest.raises(Unreachable, match="Unauthorized"):
        await server.client(StaticToken("only")).get("Job", "ns", "j")
    assert len(server.requests) == 1


async def test_every_request_is_counted_also_without_an_answer():
    seen = []
    server = Server(JOB, httpx.ConnectError("refused"))
    client = server.client(on_request=seen.append)
    await client.apply(JOB, subresource="status")
    with pytest.raises(Unreachable):
        await client.list("Job", "ns")
    shown = [(r.verb, r.resource.plural, r.subresource, r.name, r.code) for r in seen]
    assert shown == [("patch", "jobs", "status", "j", 200), ("list", "jobs", None, None, 0)]


async def test_discovery_tells_which_kinds_are_missing():
    def answer(request):
        found = {
            "/apis/batch/v1": {"resources": [{"name": "jobs", "kind": "Job"}]},
            "/api/v1": {"resources": [{"name": "pods", "kind": "Pod"}, {"name": "pods/log"}]},
        }.get(request.url.path)
        return httpx.Response(200, json=found) if found else refuse(404)

    client = ApiClient(ClusterConfig("http://api.test"), transport=httpx.MockTransport(answer))
    missing = await find_missing(client, ("Job", "Pod", "Node", "ModelBuild"))
    assert [resource.kind for resource in missing] == ["Node", "ModelBuild"]
