from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_artifact.measurements import (
    Accuracy,
    BatchPoint,
    Figures,
    Latency,
    Speedup,
)
from modelwright_optimizer.judge import Judgement, Within
from modelwright_optimizer.selection import Tried, Verdict, select


def tried(
    name: str,
    *,
    micros: float = 100,
    drop: float = 0.0,
    within: Within = Within.YES,
    low: float = 1.5,
    size: int = 100,
    measured: bool = True,
    failure: str = "",
    per_row: float | None = None,
) -> Tried:
    accuracy = Accuracy(metric="Accuracy", value=98 - drop, rows=900, unit="points", drop=drop)
    figures = Figures(
        accuracy=accuracy,
        latency=Latency(p50_micros=micros, p99_micros=micros, mean_micros=micros, rounds=30)
        if measured
        else None,
        speedup=Speedup(value=200 / micros, low=low, high=low + 0.2) if measured else None,
        batch_curve=() if per_row is None else (BatchPoint(rows=8, micros=8 * per_row),),
        size_bytes=size,
    )
    judgement = None if failure else Judgement(accuracy, within, "It holds.")
    return Tried(name=name, figures=figures, judgement=judgement, failure=failure)


FP32 = tried("fp32", micros=200, low=1.0, size=400)


def verdicts(*others: Tried, objective: str = "Latency") -> dict[str, str]:
    return {name: one.verdict for name, one in select([FP32, *others], objective).items()}


SCREENED = {
    "a failure": (tried("v", failure="It broke."), "Failed"),
    "a drop over the budget": (tried("v", within=Within.NO), "OverBudget"),
    "too few rows": (tried("v", within=Within.UNDECIDED), "Undecided"),
    "a noisy machine": (tried("v", measured=False), "Undecided"),
    "a speed that may be fp32's": (tried("v", low=1.0), "NotFaster"),
    "a slower graph": (tried("v", low=0.5), "NotFaster"),
}


@pytest.mark.parametrize(("variant", "want"), SCREENED.values(), ids=SCREENED.keys())
def test_fp32_stays_because_of(variant: Tried, want: str) -> None:
    assert verdicts(variant) == {"fp32": "Chosen", "v": want}
    result = select([FP32, variant], "Latency")
    assert result["fp32"].kept
    assert not result["v"].kept
    assert want in result["fp32"].why


def test_fp32_alone_is_chosen() -> None:
    assert verdicts() == {"fp32": "Chosen"}


def test_the_fastest_within_the_budget_is_chosen_and_the_more_accurate_kept() -> None:
    fast, exact = tried("fast", micros=50, drop=0.3), tried("exact", micros=80, drop=0.1)
    assert verdicts(fast, exact) == {"fp32": "Reference", "fast": "Chosen", "exact": "Kept"}


def test_a_slower_and_less_accurate_one_is_dominated() -> None:
    good, bad = tried("good", micros=50, drop=0.1), tried("bad", micros=80, drop=0.3)
    assert verdicts(good, bad) == {"fp32": "Reference", "good": "Chosen", "bad": "Dominated"}
    assert "good is as accurate" in select([FP32, good, bad], "Latency")["bad"].why


def test_of_two_equals_one_is_kept() -> None:
    assert verdicts(tried("a"), tried("b")) == {
        "fp32": "Reference",
        "a": "Chosen",
        "b": "Dominated",
    }


def test_the_smallest_is_chosen_for_size_even_if_slower() -> None:
    small, fast = tried("small", low=0.5, size=50), tried("fast", size=300)
    large = tried("large", size=500)
    assert verdicts(small, fast, large, objective="Size") == {
        "fp32": "Reference",
        "small": "Chosen",
        "fast": "Dominated",
        "large": "NotFaster",
    }


def test_throughput_counts_the_best_batch() -> None:
    single = tried("single", micros=50, per_row=50)
    batched = tried("batched", micros=80, per_row=20)
    assert verdicts(single, batched, objective="Throughput")["batched"] == "Chosen"
    assert verdicts(single, batched)["single"] == "Chosen"


candidates = st.lists(
    st.builds(
        tried,
        st.text("abcdef", min_size=1, max_size=6),
        micros=st.floats(1, 300),
        drop=st.floats(-1, 2),
        within=st.sampled_from(Within),
        low=st.floats(0.2, 3),
        size=st.integers(1, 600),
        measured=st.booleans(),
        failure=st.sampled_from(["", "It broke."]),
    ),
    max_size=6,
    unique_by=lambda one: one.name,
)


@given(candidates, st.sampled_from(["Latency", "Throughput", "Size"]))
def test_whatever_was_tried_the_choice_is_sound(others: list[Tried], objective: str) -> None:
    result = select([FP32, *others], objective)
    assert set(result) == {"fp32", *(one.name for one in others)}
    assert sum(one.verdict == "Chosen" for one in result.values()) == 1
    assert result["fp32"].kept
    assert all(isinstance(one, Verdict) and one.why.endswith(".") for one in result.values())
    for one in others:
        if result[one.name].kept:
            assert one.judgement is not None
            assert one.judgement.within is Within.YES
            if objective != "Size":
                assert one.figures.speedup is not None
                assert one.figures.speedup.low > 1
    kept = [one for one in others if result[one.name].kept]
    chosen = next(name for name, one in result.items() if one.verdict == "Chosen")
    assert (chosen == "fp32") == (not kept)
