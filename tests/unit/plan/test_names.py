"""Names of children: legal whatever the model is called, stable, and never shared."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from modelwright_operator.plan import names

_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?", fullmatch=True)
_OBJECT_NAMES = st.builds(".".join, st.lists(_LABEL, min_size=1, max_size=4)).filter(
    lambda name: len(name) <= 253
)
_DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@given(_OBJECT_NAMES)
def test_every_child_name_is_a_dns_label(name: str) -> None:
    for child in (
        names.service_name(name),
        names.service_account_name(name),
        names.probe_name(name),
    ):
        assert len(child) <= names.MAX_LABEL
        assert _DNS_LABEL.fullmatch(child)
    assert len(names.workload_name(name)) <= names.MAX_LABEL
    assert len(names.model_label(name)) <= names.MAX_LABEL


@given(st.lists(_OBJECT_NAMES, min_size=2, max_size=8, unique=True))
def test_different_models_never_share_a_child(models: list[str]) -> None:
    assert len({names.workload_name(name) for name in models}) == len(models)
    assert len({names.model_label(name) for name in models}) == len(models)
    assert len({names.service_name(name) for name in models}) == len(models)
    assert len({names.service_account_name(name) for name in models}) == len(models)


def test_a_prefix_never_makes_the_name_of_another_model() -> None:
    assert names.service_name("3d") != names.service_name("m-3d")


def test_a_short_name_stays_readable() -> None:
    assert names.workload_name("digits") == "digits-default"
    assert names.service_name("digits") == "digits"
    assert names.service_name("3d").startswith("m-3d-")
