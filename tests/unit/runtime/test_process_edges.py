"""What the process leaves behind and is told: termination log, log lines, command line."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modelwright_runtime.cli import main, register
from modelwright_runtime.logs import JsonFormatter
from modelwright_runtime.termination import LIMIT_BYTES, build_failure, write_termination

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("letter", ["x", "é", "✓", "\n", '"', "\x00", "𝄞"])
def test_any_message_fits_the_termination_log_as_whole_json(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "log"
    path.touch()
    write_termination(path, build_failure("DigestMismatch", letter * 10_000))
    assert list(tmp_path.iterdir()) == [path]
    raw = path.read_bytes()
    assert len(raw) <= LIMIT_BYTES
    document = json.loads(raw)
    assert document["reason"] == "DigestMismatch"
    assert document["message"].startswith(letter)


def test_outside_a_pod_no_termination_log_is_made(tmp_path: Path) -> None:
    write_termination(tmp_path / "log", {"reason": "x"})
    assert not list(tmp_path.iterdir())


def test_log_lines_are_one_json_object_each() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, "f", 1, "two\nlines %s", ("é",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    document = json.loads(line)
    assert (document["level"], document["logger"], document["message"]) == (
        "warning",
        "a.b",
        "two\nlines é",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["serve", "--http-port", "65536", "d"],
        ["serve", "--queue-size", "0", "d"],
        ["serve", "--drain-seconds", "-1", "d"],
        ["serve", "--drain-seconds", "nan", "d"],
        ["fly"],
        [],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_register_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import argparse, sys; before = set(sys.modules);"
        "from modelwright_runtime.cli import register;"
        "register(argparse.ArgumentParser().add_subparsers());"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['modelwright_runtime']"


def test_register_takes_the_operators_arguments() -> None:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    text = (
        "serve --model-name digits --artifact /artifacts/a --artifact /artifacts/b --variant fp32 "
        "--host 0.0.0.0 --http-port 8080 --grpc-port 9000 --metrics-port 8082 --drain-seconds 5"
    )
    arguments = parser.parse_args(text.split())
    assert [str(path) for path in arguments.artifact] == ["/artifacts/a", "/artifacts/b"]


def test_probe_prints_the_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"architecture", "features", "vendor", "cores", "profile"}
