"""Is a manifest in force? Never yes when applying would change something."""

import copy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelwright_operator.apply.ownership import find_applied_fields, is_in_force
from tests.unit.apply.ssa import ATOMIC, SET, fields_of, live_of

CONTAINER = {
    "name": None,
    "image": None,
    "args": ATOMIC,
    "resources": {"limits": {"cpu": None, "memory": None}},
    "ports": (("containerPort", "protocol"), {"containerPort": None, "protocol": None}),
    "env": (("name",), {"name": None, "value": None}),
}
SCHEMA = {
    "metadata": {"labels": {}, "finalizers": SET, "ownerReferences": (("uid",), ATOMIC)},
    "spec": {
        "replicas": None,
        "selector": ATOMIC,
        "containers": (("name",), CONTAINER),
        "emptyDir": ATOMIC,
    },
}


def deployment():
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "d",
            "namespace": "ns",
            "labels": {"a": "1", "b": "2"},
            "finalizers": ["x/y"],
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "1"}},
            "emptyDir": {},
            "containers": [
                {
                    "name": "server",
                    "image": "i:1",
                    "args": ["serve", "--x"],
                    "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                }
            ],
        },
    }


def fields(desired):
    body = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind")}
    metadata = {k: v for k, v in body["metadata"].items() if k not in ("name", "namespace", "uid")}
    out = fields_of({**body, "metadata": metadata}, SCHEMA)
    return {key: value for key, value in out.items() if key != "f:metadata" or value}


def stored(desired=None):
    desired = desired or deployment()
    return live_of(desired, fields(desired))


def container(obj):
    return obj["spec"]["containers"][0]


def test_what_was_applied_is_in_force():
    assert is_in_force(deployment(), stored())


def test_nothing_is_in_force_before_the_first_apply():
    live = stored()
    live["metadata"]["managedFields"][0]["manager"] = "kubectl"
    assert not is_in_force(deployment(), live)
    del live["metadata"]["managedFields"]
    assert not is_in_force(deployment(), live)


def test_defaults_other_owners_and_status_are_not_looked_at():
    live = stored()
    live["spec"]["revisionHistoryLimit"] = 10
    live["status"] = {"replicas": 7}
    container(live)["imagePullPolicy"] = "IfNotPresent"
    container(live)["env"].insert(0, {"name": "INJECTED", "value": "1"})
    live["spec"]["containers"].insert(0, {"name": "sidecar", "image": "istio"})
    live["metadata"]["labels"]["theirs"] = "x"
    live["metadata"]["finalizers"].append("their/finalizer")
    live["spec"]["selector"]["matchExpressions"] = []
    assert is_in_force(deployment(), live)


def test_canonical_spelling_of_a_quantity_is_no_difference():
    live = stored()
    container(live)["resources"]["limits"] = {"cpu": "1", "memory": "1024Mi"}
    assert is_in_force(deployment(), live)


def test_text_that_looks_like_a_quantity_is_compared_as_text():
    live = stored()
    container(live)["env"][0]["value"] = "1000m"
    assert not is_in_force(deployment(), live)


def test_key_field_left_to_its_default_still_finds_its_item():
    desired, live = deployment(), stored()
    del container(desired)["ports"][0]["protocol"]
    port = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]
    ports = port['k:{"name": "server"}']["f:ports"]
    (key,) = ports
    ports[key].pop("f:protocol")
    assert is_in_force(desired, live)


def test_absent_and_null_say_the_same():
    desired = deployment()
    desired["spec"]["minReadySeconds"] = None
    assert is_in_force(desired, stored())


def test_empty_value_that_left_no_trace_is_in_force():
    desired = deployment()
    container(desired)["volumeMounts"] = []
    desired["spec"]["template"] = {"metadata": {"annotations": {}}}
    assert is_in_force(desired, stored())


def test_empty_value_over_a_present_one_is_not_in_force():
    desired, live = deployment(), stored()
    desired["spec"]["volumes"] = []
    live["spec"]["volumes"] = [{"name": "theirs"}]
    assert not is_in_force(desired, live)


def drop_replicas(desired):
    del desired["spec"]["replicas"]


def drop_env(desired):
    container(desired)["env"].pop()


def add_env(desired):
    container(desired)["env"].append({"name": "C", "value": "3"})


def add_container(desired):
    desired["spec"]["containers"].append({"name": "second", "image": "i"})


def change_image(desired):
    container(desired)["image"] = "i:2"


def change_argument(desired):
    container(desired)["args"] = ["serve"]


def reorder_arguments(desired):
    container(desired)["args"].reverse()


def change_limit(desired):
    container(desired)["resources"]["limits"]["cpu"] = "1001m"


def drop_label(desired):
    del desired["metadata"]["labels"]["b"]


def add_label(desired):
    desired["metadata"]["labels"]["c"] = "3"


def change_set(desired):
    desired["metadata"]["finalizers"] = ["other"]


def change_selector(desired):
    desired["spec"]["selector"]["matchLabels"]["b"] = "2"


def number_becomes_text(desired):
    desired["spec"]["replicas"] = "2"


def number_becomes_truth(desired):
    desired["spec"]["replicas"] = True


@pytest.mark.parametrize(
    "change",
    [
        drop_replicas,
        drop_env,
        add_env,
        add_container,
        change_image,
        change_argument,
        reorder_arguments,
        change_limit,
        drop_label,
        add_label,
        change_set,
        change_selector,
        number_becomes_text,
        number_becomes_truth,
    ],
)
def test_new_wish_is_not_in_force(change):
    desired = deployment()
    change(desired)
    assert not is_in_force(desired, stored())


@pytest.mark.parametrize("change", [change_image, change_argument, change_limit, change_set])
def test_drift_is_not_in_force(change):
    live = stored()
    change(live)
    assert not is_in_force(deployment(), live)


def test_field_taken_over_by_another_manager_is_not_in_force():
    live = stored()
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    assert not is_in_force(deployment(), live)


def test_entry_of_another_version_or_subresource_does_not_count():
    live = stored()
    live["metadata"]["managedFields"][0]["apiVersion"] = "apps/v1beta1"
    assert find_applied_fields(live) is None
    status = live_of(deployment(), {}, subresource="status")
    assert find_applied_fields(status) is None
    assert find_applied_fields(status, "status") == {}


def test_owner_reference_is_one_value_under_its_key():
    desired = deployment()
    desired["metadata"]["ownerReferences"] = [{"uid": "u", "name": "m", "controller": True}]
    assert is_in_force(desired, stored(desired))
    other = copy.deepcopy(desired)
    other["metadata"]["ownerReferences"][0]["controller"] = False
    assert not is_in_force(other, stored(desired))


# Values of a small schema, to be changed in one place.
_NAMES = st.sampled_from(["a", "b", "c"])
_SCALARS = st.one_of(st.integers(-3, 3), st.sampled_from(["x", "y", "1"]), st.booleans())
_ITEMS = st.lists(
    st.fixed_dictionaries({"name": _NAMES}, optional={"value": _SCALARS}),
    max_size=3,
    unique_by=lambda item: item["name"],
)
_SPECS = st.fixed_dictionaries(
    {},
    optional={
        "scalar": _SCALARS,
        "whole": st.lists(_SCALARS, min_size=1, max_size=3),
        "members": st.lists(_NAMES, unique=True, min_size=1, max_size=3),
        "items": _ITEMS.filter(bool),
        "nested": st.dictionaries(_NAMES, _SCALARS, min_size=1, max_size=3),
    },
)
_SMALL = {
    "spec": {
        "scalar": None,
        "whole": ATOMIC,
        "members": SET,
        "items": (("name",), {"name": None, "value": None}),
        "nested": {"a": None, "b": None, "c": None},
    }
}


def _manifest(spec):
    return {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec}


def _stored_small(spec):
    manifest = _manifest(spec)
    own = {"f:spec": fields_of(spec, _SMALL["spec"])} if spec else {}
    return live_of(manifest, own)


def _normal(spec):
    """What an apply means: sets and keyed lists have no order, true is not 1."""

    def mark(value):
        if isinstance(value, dict):
            return tuple(sorted((key, mark(item)) for key, item in value.items()))
        if isinstance(value, list):
            return tuple(mark(item) for item in value)
        return type(value).__name__, str(value)

    out = {key: mark(value) for key, value in spec.items()}
    for name in ("members", "items"):
        if name in out:
            out[name] = tuple(sorted(out[name]))
    return out


@given(_SPECS)
def test_property_an_applied_manifest_is_in_force(spec):
    assert is_in_force(_manifest(spec), _stored_small(spec))


@given(_SPECS, _SPECS)
def test_property_a_manifest_that_differs_is_never_in_force(one, two):
    assume(_normal(one) != _normal(two))
    assert not is_in_force(_manifest(two), _stored_small(one))


@given(_SPECS, st.randoms(use_true_random=False))
def test_property_order_of_keyed_lists_and_sets_does_not_matter(spec, random):
    shuffled = copy.deepcopy(spec)
    for name in ("members", "items"):
        if name in shuffled:
            random.shuffle(shuffled[name])
    assert is_in_force(_manifest(shuffled), _stored_small(spec))


@given(_SPECS, st.dictionaries(st.sampled_from(["x", "y"]), _SCALARS))
def test_property_fields_of_others_do_not_matter(spec, theirs):
    live = _stored_small(spec)
    live["spec"] = {**live["spec"], **theirs}
    for item in live["spec"].get("items", []):
        item.update(theirs)
    assert is_in_force(_manifest(spec), live)
