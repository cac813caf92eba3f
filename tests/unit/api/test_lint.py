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
    from collections.abc import Iterator

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


NODES = [
    pytest.param(path, node, id=f"{kind.name}.{path}")
    for kind in KINDS
    for path, node in _walk(_schema(kind))
    if path.startswith(("spec", "status"))
]
FIELDS = [param for param in NODES if not str(param.values[0]).endswith("[]")]


@pytest.mark.parametrize(("path", "node"), NODES)
def test_every_node_is_structural(path: str, node: Schema) -> None:
    allowed = {
        "description",
        "type",
        "format",
        "enum",
        "default",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "maxLength",
        "minLength",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "maximum",
        "minimum",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    }
    assert set(node) <= allowed
    assert ("type" in node) != ("x-kubernetes-int-or-string" in node)
    assert ("items" in node) == (node.get("type") == "array")


@pytest.mark.parametrize(("path", "node"), NODES)
def test_everything_has_a_bound(path: str, node: Schema) -> None:
    match node.get("type"):
        case "string":
            assert "maxLength" in node or "enum" in node
        case "array":
            assert "maxItems" in node
        case "integer":
            assert node["format"] in {"int32", "int64"}
            assert node["minimum"] <= node["maximum"] < 2**63
            assert node["format"] == "int64" or node["maximum"] < 2**31
        case "object":
            assert "additionalProperties" not in node or "maxProperties" in node
        case None:
            assert node["maxLength"] <= 20
        case "boolean":
            assert path in JUSTIFIED_BOOLEANS
        case other:
            pytest.fail(f"no {other} in the API: numbers are integers or decimal strings")


@pytest.mark.parametrize(("path", "node"), NODES)
def test_lists_say_how_they_merge(path: str, node: Schema) -> None:
    if node.get("type") != "array":
        assert "x-kubernetes-list-type" not in node
        return
    kind = node["x-kubernetes-list-type"]
    assert kind in {"map", "set", "atomic"}
    if kind == "map":
        keys = node["x-kubernetes-list-map-keys"]
        assert set(keys) <= set(node["items"]["required"])
    if kind == "set":
        assert node["items"]["type"] == "string"


@pytest.mark.parametrize(("path", "node"), NODES)
def test_nothing_has_a_default_but_the_status(path: str, node: Schema) -> None:
    if path == "status":
        assert node["default"] == {"observedGeneration": -1}
    else:
        assert "default" not in node


@pytest.mark.parametrize(("path", "node"), FIELDS)
def test_descriptions_start_with_the_wire_name(path: str, node: Schema) -> None:
    name = re.split(r"[.\]]+", path)[-1]
    assert re.match(rf"{name}\b", node["description"])
    assert node["description"].endswith((".", '"'))


@pytest.mark.parametrize(("path", "node"), FIELDS)
def test_names_follow_the_conventions(path: str, node: Schema) -> None:
    name = path.rpartition(".")[2]
    assert re.fullmatch(r"[a-z][a-zA-Z0-9]*", name)
    assert name != "phase"
    assert not name.endswith(("Timestamp", "Duration", "Timeout"))
    if node.get("format") == "date-time":
        assert name.endswith(("Time", "time"))
    if node.get("type") == "object" and set(node.get("properties", {})) == {"name"}:
        assert name.endswith("Ref")


@pytest.mark.parametrize(("path", "node"), NODES)
def test_enumerations_are_words(path: str, node: Schema) -> None:
    for word in node.get("enum", ()):
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]*|amd64|arm64", word)


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
