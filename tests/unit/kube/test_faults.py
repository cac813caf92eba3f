import json

import pytest

from modelwright_operator.kube.faults import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    Unreachable,
    fault_of_response,
    fault_of_transport,
)


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (400, Invalid),
        (401, Unreachable),
        (403, Forbidden),
        (404, Gone),
        (409, Conflict),
        (410, Gone),
        (413, Invalid),
        (418, Invalid),
        (422, Invalid),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
        (504, Unreachable),
    ],
)
def test_code_becomes_one_of_five_faults(code, want):
    fault = fault_of_response(code, b'{"message": "because"}', what="patch pods a/b")
    assert type(fault) is want
    assert fault.kind == want.__name__
    assert fault.message == "patch pods a/b: because"
    assert fault.code == code


def test_namespace_on_its_way_out_is_gone_not_forbidden():
    body = json.dumps({"details": {"causes": [{"reason": "NamespaceTerminating"}]}}).encode()
    assert type(fault_of_response(403, body, what="create pods")) is Gone


def test_unknown_field_is_the_objects_fault_though_the_server_says_500():
    message = "failed to create typed patch object (ns/d; apps/v1): .spec.x: field not declared"
    fault = fault_of_response(500, json.dumps({"message": message}).encode(), what="patch")
    assert type(fault) is Invalid


@pytest.mark.parametrize(
    ("header", "want"), [("7", 7.0), ("-1", 0.0), ("Wed, 21 Oct", 0.0), (None, 0.0)]
)
def test_pause_the_server_asks_for(header, want):
    fault = fault_of_response(429, b"", what="list pods", retry_after=header)
    assert fault.retry_after_seconds == want


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"', b"", b"\xff"])
def test_answer_that_is_no_status_still_makes_a_sentence(body):
    assert fault_of_response(502, body, what="get nodes n1").message == "get nodes n1: HTTP 502"


def test_message_is_cut_to_what_a_condition_holds():
    body = json.dumps({"message": "x" * 5000}).encode()
    assert len(fault_of_response(422, body, what="w").message) == 1024


def test_timeout_without_words_names_itself():
    assert fault_of_transport(TimeoutError(), what="get pods").message == "get pods: TimeoutError"
