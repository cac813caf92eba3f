"""Which keys a change wakes: owners and dependants, and never our own status writes."""

from __future__ import annotations

from typing import Any

import pytest

from modelwright_operator.plan import names
from modelwright_operator.plan.types import Key
from modelwright_operator.plan.wakes import NODES_KEY, needs_all_models, wake_keys
from tests.support import builders as a

MODEL_KEY = Key("InferenceModel", "vision", "digits")
BUILD_KEY = Key("ModelBuild", "vision", "build-1")


def owned(kind: str, owner_kind: str, owner: str, **labels: str) -> dict[str, Any]:
    reference = {"kind": owner_kind, "name": owner, "uid": f"uid-{owner}"}
    return {
        "kind": kind,
        "metadata": {
            "name": "x",
            "namespace": "vision",
            "labels": labels,
            "ownerReferences": [reference],
        },
    }


@pytest.mark.parametrize(
    ("changed", "want"),
    [
        pytest.param(a.model_object(), {MODEL_KEY}, id="a model wakes itself"),
        pytest.param(
            owned("Deployment", "InferenceModel", "digits"), {MODEL_KEY}, id="a child its model"
        ),
        pytest.param(
            owned("Job", "ModelBuild", "build-1"), {BUILD_KEY}, id="a Job wakes its build"
        ),
        pytest.param(
            owned("Pod", "ReplicaSet", "rs", **{names.MODEL_LABEL: "digits"}),
            {MODEL_KEY},
            id="a server's pod wakes its model, over the ReplicaSet",
        ),
        pytest.param(
            owned("Pod", "Job", "job", **{names.BUILD_LABEL: "build-1"}),
            {BUILD_KEY},
            id="a build's pod wakes its build, over the Job",
        ),
        pytest.param(
            {"kind": "Node", "metadata": {"name": "n1"}}, {NODES_KEY}, id="a node wakes the probing"
        ),
    ],
)
def test_an_arrival_wakes(changed: dict[str, Any], want: set[Key]) -> None:
    assert set(wake_keys(None, changed)) == want
    assert set(wake_keys(changed, None)) == want


def test_a_status_write_of_ours_wakes_nobody() -> None:
    before = a.model_object()
    after = {**before, "status": {"observedGeneration": 1}}
    assert set(wake_keys(before, after)) == set()


def test_an_edit_wakes() -> None:
    before = a.model_object()
    after = {**before, "metadata": {**before["metadata"], "generation": 2}}
    assert set(wake_keys(before, after)) == {MODEL_KEY}


def test_a_child_that_changes_hands_wakes_both_owners() -> None:
    before = owned("Deployment", "InferenceModel", "one")
    after = owned("Deployment", "InferenceModel", "two")
    assert {key.name for key in wake_keys(before, after)} == {"one", "two"}


def test_all_models_look_again_when_a_profile_gets_nodes() -> None:
    empty = {"kind": "HardwareProfile", "spec": {}, "status": {}}
    filled = {**empty, "status": {"nodes": [{"name": "n1"}]}}
    assert needs_all_models(empty, filled)
    assert not needs_all_models(filled, dict(filled))
    assert not needs_all_models(None, {"kind": "Node"})
