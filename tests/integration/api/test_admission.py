"""What a real API server takes and refuses, and with which words."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from modelwright_operator.api.crds import KINDS, Kind, build_object_schema
from tests.integration.api.server import Refusal
from tests.unit.api.boundaries import Breach, breaches
from tests.unit.api.cases import CASES, Case
from tests.unit.api.samples import FULL, STATUS, change, full_model, minimal_model

if TYPE_CHECKING:
    from tests.integration.api.server import Server
    from tests.unit.api.samples import Object

pytestmark = pytest.mark.integration

MESSAGES = {rule.message: rule.name for kind in KINDS for rule in kind.rules}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_rules_speak_the_same_on_the_api_server(case: Case, asking: Server) -> None:
    answer = asking.try_create(case.document) if case.old is None else _change(asking, case)
    assert _broken_rules(answer) == set(case.want)


def _change(server: Server, case: Case) -> Object | Refusal:
    """Create the old object for good, then ask for the new one."""
    assert case.old is not None
    old, new = copy.deepcopy(case.old), copy.deepcopy(case.document)
    name = f"changed-{CASES.index(case)}"
    for document in (old, new):
        document["metadata"]["name"] = name
    new["metadata"]["resourceVersion"] = server.create(old)["metadata"]["resourceVersion"]
    return server.try_replace(new)


def _broken_rules(answer: Object | Refusal) -> set[tuple[str, str]]:
    if not isinstance(answer, Refusal):
        return set()
    assert answer.code == 422, answer.message
    return {(_field(path), _rule(message)) for path, message in answer.causes}


def _field(path: str) -> str:
    return "" if path == "<nil>" else path


def _rule(cause: str) -> str:
    """The rule whose sentence ends the cause; else the cause itself, to be shown."""
    return next((name for text, name in MESSAGES.items() if cause.endswith(text)), cause)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_constraint_of_a_spec_is_held(kind: Kind, asking: Server) -> None:
    every = list(breaches(build_object_schema(kind), FULL[kind.name], "spec"))
    answers = [
        (
            breach,
            asking.try_apply(breach.document)
            if breach.dropped_null
            else asking.try_create(breach.document),
        )
        for breach in every
    ]
    assert [breach.name for breach, answer in answers if not _names_it(breach, answer)] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_constraint_of_a_status_is_held(kind: Kind, server: Server) -> None:
    document = server.create(change(FULL[kind.name], {"metadata.name": server.namespace}))
    document = {**document, "status": STATUS[kind.name]}
    assert not isinstance(server.try_replace_status(document), Refusal)
    every = list(breaches(build_object_schema(kind), document, "status"))
    answers = [
        (breach, server.try_replace_status(breach.document))
        for breach in every
        if not breach.dropped_null
    ]
    assert len(answers) > 30
    assert [breach.name for breach, answer in answers if not _names_it(breach, answer)] == []


def _names_it(breach: Breach, answer: Object | Refusal) -> bool:
    """Whether the refusal says which field it is about."""
    if not isinstance(answer, Refusal):
        return False
    if breach.unknown_field:
        return answer.code == 400 and f'unknown field "{breach.path}"' in answer.message
    return answer.code == 422 and any(field.startswith(breach.path) for field, _ in answer.causes)


def test_a_password_is_not_repeated_to_anyone(asking: Server) -> None:
    document = change(minimal_model(), {"spec.model.uri": "https://me:secret@host/a.onnx"})
    answer = asking.try_create(document)
    assert isinstance(answer, Refusal)
    assert "secret@" not in answer.message


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("spec.optimization.profiles", ["x86-avx2", "x86-avx2"]),
        ("spec.optimization.techniques", ["Fusion", "Fusion"]),
    ],
)
def test_sets_hold_each_item_once(path: str, items: list[str], asking: Server) -> None:
    answer = asking.try_create(change(full_model(), {path: items}))
    assert isinstance(answer, Refusal)
    assert answer.causes == ((f"{path}[1]", f'Duplicate value: "{items[0]}"'),)


def test_names_up_to_253_characters_are_taken_and_no_longer_ones(asking: Server) -> None:
    assert not isinstance(asking.try_create(minimal_model("a" * 253)), Refusal)
    answer = asking.try_create(minimal_model("a" * 254))
    assert isinstance(answer, Refusal)
    assert answer.causes[0][0] == "metadata.name"
    assert "253" in answer.message
