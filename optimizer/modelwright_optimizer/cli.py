"""`modelwright optimize`: the build on this machine, without a cluster, with the same code."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from modelwright_artifact.request import BuildRequest, SourceRef
    from modelwright_optimizer.progress import Snapshot

EXIT_OK: Final = 0
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_METRICS: Final = ("Accuracy", "TopK", "F1", "RMSE", "CosineSimilarity", "SQNR")
_BUDGET_TYPES: Final = ("AbsoluteDrop", "RelativeDrop", "Minimum")
_OBJECTIVES: Final = ("Latency", "Throughput", "Size")
_TECHNIQUES: Final = ("Fusion", "StaticInt8", "DynamicInt8")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `optimize` to the one command."""
    parser = subparsers.add_parser(
        "optimize",
        help="build the fastest variant of a model that keeps its accuracy, on this machine",
        description="Tries the recipes this CPU runs well, judges their accuracy on your data, "
        "measures them here, and writes an artifact that `modelwright serve` serves.",
    )
    parser.add_argument("model", type=Path, help="the ONNX model")
    parser.add_argument("--data", type=Path, required=True, help="evaluation rows (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, must be new")
    parser.add_argument("--calibration", type=Path, help="rows to calibrate with (.npz)")
    parser.add_argument("--metric", default="Accuracy", choices=_METRICS)
    parser.add_argument("--top-k", type=int, help="k of TopK (default 5)")
    parser.add_argument("--budget", default="1.0", help="accuracy that may be given up")
    parser.add_argument("--budget-type", default="AbsoluteDrop", choices=_BUDGET_TYPES)
    parser.add_argument("--objective", default="Latency", choices=_OBJECTIVES)
    parser.add_argument("--techniques", nargs="*", default=list(_TECHNIQUES), choices=_TECHNIQUES)
    parser.add_argument("--cpu", default="1", help="CPU to measure and serve with (quantity)")
    parser.add_argument("--memory", default="1Gi", help="memory to serve with (quantity)")
    parser.add_argument("--force", action="store_true", help="replace an artifact in --out")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build; returns the exit code."""
    from modelwright_artifact.errors import ArtifactError
    from modelwright_optimizer.failures import BuildFailure

    try:
        return _optimize(arguments)
    except BuildFailure as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return error.exit_code
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _optimize(arguments: argparse.Namespace) -> int:
    from modelwright_artifact.report import render_text
    from modelwright_optimizer.build import BuildInputs, build_artifact
    from modelwright_optimizer.progress import Progress

    out: Path = arguments.out
    _check_target(out, replace=arguments.force)
    request = build_request(arguments)
    inputs = BuildInputs(
        model=arguments.model,
        evaluation=arguments.data,
        calibration=arguments.calibration,
        reproduce=shlex.join(["modelwright", *sys.argv[1:]]),
    )
    screen = _Screen()
    with _replaced_at_end(out) as directory:
        report = build_artifact(request, inputs, directory, Progress(screen.show))
        screen.clear()
    print(render_text(report))
    print(f"\nWrote {out} (chosen: {report.chosen}). Serve it: modelwright serve {out}")
    return EXIT_OK


def build_request(arguments: argparse.Namespace) -> BuildRequest:
    """The request a cluster would make for these files on this CPU: the same key."""
    from modelwright_artifact.hardware import detect, profile_of
    from modelwright_artifact.request import (
        Budget,
        BuildRequest,
        Metric,
        Profile,
        Resources,
    )

    here = detect()
    profile = profile_of(here) or Profile(name="unknown", architecture=here.architecture)
    calibration: Path | None = arguments.calibration
    return BuildRequest(
        model=_local_source(arguments.model),
        evaluation=_local_source(arguments.data),
        calibration=None if calibration is None else _local_source(calibration),
        metric=Metric(name=arguments.metric, top_k=arguments.top_k),
        budget=Budget(type=arguments.budget_type, value=arguments.budget),
        objective=arguments.objective,
        techniques=tuple(arguments.techniques),
        resources=Resources(cpu=arguments.cpu, memory=arguments.memory),
        profile=profile,
    )


def _local_source(path: Path) -> SourceRef:
    from modelwright_artifact.digests import digest_file
    from modelwright_artifact.request import SourceRef

    return SourceRef(uri=path.resolve().as_uri(), digest=digest_file(path))


def _check_target(out: Path, *, replace: bool) -> None:
    from modelwright_artifact.errors import ArtifactError
    from modelwright_artifact.manifest import MANIFEST_FILE

    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_FILE).is_file():
        raise ArtifactError(f"{out} is there already and holds no artifact: name another folder.")
    if not replace:
        raise ArtifactError(f"{out} holds an artifact already: name another folder, or --force.")


@contextmanager
def _replaced_at_end(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out` that takes its place when all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        tree = scratch / "tree"
        tree.mkdir()
        yield tree
        if out.exists():
            out.rename(scratch / "old")
        tree.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Screen:
    """Progress on stderr: one line that is rewritten on a terminal, one per step elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = ""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the build is."""
        left = snapshot.remaining_seconds
        rest = "" if left is None else f", about {left} s left"
        line = f"[{snapshot.percent:3d} %] {snapshot.step}: {snapshot.message}"
        if self._is_terminal:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            text = f"{line} ({snapshot.elapsed_seconds} s{rest})"[: width - 1]
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif snapshot.step != self._last:
            print(line, file=sys.stderr)
        self._last = snapshot.step

    def clear(self) -> None:
        """Make room for the result."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
