"""Both protocols answer every fault, each with its own code, and none is forgotten."""

from __future__ import annotations

import grpc
import pytest

from modelwright_runtime import errors
from modelwright_runtime.grpc_server import resolve_code
from modelwright_runtime.rest_api import build_fault_headers, resolve_status

Code = grpc.StatusCode

TABLE = [
    (errors.InvalidRequest("m"), 400, Code.INVALID_ARGUMENT, b""),
    (errors.NotServed("m"), 404, Code.NOT_FOUND, b""),
    (errors.TooLarge("m"), 413, Code.RESOURCE_EXHAUSTED, b""),
    (errors.Cancelled("m"), 499, Code.CANCELLED, b""),
    (errors.ModelFailed("m"), 500, Code.INTERNAL, b""),
    (errors.Unsupported("m"), 501, Code.UNIMPLEMENTED, b""),
    (errors.NotReady("m"), 503, Code.UNAVAILABLE, b"retry-after: 1\r\n"),
    (errors.Overloaded("m", 7), 503, Code.RESOURCE_EXHAUSTED, b"retry-after: 7\r\n"),
]


@pytest.mark.parametrize(("fault", "status", "code", "headers"), TABLE)
def test_fault_codes(
    fault: errors.InferenceFault, status: int, code: grpc.StatusCode, headers: bytes
) -> None:
    assert resolve_status(fault) == status
    assert resolve_code(fault) == code
    assert build_fault_headers(fault) == headers


def test_the_table_names_every_fault() -> None:
    assert {type(row[0]) for row in TABLE} == set(errors.InferenceFault.__subclasses__())


def test_messages_are_cut_to_what_a_caller_may_be_shown() -> None:
    fault = errors.InvalidRequest("x" * 5000)
    assert len(fault.message) == errors.MESSAGE_LIMIT
    assert fault.message.endswith("…")
