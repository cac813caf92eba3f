from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from modelwright_operator.cli import main as main_module
from modelwright_operator.cli.main import build_parser, main

if TYPE_CHECKING:
    from collections.abc import Callable

Subparsers = argparse._SubParsersAction
HERE = __name__


def _entry(name: str, function: str) -> EntryPoint:
    return EntryPoint(name, f"{HERE}:{function}", main_module.COMMANDS)


def _register(name: str, run: Callable[[argparse.Namespace], int]) -> Callable[..., None]:
    def register(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
        subparsers.add_parser(name).set_defaults(run=run)

    return register


def _raise(error: BaseException) -> int:
    raise error


works = _register("works", lambda _: 7)
needs_numpy = _register(
    "optimize", lambda _: _raise(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
)
broken = _register(
    "broken", lambda _: _raise(ModuleNotFoundError("no", name="modelwright_operator.gone"))
)
interrupted = _register("interrupted", lambda _: _raise(KeyboardInterrupt()))


def not_installed(subparsers: object) -> None:
    raise ModuleNotFoundError("No module named 'grpc'", name="grpc")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of this module in place of the installed ones."""
    sys.modules.setdefault(HERE, sys.modules[__name__])
    found = [
        _entry("works", "works"),
        _entry("optimize", "needs_numpy"),
        _entry("serve", "not_installed"),
        _entry("broken", "broken"),
        _entry("interrupted", "interrupted"),
    ]
    monkeypatch.setattr(main_module, "entry_points", lambda group: found)


def test_a_subcommand_returns_its_exit_status(commands: None) -> None:
    assert main(["works"]) == 7


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["optimize"], "needs the Python package 'numpy', which is not here: install "),
        (["serve", "build/", "--http-port", "1"], "install modelwright[runtime]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    commands: None, arguments: list[str], want: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert want in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_not_blamed_on_the_installation(commands: None) -> None:
    with pytest.raises(ModuleNotFoundError):
        main(["broken"])


def test_an_interrupt_ends_without_a_traceback(
    commands: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["interrupted"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_no_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit, match="2"):
        build_parser([]).parse_args([])


def test_help_needs_nothing_but_the_standard_library() -> None:
    """Run without site-packages: only the installed names of entry points are missing then."""
    source = (
        "import sys; sys.path[:0] = ['operator']; sys.argv = ['modelwright', '--help'];"
        "from modelwright_operator.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: modelwright" in done.stdout


def test_every_installed_subcommand_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for command in ("optimize", "pin", "plan", "report", "serve"):
        assert f"\n    {command} " in shown
    assert "(not installed)" not in shown
