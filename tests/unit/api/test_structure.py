from __future__ import annotations

import pytest

from modelwright_operator.api.checks import Violation, check_inference_model
from modelwright_operator.api.crds import KINDS, Kind, build_object_schema
from modelwright_operator.api.inference_model import InferenceModelSpec, InferenceModelStatus
from tests.unit.api.boundaries import breaches
from tests.unit.api.samples import FULL, MODEL_STATUS, change, full_model, minimal_model
from tests.unit.api.test_rules import CHECKS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_python_twin_refuses_what_breaks_the_schema(kind: Kind) -> None:
    every = list(breaches(build_object_schema(kind), FULL[kind.name], "spec"))
    assert len(every) > 15
    missed = [
        breach.name
        for breach in every
        if not any(
            found.path.startswith(breach.path) for found in CHECKS[kind.name](breach.document)
        )
    ]
    assert missed == []


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"spec.model.url": "x"}, "spec.model.url: is not a field of this version"),
        ({"spec.evaluation.metric": "accuracy"}, "spec.evaluation.metric: must be 'Accuracy', "),
        ({"spec.scaling": {"minReplicas": 0}}, "spec.scaling.minReplicas: must be at least 1"),
        ({"spec.rebuildToken": "x" * 65}, "spec.rebuildToken: must not be longer than 64"),
        ({"spec.optimization": {"profiles": ["a", "a"]}}, "must not hold 'a' twice"),
        ({"spec.suspend": None}, "spec.suspend: must not be null; leave the field out"),
        ({"metadata.name": "Digits"}, "metadata.name: must be a name of lower-case letters"),
        ({"metadata.name": "a" * 254}, "metadata.name: must not be longer than 253"),
        ({"kind": "InferenceModels"}, "kind: must be 'InferenceModel'"),
    ],
)
def test_findings_are_sentences(changes: dict[str, object], want: str) -> None:
    found = check_inference_model(change(minimal_model(), changes))
    assert any(want in str(violation) for violation in found)


def test_a_document_without_a_spec_is_told_so() -> None:
    document = minimal_model()
    del document["spec"]
    assert check_inference_model(document) == [Violation("spec", "is required")]


def test_a_status_that_is_out_of_date_makes_no_spec_wrong() -> None:
    stored = {**full_model(), "status": {"replicas": "two"}}
    assert check_inference_model(stored, old={**stored, "status": None}) == []


def test_a_spec_goes_over_the_wire_and_back_unchanged() -> None:
    spec = full_model()["spec"]
    assert InferenceModelSpec.model_validate(spec).to_json() == spec


def test_a_status_goes_over_the_wire_and_back_unchanged() -> None:
    assert InferenceModelStatus.model_validate(MODEL_STATUS).to_json() == MODEL_STATUS


def test_a_status_of_a_newer_version_is_read() -> None:
    newer = change(MODEL_STATUS, {"forecast": {"mode": "Auto"}, "summary.cost": "3"})
    assert InferenceModelStatus.model_validate(newer).to_json() == MODEL_STATUS


def test_words_for_people_are_cut_rather_than_refused() -> None:
    entry = {"time": "2026-01-02T03:04:05Z", "reason": "Serving", "message": "x" * 5000}
    status = InferenceModelStatus.model_validate({"history": [entry]})
    assert status.history is not None
    assert status.history[0].message == "x" * 1023 + "…"
