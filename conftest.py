"""Rules for every tier: with CI=true a skipped test is a failed run."""

from __future__ import annotations

import os
import signal

import pytest

# A runner started in the background ignores interrupts, and its children would inherit that; the
# tests of Ctrl-C need them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Node ids (prefixes) that may be skipped in CI, each with its reason. None so far.
ALLOWED_SKIPS: dict[str, str] = {}

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember skips that nobody allowed."""
    allowed = any(report.nodeid.startswith(prefix) for prefix in ALLOWED_SKIPS)
    if report.skipped and not allowed and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn them into a failure where nobody would read about them."""
    if os.environ.get("CI") == "true" and _skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips made the run fail."""
    if os.environ.get("CI") == "true" and _skipped:
        terminalreporter.section("skips that are failures with CI=true")
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
