"""`modelwright pin`: fill in the digests of a manifest's sources."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from modelwright_operator.cli.manifest_text import Edit, SourceText
    from modelwright_operator.cli.source_digests import Places

EXIT_OK = 0
EXIT_UNPINNED = 1
EXIT_USAGE = 2
STANDARD_INPUT = "-"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pin` to the one command."""
    parser = subparsers.add_parser(
        "pin",
        help="fill in the digests of a manifest's sources",
        description="Looks at every source of the InferenceModels in FILE and writes the digest "
        "of what lies there now: an OCI tag is replaced by its digest, a file is downloaded and "
        "hashed. Everything else in the file stays as it is.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="manifest; - reads and prints")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when a digest is missing or old"
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        dest="copies",
        metavar="CLAIM/PATH=LOCAL",
        help="the local copy of a file in a PersistentVolumeClaim (pvc://CLAIM/PATH)",
    )
    parser.add_argument(
        "--insecure-registry",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="a registry that speaks plain http",
    )
    parser.add_argument("--ca-bundle", type=Path, help="certificates to trust besides the system's")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FOLDER",
        help="files host and token, or host, username and password, for a file server; registries "
        "are asked with the docker login of this machine",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Pin every file; 1 when a source could not be pinned, or with --check is not."""
    try:
        places = _places(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    return max(pin_file(name, places, check=arguments.check) for name in arguments.files)


def pin_file(name: str, places: Places, *, check: bool) -> int:
    """Pin one file, all of it or nothing."""
    from modelwright_operator.cli.manifest_text import ManifestError, apply_edits, find_sources

    say = partial(print, file=sys.stderr if name == STANDARD_INPUT else sys.stdout)
    try:
        text = _read(name)
        sources = find_sources(text)
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    edits, failed = _plan(text, sources, places, say)
    if failed:
        print(f"error: {name} is unchanged", file=sys.stderr)
        return EXIT_UNPINNED
    if check:
        return EXIT_UNPINNED if edits else EXIT_OK
    if name == STANDARD_INPUT:
        sys.stdout.write(apply_edits(text, edits))
    elif edits:
        _write(Path(name), apply_edits(text, edits))
    return EXIT_OK


def _plan(
    text: str, sources: Sequence[SourceText], places: Places, say: Callable[[str], None]
) -> tuple[list[Edit], bool]:
    """The edits for all sources, and whether one could not be looked up; says what it finds."""
    from modelwright_artifact.errors import ArtifactError
    from modelwright_operator.cli.manifest_text import plan_edits
    from modelwright_operator.cli.source_digests import LookupFailure, look_up

    edits: list[Edit] = []
    failed = False
    for source in sources:
        given = source.sha256.text if source.sha256 is not None else None
        try:
            pinned = look_up(source.uri.text, given, places)
        except (ArtifactError, LookupFailure) as error:
            print(f"error: {source}: {error}", file=sys.stderr)
            failed = True
            continue
        changes = plan_edits(text, source, pinned.uri, pinned.sha256)
        edits += changes
        shown = pinned.sha256 or pinned.uri.rpartition("@sha256:")[2]
        if not changes:
            say(f"{source}: {shown} is right")
        elif given:
            say(f"{source}: {given} is now {shown}")
        else:
            say(f"{source}: {shown}")
    return edits, failed


def _places(arguments: argparse.Namespace) -> Places:
    from modelwright_artifact.transport import RegistryOptions
    from modelwright_operator.cli.source_digests import Places

    return Places(
        registry=RegistryOptions(
            insecure_hosts=frozenset(arguments.insecure_registry),
            ca_bundle=arguments.ca_bundle,
            docker_config=Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"),
        ),
        credentials=arguments.credentials,
        files=dict(_read_copy(text) for text in arguments.copies),
    )


def _read_copy(text: str) -> tuple[str, Path]:
    place, found, local = text.partition("=")
    if not found or "/" not in place or not local:
        raise ValueError(f"--file {text} must read CLAIM/PATH=LOCAL")
    return place.removeprefix("pvc://"), Path(local)


def _read(name: str) -> str:
    """The text with its line ends as they are."""
    if name == STANDARD_INPUT:
        return sys.stdin.read()
    return Path(name).read_bytes().decode()


def _write(path: Path, text: str) -> None:
    """Replace the file at once: a reader sees the old or the new one."""
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.pinning")
    try:
        fresh.write_bytes(text.encode())
        shutil.copymode(target, fresh)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
