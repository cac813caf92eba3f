"""The pipeline: from files to an artifact's tree. The Job and the command line run this.

inspect → quantize → judge → measure → select → write. Nothing outside the given directory is
written but scratch files; nothing is fetched or pushed here.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx

from modelwright_artifact.hardware import detect
from modelwright_artifact.manifest import (
    REPORT_FILE,
    Golden,
    Manifest,
    Variant,
    write_json,
    write_manifest,
)
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
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.goldens import (
    build_golden_outputs,
    choose_candidates,
    choose_rows,
    probe_variant,
)
from modelwright_optimizer.intervals import rows_to_prove
from modelwright_optimizer.measure import RoundPlan, Timings
from modelwright_optimizer.memory import measure_peak_bytes
from modelwright_optimizer.model import load_model
from modelwright_optimizer.selection import Verdict, select
from modelwright_optimizer.trials import Trial, judge_trials, make_trials, measure_trials
from modelwright_optimizer.writer import (
    GOLDEN_INPUTS,
    WrittenGraph,
    list_files,
    write_golden_inputs,
    write_golden_outputs,
    write_graph,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelwright_artifact.request import BuildRequest
    from modelwright_optimizer.engine import Interface
    from modelwright_optimizer.progress import Progress

_TOOLS: Final = ("modelwright", "onnxruntime", "onnx", "onnxslim", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """The fetched files, how long to measure, and how a person repeats the build."""

    model: Path
    evaluation: Path
    calibration: Path | None = None
    reproduce: str = ""
    rounds: RoundPlan = field(default_factory=RoundPlan)


def build_artifact(
    request: BuildRequest, inputs: BuildInputs, directory: Path, progress: Progress
) -> Report:
    """Build into the existing empty `directory`; `BuildFailure` where it cannot be done."""
    start, started = datetime.now(UTC), time.monotonic()
    check_hardware(request)
    with tempfile.TemporaryDirectory(prefix="trials-") as scratch:
        progress.report("Inspect", 0.0, "reading the model")
        model = load_model(inputs.model, Path(scratch), request.resources.threads)
        progress.report("Inspect", 0.5, "checking the data")
        interface = model.interface
        split = load_rows(request, inputs, interface)
        trials = make_trials(request, model, split, Path(scratch), progress)
        judge_trials(request, trials, split, progress)
        timings = measure_trials(request, trials, split, inputs.rounds, progress)
        verdicts = select([trial.summary() for trial in trials], request.objective)
        manifest = _write_tree(request, interface, split, trials, verdicts, directory, progress)
    report = Report(
        request_key=manifest.request_key,
        model_digest=manifest.model_digest,
        evaluation_digest=request.evaluation.digest,
        profile=request.profile,
        chosen=manifest.chosen,
        metric=request.metric,
        budget=request.budget,
        variants=tuple(_build_candidate(trial, verdicts[trial.name]) for trial in trials),
        rows=RowCounts(
            calibration=split.calibration.rows, search=split.search.rows, gate=split.gate.rows
        ),
        noise=_describe_noise(timings),
        start_time=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        duration_seconds=round(time.monotonic() - started, 1),
        tools=manifest.tools,
        reproduce=inputs.reproduce,
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


def load_rows(request: BuildRequest, inputs: BuildInputs, interface: Interface) -> Split:
    """Read and check the datasets and divide the rows."""
    wanted = Reason.EVALUATION_INVALID
    dataset = load_dataset(inputs.evaluation, wanted)
    check_inputs(dataset, interface.inputs, wanted)
    dataset = check_labels(dataset, request.metric)
    check_row_count(dataset, MIN_EVALUATION_ROWS, wanted, _hint_rows(request))
    if inputs.calibration is None:
        return split_rows(dataset)
    wanted = Reason.CALIBRATION_INVALID
    calibration = load_dataset(inputs.calibration, wanted)
    check_inputs(calibration, interface.inputs, wanted)
    check_row_count(calibration, MIN_CALIBRATION_ROWS, wanted)
    split = split_rows(dataset, Dataset(calibration.inputs))
    hint = " that are not judged as well"
    check_row_count(split.calibration, MIN_CALIBRATION_ROWS, wanted, hint)
    return split


def list_tools() -> dict[str, str]:
    """The versions that shape a variant."""
    return {name: importlib.metadata.version(name) for name in _TOOLS}


def _hint_rows(request: BuildRequest) -> str:
    is_share = request.metric.name in {"Accuracy", "TopK", "F1"}
    if not is_share or request.budget.type == "Minimum" or request.budget.amount <= 0:
        return ""
    needed = rows_to_prove(float(request.budget.amount) / 100)
    return (
        f" to start with, and {needed} to judge if a drop within {request.budget.value} is to be "
        "shown without a single disagreement"
    )


def _write_tree(
    request: BuildRequest,
    interface: Interface,
    split: Split,
    trials: Sequence[Trial],
    verdicts: Mapping[str, Verdict],
    directory: Path,
    progress: Progress,
) -> Manifest:
    """Write graphs, goldens and manifest of the kept variants; completes their figures."""
    threads, step = request.resources.threads, interface.fixed_rows
    kept = {trial.path: trial for trial in trials if verdicts[trial.name].kept and trial.path}
    for trial in trials:
        trial.graph = None
    progress.report("Write", 0.0, "recording golden outputs")
    candidates = choose_candidates(split.gate.inputs, step)
    probes = [probe_variant(path, candidates, threads) for path in kept]
    rows = choose_rows(probes, step)
    write_golden_inputs(directory, {name: array[rows] for name, array in candidates.items()})
    variants = []
    for index, (path, probe) in enumerate(zip(kept, probes, strict=True)):
        trial = kept[path]
        progress.report("Write", 0.2 + 0.8 * index / len(kept), f"writing {trial.name}")
        graph = write_graph(directory, trial.name, onnx.load(path))
        golden = write_golden_outputs(directory, trial.name, build_golden_outputs(probe, rows))
        peak = measure_peak_bytes(
            directory / graph.file, directory / GOLDEN_INPUTS, step or 1, threads
        )
        trial.figures = replace(trial.figures, size_bytes=graph.size_bytes, peak_memory_bytes=peak)
        variants.append(_build_variant(trial, graph, golden))
    manifest = Manifest(
        request_key=request.key(),
        model_digest=request.model.digest,
        inputs=interface.inputs,
        outputs=interface.outputs,
        profile=request.profile,
        tools=list_tools(),
        threads=threads,
        chosen=next(name for name, verdict in verdicts.items() if verdict.verdict == "Chosen"),
        variants=tuple(variants),
        files=list_files(directory),
    )
    write_manifest(directory, manifest)
    return manifest


def _build_variant(trial: Trial, graph: WrittenGraph, golden: Golden) -> Variant:
    return Variant(
        name=trial.name,
        file=graph.file,
        precision=trial.planned.precision,
        recipe=trial.planned.recipe,
        requires=trial.planned.requires,
        golden=golden,
        figures=trial.figures,
    )


def _build_candidate(trial: Trial, verdict: Verdict) -> Candidate:
    return Candidate(
        name=trial.name,
        precision=trial.planned.precision,
        recipe=trial.planned.recipe,
        requires=trial.planned.requires,
        figures=trial.figures,
        kept=verdict.kept,
        verdict=verdict.verdict,
        why=verdict.why,
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
