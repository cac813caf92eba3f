"""`modelwright report`: open the report of a build, from the cluster or from a folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

EXIT_FAILED = 1
REPORT_FILE = "report.json"


class ReportError(Exception):
    """There is no report to show; the message says why."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report` to the one command."""
    parser = subparsers.add_parser(
        "report",
        help="show what a build tried, measured and chose",
        description="Prints the table of variants and writes the report as one HTML page. NAME "
        "is an InferenceModel or ModelBuild of the current cluster, or a folder that "
        "`modelwright optimize` wrote.",
    )
    parser.add_argument("name", metavar="NAME", help="model, build or folder")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument(
        "--registry",
        default=os.environ.get("MODELWRIGHT_REGISTRY", ""),
        metavar="HOST[:PORT]",
        help="the artifact registry as this machine reaches it (default: $MODELWRIGHT_REGISTRY, "
        "else the name the cluster uses)",
    )
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    parser.add_argument("--ca-bundle", type=Path, help="certificates to trust as well")
    parser.add_argument("--html", type=Path, help="where to write the page")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, write the page, open it where there is a screen."""
    from modelwright_artifact.errors import ArtifactError
    from modelwright_artifact.report import Report, render_text
    from modelwright_artifact.report_page import render_html

    try:
        document = _load(arguments)
        report = Report.from_json(document)
    except (ReportError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(render_text(report))
    page = arguments.html or Path(tempfile.mkdtemp(prefix="modelwright-")) / "report.html"
    try:
        page.write_text(render_html(report), encoding="utf-8")
    except OSError as error:
        print(f"error: {page}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    print(f"report: {page}")
    if not arguments.no_open and sys.stdout.isatty() and _has_screen():
        webbrowser.open(page.resolve().as_uri())
    return 0


def _load(arguments: argparse.Namespace) -> Mapping[str, Any]:
    folder = Path(arguments.name)
    if (folder / REPORT_FILE).is_file():
        document: Mapping[str, Any] = json.loads((folder / REPORT_FILE).read_text())
        return document
    import asyncio

    build = asyncio.run(_find_build(arguments))
    return _fetch(build, arguments)


async def _find_build(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """The ModelBuild that a name stands for: itself, or what the model serves or last built.

    Raises:
        ReportError: the cluster does not answer, or there is no finished build.
    """
    from modelwright_operator.kube.client import ApiClient
    from modelwright_operator.kube.config import ConfigError, load_config
    from modelwright_operator.kube.faults import KubeFault

    try:
        async with ApiClient(load_config(arguments.kubeconfig)) as client:
            name = arguments.name
            model = await client.get("InferenceModel", arguments.namespace, name)
            if model is not None:
                name = _build_of(model)
            build = await client.get("ModelBuild", arguments.namespace, name)
    except (ConfigError, KubeFault) as error:
        raise ReportError(str(error)) from error
    if build is None:
        raise ReportError(
            f"no InferenceModel, ModelBuild or folder named {arguments.name} "
            f"(namespace {arguments.namespace})"
        )
    if not build.get("status", {}).get("digest"):
        raise ReportError(f"{name} has no result yet: {_ready_message(build)}")
    return build


def _build_of(model: Mapping[str, Any]) -> str:
    status = model.get("status", {})
    candidates = [entry["build"] for entry in status.get("serving", [])] + status.get("builds", [])
    if not candidates:
        raise ReportError(f"{model['metadata']['name']} has no build yet: {_ready_message(model)}")
    return str(candidates[0])


def _ready_message(raw: Mapping[str, Any]) -> str:
    conditions = raw.get("status", {}).get("conditions", [])
    ready: Mapping[str, Any] = next((item for item in conditions if item["type"] == "Ready"), {})
    return str(ready.get("message", "nothing is known of it"))


def _fetch(build: Mapping[str, Any], arguments: argparse.Namespace) -> Mapping[str, Any]:
    from modelwright_artifact.oci import RegistryOptions, fetch_report

    repository: str = build["spec"]["repository"]
    insecure = arguments.insecure
    if arguments.registry:
        repository = f"{arguments.registry}/{repository.partition('/')[2]}"
        insecure = insecure or arguments.registry.startswith(("127.0.0.1", "localhost"))
    host = repository.partition("/")[0]
    config = os.environ.get("DOCKER_CONFIG")
    options = RegistryOptions(
        insecure_hosts=frozenset({host} if insecure else ()),
        ca_bundle=arguments.ca_bundle,
        docker_config=Path(config) if config else Path.home() / ".docker",
        attempts=2,
    )
    return fetch_report(repository, build["status"]["digest"], options=options)


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY"))
