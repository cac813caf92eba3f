"""Finds the sources in a manifest file and changes their digests in its text.

The text is edited where the values stand, so comments, order, quotes and indentation stay as
their author wrote them. No file and no network here: text in, text out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCES: Final = ("model", "evaluation", "calibration")

# Plain text that some YAML reader takes for a number: only digits, or 12e34.
_NUMBER_LIKE = re.compile(r"[0-9]+(e[0-9]+)?")


class ManifestError(ValueError):
    """The file cannot be pinned as it is written; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar in the text: what it says, where, and between which quotes."""

    text: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class SourceText:
    """One source of one model, as it stands in the text."""

    model: str
    name: str
    uri: Value
    sha256: Value | None
    indent: str | None
    """The indentation of a new line for sha256; None when the source is written as {…}."""

    def __str__(self) -> str:
        """Where it is, for a person."""
        return f"{self.model}: spec.{self.name}"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces a stretch of the text; an empty stretch inserts."""

    start: int
    end: int
    text: str


def find_sources(text: str) -> list[SourceText]:
    """The sources of every InferenceModel in a manifest, in the order of the text.

    Raises:
        ManifestError: it is no YAML, holds no InferenceModel, or a source is no mapping with a
            uri on one line.
    """
    try:
        documents = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"this is no YAML: {error}") from error
    models = [node for node in documents if _text(node, "kind") == "InferenceModel"]
    if not models:
        raise ManifestError("there is no InferenceModel in it")
    return [source for model in models for source in _model_sources(text, model)]


def plan_edits(text: str, source: SourceText, uri: str, sha256: str | None) -> list[Edit]:
    """The changes that give a source this uri and, unless None, this sha256."""
    edits = []
    if uri != source.uri.text:
        edits.append(_replacement(source.uri, uri))
    if sha256 is None:
        return edits
    if source.sha256 is not None:
        if source.sha256.text != sha256:
            edits.append(_replacement(source.sha256, sha256))
        return edits
    return [*edits, _insertion(text, source, sha256)]


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text with the edits made; edits at one place are made once (YAML aliases)."""
    for edit in sorted(set(edits), key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _model_sources(text: str, model: yaml.Node) -> Iterator[SourceText]:
    name = _text(_child(model, "metadata"), "name") or "(no name)"
    spec = _child(model, "spec")
    for part in SOURCES:
        node = _child(spec, part)
        if node is not None:
            yield _read_source(text, name, part, node)


def _read_source(text: str, model: str, name: str, node: yaml.Node) -> SourceText:
    where = f"{model}: spec.{name}"
    uri = _child(node, "uri")
    if not isinstance(node, yaml.MappingNode) or uri is None:
        raise ManifestError(f"{where} has no uri (line {node.start_mark.line + 1})")
    sha256 = _child(node, "sha256")
    return SourceText(
        model=model,
        name=name,
        uri=_value(text, uri, f"{where}.uri"),
        sha256=None if sha256 is None else _value(text, sha256, f"{where}.sha256"),
        indent=None if node.flow_style else _indentation(node),
    )


def _value(text: str, node: yaml.Node, where: str) -> Value:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise ManifestError(f"{where} must be text (line {line})")
    if node.style in ("|", ">") or node.start_mark.line != node.end_mark.line:
        raise ManifestError(f"write {where} on one line (line {line})")
    start, end = node.start_mark.index, node.end_mark.index
    # A mark may stand before an anchor or a tag; the value itself is what ends there.
    written = text[start:end]
    quote = node.style if node.style in ("'", '"') else ""
    body = f"{quote}{node.value}{quote}"
    if not written.endswith(body):
        raise ManifestError(f"write {where} without escapes (line {line})")
    return Value(node.value, end - len(body), end, quote)


def _indentation(node: yaml.MappingNode) -> str:
    return " " * int(node.value[0][0].start_mark.column)


def _replacement(value: Value, text: str) -> Edit:
    return Edit(value.start, value.end, _quoted(text, value.quote))


def _insertion(text: str, source: SourceText, sha256: str) -> Edit:
    shown = _quoted(sha256, "")
    if source.indent is None:
        return Edit(source.uri.end, source.uri.end, f", sha256: {shown}")
    end = text.find("\n", source.uri.end)
    if end < 0:
        return Edit(len(text), len(text), f"\n{source.indent}sha256: {shown}")
    newline = "\r\n" if text[end - 1] == "\r" else "\n"
    return Edit(end + 1, end + 1, f"{source.indent}sha256: {shown}{newline}")


def _quoted(text: str, quote: str) -> str:
    """The text between its quotes; what would be read as a number gets some."""
    quote = quote or ('"' if _NUMBER_LIKE.fullmatch(text) else "")
    return f"{quote}{text}{quote}"


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _text(node: yaml.Node | None, name: str) -> str | None:
    child = _child(node, name)
    return child.value if isinstance(child, yaml.ScalarNode) else None
