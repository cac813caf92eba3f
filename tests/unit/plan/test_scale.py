"""Who owns `replicas`, and that handing it over never costs a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_operator.plan.resolve import Scaling
from modelwright_operator.plan.scale import resolve_replicas

FIXED, AUTOMATIC = Scaling(3, 3, 70), Scaling(3, 6, 70)
AUTOSCALER = {"kind": "HorizontalPodAutoscaler"}


def deployment(replicas: int, *owners: str) -> dict[str, Any]:
    fields = {"f:spec": {"f:replicas": {}}}
    return {
        "metadata": {
            "resourceVersion": "17",
            "managedFields": [{"manager": owner, "fieldsV1": fields} for owner in owners],
        },
        "spec": {"replicas": replicas},
    }


@pytest.mark.parametrize(
    ("scaling", "live", "autoscaler", "want", "want_pinned"),
    [
        pytest.param(FIXED, None, None, 3, False, id="a new Deployment starts at the minimum"),
        pytest.param(AUTOMATIC, None, None, 3, False, id="also when it will be autoscaled"),
        pytest.param(
            AUTOMATIC, deployment(3, "modelwright"), None, 3, True, id="no autoscaler yet: keep"
        ),
        pytest.param(
            AUTOMATIC,
            deployment(4, "modelwright"),
            AUTOSCALER,
            4,
            True,
            id="an autoscaler that owns nothing yet: keep the number it found",
        ),
        pytest.param(
            AUTOMATIC,
            deployment(5, "modelwright", "kube-controller-manager"),
            AUTOSCALER,
            None,
            False,
            id="the autoscaler owns the number: drop it",
        ),
        pytest.param(
            FIXED,
            deployment(5, "kube-controller-manager"),
            AUTOSCALER,
            3,
            False,
            id="no autoscaler wanted any more: take the number over",
        ),
    ],
)
def test_the_number_applied(
    scaling: Scaling,
    live: dict[str, Any] | None,
    autoscaler: dict[str, Any] | None,
    want: int | None,
    want_pinned: bool,
) -> None:
    replicas = resolve_replicas(scaling, live, autoscaler)
    assert replicas.number == want
    assert (replicas.as_seen_at is not None) == want_pinned


@given(
    minimum=st.integers(1, 10),
    extra=st.integers(0, 10),
    live=st.integers(0, 40),
    owned=st.booleans(),
)
def test_never_fewer_than_the_minimum(minimum: int, extra: int, live: int, owned: bool) -> None:
    scaling = Scaling(minimum, minimum + extra, 70)
    owners = ("kube-controller-manager",) if owned else ("modelwright",)
    number = resolve_replicas(scaling, deployment(live, *owners), AUTOSCALER).number
    assert number is None or number >= minimum
