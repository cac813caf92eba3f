from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest
import yaml

from modelwright_operator.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
CONTENT = b"weights"
CONTENT_HEX = hashlib.sha256(CONTENT).hexdigest()


def _manifest(folder: Path, model: str, name: str = "model.yaml") -> Path:
    path = folder / name
    path.write_text(
        f"kind: InferenceModel # mine\nmetadata: {{name: m}}\nspec:\n  model: {model}\n",
        encoding="utf-8",
    )
    return path


def _copy(folder: Path) -> list[str]:
    (folder / "copy.onnx").write_bytes(CONTENT)
    return ["--file", f"claim/a.onnx={folder / 'copy.onnx'}"]


def test_a_claims_file_is_hashed_from_its_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, "{uri: pvc://claim/a.onnx}")
    path.chmod(0o640)
    assert main(["pin", str(path), *_copy(tmp_path)]) == 0
    assert capsys.readouterr().out == f"m: spec.model: {CONTENT_HEX}\n"
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["spec"]["model"]["sha256"] == CONTENT_HEX
    assert "# mine" in text
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.onnx", "model.yaml"]


def test_an_old_digest_is_renewed_and_both_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, f"{{uri: pvc://claim/a.onnx, sha256: {HEX}}}")
    assert main(["pin", str(path), *_copy(tmp_path)]) == 0
    assert capsys.readouterr().out == f"m: spec.model: {HEX} is now {CONTENT_HEX}\n"
    assert main(["pin", "--check", str(path), *_copy(tmp_path)]) == 0
    assert capsys.readouterr().out == f"m: spec.model: {CONTENT_HEX} is right\n"


def test_check_fails_and_changes_nothing(tmp_path: Path) -> None:
    path = _manifest(tmp_path, "{uri: pvc://claim/a.onnx}")
    before = path.read_bytes()
    assert main(["pin", "--check", str(path), *_copy(tmp_path)]) == 1
    assert path.read_bytes() == before


def test_standard_input_goes_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _manifest(tmp_path, "{uri: pvc://claim/a.onnx}").read_text(encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["pin", "-", *_copy(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["spec"]["model"]["sha256"] == CONTENT_HEX
    assert captured.err == f"m: spec.model: {CONTENT_HEX}\n"


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (f"{{uri: 'oci://r.example/a@sha256:{HEX}'}}", HEX),
        (f"{{uri: 'oci://r.example/a', sha256: {HEX}}}", HEX),
        (f"{{uri: 'pvc://claim/a.onnx', sha256: {HEX}}}", HEX),
    ],
    ids=["a digest in the uri", "a digest beside", "a claim without a copy"],
)
def test_what_is_pinned_stays(
    model: str, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, model)
    before = path.read_bytes()
    assert main(["pin", str(path)]) == 0
    assert capsys.readouterr().out == f"m: spec.model: {kept} is right\n"
    assert path.read_bytes() == before


def test_a_tag_beside_a_digest_is_taken_out(tmp_path: Path) -> None:
    path = _manifest(tmp_path, f"{{uri: 'oci://r.example/a:v1@sha256:{HEX}'}}")
    assert main(["pin", str(path)]) == 0
    uri = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["model"]["uri"]
    assert uri == f"oci://r.example/a@sha256:{HEX}"


@pytest.mark.parametrize(
    ("model", "want"),
    [
        ("{uri: 'pvc://claim/b.onnx'}", "--file claim/b.onnx=LOCAL"),
        ("{uri: 's3://bucket/a'}", "does not start with oci://"),
        (f"{{uri: 'oci://r/a@sha256:{HEX}', sha256: {OTHER}}}", "two digests"),
        ("{uri: 'https://me:secret@host/a'}", "the uri holds a password"),
        ("{uri: 'oci://r.example/UPPER:v1'}", "is no registry reference"),
    ],
)
def test_trouble_is_told_and_changes_nothing(
    model: str, want: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, model)
    before = path.read_bytes()
    assert main(["pin", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: m: spec.model: ")
    assert want in error
    assert error.endswith(f"error: {path} is unchanged\n")
    assert path.read_bytes() == before


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good = _manifest(tmp_path, "{uri: pvc://claim/a.onnx}", "good.yaml")
    bad = _manifest(tmp_path, "{uri: pvc://claim/b.onnx}", "bad.yaml")
    assert main(["pin", str(bad), str(good), *_copy(tmp_path)]) == 1
    assert CONTENT_HEX in good.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["missing.yaml"], "missing.yaml: [Errno 2] No such file"),
        (["empty.yaml"], "empty.yaml: there is no InferenceModel in it"),
        (["binary.yaml"], "binary.yaml: "),
        (["model.yaml", "--file", "claim=x"], "--file claim=x must read CLAIM/PATH=LOCAL"),
    ],
)
def test_a_wrong_call_is_told(
    arguments: list[str],
    want: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _manifest(tmp_path, "{uri: pvc://claim/a.onnx}")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["pin", *arguments]) == 2
    assert want in capsys.readouterr().err


def test_a_missing_copy_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _manifest(tmp_path, "{uri: pvc://claim/a.onnx}")
    assert main(["pin", str(path), "--file", "pvc://claim/a.onnx=/nowhere/a"]) == 1
    assert "/nowhere/a: No such file or directory" in capsys.readouterr().err
