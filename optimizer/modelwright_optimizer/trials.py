"""Tries variants: makes their graphs, judges their answers, measures their time.

A trial collects what becomes known of one variant. A variant that cannot be made or cannot
answer is a failure with a sentence, never the end of the build; fp32 is the exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from modelwright_artifact.manifest import FALLBACK_VARIANT
from modelwright_artifact.measurements import Figures
from modelwright_optimizer.engine import (
    ENGINE_ERRORS,
    Graph,
    Tensors,
    describe_error,
    open_graph,
)
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.judge import Judgement, judge
from modelwright_optimizer.measure import RoundPlan, Timings, measure_batches, measure_latency
from modelwright_optimizer.metrics import Scores, build_scores, has_invalid_values
from modelwright_optimizer.passes import PassFailed, apply_passes
from modelwright_optimizer.recipes import FUSION, PlannedVariant, plan_variants
from modelwright_optimizer.selection import Tried

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from modelwright_artifact.request import BuildRequest
    from modelwright_optimizer.dataset import Dataset, Split
    from modelwright_optimizer.model import Model
    from modelwright_optimizer.progress import Progress

# Preparation must not change what the model says; sums in another order may move its last bits.
_EQUIVALENT: Final = 1e-3
_COMPARED_ROWS: Final = 16
_ROWS_PER_CALL: Final = 16
_NOISY_RETRIES: Final = 1


@dataclass(slots=True)
class Trial:
    """One variant: what was planned, what it became, what is known of it so far."""

    planned: PlannedVariant
    path: Path | None = None
    graph: Graph | None = None
    failure: str = ""
    judgement: Judgement | None = None
    figures: Figures = field(default_factory=Figures)

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.planned.name

    def summary(self) -> Tried:
        """What the selection looks at."""
        return Tried(
            name=self.name,
            figures=self.figures,
            judgement=self.judgement,
            failure=self.failure,
        )


def make_trials(
    request: BuildRequest, model: Model, split: Split, scratch: Path, progress: Progress
) -> list[Trial]:
    """Make the graph of every variant worth trying, each a file in `scratch`; fp32 is first."""
    techniques = set(request.techniques)
    prepared = _prepare(model, request, split, scratch) if FUSION in techniques else None
    if prepared is None:
        techniques.discard(FUSION)
        prepared = model.path
    planned = plan_variants(request.profile, techniques, model.operators)
    trials = []
    for index, plan in enumerate(planned):
        progress.report("Quantize", index / len(planned), f"making {plan.name}")
        trials.append(_make(plan, prepared, split, scratch))
    return trials


def judge_trials(
    request: BuildRequest, trials: Sequence[Trial], split: Split, progress: Progress
) -> None:
    """Judge every variant's answers to the gate rows against fp32's."""
    threads = request.resources.threads
    reference = _answer(trials[0], split.gate, threads)
    if reference is None:
        raise BuildFailure(
            Reason.MODEL_INVALID, f"The model cannot answer the rows. {trials[0].failure}"
        )
    base: Scores | None = None
    for index, trial in enumerate(trials):
        progress.report("Judge", index / len(trials), f"judging {trial.name}")
        outputs = reference if index == 0 else _answer(trial, split.gate, threads)
        if outputs is None:
            continue
        scores = build_scores(request.metric, outputs, reference, split.gate.labels)
        base = base or scores
        trial.judgement = judge(request.metric, request.budget, scores, base)
        trial.figures = replace(trial.figures, accuracy=trial.judgement.accuracy)


def measure_trials(
    request: BuildRequest,
    trials: Sequence[Trial],
    split: Split,
    rounds: RoundPlan,
    progress: Progress,
) -> Timings:
    """Measure all that can answer; figures stay empty where the machine is too noisy."""
    able = {trial.name: trial.graph for trial in trials if trial.judgement and trial.graph}
    row = take_call(split.gate.inputs, able[FALLBACK_VARIANT].fixed_rows or 1)
    calls = {name: partial(graph.run, row) for name, graph in able.items()}

    def on_round(share: float) -> None:
        progress.report("Measure", 0.8 * share, f"measuring latency, {share:.0%} of the rounds")

    threads = request.resources.threads
    timings = measure_latency(calls, FALLBACK_VARIANT, threads, rounds, on_round)
    for _ in range(_NOISY_RETRIES):
        if not timings.is_quiet:
            timings = measure_latency(calls, FALLBACK_VARIANT, threads, rounds, on_round)
    for trial in trials:
        timing = timings.by_name.get(trial.name)
        if timing is not None:
            progress.report("Measure", 0.9, f"measuring batches of {trial.name}")
            trial.figures = replace(
                trial.figures,
                latency=timing.latency,
                speedup=timing.speedup,
                batch_curve=measure_batches(able[trial.name], row),
            )
    return timings


def take_call(inputs: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
    """The inputs of one call: the first rows, repeated where there are too few."""
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}


def _prepare(model: Model, request: BuildRequest, split: Split, scratch: Path) -> Path | None:
    """The fused graph, or None where fusing fails or changes the answers."""
    prepared = scratch / "prepared.onnx"
    (plan, *_) = plan_variants(request.profile, {FUSION}, ())
    threads, step = request.resources.threads, model.interface.fixed_rows or 1
    rows = take_call(split.gate.inputs, max(_COMPARED_ROWS - _COMPARED_ROWS % step, step))
    try:
        apply_passes(model.path, prepared, plan.recipe.passes, split.calibration)
        outputs = open_graph(prepared, threads).run_rows(rows)
        wanted = open_graph(model.path, threads).run_rows(rows)
    except (PassFailed, *ENGINE_ERRORS):
        return None
    return prepared if _agree(outputs, wanted) else None


def _agree(ours: Tensors, theirs: Tensors) -> bool:
    def close(name: str) -> bool:
        a, b = ours[name], theirs[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not np.issubdtype(b.dtype, np.inexact):
            return bool((a == b).all())
        scale = float(np.abs(b).max(initial=0.0))
        return bool(np.allclose(a, b, rtol=_EQUIVALENT, atol=_EQUIVALENT * scale))

    return set(ours) == set(theirs) and all(close(name) for name in theirs)


def _make(plan: PlannedVariant, prepared: Path, split: Split, scratch: Path) -> Trial:
    trial, target = Trial(plan), scratch / f"variant-{plan.name}.onnx"
    steps = tuple(s for s in plan.recipe.passes if str(s["name"]).startswith("quantize"))
    try:
        apply_passes(prepared, target, steps, split.calibration)
    except PassFailed as error:
        trial.failure = str(error)
        return trial
    trial.path = target
    trial.figures = Figures(size_bytes=target.stat().st_size)
    return trial


def _answer(trial: Trial, gate: Dataset, threads: int) -> Tensors | None:
    """The answers to all rows, or None and the trial's failure; opens the graph."""
    if trial.path is None:
        return None
    try:
        trial.graph = open_graph(trial.path, threads)
    except ENGINE_ERRORS as error:
        trial.failure = f"ONNX Runtime cannot load it: {describe_error(error)}."
        return None
    try:
        per_call = 1 if trial.planned.is_dynamic else _ROWS_PER_CALL
        outputs = trial.graph.run_rows(gate.inputs, per_call)
    except ENGINE_ERRORS as error:
        trial.failure = f"It fails on a row: {describe_error(error)}."
        return None
    if any(len(array) != gate.rows for array in outputs.values()):
        trial.failure = "Its outputs do not have one row per input row."
    elif has_invalid_values(outputs):
        trial.failure = "It answers NaN or infinity."
    return None if trial.failure else outputs
