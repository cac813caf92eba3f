from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelwright_artifact.digests import digest_file, sha256_file, verify_files
from modelwright_artifact.errors import ArtifactError, DigestMismatch
from tests.unit.artifact.builders import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_digest_comes_in_both_spellings(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256_file(tmp_path / "empty") == EMPTY
    assert digest_file(tmp_path / "empty") == f"sha256:{EMPTY}"


def test_a_whole_artifact_holds(tmp_path: Path) -> None:
    verify_files(tmp_path / "a", write_artifact(tmp_path / "a"))


def truncate(tree: Path) -> None:
    (tree / "int8.onnx").write_bytes(b"")


def flip(tree: Path) -> None:
    (tree / "int8.onnx").write_bytes(b"8tni")


def remove(tree: Path) -> None:
    (tree / "golden" / "int8.npz").unlink()


def add(tree: Path) -> None:
    (tree / "extra").touch()


def add_deep(tree: Path) -> None:
    (tree / "tensors" / "more").mkdir()
    (tree / "tensors" / "more" / "x.bin").touch()


def link(tree: Path) -> None:
    (tree / "int8.onnx").rename(tree.parent / "elsewhere")
    (tree / "int8.onnx").symlink_to(tree.parent / "elsewhere")


def link_folder(tree: Path) -> None:
    (tree / "more").symlink_to(tree.parent)


FAULTS = {
    "a truncated file": (truncate, DigestMismatch, "0 bytes long, not 4"),
    "other bytes": (flip, DigestMismatch, "does not have the digest"),
    "a missing file": (remove, ArtifactError, "lacks golden/int8.npz"),
    "a file too many": (add, ArtifactError, "holds extra"),
    "a file too many in a folder": (add_deep, ArtifactError, "holds tensors/more/x.bin"),
    "a link": (link, ArtifactError, "not a regular file"),
    "a linked folder": (link_folder, ArtifactError, "holds more"),
}


@pytest.mark.parametrize(("damage", "kind", "want"), FAULTS.values(), ids=FAULTS.keys())
def test_an_artifact_does_not_hold_with(
    damage: object, kind: type[Exception], want: str, tmp_path: Path
) -> None:
    manifest = write_artifact(tmp_path / "a")
    damage(tmp_path / "a")  # type: ignore[operator]
    with pytest.raises(kind, match=want):
        verify_files(tmp_path / "a", manifest)
