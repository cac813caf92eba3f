"""The store: whatever order news arrives in, what stays is the newest."""

from hypothesis import given
from hypothesis import strategies as st

from modelwright_operator.kube.cache import Store, trim
from modelwright_operator.plan import names


def obj(name="a", version=1, uid="u1", *, kind="Pod", namespace="ns", owners=(), model=None):
    labels = {names.MODEL_LABEL: model} if model else {}
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
            "ownerReferences": [{"uid": owner} for owner in owners],
        },
    }


def version_of(store, name="a"):
    held = store.get("Pod", "ns", name)
    return held and int(held["metadata"]["resourceVersion"])


def test_older_version_does_not_replace_a_newer_one():
    store = Store()
    assert store.put(obj(version=5))
    assert not store.put(obj(version=5))
    assert not store.put(obj(version=4))
    assert version_of(store) == 5


def test_versions_are_numbers_not_texts():
    store = Store()
    store.put(obj(version=9))
    assert store.put(obj(version=10))


def test_echo_of_a_deleted_object_does_not_revive_it():
    store = Store()
    store.put(obj(version=1))
    assert store.remove(obj(version=3))
    assert not store.put(obj(version=2))
    assert version_of(store) is None


def test_deleted_object_may_come_back_into_sight_with_a_newer_version():
    """A watch by label says DELETED also when only the label went."""
    store = Store()
    store.put(obj(version=1))
    store.remove(obj(version=3))
    assert store.put(obj(version=4))


def test_recreated_object_survives_the_late_news_of_the_first_ones_end():
    store = Store()
    store.put(obj(version=1, uid="first"))
    store.put(obj(version=7, uid="second"))
    assert not store.remove(obj(version=6, uid="first"))
    assert version_of(store) == 7


def test_finished_delete_is_for_good():
    store = Store()
    store.put(obj(version=1))
    assert store.forget("Pod", "ns", "a", "u1")
    assert not store.put(obj(version=99))
    assert store.put(obj(version=100, uid="u2"))


def test_finished_delete_of_another_incarnation_changes_nothing():
    store = Store()
    store.put(obj(version=1))
    assert not store.forget("Pod", "ns", "a", "other")
    assert not store.forget("Pod", "ns", "b", None)
    assert version_of(store) == 1


def test_list_removes_what_it_lacks_and_keeps_what_is_newer_than_it():
    store = Store()
    store.put(obj("gone", version=2, uid="g"))
    store.put(obj("new", version=9, uid="n"))
    store.put(obj("elsewhere", version=2, uid="e", namespace="other"))
    assert store.replace("Pod", "ns", [obj("kept", version=3, uid="k")], "5") == 2
    assert [item["metadata"]["name"] for item in store.list("Pod", "ns")] == ["kept", "new"]
    assert store.count("Pod") == 3


def test_same_list_again_is_no_change():
    store = Store()
    items = [obj("a", 1, "u"), obj("b", 2, "v")]
    assert store.replace("Pod", None, items, "5") == 2
    assert store.replace("Pod", None, items, "6") == 0


def test_listeners_learn_before_and_after_of_each_change():
    store, seen = Store(), []
    store.subscribe(lambda before, after: seen.append((before, after)))
    store.put(obj(version=1))
    store.put(obj(version=1))
    store.put(obj(version=2))
    store.remove(obj(version=3))
    versions = [
        tuple(item and item["metadata"]["resourceVersion"] for item in pair) for pair in seen
    ]
    assert versions == [(None, "1"), ("1", "2"), ("2", None)]


def test_indexes_follow_the_object():
    store = Store()
    store.put(obj(version=1, owners=["m1"], model="digits"))
    store.put(obj("b", version=1, uid="u2", kind="Job", owners=["m1"]))
    assert len(store.owned_by("m1")) == 2
    assert [item["kind"] for item in store.owned_by("m1", "Job")] == ["Job"]
    assert len(store.of_model("ns", "digits", "Pod")) == 1
    store.put(obj(version=2, owners=["m2"]))
    assert len(store.owned_by("m1")) == 1
    assert len(store.owned_by("m2")) == 1
    assert store.of_model("ns", "digits") == ()
    store.remove(obj(version=3))
    assert store.owned_by("m2") == ()


def test_cluster_scoped_objects_are_found_without_a_namespace():
    store = Store()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "resourceVersion": "1"}}
    store.put(node)
    assert store.get("Node", None, "n")
    assert store.replace("Node", None, [], "2") == 1


def test_trimmed_object_keeps_what_decisions_need():
    fields = [{"manager": names.FIELD_MANAGER}, {"manager": "kubectl"}]
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}
    raw = {"metadata": {"managedFields": fields, "annotations": annotations}}
    pod = trim({"kind": "Pod", **raw})
    assert pod["metadata"] == {"managedFields": fields[:1], "annotations": {"a": "b"}}
    assert trim({"kind": "Deployment", **raw})["metadata"]["managedFields"] == fields
    node = trim({"kind": "Node", "metadata": {}, "status": {"images": [1], "nodeInfo": {}}})
    assert node["status"] == {"nodeInfo": {}}
    assert raw["metadata"]["annotations"] is annotations
    assert len(annotations) == 2


# The life of one name: made, changed, deleted and made again, each step at a higher version.
_LIVES = st.lists(st.sampled_from(["change", "recreate"]), max_size=8)


def _history(steps):
    """(kind of message, object) for every version there ever was, and the newest object."""
    messages, uid, version = [], 0, 0
    for step in steps:
        version += 1
        if step == "recreate" and messages:
            messages.append(("remove", obj(version=version, uid=f"u{uid}")))
            version += 1
            uid += 1
        messages.append(("put", obj(version=version, uid=f"u{uid}")))
    return messages


@given(_LIVES, st.booleans(), st.randoms(use_true_random=False))
def test_property_any_order_of_any_repeated_messages_ends_with_the_newest(steps, ends, random):
    messages = _history(steps)
    if ends and messages:
        last = messages[-1][1]["metadata"]
        end = obj(version=int(last["resourceVersion"]) + 1, uid=last["uid"])
        messages.append(("remove", end))
    shuffled = messages + random.choices(messages, k=len(messages)) if messages else []
    random.shuffle(shuffled)
    store = Store()
    for kind, message in shuffled:
        getattr(store, kind)(message)
    kinds = [kind for kind, _ in messages]
    want = None
    if kinds and kinds[-1] == "put":
        want = int(messages[-1][1]["metadata"]["resourceVersion"])
    assert version_of(store) == want
