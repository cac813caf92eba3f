from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.manifest import (
    DATATYPES,
    FileEntry,
    Golden,
    Manifest,
    TensorSpec,
    load_manifest,
    write_manifest,
)
from modelwright_artifact.measurements import (
    Accuracy,
    BatchPoint,
    Figures,
    Latency,
    Recipe,
    Speedup,
)
from tests.unit.artifact.builders import AVX2, DIGEST, KEY, a_variant, write_artifact

if TYPE_CHECKING:
    from pathlib import Path

numbers = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.integers(0, 2**40)
texts = st.text(min_size=1, max_size=20)
accuracies = st.builds(
    lambda **values: Accuracy(**values),
    metric=texts,
    value=numbers,
    rows=sizes,
    unit=texts,
    reference=st.none() | numbers,
    drop=st.none() | numbers,
    drop_low=st.none() | numbers,
    drop_high=st.none() | numbers,
    value_low=st.none() | numbers,
    value_high=st.none() | numbers,
)
figures = st.builds(
    lambda **values: Figures(**values),
    accuracy=st.none() | accuracies,
    latency=st.none()
    | st.builds(
        lambda **values: Latency(**values),
        p50_micros=numbers,
        p99_micros=numbers,
        mean_micros=numbers,
        rounds=sizes,
    ),
    speedup=st.none()
    | st.builds(lambda **values: Speedup(**values), value=numbers, low=numbers, high=numbers),
    batch_curve=st.lists(
        st.builds(lambda **values: BatchPoint(**values), rows=sizes, micros=numbers), max_size=3
    ).map(tuple),
    size_bytes=st.none() | sizes,
    peak_memory_bytes=st.none() | sizes,
)
passes = st.lists(
    st.dictionaries(texts, st.booleans() | texts | sizes, max_size=3).map(
        lambda parameters: {**parameters, "name": "a-pass"}
    ),
    max_size=3,
).map(tuple)
tensors = st.builds(
    lambda **values: TensorSpec(**values),
    name=texts,
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.integers(-1, 1000), max_size=4).map(tuple),
)


def build_manifest(variants: dict[str, tuple[Figures, tuple[dict[str, Any], ...]]]) -> Manifest:
    made = [
        a_variant(name, figures=measured, recipe=Recipe(name=name, passes=steps))
        for name, (measured, steps) in variants.items()
    ]
    paths = {path for v in made for path in (v.file, v.golden.inputs, v.golden.outputs)}
    return Manifest(
        request_key=KEY,
        model_digest=DIGEST,
        inputs=(),
        outputs=(),
        profile=AVX2,
        tools={"modelwright": "1"},
        threads=1,
        chosen=made[-1].name,
        variants=tuple(made),
        files={path: FileEntry(sha256="d" * 64, bytes=1) for path in paths},
    )


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{1,20}", fullmatch=True).filter(lambda name: name != "fp32"),
        st.tuples(figures, passes),
        max_size=3,
    ),
    st.tuples(figures, passes),
)
def test_parsing_what_was_written_gives_the_same_manifest(
    others: dict[str, Any], reference: Any
) -> None:
    manifest = build_manifest({"fp32": reference, **others})
    assert Manifest.from_json(json.dumps(manifest.to_json())) == manifest


@given(tensors)
def test_a_tensor_is_read_as_it_was_written(tensor: TensorSpec) -> None:
    document = {**build_manifest({"fp32": (Figures(), ())}).to_json(), "inputs": [tensor.to_json()]}
    assert Manifest.from_json(document).inputs == (tensor,)


def test_a_manifest_is_written_and_loaded(tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path / "a")
    assert load_manifest(tmp_path / "a") == manifest
    first = (tmp_path / "a" / "manifest.json").read_bytes()
    write_manifest(tmp_path / "a", manifest)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == first


def test_fields_of_a_later_version_are_ignored() -> None:
    document = build_manifest({"fp32": (Figures(), ())}).to_json()
    assert Manifest.from_json({**document, "later": {"a": 1}}) == Manifest.from_json(document)


def test_an_unknown_variant_is_named_with_those_there_are() -> None:
    manifest = build_manifest({"fp32": (Figures(), ()), "int8": (Figures(), ())})
    assert manifest.variant("int8").name == "int8"
    with pytest.raises(ArtifactError, match="it holds fp32, int8"):
        manifest.variant("int4")


def edit(path: str, value: object) -> Any:
    def apply(document: dict[str, Any]) -> dict[str, Any]:
        target: Any = document
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in parents:
            target = target[key]
        target[last] = value
        return document

    return apply


def rename_file(document: dict[str, Any]) -> dict[str, Any]:
    document["files"]["../fp32.onnx"] = document["files"]["fp32.onnx"]
    return document


BAD = {
    "another schema": (edit("schemaVersion", 2), "schemaVersion is 2.*matching versions"),
    "no schema": (edit("schemaVersion", None), "lacks the field 'schemaVersion'"),
    "a key that is none": (edit("requestKey", "abc"), "64 hex digits"),
    "a chosen variant that is not kept": (edit("chosen", "int4"), "lacks 'int4'"),
    "no fp32": (edit("variants/0/name", "fp16"), "lacks 'fp32'"),
    "a variant twice": (edit("variants/1/name", "fp32"), "names a variant twice"),
    "a file that is not listed": (edit("variants/0/file", "x.onnx"), "is not in files"),
    "a name outside": (rename_file, "plain relative path"),
    "an absolute name": (edit("variants/0/file", "/etc/passwd"), "plain relative path"),
    "a precision nobody knows": (edit("variants/0/precision", "int7"), "must be one of fp32"),
    "a datatype nobody knows": (
        edit("inputs", [{"name": "x", "datatype": "FP31", "shape": []}]),
        "must be one of BOOL",
    ),
    "a shape below any": (
        edit("inputs", [{"name": "x", "datatype": "FP32", "shape": [-2]}]),
        "below -1",
    ),
    "no threads": (edit("threads", 0), "at least 1"),
    "a number that is a string": (edit("threads", "1"), r"manifest\.threads must be an integer"),
    "a tolerance below zero": (edit("variants/0/golden/atol", -1), "must not be negative"),
    "a tolerance that is NaN": (edit("variants/0/golden/atol", float("nan")), "a finite number"),
    "a pass without name": (edit("variants/0/recipe/passes", [{}]), "lacks the field 'name'"),
    "a listed manifest": (
        edit("files/manifest.json", {"sha256": "d" * 64, "bytes": 1}),
        "must not list manifest.json",
    ),
}


@pytest.mark.parametrize(("change", "want"), BAD.values(), ids=BAD.keys())
def test_a_manifest_is_refused_with(change: Any, want: str) -> None:
    good = build_manifest({"fp32": (Figures(), ({"name": "a"},)), "int8": (Figures(), ())})
    with pytest.raises(ArtifactError, match=want):
        Manifest.from_json(change(copy.deepcopy(good.to_json())))


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="There is no artifact"):
        load_manifest(tmp_path)


def test_a_manifest_too_long_to_be_one_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(ArtifactError, match="more than 1048576"):
        load_manifest(tmp_path)


def test_golden_files_have_plain_names() -> None:
    with pytest.raises(ArtifactError, match=r"golden\.outputs"):
        Golden(inputs="golden/inputs.npz", outputs="golden/../x", atol=0, rtol=0)
