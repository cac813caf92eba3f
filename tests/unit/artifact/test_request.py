from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.request import (
    BUDGET_TYPES,
    METRICS,
    OBJECTIVES,
    TECHNIQUES,
    Budget,
    BuildRequest,
    Metric,
    Profile,
    Resources,
    SourceRef,
)
from tests.unit.artifact.builders import AVX2, DIGEST, OTHER_DIGEST, a_request

if TYPE_CHECKING:
    from decimal import Decimal

digests = st.integers(0, 2**256 - 1).map(lambda number: f"sha256:{number:064x}")
sources = digests.map(lambda digest: SourceRef(uri=f"oci://r.example/m@{digest}", digest=digest))
metrics = st.one_of(
    st.sampled_from([name for name in METRICS if name != "SQNR"]).map(lambda n: Metric(name=n)),
    st.integers(1, 1000).map(lambda k: Metric(name="TopK", top_k=k)),
)
budgets = st.builds(
    lambda kind, value: Budget(type=kind, value=str(value)),
    st.sampled_from(BUDGET_TYPES),
    st.decimals(0, 1000, places=3),
)
profiles = st.builds(
    lambda name, architecture, features: Profile(
        name=name, architecture=architecture, features=tuple(features)
    ),
    st.text(min_size=1, max_size=20),
    st.sampled_from(["amd64", "arm64"]),
    st.lists(st.from_regex(r"[a-z0-9_]{1,20}", fullmatch=True), max_size=5),
)
requests = st.builds(
    lambda **values: BuildRequest(**values),
    model=sources,
    evaluation=sources,
    calibration=st.none() | sources,
    metric=metrics,
    budget=budgets,
    objective=st.sampled_from(OBJECTIVES),
    techniques=st.lists(st.sampled_from(TECHNIQUES)).map(tuple),
    resources=st.builds(
        lambda cores, gib: Resources(cpu=str(cores), memory=f"{gib}Gi"),
        st.integers(1, 64),
        st.integers(1, 512),
    ),
    profile=profiles,
    rebuild_token=st.text(max_size=20),
)


@given(requests)
def test_parsing_what_was_written_gives_the_same_request(request_: BuildRequest) -> None:
    text = json.dumps(request_.to_json())
    assert BuildRequest.from_json(text) == request_
    assert BuildRequest.from_json(text.encode()).key() == request_.key()


@given(requests, st.text(min_size=1, max_size=10))
def test_the_key_does_not_depend_on_places_and_names(request_: BuildRequest, name: str) -> None:
    digest = request_.model.digest
    moved = replace(
        request_,
        model=SourceRef(uri="https://elsewhere.example/m.onnx", digest=digest),
        profile=replace(request_.profile, name=name),
    )
    assert moved.key() == request_.key()


CHANGES = {
    "model": {"model": SourceRef(uri="https://x.example/m", digest=OTHER_DIGEST)},
    "evaluation": {"evaluation": SourceRef(uri="https://x.example/m", digest=DIGEST)},
    "calibration": {"calibration": SourceRef(uri="https://x.example/m", digest=DIGEST)},
    "metric": {"metric": Metric(name="F1")},
    "top k": {"metric": Metric(name="TopK")},
    "budget": {"budget": Budget(type="AbsoluteDrop", value="0.5")},
    "budget type": {"budget": Budget(type="RelativeDrop", value="1.0")},
    "objective": {"objective": "Size"},
    "techniques": {"techniques": ("Fusion",)},
    "cpu": {"resources": Resources(cpu="2", memory="1Gi")},
    "memory": {"resources": Resources(cpu="1", memory="2Gi")},
    "architecture": {"profile": Profile(name="x", architecture="arm64", features=("avx2", "fma"))},
    "features": {"profile": Profile(name="x", architecture="amd64", features=("avx2",))},
    "rebuild token": {"rebuild_token": "again"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_key_depends_on_the(change: dict[str, object]) -> None:
    assert a_request(**change).key() != a_request().key()


def test_keys_of_different_changes_differ() -> None:
    keys = {a_request(**change).key() for change in CHANGES.values()}
    assert len(keys) == len(CHANGES)


EQUAL = {
    "a budget spelled longer": {"budget": Budget(type="AbsoluteDrop", value="1.00")},
    "a budget without decimals": {"budget": Budget(type="AbsoluteDrop", value="1")},
    "cpu in thousandths": {"resources": Resources(cpu="1000m", memory="1024Mi")},
    "techniques in another order": {"techniques": ("StaticInt8", "Fusion", "DynamicInt8")},
    "features in another order": {"profile": replace(AVX2, features=("fma", "avx2"))},
}


@pytest.mark.parametrize("change", EQUAL.values(), ids=EQUAL.keys())
def test_the_key_is_the_same_for(change: dict[str, object]) -> None:
    assert a_request(**change).key() == a_request().key()


def test_the_key_is_stable_over_versions() -> None:
    """Changed keys rebuild every model of every user: change this only knowingly."""
    assert a_request().key() == "c07ca92d2d606f51366c34f242235eebbb31dec48635091bec697bb912467ed2"


def test_topk_means_five_unless_told() -> None:
    assert Metric(name="TopK") == Metric(name="TopK", top_k=5)


def test_a_quantity_feeds_whole_threads() -> None:
    assert [Resources(cpu=cpu, memory="1Gi").threads for cpu in ("250m", "1", "2500m", "4")] == [
        1,
        1,
        2,
        4,
    ]


def a_document(**changes: object) -> dict[str, object]:
    return {**a_request().to_json(), **changes}


BAD = {
    "no JSON": ("{", "not valid JSON"),
    "a list": ("[]", "must be an object"),
    "a missing field": ({"model": None}, "lacks the field 'model'"),
    "an unknown field": ({"modle": 1}, "unknown field 'modle'"),
    "a wrong type": ({"objective": 5}, r"request\.objective must be a string"),
    "an unknown objective": ({"objective": "Fun"}, "must be one of Latency"),
    "an unknown technique": ({"techniques": ["Magic"]}, "'Magic'"),
    "an unknown metric": ({"metric": {"name": "Luck"}}, "must be one of Accuracy"),
    "topK for another metric": ({"metric": {"name": "F1", "topK": 3}}, "belongs to TopK"),
    "a budget that is no number": (
        {"budget": {"type": "AbsoluteDrop", "value": "much"}},
        "decimal number",
    ),
    "a negative budget": ({"budget": {"type": "AbsoluteDrop", "value": "-1"}}, "zero or more"),
    "an infinite budget": ({"budget": {"type": "AbsoluteDrop", "value": "Infinity"}}, "zero or"),
    "a drop of SQNR": (
        {"metric": {"name": "SQNR"}, "budget": {"type": "AbsoluteDrop", "value": "1"}},
        "must be of type Minimum",
    ),
    "a quantity that is none": ({"resources": {"cpu": "some", "memory": "1Gi"}}, "quantity"),
    "no cpu": ({"resources": {"cpu": "0", "memory": "1Gi"}}, "more than zero"),
    "an unknown architecture": (
        {"profile": {"name": "x", "architecture": "vax", "features": []}},
        "amd64, arm64",
    ),
    "a digest that is none": (
        {"model": {"uri": "https://x.example/m", "digest": "sha256:abc"}},
        "64 hex digits",
    ),
    "an address of another digest": (
        {"model": {"uri": f"oci://r.example/m@{DIGEST}", "digest": OTHER_DIGEST}},
        "does not carry its digest",
    ),
    "an address without digest": (
        {"model": {"uri": "oci://r.example/m:latest", "digest": DIGEST}},
        "is not a source",
    ),
    "an unknown scheme": (
        {"model": {"uri": "ftp://r.example/m", "digest": DIGEST}},
        "is not a source",
    ),
}


@pytest.mark.parametrize(("change", "want"), BAD.values(), ids=BAD.keys())
def test_a_request_is_refused_with(change: str | dict[str, object], want: str) -> None:
    document = change if isinstance(change, str) else json.dumps(a_document(**change))
    with pytest.raises(ArtifactError, match=want):
        BuildRequest.from_json(document)


@given(st.decimals(0, 10**6, places=4))
def test_equal_numbers_are_equal_budgets_in_the_key(value: Decimal) -> None:
    plain = a_request(budget=Budget(type="AbsoluteDrop", value=format(value, "f")))
    padded = a_request(budget=Budget(type="AbsoluteDrop", value=format(value, ".8f")))
    assert plain.key() == padded.key()
