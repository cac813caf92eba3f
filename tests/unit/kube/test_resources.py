import pytest

from modelwright_operator.kube.resources import (
    APPLY_ORDER,
    UnknownKindError,
    apply_rank,
    object_reference,
    resource_of,
)


@pytest.mark.parametrize(
    ("kind", "arguments", "want"),
    [
        ("Pod", ("shop", "a"), "/api/v1/namespaces/shop/pods/a"),
        ("Pod", (), "/api/v1/pods"),
        ("Node", (None, "n1"), "/api/v1/nodes/n1"),
        ("Node", ("ignored", "n1"), "/api/v1/nodes/n1"),
        (
            "InferenceModel",
            ("shop", "digits", "status"),
            "/apis/modelwright.dev/v1alpha1/namespaces/shop/inferencemodels/digits/status",
        ),
        (
            "HorizontalPodAutoscaler",
            ("shop",),
            "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers",
        ),
    ],
)
def test_path_of_a_resource(kind, arguments, want):
    assert resource_of(kind).path(*arguments) == want


def test_path_cannot_be_left_by_a_name():
    assert resource_of("Pod").path("a/b", "../c") == "/api/v1/namespaces/a%2Fb/pods/..%2Fc"


def test_unknown_kind_names_the_table():
    with pytest.raises(UnknownKindError, match="kind Gadget is not in the table"):
        resource_of("Gadget")


def test_owners_are_applied_before_what_refers_to_them():
    shuffled = ["HorizontalPodAutoscaler", "Deployment", "ServiceAccount", "Service"]
    want = ["ServiceAccount", "Service", "Deployment", "HorizontalPodAutoscaler"]
    assert sorted(shuffled, key=apply_rank) == want
    assert apply_rank("Gadget") == len(APPLY_ORDER)


def test_every_ordered_kind_is_in_the_table():
    assert [resource_of(kind).kind for kind in APPLY_ORDER] == list(APPLY_ORDER)


def test_reference_of_a_live_object_has_its_uid():
    ref = object_reference(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}}
    )
    assert (ref.kind, ref.namespace, ref.name, ref.uid) == ("Node", None, "n1", "u")
