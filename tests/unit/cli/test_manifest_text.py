from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright_operator.cli.manifest_text import (
    ManifestError,
    apply_edits,
    find_sources,
    plan_edits,
)

HEX = "0123456789abcdef" * 4
ONLY_DIGITS = "1234567890" * 6 + "1234"

MANIFEST = """\
# A model, and something else.
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data: {uri: "oci://not/mine"}
---
apiVersion: modelwright.dev/v1alpha1
kind: InferenceModel
metadata:
    name: digits
spec:
    model:   # where it lies
        uri: oci://r.example/digits:v1    # a tag
    evaluation: {uri: "https://host/eval.npz", metric: Accuracy} # short
    calibration:
        sha256: "old"
        uri:
            'pvc://claim/x.npz'
"""


def _pin(text: str, pins: dict[str, tuple[str, str | None]]) -> str:
    edits = [
        edit
        for source in find_sources(text)
        if source.name in pins
        for edit in plan_edits(text, source, *pins[source.name])
    ]
    return apply_edits(text, edits)


def test_sources_are_found_where_they_stand() -> None:
    sources = find_sources(MANIFEST)
    assert [(s.model, s.name, s.uri.text) for s in sources] == [
        ("digits", "model", "oci://r.example/digits:v1"),
        ("digits", "evaluation", "https://host/eval.npz"),
        ("digits", "calibration", "pvc://claim/x.npz"),
    ]
    assert [s.sha256.text if s.sha256 else None for s in sources] == [None, None, "old"]


def test_only_the_digests_change() -> None:
    pinned = _pin(
        MANIFEST,
        {
            "model": (f"oci://r.example/digits@sha256:{HEX}", None),
            "evaluation": ("https://host/eval.npz", HEX),
            "calibration": ("pvc://claim/x.npz", HEX),
        },
    )
    want = (
        MANIFEST.replace("digits:v1    # a tag", f"digits@sha256:{HEX}    # a tag")
        .replace('eval.npz", metric', f'eval.npz", sha256: {HEX}, metric')
        .replace('"old"', f'"{HEX}"')
    )
    assert pinned == want


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("last", ["", "\n"], ids=["no line end at the end", "with one"])
def test_a_new_line_looks_like_its_neighbours(newline: str, last: str) -> None:
    lines = ["kind: InferenceModel", "spec:", "  model:", "     uri: https://host/a # here"]
    text = newline.join(lines) + last.replace("\n", newline)
    pinned = _pin(text, {"model": ("https://host/a", HEX)})
    assert pinned.startswith(text.rstrip("\r\n"))
    assert pinned.replace("\r\n", "\n").rstrip("\n").split("\n")[-1] == f"     sha256: {HEX}"
    assert ("\r\n" in pinned) == (newline == "\r\n") or not last


def test_a_digest_that_looks_like_a_number_is_quoted() -> None:
    text = "kind: InferenceModel\nspec:\n  model:\n    uri: https://host/a\n"
    pinned = _pin(text, {"model": ("https://host/a", ONLY_DIGITS)})
    assert yaml.safe_load(pinned)["spec"]["model"]["sha256"] == ONLY_DIGITS


def test_a_source_named_twice_is_written_once() -> None:
    text = (
        "kind: InferenceModel\nspec:\n  model: {uri: x}\n  evaluation: &data\n"
        "    uri: https://host/a\n  calibration: *data\n"
    )
    pins = dict.fromkeys(("evaluation", "calibration"), ("https://host/a", HEX))
    assert _pin(text, pins).count(HEX) == 1


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a: [", "no YAML"),
        ("", "no InferenceModel"),
        ("kind: ConfigMap", "no InferenceModel"),
        ("kind: InferenceModel\nspec:\n  model: {url: x}\n", "digits: spec.model has no uri"),
        ("kind: InferenceModel\nspec:\n  model: oci://x\n", "spec.model has no uri (line 5)"),
        ("kind: InferenceModel\nspec:\n  model:\n    uri: [x]\n", "uri must be text"),
        ("kind: InferenceModel\nspec:\n  model:\n    uri: >\n      x\n", "on one line"),
        ("kind: InferenceModel\nspec:\n  model:\n    uri: 'a\n      b'\n", "on one line"),
        ('kind: InferenceModel\nspec:\n  model:\n    uri: "a\\x41"\n', "without escapes"),
    ],
)
def test_what_cannot_be_pinned_is_told(text: str, want: str) -> None:
    head = "metadata:\n  name: digits\n" if "InferenceModel" in text else ""
    with pytest.raises(ManifestError) as caught:
        find_sources(head + text)
    assert want in str(caught.value)


_names = st.sampled_from(["https://host/a", "oci://r.example/m:v1", "pvc://claim/a/b.npz"])
_hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
_comments = st.sampled_from(["", " # why", "   #"])
_quotes = st.sampled_from(["", "'", '"'])


@st.composite
def _manifests(draw: st.DrawFn) -> str:
    lines = ["# top", "kind: InferenceModel", "metadata: {name: m}", "spec:"]
    step = " " * draw(st.integers(1, 5))
    for part in draw(st.permutations(["model", "evaluation", "calibration"])):
        uri, quote, comment = draw(_names), draw(_quotes), draw(_comments)
        fields = [f"uri: {quote}{uri}{quote}", "metric: Accuracy"]
        if draw(st.booleans()):
            fields.insert(draw(st.integers(0, 2)), f"sha256: {quote}old{quote}")
        if draw(st.booleans()):
            lines.append(f"{step}{part}: {{{', '.join(fields)}}}{comment}")
        else:
            lines.append(f"{step}{part}:{comment}")
            lines += [f"{step * 2}{field}{comment}" for field in fields]
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n---\n"]))


@settings(deadline=None)
@given(
    text=_manifests(),
    uris=st.lists(_names, min_size=3, max_size=3),
    hexes=st.lists(_hexes, min_size=3, max_size=3),
)
def test_property_pinning_changes_the_digests_and_nothing_else(
    text: str, uris: list[str], hexes: list[str]
) -> None:
    parts = ("model", "evaluation", "calibration")
    pins: dict[str, tuple[str, str | None]] = dict(
        zip(parts, zip(uris, hexes, strict=True), strict=True)
    )
    pinned = _pin(text, pins)
    want: dict[str, Any] = next(yaml.safe_load_all(text))
    for part, (uri, sha256) in pins.items():
        want["spec"][part].update(uri=uri, sha256=sha256)
    assert next(yaml.safe_load_all(pinned)) == want
    assert [line.partition("#")[1:] for line in pinned.splitlines() if "#" in line] == [
        line.partition("#")[1:] for line in text.splitlines() if "#" in line
    ]
    assert _pin(pinned, pins) == pinned
