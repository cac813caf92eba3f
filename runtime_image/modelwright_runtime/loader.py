"""From mounted artifacts to an attested engine: choose, verify, load, compare with the goldens.

Runs in a thread of its own while the ports already answer "not ready". Every step it takes and
every variant it passes over is logged; what nobody can serve ends in a `StartupError`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright_artifact.attestation import (
    compare_outputs,
    load_golden_inputs,
    load_golden_outputs,
)
from modelwright_artifact.digests import verify_files
from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.hardware import Hardware, detect
from modelwright_artifact.manifest import MANIFEST_FILE, load_manifest
from modelwright_runtime.choice import Artifact, ArtifactPlan, Candidate, plan_choice
from modelwright_runtime.engine import Engine, Threads, plan_threads
from modelwright_runtime.errors import InferenceFault, StartupError
from modelwright_runtime.metrics import Attestation
from modelwright_runtime.protocol.datatypes import resolve_datatype
from modelwright_runtime.protocol.messages import ModelDescription, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from modelwright_artifact.manifest import Manifest, Variant

LOG = logging.getLogger(__name__)

EXIT_USAGE = 2
EXIT_UNTRUSTED = 3
VERSION_CHARACTERS = 12  # of the request key, shown as model_version

ARTIFACT_MISSING = "ArtifactMissing"
ARTIFACT_INVALID = "ArtifactInvalid"
DIGEST_MISMATCH = "DigestMismatch"
ATTESTATION_FAILED = "AttestationFailed"
UNSUPPORTED_HARDWARE = "UnsupportedHardware"

PASSED = "passed"
FAILED = "failed"
EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to load."""

    directories: tuple[Path, ...]
    model_name: str
    variant: str | None
    cpu_limit: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """An attested variant, ready to serve."""

    description: ModelDescription
    manifest: Manifest
    variant: Variant
    why: str
    engine: Engine
    threads: Threads
    hardware: Hardware
    attestations: tuple[Attestation, ...]


def load_model(order: LoadOrder) -> Loaded:
    """The first attested variant of the best artifact for this CPU; raises StartupError."""
    hardware = detect()
    artifacts = _list_artifacts(order.directories)
    _check_pinned(artifacts, order.variant)
    plans = plan_choice(artifacts, hardware, order.variant)
    if not plans:
        raise _unsupported(artifacts, hardware)
    attestations: list[Attestation] = []
    for plan in plans:
        loaded = _try_artifact(plan, order, hardware, attestations)
        if loaded is not None:
            return loaded
    tried = ", ".join(one.variant for one in attestations if one.result == FAILED)
    raise StartupError(
        ATTESTATION_FAILED,
        f"No variant reproduces its golden outputs on this CPU (tried {tried}). "
        "Rebuild the model for this hardware; the log has each difference.",
        EXIT_UNTRUSTED,
    )


# --- artifacts --------------------------------------------------------------------------------


def _list_artifacts(directories: Iterable[Path]) -> list[Artifact]:
    """Those that have a manifest; an empty folder beside good ones is skipped with a warning."""
    found: list[Artifact] = []
    missing: list[Path] = []
    for directory in directories:
        if not (directory / MANIFEST_FILE).is_file():
            missing.append(directory)
            continue
        try:
            found.append(Artifact(directory, load_manifest(directory)))
        except ArtifactError as error:
            message = f"The artifact in {directory} can not be used: {error}"
            raise StartupError(ARTIFACT_INVALID, message, EXIT_UNTRUSTED) from error
    places = ", ".join(map(str, missing))
    if not found:
        raise StartupError(
            ARTIFACT_MISSING,
            f"No artifact in {places or 'the given places'}: there is no {MANIFEST_FILE}. "
            "Give the folder that `modelwright optimize --out` wrote, or mount the artifact.",
            EXIT_USAGE,
        )
    if missing:
        LOG.warning("no artifact in %s, serving from the others", places)
    return found


def _check_pinned(artifacts: Sequence[Artifact], pinned: str | None) -> None:
    kept = {variant.name for one in artifacts for variant in one.manifest.variants}
    if pinned is not None and pinned not in kept:
        raise StartupError(
            ARTIFACT_MISSING,
            f"No artifact keeps a variant '{pinned}'; kept are: {', '.join(sorted(kept))}.",
            EXIT_USAGE,
        )


def _unsupported(artifacts: Sequence[Artifact], hardware: Hardware) -> StartupError:
    built = ", ".join(sorted({one.manifest.profile.name for one in artifacts}))
    able = ", ".join(hardware.features) or "no special features"
    return StartupError(
        UNSUPPORTED_HARDWARE,
        f"Built for {built}, but this CPU is {hardware.architecture} with {able}: "
        "no kept variant may run here. Build the model for this hardware.",
        EXIT_UNTRUSTED,
    )


def _try_artifact(
    plan: ArtifactPlan, order: LoadOrder, hardware: Hardware, attestations: list[Attestation]
) -> Loaded | None:
    directory, manifest = plan.artifact.directory, plan.artifact.manifest
    for one in plan.excluded:
        LOG.info("variant %s is not tried: %s", one.variant.name, one.why)
        attestations.append(Attestation(one.variant.name, EXCLUDED, 0.0))
    started = time.monotonic()
    try:
        verify_files(directory, manifest)
    except ArtifactError as error:
        message = f"The artifact in {directory} is not what was built: {error}"
        raise StartupError(DIGEST_MISMATCH, message, EXIT_UNTRUSTED) from error
    LOG.info("%d file digests hold (%.2f s)", len(manifest.files), time.monotonic() - started)
    threads = plan_threads(order.cpu_limit, manifest.threads)
    for candidate in plan.candidates:
        started = time.monotonic()
        engine, why_not = _try_variant(directory, manifest, candidate, threads)
        seconds = time.monotonic() - started
        result = FAILED if why_not else PASSED
        attestations.append(Attestation(candidate.variant.name, result, seconds))
        if engine is None:
            LOG.error("variant %s is not used: %s", candidate.variant.name, why_not)
            continue
        LOG.info(
            "variant %s reproduces its golden outputs (%.2f s)", candidate.variant.name, seconds
        )
        return Loaded(
            description=_describe(order.model_name, manifest, candidate.variant),
            manifest=manifest,
            variant=candidate.variant,
            why=candidate.why,
            engine=engine,
            threads=threads,
            hardware=hardware,
            attestations=tuple(attestations),
        )
    return None


# --- variants ---------------------------------------------------------------------------------


def _try_variant(
    directory: Path, manifest: Manifest, candidate: Candidate, threads: Threads
) -> tuple[Engine | None, str]:
    """An attested engine, or None and the reason."""
    variant = candidate.variant
    try:
        engine = Engine(directory / variant.file, threads.intra_op)
        why_not = _attest(directory, manifest, variant, engine)
    except (InferenceFault, ArtifactError) as error:
        return None, str(error)
    return (None, why_not) if why_not else (engine, "")


def _attest(directory: Path, manifest: Manifest, variant: Variant, engine: Engine) -> str:
    """Run the golden inputs and compare; the differences as a sentence, empty when it holds."""
    inputs = load_golden_inputs(directory, variant.golden)
    want = load_golden_outputs(directory, variant.golden)
    declared = {spec.name for spec in manifest.outputs}
    if not want or set(want) != declared or set(want) != set(engine.output_names):
        return "its golden outputs are not those of its graph"
    outputs = _run_rows(manifest, engine, inputs)
    ready = {name: _as_golden(outputs[name], want[name]) for name in want}
    golden = variant.golden
    mismatches = compare_outputs(ready, want, atol=golden.atol, rtol=golden.rtol)
    return " ".join(mismatch.sentence for mismatch in mismatches)


def _run_rows(
    manifest: Manifest, engine: Engine, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Run the inputs as the build did: row by row, or by as many rows as the graph fixes.

    Row by row, because a dynamically quantized graph takes its ranges from the whole batch.
    """
    names = engine.output_names
    step = max([1, *(spec.shape[0] for spec in manifest.inputs if spec.shape)])
    rows = min((len(array) for array in inputs.values() if array.ndim), default=0)
    runs = []
    for start in range(0, max(rows, 1), step):
        feeds = {
            name: _as_feed(_take_rows(array, start, step)) if array.ndim else _as_feed(array)
            for name, array in inputs.items()
        }
        runs.append(engine.run(feeds, names))
    return {
        name: np.concatenate([run[index] for run in runs])[:rows]
        if runs[0][index].ndim
        else runs[0][index]
        for index, name in enumerate(names)
    }


def _take_rows(array: NDArray[Any], start: int, step: int) -> NDArray[Any]:
    """So many rows; the last one again where there are no more."""
    return array.take(range(start, start + step), axis=0, mode="clip")


def _as_feed(array: NDArray[Any]) -> NDArray[Any]:
    """Strings of an .npz as the `bytes` objects an engine takes."""
    if array.dtype.kind not in "SU":
        return array
    raw = np.empty(array.shape, dtype=object)
    raw.reshape(-1)[:] = [
        text if isinstance(text, bytes) else text.encode() for text in array.reshape(-1).tolist()
    ]
    return raw


def _as_golden(output: NDArray[Any], golden: NDArray[Any]) -> NDArray[Any]:
    """Strings in the form the golden file has them."""
    if golden.dtype.kind not in "SU" or not output.dtype.hasobject:
        return output
    text = [element.decode() for element in output.reshape(-1)]
    longest = max([1, *map(len, text)])
    kind = np.dtype(f"{golden.dtype.kind}{longest}")
    array = np.array(text).reshape(output.shape).astype(kind)
    return array.astype(golden.dtype) if array.dtype.itemsize <= golden.dtype.itemsize else array


def _describe(model_name: str, manifest: Manifest, variant: Variant) -> ModelDescription:
    return ModelDescription(
        name=model_name,
        version=manifest.request_key[:VERSION_CHARACTERS],
        variant=variant.name,
        inputs=tuple(
            TensorSpec(one.name, resolve_datatype(one.datatype, one.name), one.shape)
            for one in manifest.inputs
        ),
        outputs=tuple(
            TensorSpec(one.name, resolve_datatype(one.datatype, one.name), one.shape)
            for one in manifest.outputs
        ),
    )
