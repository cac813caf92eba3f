"""A new version of the operator meets what the last one made: nothing is rolled, nothing built.

Each golden case is told by version A; then version B, whose settings name other images, looks at
every model of the cluster that is left.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelwright_operator.apply.ownership import is_in_force
from tests.support import golden_plans as golden

OTHER_IMAGES = {
    "optimizer": "registry.example/modelwright-optimizer@sha256:" + "8" * 64,
    "runtime": "registry.example/modelwright-runtime@sha256:" + "9" * 64,
}
CASES = golden.list_cases()


def plan_all(case: str, **settings: Any) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """What is wanted for every model, with what stands there now."""
    story = golden.retell(case)
    wanted = []
    for model in story.cluster.list("InferenceModel"):
        target = f"InferenceModel {model['metadata']['namespace']}/{model['metadata']['name']}"
        for manifest in golden.plan_again(golden.retell(case), target, **settings).apply:
            meta = manifest["metadata"]
            live = story.cluster.get(manifest["kind"], meta.get("namespace"), meta["name"])
            wanted.append((dict(manifest), live))
    return wanted


@pytest.mark.parametrize("case", CASES)
def test_a_new_version_changes_no_child_of_a_model(case: str) -> None:
    before = [m for m, live in plan_all(case) if live is None or not is_in_force(m, live)]
    after = [
        m
        for m, live in plan_all(case, images=OTHER_IMAGES)
        if live is None or not is_in_force(m, live)
    ]
    # A build nobody has made yet gets the new images; nothing else may differ.
    assert [_without_images(m) for m in after] == [_without_images(m) for m in before]
    for manifest in after:
        if manifest["kind"] == "Deployment":
            assert OTHER_IMAGES["runtime"] not in json.dumps(manifest)


def test_a_served_model_is_quiet_under_a_new_version() -> None:
    wanted = plan_all("available", images=OTHER_IMAGES)
    assert {manifest["kind"] for manifest, _ in wanted} >= {"ModelBuild", "Deployment"}
    assert all(live is not None and is_in_force(manifest, live) for manifest, live in wanted)


def test_a_running_build_goes_on_under_a_new_version() -> None:
    outcome = golden.plan_again(
        golden.retell("building"), "ModelBuild build-*", images=OTHER_IMAGES
    )
    assert outcome.apply == ()
    assert outcome.decision["delete"] == []


def test_a_build_asked_for_after_the_upgrade_has_the_new_images() -> None:
    story = golden.retell("rebuild-asked")
    builds = {
        obj["spec"]["images"]["optimizer"] for obj in story.cluster.list("ModelBuild", "vision")
    }
    assert OTHER_IMAGES["optimizer"] not in builds
    fresh = golden.play("new-model", images=OTHER_IMAGES)
    assert fresh.apply[0]["spec"]["images"] == OTHER_IMAGES


def _without_images(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] != "ModelBuild":
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "images": None}}
