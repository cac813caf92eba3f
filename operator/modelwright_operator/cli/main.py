"""The one command `modelwright`. Each plane brings its own subcommands by entry points.

Only the standard library is imported here and by every `register`: `modelwright --help` works in
the smallest installation, and a subcommand whose packages are missing says which to install.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMANDS: Final = "modelwright.commands"
EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130

# The extra that brings what a subcommand needs.
EXTRAS: Final = {
    "plan": "operator",
    "pin": "operator",
    "report": "operator",
    "optimize": "optimizer",
    "serve": "runtime",
}


class Command(Protocol):
    """What a subcommand sets as `run`: does the work and returns the exit status."""

    def __call__(self, arguments: argparse.Namespace, /) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status."""
    parser = build_parser(entry_points(group=COMMANDS))
    parsed = parser.parse_args(arguments)
    run: Command = parsed.run
    try:
        return run(parsed)
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        return _explain_missing(parsed.command, error)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the flush at exit must find somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def build_parser(commands: Iterable[EntryPoint]) -> argparse.ArgumentParser:
    """The parser with every installed subcommand."""
    parser = argparse.ArgumentParser(
        prog="modelwright",
        description="Turns a model into the fastest build that keeps its accuracy, measured on "
        "the hardware that will serve it, and serves it.",
    )
    parser.add_argument("--version", action="version", version=f"modelwright {_version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in sorted(commands, key=lambda entry: entry.name):
        _register(command, subparsers)
    return parser


def _register(
    command: EntryPoint, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]
) -> None:
    """Let a plane add its subcommand; one that cannot be loaded is offered and explains itself."""
    try:
        command.load()(subparsers)
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        missing = error

        def explain(_: argparse.Namespace) -> int:
            return _explain_missing(command.name, missing)

        parser = subparsers.add_parser(command.name, help="(not installed)", add_help=False)
        parser.add_argument("rest", nargs=argparse.REMAINDER)
        parser.set_defaults(run=explain)


def _is_ours(error: ModuleNotFoundError) -> bool:
    """A missing module of this project is a mistake in it, not in the installation."""
    return (error.name or "").startswith("modelwright_")


def _explain_missing(command: str, error: ModuleNotFoundError) -> int:
    extra = EXTRAS.get(command)
    advice = f"install modelwright[{extra}]" if extra else "install it"
    sys.stderr.write(
        f"modelwright {command} needs the Python package {error.name!r}, which is not here: "
        f"{advice}\n"
    )
    return EXIT_FAILURE


def _version() -> str:
    try:
        return version("modelwright")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
