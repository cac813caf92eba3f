"""Writes docs/api/*.md from the types: `python -m modelwright_operator.api.reference [--check]`."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelwright_operator.api.base import API_VERSION, GROUP
from modelwright_operator.api.conditions import ConditionType, Reason
from modelwright_operator.api.crds import KINDS, Kind, build_object_schema
from modelwright_operator.api.generated import MARK, write_or_compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from enum import StrEnum

    from modelwright_operator.api.structural import Schema

HEADER: Final = f"<!-- {MARK} -->\n\n"
REASONS_FILE: Final = "conditions.md"


def render_reference() -> dict[str, str]:
    """File names and contents."""
    pages = {f"{kind.name.lower()}.md": _kind_page(kind) for kind in KINDS}
    pages[REASONS_FILE] = _conditions_page()
    pages["README.md"] = _index_page()
    return {name: HEADER + text for name, text in pages.items()}


def member_docs(enumeration: type[StrEnum]) -> dict[str, str]:
    """The docstring below each member, which Python itself forgets."""
    statements = list(ast.walk(ast.parse(inspect.getsource(enumeration))))
    body = next(node.body for node in statements if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case (
                ast.Assign(value=ast.Constant(value=str(member))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[member] = " ".join(text.split())
            case _:
                pass
    return docs


def _index_page() -> str:
    lines = [
        "# API reference\n",
        f"All kinds are of `{API_VERSION}`. `kubectl explain` shows the same text in a terminal.\n",
        "| kind | short name | scope | what it is |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        what = _predicate(build_object_schema(kind)["description"].partition(". ")[0], kind.name)
        lines.append(
            f"| [{kind.name}]({kind.name.lower()}.md) | `{kind.short_name}` | {kind.scope} "
            f"| {_cell(what)} |"
        )
    lines += [
        "",
        f"What the conditions say: [conditions and reasons]({REASONS_FILE}).\n",
        "Good to know:\n",
        "- No field of a spec has a default in the schema, so nothing is added to what you wrote "
        "and GitOps tools see no drift. The defaults told here are taken when the operator plans; "
        "`modelwright plan` shows them.",
        "- A status begins as `observedGeneration: -1`: not looked at yet. It speaks of your spec "
        "once `status.observedGeneration` equals `metadata.generation`.",
        "- There is no `scale` subresource: `minReplicas` and `maxReplicas` are bounds, and the "
        "number between them is the autoscaler's.",
        "- All three kinds are in the category `modelwright`: `kubectl get modelwright -A`.",
    ]
    return _join(lines)


def _kind_page(kind: Kind) -> str:
    schema = build_object_schema(kind)
    lines = [
        f"# {kind.name}\n",
        f"`{kind.plural}.{GROUP}`, {kind.scope}. {schema['description']}\n",
    ]
    for part in ("spec", "status"):
        lines += [f"## {part}\n", "| field | type | description |", "|---|---|---|"]
        lines += [_row(*field) for field in _fields(schema["properties"][part], part)]
        lines.append("")
    lines += ["## What is refused\n", "| where | message |", "|---|---|"]
    for rule in kind.rules:
        places = ", ".join(f"`{path or 'metadata.name'}{rule.field or ''}`" for path in rule.paths)
        lines.append(f"| {places} | {_cell(rule.message)} |")
    return _join(lines)


def _conditions_page() -> str:
    lines = [
        "# Conditions and reasons\n",
        "## Conditions\n",
        "| type | what it is about |",
        "|---|---|",
        *(f"| `{name}` | {_cell(text)} |" for name, text in member_docs(ConditionType).items()),
        "",
        "## Reasons\n",
        "Reasons are part of the API: scripts and alerts may match on them. An Event carries the "
        "reason of the condition that changed.\n",
        "| reason | what it means, and what to do |",
        "|---|---|",
        *(f"| `{name}` | {_cell(text)} |" for name, text in sorted(member_docs(Reason).items())),
    ]
    return _join(lines)


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below, with its path and whether it is required."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, inner, name in required
        yield from _fields(inner, here)
        yield from _fields(inner.get("items", {}), f"{here}[]")


def _row(path: str, schema: Schema, required: bool) -> str:
    name = path.rpartition(".")[2]
    text = _predicate(schema["description"], name)
    mark = "**Required.** " if required else ""
    return f"| `{path.partition('.')[2]}` | {_type(schema)} | {mark}{_cell(text)} |"


def _predicate(sentence: str, subject: str) -> str:
    """What a sentence says of its subject: `uri is where it lies` becomes `Where it lies`."""
    words = sentence.removeprefix(f"{subject} ").removeprefix("is ").removeprefix("are ")
    return words[:1].upper() + words[1:]


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{word}`" for word in schema["enum"])
    match schema.get("type"):
        case "array":
            inner = _type(schema["items"]).partition(",")[0]
            plural = inner if inner.startswith("`") else f"{inner}s"
            return f"list of {plural}, at most {schema['maxItems']}"
        case "object" if "additionalProperties" in schema:
            return f"map of strings, at most {schema['maxProperties']}"
        case "integer":
            return f"integer{_range(schema)}"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case "string":
            return f"string, at most {schema['maxLength']}"
        case None:
            return "quantity"
        case other:
            return str(other)


def _range(schema: Schema) -> str:
    return f", {schema['minimum']} to {schema['maximum']}" if schema["maximum"] < 2**31 - 1 else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _join(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check tell whether they are stale."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when stale")
    parser.add_argument("--directory", type=Path, default=Path("docs/api"))
    options = parser.parse_args(arguments)
    return write_or_compare(options.directory, render_reference(), check=options.check)


if __name__ == "__main__":
    sys.exit(main())
