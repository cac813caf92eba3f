"""The pipeline: from files to an artifact's tree. The Job and the command line run this.

inspect → prepare → quantize → judge → measure → select → write. Nothing outside the given
directory is written but scratch files; nothing is fetched or pushed here.
"""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelwright_artifact.hardware import detect
from modelwright_artifact.manifest import (
    FALLBACK_VARIANT,
    REPORT_FILE,
    Manifest,
    Variant,
    write_json,
    write_manifest,
)
from modelwright_artifact.measurements import Figures
from modelwright_artifact.report import Candidate, Report, RowCounts
from modelwright_optimizer.dataset import (
    MIN_CALIBRATION_ROWS,
    MIN_EVALUATION_ROWS,
    Dataset,
    Split,
    check_inputs,
    check_labels,
    check_row_count,
    load_dataset,
    split_rows,
)
from modelwright_optimizer.engine import ENGINE_ERRORS, Graph, Tensors, open_graph
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.goldens import (
    build_golden_outputs,
    choose_candidates,
    choose_rows,
    probe_variant,
)
from modelwright_optimizer.intervals import rows_to_prove
from modelwright_optimizer.judge import Judgement, judge
from modelwright_optimizer.measure import (
    RoundPlan,
    Timings,
    measure_batches,
    measure_latency,
)
from modelwright_optimizer.memory import measure_peak_bytes
from modelwright_optimizer.metrics import Scores, build_scores, has_invalid_values
from modelwright_optimizer.model import Model, load_model
from modelwright_optimizer.passes import PassFailed, apply_passes, count_operators
from modelwright_optimizer.recipes import FUSION, PlannedVariant, plan_variants
from modelwright_optimizer.selection import Tried, Verdict, select
from modelwright_optimizer.writer import (
    GOLDEN_INPUTS,
    WrittenGraph,
    list_files,
    serialize,
    write_golden_inputs,
    write_golden_outputs,
    write_graph,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx

    from modelwright_artifact.request import BuildRequest
    from modelwright_optimizer.progress import Progress

_EQUIVALENT: Final = 1e-3
_COMPARED_ROWS: Final = 16
_ROWS_PER_CALL: Final = 16
_NOISY_RETRIES: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """The fetched files, and how a person repeats the build."""

    model: Path
    evaluation: Path
    calibration: Path | None = None
    reproduce: str = ""
    rounds: RoundPlan = field(default_factory=RoundPlan)


@dataclass(slots=True)
class Made:
    """A variant on its way: what was planned, what it became, what is known of it."""

    planned: PlannedVariant
    proto: onnx.ModelProto | None = None
    content: bytes = b""
    graph: Graph | None = None
    failure: str = ""
    judgement: Judgement | None = None
    figures: Figures = field(default_factory=Figures)


def build_artifact(
    request: BuildRequest, inputs: BuildInputs, directory: Path, progress: Progress
) -> Report:
    """Build into the existing empty `directory`; `BuildFailure` where it cannot be done."""
    start, started = datetime.now(UTC), time.monotonic()
    check_hardware(request)
    progress.report("Inspect", 0.0, "reading the model")
    model = load_model(inputs.model, request.resources.threads)
    progress.report("Inspect", 0.5, "checking the data")
    split = load_rows(request, inputs, model)
    variants = _make_variants(request, model, split, progress)
    _judge_variants(request, variants, split, progress)
    timings = _measure_variants(request, inputs, variants, split, progress)
    verdicts = select([_tried(made) for made in variants], request.objective)
    report = Report(
        request_key=request.key(),
        model_digest=request.model.digest,
        evaluation_digest=request.evaluation.digest,
        profile=request.profile,
        chosen=next(name for name, v in verdicts.items() if v.verdict == "Chosen"),
        metric=request.metric,
        budget=request.budget,
        variants=(),
        rows=RowCounts(
            calibration=split.calibration.rows, search=split.search.rows, gate=split.gate.rows
        ),
        noise=_describe_noise(timings),
        start_time=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        duration_seconds=0.0,
        tools=list_tools(),
        reproduce=inputs.reproduce,
    )
    _write_tree(request, model, split, variants, verdicts, report, directory, progress)
    report = replace(
        report,
        variants=_build_candidates(variants, verdicts),
        duration_seconds=round(time.monotonic() - started, 1),
    )
    write_json(directory / REPORT_FILE, report.to_json())
    return report


def check_hardware(request: BuildRequest) -> None:
    """Refuse to measure on a CPU that is not of the profile."""
    here = detect()
    missing = sorted(set(request.profile.features) - set(here.features))
    if here.architecture != request.profile.architecture or missing:
        lacks = f"lacks {', '.join(missing)}" if missing else f"is {here.architecture}"
        raise BuildFailure(
            Reason.INTERNAL_ERROR,
            f"This node {lacks}, so it cannot measure for {request.profile.name}: "
            "the build belongs on a node of that profile.",
        )


def load_rows(request: BuildRequest, inputs: BuildInputs, model: Model) -> Split:
    """Read and check the datasets and divide the rows."""
    wanted = Reason.EVALUATION_INVALID
    dataset = load_dataset(inputs.evaluation, wanted)
    check_inputs(dataset, model.graph.inputs, wanted)
    dataset = check_labels(dataset, request.metric)
    check_row_count(dataset, MIN_EVALUATION_ROWS, wanted, _hint_rows(request))
    if inputs.calibration is None:
        return split_rows(dataset)
    calibration = load_dataset(inputs.calibration, Reason.CALIBRATION_INVALID)
    check_inputs(calibration, model.graph.inputs, Reason.CALIBRATION_INVALID)
    check_row_count(calibration, MIN_CALIBRATION_ROWS, Reason.CALIBRATION_INVALID)
    split = split_rows(dataset, Dataset(calibration.inputs))
    check_row_count(
        split.calibration,
        MIN_CALIBRATION_ROWS,
        Reason.CALIBRATION_INVALID,
        " that are not judged as well",
    )
    return split


def list_tools() -> dict[str, str]:
    """The versions that shape a variant."""
    names = ("modelwright", "onnxruntime", "onnx", "onnxslim", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _hint_rows(request: BuildRequest) -> str:
    if request.metric.name not in {"Accuracy", "TopK", "F1"} or request.budget.amount <= 0:
        return ""
    if request.budget.type == "Minimum":
        return ""
    needed = rows_to_prove(float(request.budget.amount) / 100)
    return (
        f" to start with, and {needed} to judge if a drop within {request.budget.value} is to be "
        "shown without a single disagreement"
    )


def _make_variants(
    request: BuildRequest, model: Model, split: Split, progress: Progress
) -> list[Made]:
    operators = count_operators(model.proto)
    techniques = set(request.techniques)
    prepared = _prepare(model, request, techniques, split)
    if prepared is None:
        techniques.discard(FUSION)
        prepared = model.proto
    planned = plan_variants(request.profile, techniques, operators)
    made = []
    for index, plan in enumerate(planned):
        progress.report("Quantize", index / len(planned), f"making {plan.name}")
        made.append(_make(plan, prepared, split, request.resources.threads))
    return made


def _prepare(
    model: Model, request: BuildRequest, techniques: set[str], split: Split
) -> onnx.ModelProto | None:
    """The fused graph, or None where fusing fails or changes the answers."""
    if FUSION not in techniques:
        return model.proto
    (plan, *_) = plan_variants(request.profile, {FUSION}, ())
    rows = {name: array[:_COMPARED_ROWS] for name, array in split.gate.inputs.items()}
    try:
        proto = apply_passes(model.proto, plan.recipe.passes, split.calibration)
        outputs = open_graph(serialize(proto), request.resources.threads).run_rows(rows)
    except (PassFailed, *ENGINE_ERRORS):
        return None
    return proto if _agree(outputs, model.graph.run_rows(rows)) else None


def _agree(ours: Tensors, theirs: Tensors) -> bool:
    def close(name: str) -> bool:
        a, b = ours[name], theirs[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not np.issubdtype(b.dtype, np.inexact):
            return bool((a == b).mean() > 1 - _EQUIVALENT)
        scale = float(np.abs(b).max(initial=0.0))
        return bool(np.allclose(a, b, rtol=_EQUIVALENT, atol=_EQUIVALENT * scale))

    return set(ours) == set(theirs) and all(close(name) for name in theirs)


def _make(plan: PlannedVariant, prepared: onnx.ModelProto, split: Split, threads: int) -> Made:
    made = Made(plan)
    steps = tuple(s for s in plan.recipe.passes if str(s["name"]).startswith("quantize"))
    try:
        made.proto = apply_passes(prepared, steps, split.calibration)
        made.content = serialize(made.proto)
        made.graph = open_graph(made.content, threads)
    except PassFailed as error:
        made.failure = str(error)
    except ENGINE_ERRORS as error:
        made.failure = f"ONNX Runtime cannot load it: {str(error).strip().splitlines()[0][:200]}."
    made.figures = Figures(size_bytes=len(made.content) or None)
    return made


def _judge_variants(
    request: BuildRequest, variants: Sequence[Made], split: Split, progress: Progress
) -> None:
    """Score every variant on the gate rows; variants that cannot answer become failures."""
    reference_outputs: Tensors | None = None
    reference: Scores | None = None
    for index, made in enumerate(variants):
        name = made.planned.name
        progress.report("Judge", index / len(variants), f"judging {name}")
        outputs = _answer(made, split.gate)
        if reference_outputs is None:
            # fp32 is the first: without its answers there is nothing to compare with.
            if outputs is None:
                raise BuildFailure(
                    Reason.MODEL_INVALID, f"The model cannot answer the rows: {made.failure}"
                )
            reference_outputs = outputs
        if outputs is None:
            continue
        scores = build_scores(request.metric, outputs, reference_outputs, split.gate.labels)
        reference = reference or scores
        made.judgement = judge(request.metric, request.budget, scores, reference)
        made.figures = replace(made.figures, accuracy=made.judgement.accuracy)


def _answer(made: Made, gate: Dataset) -> Tensors | None:
    if made.graph is None:
        return None
    try:
        per_call = 1 if made.planned.is_dynamic else _ROWS_PER_CALL
        outputs = made.graph.run_rows(gate.inputs, per_call)
    except ENGINE_ERRORS as error:
        made.failure = f"it fails on a row: {str(error).strip().splitlines()[0][:200]}."
        return None
    if any(len(array) != gate.rows for array in outputs.values()):
        made.failure = "its outputs do not have one row per input row."
        return None
    if has_invalid_values(outputs):
        made.failure = "it answers NaN or infinity."
        return None
    return outputs


def _measure_variants(
    request: BuildRequest,
    inputs: BuildInputs,
    variants: Sequence[Made],
    split: Split,
    progress: Progress,
) -> Timings:
    """Measure all that can answer; the figures stay empty where the machine is too noisy."""
    able = [made for made in variants if made.judgement is not None and made.graph is not None]
    step = able[0].graph.fixed_rows or 1 if able[0].graph is not None else 1
    row = {name: np.resize(a[:step], (step, *a.shape[1:])) for name, a in split.gate.inputs.items()}
    calls = {made.planned.name: partial(made.graph.run, row) for made in able if made.graph}

    def on_round(share: float) -> None:
        progress.report("Measure", 0.8 * share, f"measuring latency, {share:.0%} of the rounds")

    threads = request.resources.threads
    timings = measure_latency(calls, FALLBACK_VARIANT, threads, inputs.rounds, on_round)
    for _ in range(_NOISY_RETRIES):
        if not timings.is_quiet:
            timings = measure_latency(calls, FALLBACK_VARIANT, threads, inputs.rounds, on_round)
    for made in able:
        timing = timings.by_name.get(made.planned.name)
        if timing is None or made.graph is None:
            continue
        made.figures = replace(
            made.figures,
            latency=timing.latency,
            speedup=timing.speedup,
            batch_curve=measure_batches(made.graph, row),
        )
    return timings


def _tried(made: Made) -> Tried:
    failure = made.failure[:1].upper() + made.failure[1:]
    return Tried(
        name=made.planned.name,
        figures=made.figures,
        judgement=made.judgement,
        failure=failure,
    )


def _write_tree(
    request: BuildRequest,
    model: Model,
    split: Split,
    variants: Sequence[Made],
    verdicts: Mapping[str, Verdict],
    report: Report,
    directory: Path,
    progress: Progress,
) -> None:
    threads, step = request.resources.threads, model.graph.fixed_rows
    kept = [made for made in variants if verdicts[made.planned.name].kept]
    progress.report("Write", 0.0, "recording golden outputs")
    candidates = choose_candidates(split.gate.inputs, step)
    probes = [probe_variant(made.content, candidates, threads) for made in kept]
    rows = choose_rows(probes, step)
    write_golden_inputs(directory, {name: array[rows] for name, array in candidates.items()})
    written = []
    for index, (made, probe) in enumerate(zip(kept, probes, strict=True)):
        name = made.planned.name
        progress.report("Write", 0.2 + 0.8 * index / len(kept), f"writing {name}")
        assert made.proto is not None  # noqa: S101 - kept variants have been made
        graph = write_graph(directory, name, made.proto)
        golden = write_golden_outputs(directory, name, build_golden_outputs(probe, rows))
        made.figures = replace(
            made.figures,
            size_bytes=graph.size_bytes,
            peak_memory_bytes=measure_peak_bytes(
                directory / graph.file, directory / GOLDEN_INPUTS, step or 1, threads
            ),
        )
        written.append(_build_variant(made, graph, golden))
    manifest = Manifest(
        request_key=report.request_key,
        model_digest=report.model_digest,
        inputs=model.graph.inputs,
        outputs=model.graph.outputs,
        profile=request.profile,
        tools=report.tools,
        threads=threads,
        chosen=report.chosen,
        variants=tuple(written),
        files=list_files(directory),
    )
    write_manifest(directory, manifest)


def _build_variant(made: Made, graph: WrittenGraph, golden: Any) -> Variant:
    return Variant(
        name=made.planned.name,
        file=graph.file,
        precision=made.planned.precision,
        recipe=made.planned.recipe,
        requires=made.planned.requires,
        golden=golden,
        figures=made.figures,
    )


def _build_candidates(
    variants: Sequence[Made], verdicts: Mapping[str, Verdict]
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            name=made.planned.name,
            precision=made.planned.precision,
            recipe=made.planned.recipe,
            requires=made.planned.requires,
            figures=made.figures,
            kept=verdicts[made.planned.name].kept,
            verdict=verdicts[made.planned.name].verdict,
            why=verdicts[made.planned.name].why,
        )
        for made in variants
    )


def _describe_noise(timings: Timings) -> dict[str, Any]:
    noise = timings.noise
    return {
        "quietRounds": timings.quiet_rounds,
        "disturbedRounds": timings.disturbed_rounds,
        "stolenPercent": round(noise.stolen_percent, 2),
        "throttledPercent": round(noise.throttled_percent, 2),
        "throttledPeriods": noise.throttled_periods,
    }
