"""`make test`: every tier in order, each with its time and last time's, and one verdict.

A tier that fails does not hide the ones after it, but e2e is not tried on top of a broken product.
With CI=true a skip is a failure (see conftest.py), so nothing passes by not running.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.progress import Durations
from e2e.cluster.spec import cache_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Tier:
    """One step of the test command; `pytest` tiers count their tests."""

    name: str
    command: tuple[str, ...]
    is_pytest: bool = False
    needs: tuple[str, ...] = ()


@dataclass
class Counts:
    """Tests passed, failed and skipped so far."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, report: Path) -> None:
        """Add the numbers of a JUnit report."""
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314 - our own
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            self.failed += bad
            self.skipped += skipped
            self.passed += int(suite.get("tests", 0)) - bad - skipped


def _pytest(
    name: str, *paths: str, options: Sequence[str] = (), needs: tuple[str, ...] = ()
) -> Tier:
    return Tier(name, (str(BIN / "pytest"), "-q", *options, *paths), is_pytest=True, needs=needs)


def _tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(BIN / name), *arguments)


def tiers() -> tuple[Tier, ...]:
    """The tiers, cheapest first."""
    python = (sys.executable, "-m")
    machine = ("Debian packages", "cluster binaries")
    packages = (
        "operator/modelwright_operator",
        "artifact/modelwright_artifact",
        "optimizer/modelwright_optimizer",
        "runtime_image/modelwright_runtime",
        "e2e",
        "samples",
    )
    return (
        Tier("lint", _tool("ruff", "check", ".")),
        Tier("format", _tool("ruff", "format", "--check", "-q", ".")),
        Tier("types", _tool("mypy", *packages)),
        Tier("import contracts", _tool("lint-imports")),
        Tier("generated files", (*python, "modelwright_operator.api.crds", "--check")),
        Tier("generated reference", (*python, "modelwright_operator.api.reference", "--check")),
        Tier(
            "generated protocol", (sys.executable, "runtime_image/generate_protocol.py", "--check")
        ),
        Tier("Debian packages", (*python, "e2e.cluster", "packages")),
        Tier("cluster binaries", (*python, "e2e.cluster", "build")),
        _pytest(
            "unit, golden, simulation",
            "tests/unit",
            "tests/golden",
            "tests/simulation",
            options=("-n", "2"),
        ),
        _pytest("wiring", "tests/wiring"),
        _pytest("integration", "tests/integration", needs=machine),
        _pytest("e2e", "e2e", needs=(*machine, "unit, golden, simulation")),
    )


def main(names: Sequence[str]) -> int:
    """Run the tiers (or only those named) and print the verdict."""
    history = Durations(cache_directory() / "test-durations.json")
    counts = Counts()
    started = time.monotonic()
    for tier in tiers():
        if names and tier.name not in names:
            continue
        missing = [need for need in tier.needs if need in counts.broken]
        if missing:
            print(f"== {tier.name}: not run, {', '.join(missing)} failed", flush=True)
            counts.broken.append(tier.name)
            continue
        _run(tier, history, counts)
    minutes = (time.monotonic() - started) / 60
    verdict = f"failed: {', '.join(counts.broken)}" if counts.broken else "all tiers passed"
    print(f"== {verdict} ({minutes:.1f} min)")
    print(f"total: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.broken or not counts.passed else 0


def _run(tier: Tier, history: Durations, counts: Counts) -> None:
    last = history.last_seconds(tier.name)
    print(f"== {tier.name}{f' (last time {last:.0f} s)' if last else ''}", flush=True)
    report = ROOT / ".pytest_cache" / f"{tier.name.replace(' ', '-').replace(',', '')}.xml"
    report.unlink(missing_ok=True)
    command = [*tier.command, f"--junitxml={report}"] if tier.is_pytest else list(tier.command)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    seconds = time.monotonic() - began
    if report.exists():
        counts.add(report)
    if code != 0:
        counts.broken.append(tier.name)
    else:
        history.record(tier.name, seconds)
    print(
        f"== {tier.name}: {'ok' if code == 0 else f'FAILED ({code})'} in {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
