"""Chooses: the Pareto front of accuracy and cost inside the budget, and the best of it.

Pure. fp32 is always kept and is chosen where nothing else is proven to be better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modelwright_artifact.manifest import FALLBACK_VARIANT
from modelwright_optimizer.judge import Judgement, Within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelwright_artifact.measurements import Figures

NOT_MEASURED: Final = (
    "The machine was too noisy to measure its latency: run the build on a quieter node."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A variant with all that is known of it; `failure` where it could not be made."""

    name: str
    figures: Figures
    judgement: Judgement | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a variant, and a sentence that says why."""

    verdict: str
    kept: bool
    why: str


def select(tried: Sequence[Tried], objective: str) -> Mapping[str, Verdict]:
    """A verdict for every variant, fp32 among them; exactly one is Chosen."""
    reference = next(one for one in tried if one.name == FALLBACK_VARIANT)
    verdicts = {one.name: _screen(one, reference, objective) for one in tried}
    open_names = [name for name, verdict in verdicts.items() if verdict is None]
    front = [one for one in tried if one.name in open_names]
    result = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
    for one in front:
        better = next((o for o in front if _dominates(o, one, objective)), None)
        result[one.name] = (
            Verdict("Kept", True, _describe(one, objective))
            if better is None
            else Verdict(
                "Dominated", False, f"{better.name} is as accurate and {_comparative(objective)}."
            )
        )
    kept = [one for one in front if result[one.name].kept]
    best = min(kept, key=lambda one: _cost(one, objective), default=None)
    if best is not None:
        result[best.name] = Verdict("Chosen", True, _describe(best, objective))
        result[reference.name] = Verdict(
            "Reference", True, "The model as it was given, for comparison and as the fallback."
        )
    else:
        result[reference.name] = Verdict("Chosen", True, _explain_fallback(tried, result))
    return {one.name: result[one.name] for one in tried}


def _screen(one: Tried, reference: Tried, objective: str) -> Verdict | None:
    """The verdict of a variant that cannot be chosen, or None."""
    if one.name == reference.name:
        return Verdict("Reference", True, "")
    if one.failure or one.judgement is None:
        return Verdict("Failed", False, one.failure)
    if one.judgement.within is Within.NO:
        return Verdict("OverBudget", False, one.judgement.why)
    if one.judgement.within is Within.UNDECIDED:
        return Verdict("Undecided", False, one.judgement.why)
    if objective == "Size":
        return _screen_size(one, reference)
    speedup = one.figures.speedup
    if speedup is None:
        return Verdict("Undecided", False, NOT_MEASURED)
    if speedup.low <= 1.0:
        return Verdict(
            "NotFaster",
            False,
            f"Its speed is {speedup.value:.2f} of fp32's ({speedup.low:.2f} to "
            f"{speedup.high:.2f}); only a variant that is certainly faster is kept.",
        )
    return None


def _screen_size(one: Tried, reference: Tried) -> Verdict | None:
    size, base = one.figures.size_bytes, reference.figures.size_bytes
    if size is not None and base is not None and size < base:
        return None
    return Verdict("NotFaster", False, f"It takes {size} bytes; fp32 takes {base}.")


def _dominates(other: Tried, one: Tried, objective: str) -> bool:
    if other.name == one.name:
        return False
    theirs = (_loss(other), _cost(other, objective))
    ours = (_loss(one), _cost(one, objective))
    if theirs == ours:
        return other.name < one.name
    return theirs[0] <= ours[0] and theirs[1] <= ours[1]


def _loss(one: Tried) -> float:
    accuracy = one.judgement.accuracy if one.judgement is not None else None
    if accuracy is None:
        return 0.0
    return -accuracy.value if accuracy.drop is None else accuracy.drop


def _cost(one: Tried, objective: str) -> float:
    figures = one.figures
    if objective == "Size":
        return float(figures.size_bytes or 0)
    if objective == "Throughput" and figures.batch_curve:
        return min(point.micros / point.rows for point in figures.batch_curve)
    # The paired ratio, not p50: it is what the noise of the machine moves least.
    return 1 / figures.speedup.value if figures.speedup is not None else float("inf")


def _comparative(objective: str) -> str:
    return "smaller" if objective == "Size" else "faster"


def _describe(one: Tried, objective: str) -> str:
    why = one.judgement.why if one.judgement is not None else ""
    speedup = one.figures.speedup
    if speedup is None or objective == "Size":
        return why
    return f"{speedup.value:.2f} times as fast as fp32, at least {speedup.low:.2f}. {why}"


def _explain_fallback(tried: Sequence[Tried], verdicts: Mapping[str, Verdict]) -> str:
    reasons = sorted({verdicts[one.name].verdict for one in tried if one.name != FALLBACK_VARIANT})
    if not reasons:
        return "Nothing else was to be tried; the model runs as it was given."
    return (
        f"No other variant is proven to be better (they are {', '.join(reasons)}), "
        "so the model runs as it was given."
    )
