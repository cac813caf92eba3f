"""`modelwright plan`: show, before anything is applied, every object the operator would create."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from modelwright_operator.cli.facts import Facts
    from modelwright_operator.cli.preview import Preview
    from modelwright_operator.plan.observed import ModelView

EXIT_OK = 0
EXIT_INVALID = 1
EXIT_USAGE = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to the one command."""
    parser = subparsers.add_parser(
        "plan",
        help="print every object the operator would create for a model, without a cluster",
        description="Validates InferenceModels and prints, as YAML, all objects the operator "
        "would create for them: the same code as the operator's. With --diff, prints instead "
        "what would change in the cluster your kubeconfig points to.",
    )
    parser.add_argument("-f", "--filename", required=True, help="manifest, or - for standard input")
    parser.add_argument("-n", "--namespace", default="default", help="where the manifest has none")
    parser.add_argument("--facts", type=Path, help="YAML with hardware profiles and settings")
    parser.add_argument("--settings", type=Path, help="the installation's settings.yaml")
    parser.add_argument("--diff", action="store_true", help="compare with the current cluster")
    parser.add_argument("--kubeconfig", type=Path, help="for --diff")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 when a model is invalid or stuck."""
    from modelwright_operator.cli.facts import FactsError, local_facts, read_facts
    from modelwright_operator.settings import SettingsError

    try:
        documents = _read_models(arguments.filename)
        facts = read_facts(arguments.facts) if arguments.facts else local_facts()
        facts = _with_settings(facts, arguments.settings)
    except (OSError, ValueError, FactsError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    models = [_parse(document, arguments.namespace) for document in documents]
    if _report_problems(models):
        return EXIT_INVALID
    if arguments.diff:
        from modelwright_operator.cli.difference import print_difference

        if arguments.settings is None:
            print(
                "note: planned with placeholder settings; --settings FILE takes an installation's",
                file=sys.stderr,
            )
        return print_difference(models, facts, arguments.kubeconfig)
    return _print_previews(models, facts)


def _print_previews(models: list[ModelView], facts: Facts) -> int:
    from modelwright_operator.cli.preview import is_settled, preview_model

    code = EXIT_OK
    print(f"# planned for {facts.origin}")
    for model in models:
        siblings = [other for other in models if other is not model]
        preview = preview_model(model, facts.profiles, facts.settings, datetime.now(UTC), siblings)
        _print_preview(model, preview)
        if not is_settled(preview):
            code = EXIT_INVALID
    return code


def _print_preview(model: ModelView, preview: Preview) -> None:
    from modelwright_operator.plan.types import Settled

    for stage in preview.stages:
        print(f"# {model.id.namespace}/{model.id.name}: {stage.title}")
        _print_documents(stage.manifests)
    if not isinstance(preview.outcome, Settled):
        outcome = preview.outcome
        print(f"{model.id.name}: {outcome.reason}: {outcome.message}", file=sys.stderr)


def _print_documents(manifests: Iterable[Mapping[str, Any]]) -> None:
    import yaml

    for manifest in manifests:
        print("---")
        sys.stdout.write(yaml.safe_dump(dict(manifest), sort_keys=False))


def _read_models(filename: str) -> list[Mapping[str, Any]]:
    """The InferenceModels of a file; other kinds in it are none of our business.

    Raises:
        ValueError: it is no YAML, or holds no InferenceModel.
    """
    import yaml

    text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
    try:
        documents = [item for item in yaml.safe_load_all(text) if isinstance(item, dict)]
    except yaml.YAMLError as error:
        raise ValueError(f"{filename}: {error}") from error
    models: list[Mapping[str, Any]] = [
        item for item in documents if item.get("kind") == "InferenceModel"
    ]
    if not models:
        raise ValueError(f"{filename} holds no InferenceModel")
    for model in models:
        if not _has_name(model):
            raise ValueError(f"{filename}: an InferenceModel without metadata.name")
    return models


def _has_name(document: Mapping[str, Any]) -> bool:
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


def _parse(document: Mapping[str, Any], namespace: str) -> ModelView:
    from modelwright_operator.cli.preview import placeholder_identity
    from modelwright_operator.observe.parse import parse_model

    return parse_model(placeholder_identity(document, namespace))


def _report_problems(models: list[ModelView]) -> bool:
    invalid = [model for model in models if model.spec is None]
    for model in invalid:
        print(f"{model.id.name}: {model.problem}", file=sys.stderr)
    return bool(invalid)


def _with_settings(facts: Facts, path: Path | None) -> Facts:
    from dataclasses import replace

    from modelwright_operator.settings import load_settings

    return facts if path is None else replace(facts, settings=load_settings(path))
