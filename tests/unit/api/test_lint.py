"""The rules of good Kubernetes APIs (after kube-api-linter), over every field of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from modelwright_operator.api.crds import (
    HEADER,
    KINDS,
    KUSTOMIZATION,
    MAX_BYTES,
    Kind,
    build_crd,
    render_crds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Schema = dict[str, Any]

# A boolean cannot grow a third value; these are the ones that never will.
JUSTIFIED_BOOLEANS = {
    "spec.suspend": "as in CronJob and Job: users and tools know it",
    "status.variants[].kept": "a variant is in the artifact or it is not",
}


def _schema(kind: Kind) -> Schema:
    version = build_crd(kind)["spec"]["versions"][0]
    return dict(version["schema"]["openAPIV3Schema"])


def _walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(inner, f"{path}.{name}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _walk(schema[key], f"{path}[]")


# What a node of a structural schema may say.
KEYWORDS = {
    *("description", "type", "format", "enum", "default"),
    *("properties", "required", "items", "additionalProperties"),
    *("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"),
    *("maximum", "minimum"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    *("x-kubernetes-int-or-string", "x-kubernetes-validations"),
}


def _is_structural(path: str, node: Schema) -> bool:
    typed = ("type" in node) != ("x-kubernetes-int-or-string" in node)
    return set(node) <= KEYWORDS and typed and ("items" in node) == (node.get("type") == "array")


def _is_bounded(path: str, node: Schema) -> bool:
    match node.get("type"):
        case "string":
            return "maxLength" in node or "enum" in node
        case "array":
            return "maxItems" in node
        case "integer":
            limit = {"int32": 2**31, "int64": 2**63}[node["format"]]
            return bool(node["minimum"] <= node["maximum"] < limit)
        case "object":
            return "additionalProperties" not in node or "maxProperties" in node
        case "boolean":
            return path in JUSTIFIED_BOOLEANS
        case None:
            return bool(node["maxLength"] <= 20)
        case _:
            return False  # numbers are integers or decimal strings


def _says_how_it_merges(path: str, node: Schema) -> bool:
    match node.get("x-kubernetes-list-type"):
        case "map":
            return set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"])
        case "set":
            return bool(node["items"]["type"] == "string")
        case "atomic":
            return True
        case None:
            return node.get("type") != "array"
        case _:
            return False


def _has_no_default(path: str, node: Schema) -> bool:
    """In a spec a default would land in the user's object; only the status has one."""
    return node.get("default") == ({"observedGeneration": -1} if path == "status" else None)


def _is_described(path: str, node: Schema) -> bool:
    if path.endswith("[]"):
        return True
    words = node.get("description", "")
    return words.startswith(f"{path.rpartition('.')[2]} ") and words.endswith((".", '"'))


def _is_well_named(path: str, node: Schema) -> bool:
    if path.endswith("[]"):
        return True
    name = path.rpartition(".")[2]
    if node.get("format") == "date-time" and not name.endswith(("Time", "time")):
        return False
    if set(node.get("properties", {})) == {"name"} and not name.endswith("Ref"):
        return False
    plain = re.fullmatch(r"[a-z][a-zA-Z0-9]*", name) is not None
    return plain and name != "phase" and not name.endswith(("Timestamp", "Duration", "Timeout"))


def _has_worded_enumeration(path: str, node: Schema) -> bool:
    return all(
        re.fullmatch(r"[A-Z][A-Za-z0-9]*|amd64|arm64", word) for word in node.get("enum", ())
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "holds",
    [
        _is_structural,
        _is_bounded,
        _says_how_it_merges,
        _has_no_default,
        _is_described,
        _is_well_named,
        _has_worded_enumeration,
    ],
)
def test_every_field_keeps_the_conventions(
    kind: Kind, holds: Callable[[str, Schema], bool]
) -> None:
    nodes = [(p, n) for p, n in _walk(_schema(kind)) if p.startswith(("spec", "status"))]
    assert len(nodes) > 20
    assert [path for path, node in nodes if not holds(path, node)] == []


@pytest.mark.parametrize(
    ("holds", "path", "node"),
    [
        (_is_structural, "spec.a", {"anyOf": []}),
        (_is_structural, "spec.a", {"type": "array", "maxItems": 1}),
        (_is_bounded, "spec.a", {"type": "string"}),
        (_is_bounded, "spec.a", {"type": "number"}),
        (_is_bounded, "spec.a", {"type": "boolean"}),
        (_is_bounded, "spec.a", {"type": "object", "additionalProperties": {}}),
        (_says_how_it_merges, "spec.a", {"type": "array"}),
        (_has_no_default, "spec.a", {"default": 1}),
        (_is_described, "spec.aB", {"description": "what it is."}),
        (_is_well_named, "status.phase", {}),
        (_is_well_named, "status.startTimestamp", {}),
        (_has_worded_enumeration, "spec.a", {"enum": ["kebab-case"]}),
    ],
)
def test_the_conventions_catch_what_breaks_them(
    holds: Callable[[str, Schema], bool], path: str, node: Schema
) -> None:
    assert not holds(path, node)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_optional_fields_tell_their_default(kind: Kind) -> None:
    """A person must not have to guess what leaving a field out means."""
    silent = []
    for path, node in _walk(_schema(kind)):
        if not path.startswith("spec") or "properties" not in node:
            continue
        for name, inner in node["properties"].items():
            words = inner["description"]
            told = "Default:" in words or "required" in words or "only " in words
            if name not in node.get("required", ()) and not told and "properties" not in inner:
                silent.append(f"{path}.{name}")
    assert silent == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_status_asks_for_nothing(kind: Kind) -> None:
    schema = _schema(kind)
    assert schema["required"] == ["spec"]
    assert "required" not in schema["properties"]["status"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_columns_point_at_fields_there_are(kind: Kind) -> None:
    known = {path for path, _ in _walk(_schema(kind))}
    for column in kind.columns:
        if column.path.startswith(".metadata."):
            continue
        path = re.sub(r"\[\?\(@\.type==\"\w+\"\)\]", "[]", column.path).lstrip(".")
        assert path in known, column.name


def test_columns_of_models_are_the_ones_promised() -> None:
    model = KINDS[0]
    names = [column.name.upper() for column in model.columns if not column.wide]
    assert names == ["READY", "REASON", "VARIANT", "SPEEDUP", "DROP", "P99", "REPLICAS", "AGE"]


def test_short_names_are_our_own() -> None:
    assert [kind.short_name for kind in KINDS] == ["mwm", "mwb", "mwhp"]


@pytest.mark.parametrize(("name", "text"), render_crds().items())
def test_files_fit_into_an_annotation_and_say_where_they_come_from(name: str, text: str) -> None:
    assert len(text.encode()) < MAX_BYTES
    assert text.startswith(HEADER)
    assert "&id" not in text


def test_kustomize_reads_every_crd() -> None:
    files = render_crds()
    for name in files.keys() - {KUSTOMIZATION}:
        assert f"- {name}\n" in files[KUSTOMIZATION]
