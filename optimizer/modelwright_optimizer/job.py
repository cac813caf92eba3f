"""The build Job: read the request, look for the artifact, else fetch, build and push it.

Holds no API token. It tells its result by the termination message and the exit code, and how
far it is by `GET /progress`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from modelwright_artifact.errors import (
    ArtifactError,
    DigestMismatch,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnreachable,
    SourceDenied,
    SourceInvalid,
    SourceNotFound,
    SourceUnreachable,
)
from modelwright_artifact.oci import (
    RegistryOptions,
    SourceOptions,
    build_tag,
    fetch_source,
    inspect_artifact,
    push_artifact,
)
from modelwright_artifact.request import BuildRequest, SourceRef
from modelwright_optimizer.build import BuildInputs, build_artifact
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.measure import RoundPlan
from modelwright_optimizer.progress import Progress, Snapshot
from modelwright_optimizer.progress_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOG = logging.getLogger("modelwright.optimizer")

TERMINATION_LOG: Final = "/dev/termination-log"
VOLUMES: Final = "/sources/pvc"
SOURCE_CREDENTIALS: Final = "/var/run/modelwright/sources"
PROGRESS_ADDRESS: Final = "0.0.0.0:8090"
MAX_TERMINATION_BYTES: Final = 4096
MAX_SENTENCE_CHARACTERS: Final = 1024
EXIT_TERMINATED: Final = 143

_INVALID: Final = {
    "model": Reason.MODEL_INVALID,
    "evaluation": Reason.EVALUATION_INVALID,
    "calibration": Reason.CALIBRATION_INVALID,
}
_SOURCE_REASONS: Final = (
    (DigestMismatch, Reason.DIGEST_MISMATCH),
    (SourceUnreachable, Reason.SOURCE_UNREACHABLE),
    (SourceDenied, Reason.SOURCE_DENIED),
    (SourceNotFound, Reason.SOURCE_NOT_FOUND),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What the pod gives the Job."""

    request: BuildRequest
    repository: str
    registry: RegistryOptions
    volumes: Path = Path(VOLUMES)
    credentials: Path = Path(SOURCE_CREDENTIALS)
    progress_host: str = "0.0.0.0"  # noqa: S104 - a pod's own address
    progress_port: int = 8090
    rounds: RoundPlan = field(default_factory=RoundPlan)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> JobSettings:
        """Parse the environment; `ArtifactError` or `KeyError` where it is not a build Job's."""
        hosts = environment.get("MODELWRIGHT_INSECURE_REGISTRIES", "").split(",")
        bundle = environment.get("MODELWRIGHT_CA_BUNDLE")
        docker_config = environment.get("DOCKER_CONFIG")
        host, _, port = environment.get(
            "MODELWRIGHT_PROGRESS_ADDRESS", PROGRESS_ADDRESS
        ).rpartition(":")
        return cls(
            request=BuildRequest.from_json(environment["MODELWRIGHT_REQUEST"]),
            repository=environment["MODELWRIGHT_REPOSITORY"],
            registry=RegistryOptions(
                insecure_hosts=frozenset(host.strip() for host in hosts if host.strip()),
                ca_bundle=Path(bundle) if bundle else None,
                docker_config=Path(docker_config) if docker_config else None,
            ),
            volumes=Path(environment.get("MODELWRIGHT_VOLUMES", VOLUMES)),
            credentials=Path(environment.get("MODELWRIGHT_CREDENTIALS", SOURCE_CREDENTIALS)),
            progress_host=host,
            progress_port=int(port),
        )


@dataclass(frozen=True, slots=True)
class JobResult:
    """The artifact of the request, and whether it was there already."""

    request_key: str
    digest: str
    reused: bool

    def to_json(self) -> dict[str, Any]:
        """The termination message."""
        return {"requestKey": self.request_key, "digest": self.digest, "reused": self.reused}


def main(environment: Mapping[str, str]) -> int:
    """Run the Job of this environment, write the termination message, return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _on_terminate)
    log = Path(environment.get("MODELWRIGHT_TERMINATION_LOG", TERMINATION_LOG))
    try:
        result = run_job(JobSettings.from_environment(environment))
    except BuildFailure as failure:
        return _fail(log, failure)
    except MemoryError:
        return _fail(log, BuildFailure(Reason.OUT_OF_MEMORY, _OUT_OF_MEMORY))
    except Exception as error:
        # The end of the process: whatever it was, the operator must hear of it.
        LOG.exception("the build failed unexpectedly")
        return _fail(log, BuildFailure(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))
    _write_termination(log, result.to_json())
    LOG.info("done: %s%s", result.digest, " (was there already)" if result.reused else "")
    return 0


def run_job(settings: JobSettings) -> JobResult:
    """Find or make the artifact; `BuildFailure` where that cannot be done."""
    progress = Progress(_log_steps())
    with serving(progress, settings.progress_host, settings.progress_port):
        progress.report("Look", 0.0, "looking for an earlier build")
        key = settings.request.key()
        digest = find_artifact(settings)
        if digest is not None:
            return JobResult(key, digest, reused=True)
        with tempfile.TemporaryDirectory(prefix="build-") as scratch:
            tree = Path(scratch, "artifact")
            tree.mkdir()
            inputs = fetch_inputs(settings, Path(scratch), progress)
            build_artifact(settings.request, inputs, tree, progress)
            progress.report("Push", 0.0, f"pushing to {settings.repository}")
            digest = push_result(settings, tree)
        progress.report("Push", 1.0, "pushed")
        return JobResult(key, digest, reused=False)


def find_artifact(settings: JobSettings) -> str | None:
    """The digest of a usable artifact of this request, if the repository holds one."""
    key = settings.request.key()
    try:
        info = inspect_artifact(f"{settings.repository}:{build_tag(key)}", settings.registry)
    except NotFoundInRegistry:
        return None
    except RegistryError as error:
        raise _registry_failure(error) from error
    except ArtifactError as error:
        LOG.warning("the earlier build is not usable and is made again: %s", error)
        return None
    return info.digest if info.request_key == key else None


def fetch_inputs(settings: JobSettings, scratch: Path, progress: Progress) -> BuildInputs:
    """Fetch model and datasets, each into a folder of its own."""
    request = settings.request
    progress.report("Fetch", 0.0, "fetching the model")
    model = _fetch(settings, "model", request.model, ".onnx", scratch)
    progress.report("Fetch", 0.5, "fetching the data")
    evaluation = _fetch(settings, "evaluation", request.evaluation, ".npz", scratch)
    calibration = None
    if request.calibration is not None:
        calibration = _fetch(settings, "calibration", request.calibration, ".npz", scratch)
    return BuildInputs(
        model=model,
        evaluation=evaluation,
        calibration=calibration,
        reproduce=describe_command(request),
        rounds=settings.rounds,
    )


def push_result(settings: JobSettings, tree: Path) -> str:
    """Push the artifact under the request's tag."""
    tag = build_tag(settings.request.key())
    try:
        return push_artifact(tree, settings.repository, tag, settings.registry)
    except RegistryError as error:
        raise _registry_failure(error) from error


def describe_command(request: BuildRequest) -> str:
    """The command that repeats the build from the same files on such a CPU."""
    parts = [
        "modelwright optimize model.onnx --data evaluation.npz --out build",
        f"--metric {request.metric.name}",
        f"--budget {request.budget.value} --budget-type {request.budget.type}",
        f"--objective {request.objective}",
        f"--cpu {request.resources.cpu} --memory {request.resources.memory}",
        f"--techniques {' '.join(request.techniques)}",
    ]
    if request.metric.top_k is not None:
        parts.append(f"--top-k {request.metric.top_k}")
    if request.calibration is not None:
        parts.append("--calibration calibration.npz")
    return " ".join(parts)


_OUT_OF_MEMORY: Final = (
    "The build ran out of memory: raise spec.serving.resources.limits.memory of the model."
)


def _fetch(settings: JobSettings, role: str, source: SourceRef, suffix: str, scratch: Path) -> Path:
    own = settings.credentials / role
    options = SourceOptions(
        registry=settings.registry,
        credentials=own if own.is_dir() else None,
        volumes=settings.volumes,
    )
    try:
        return fetch_source(source, suffix, scratch / role, options)
    except SourceInvalid as error:
        raise BuildFailure(_INVALID[role], str(error)) from error
    except ArtifactError as error:
        for kind, reason in _SOURCE_REASONS:
            if isinstance(error, kind):
                raise BuildFailure(reason, f"The {role}: {error}") from error
        raise


def _registry_failure(error: RegistryError) -> BuildFailure:
    match error:
        case RegistryUnreachable():
            return BuildFailure(Reason.REGISTRY_UNREACHABLE, str(error))
        case RegistryDenied() | _:
            return BuildFailure(Reason.REGISTRY_DENIED, str(error))


def _fail(log: Path, failure: BuildFailure) -> int:
    LOG.error("%s: %s", failure.reason, failure.message)
    sentence = failure.message
    if len(sentence) > MAX_SENTENCE_CHARACTERS:
        sentence = f"{sentence[: MAX_SENTENCE_CHARACTERS - 1]}…"
    _write_termination(log, {"reason": str(failure.reason), "message": sentence})
    return failure.exit_code


def _write_termination(log: Path, message: Mapping[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    if len(body) > MAX_TERMINATION_BYTES:
        body = json.dumps({**message, "message": str(message["message"])[:500]}).encode()
    try:
        log.write_bytes(body)
    except OSError as error:
        LOG.warning("the termination message cannot be written to %s: %s", log, error)


def _log_steps() -> Callable[[Snapshot], None]:
    last = ""

    def log(snapshot: Snapshot) -> None:
        nonlocal last
        if snapshot.message != last and not (
            snapshot.step == "Measure" and last.startswith("measuring")
        ):
            LOG.info("[%3d %%] %s: %s", snapshot.percent, snapshot.step, snapshot.message)
        last = snapshot.message

    return log


def _on_terminate(number: int, frame: object) -> NoReturn:
    # As process 1 of a container, the signal would be ignored without a handler.
    del number, frame
    sys.exit(EXIT_TERMINATED)
