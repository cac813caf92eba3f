from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_runtime.protocol.rest_routes import Endpoint, Route, parse_target


@pytest.mark.parametrize(
    ("target", "want"),
    [
        (b"/v2", Route(Endpoint.SERVER_METADATA)),
        (b"/v2/", Route(Endpoint.SERVER_METADATA)),
        (b"/v2?x=1", Route(Endpoint.SERVER_METADATA)),
        (b"/v2/health/live", Route(Endpoint.SERVER_LIVE)),
        (b"/v2/health/ready", Route(Endpoint.SERVER_READY)),
        (b"/v2/models/m", Route(Endpoint.MODEL_METADATA, "m")),
        (b"/v2/models/m/ready", Route(Endpoint.MODEL_READY, "m")),
        (b"/v2/models/m/infer", Route(Endpoint.MODEL_INFER, "m")),
        (b"/v2/models/m/versions/7", Route(Endpoint.MODEL_METADATA, "m", "7")),
        (b"/v2/models/m/versions/7/ready", Route(Endpoint.MODEL_READY, "m", "7")),
        (b"/v2/models/m/versions/7/infer", Route(Endpoint.MODEL_INFER, "m", "7")),
        (b"/v2/models/a%2Fb%20c/infer", Route(Endpoint.MODEL_INFER, "a/b c")),
        (b"/", None),
        (b"", None),
        (b"/v1/models/m:predict", None),
        (b"/v2/models", None),
        (b"/v2/models//infer", None),
        (b"/v2/models/m/versions", None),
        (b"/v2/models/m/versions//infer", None),
        (b"/v2/models/m/versions/7/unload", None),
        (b"/v2/models/m/infer/more", None),
        (b"/v2/models/%ff/infer", None),
        (b"*", None),
    ],
)
def test_parse_target(target: bytes, want: Route | None) -> None:
    assert parse_target(target) == want


@given(st.binary(max_size=60))
def test_any_target_has_a_route_or_none(target: bytes) -> None:
    route = parse_target(b"/v2/models/" + target)
    assert route is None or route.model
