"""The command on real files; measuring is part of it, so only a few builds run here."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from modelwright_artifact.digests import verify_files
from modelwright_artifact.manifest import load_manifest
from modelwright_artifact.report import load_report
from modelwright_optimizer.cli import register
from tests.unit.optimizer.models import write_classifier, write_rows

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import argparse, sys
from modelwright_optimizer.cli import register
parser = argparse.ArgumentParser()
register(parser.add_subparsers())
arguments = parser.parse_args()
sys.exit(arguments.run(arguments))
"""


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    parsed = parser.parse_args(["optimize", *arguments])
    code = parsed.run(parsed)
    assert isinstance(code, int)
    return code


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_classifier(tmp_path / "model.onnx")
    write_rows(tmp_path / "rows.npz", 60)
    return tmp_path


def arguments(files: Path, *more: str) -> list[str]:
    model, rows, out = files / "model.onnx", files / "rows.npz", files / "out"
    return [str(model), "--data", str(rows), "--out", str(out), *more]


def test_a_build_is_written_whole_and_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments(files)) == 0
    manifest, report = load_manifest(files / "out"), load_report(files / "out")
    verify_files(files / "out", manifest)
    assert manifest.request_key == report.request_key
    # 48 rows to judge cannot show a drop within one point, and the sentence says how many can.
    assert manifest.chosen == "fp32"
    assert {one.verdict for one in report.variants} == {"Chosen", "Undecided"}
    shown = capsys.readouterr()
    assert "rows to judge would do" in shown.out
    assert "modelwright serve" in shown.out
    assert "Measure" in shown.err
    assert sorted(path.name for path in files.iterdir()) == ["model.onnx", "out", "rows.npz"]

    assert run(*arguments(files)) == 2
    assert "holds an artifact already" in capsys.readouterr().err
    assert run(*arguments(files, "--force", "--techniques", "Fusion")) == 0
    assert [variant.name for variant in load_manifest(files / "out").variants] == ["fp32"]


def test_a_failed_build_leaves_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(files / "rows.npz", 3)
    assert run(*arguments(files)) == 42
    assert "EvaluationInvalid: The dataset has 3 rows" in capsys.readouterr().err
    assert not (files / "out").exists()
    assert sorted(path.name for path in files.iterdir()) == ["model.onnx", "rows.npz"]


WRONG = {
    "a missing model": (["none.onnx"], "No such file"),
    "a budget that is none": (["--budget", "much"], "must be a decimal number"),
    "a drop of SQNR": (["--metric", "SQNR"], "must be of type Minimum"),
    "topK of another metric": (["--top-k", "3"], "belongs to TopK"),
    "no cpu": (["--cpu", "0"], "more than zero"),
}


@pytest.mark.parametrize(("change", "want"), WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_told(
    change: list[str], want: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(files)
    if not change[0].startswith("--"):
        given[0], change = str(files / change[0]), change[1:]
    assert run(*given, *change) == 2
    assert want in capsys.readouterr().err


def test_a_folder_with_something_else_is_not_touched(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "out").mkdir()
    (files / "out" / "thesis.tex").write_text("...")
    assert run(*arguments(files, "--force")) == 2
    assert "holds no artifact" in capsys.readouterr().err
    assert (files / "out" / "thesis.tex").exists()


def test_an_interrupt_leaves_nothing(files: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "optimize", *arguments(files)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stderr is not None
    with process.stderr as stream:
        for line in stream:
            if "Measure" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = stream.read()
    assert process.wait(timeout=60) == 130
    assert "Stopped; nothing was written." in rest
    deadline = time.monotonic() + 10
    while len(list(files.iterdir())) > 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(path.name for path in files.iterdir()) == ["model.onnx", "rows.npz"]
