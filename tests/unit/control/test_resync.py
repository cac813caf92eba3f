import asyncio

from modelwright_operator.control.contract import Watched
from modelwright_operator.control.queue import WorkQueue
from modelwright_operator.control.resync import Resync
from modelwright_operator.control.wakeups import connect_wakeups, wake_all
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.client import Listing
from modelwright_operator.kube.faults import Gone, Unreachable
from modelwright_operator.plan.types import Key
from tests.unit.control.virtual_time import now, run


def obj(name, version, namespace="ns", kind="Pod"):
    metadata = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


class Lists:
    """Lists what it holds, at its version; faults first."""

    def __init__(self, *items, faults=()):
        self.items = list(items)
        self.version = 10
        self.faults = list(faults)
        self.calls = []

    async def list(self, kind, namespace=None, *, label_selector=""):
        self.calls.append((kind, namespace, label_selector))
        if self.faults:
            raise self.faults.pop(0)
        items = tuple(i for i in self.items if i["kind"] == kind)
        return Listing(items, str(self.version))


def make(lists, *kinds, namespaces=(), on_listed=lambda _kind, _count: None):
    store = Store()
    resync = Resync(
        lists,
        store,
        kinds,
        namespaces=namespaces,
        interval_seconds=300,
        on_listed=on_listed,
        jitter=lambda: 0.5,
    )
    return store, resync


def test_prime_insists_until_every_kind_is_listed():
    async def scenario():
        lists = Lists(obj("a", 1), faults=[Unreachable("down"), Gone("no such kind", code=404)])
        store, resync = make(lists, Watched("Pod", "a=b"))
        assert resync.ages_seconds()["Pod"] == float("inf")
        await resync.prime()
        assert now() > 2
        assert store.count("Pod") == 1
        assert lists.calls == [("Pod", None, "a=b")] * 3
        assert resync.ages_seconds()["Pod"] < 5

    run(scenario())


def test_every_namespace_is_listed_for_itself_and_nodes_once():
    async def scenario():
        lists = Lists()
        _, resync = make(lists, Watched("Pod"), Watched("Node"), namespaces=("one", "two"))
        await resync.prime()
        assert sorted(lists.calls, key=str) == [
            ("Node", None, ""),
            ("Pod", "one", ""),
            ("Pod", "two", ""),
        ]

    run(scenario())


def test_lost_event_is_made_up_for_by_the_next_round():
    async def scenario():
        found = []
        lists = Lists(obj("a", 1), obj("b", 2))
        store, resync = make(
            lists, Watched("Pod"), on_listed=lambda kind, count: found.append((kind, count))
        )
        await resync.prime()
        lists.items = [obj("a", 1), obj("c", 20)]
        lists.version = 25
        task = asyncio.create_task(resync.run())
        await asyncio.sleep(301)
        task.cancel()
        assert [item["metadata"]["name"] for item in store.list("Pod")] == ["a", "c"]
        assert found == [("Pod", 2)]

    run(scenario())


def test_trouble_in_a_round_does_not_end_the_rounds():
    async def scenario():
        lists = Lists(obj("a", 1))
        _, resync = make(lists, Watched("Pod"))
        await resync.prime()
        lists.faults = [Unreachable("down")] * 5
        task = asyncio.create_task(resync.run())
        await asyncio.sleep(1000)
        assert not task.done()
        assert resync.ages_seconds()["Pod"] < 310
        task.cancel()

    run(scenario())


def wake(before, after):
    changed = after or before
    yield Key("InferenceModel", changed["metadata"]["namespace"], changed["metadata"]["name"])


def test_every_change_in_the_store_wakes_whom_it_concerns():
    async def scenario():
        store, queue = Store(), WorkQueue()
        connect_wakeups(store, queue, wake)
        store.put(obj("a", 1))
        store.put(obj("a", 1))
        store.put(obj("b", 2))
        store.remove(obj("b", 3))
        assert [(await queue.get()).name for _ in range(queue.depth())] == ["a", "b"]

    run(scenario())


def test_all_objects_are_looked_at_again_evenly_over_a_while():
    async def scenario():
        store, queue = Store(), WorkQueue()
        for number in range(4):
            store.put(obj(f"m{number}", number + 1))
        assert wake_all(store, queue, "Pod", wake, 20.0) == 4
        times = []
        for _ in range(4):
            await queue.get()
            times.append(now())
        assert times == [0, 5, 10, 15]
        assert wake_all(store, queue, "Node", wake, 20.0) == 0

    run(scenario())
