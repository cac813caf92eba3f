from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.layers import Layer, Limits, extract_tar, read_only_file

if TYPE_CHECKING:
    from pathlib import Path

segments = st.from_regex(r"[a-z0-9_][a-zA-Z0-9._ -]{0,20}", fullmatch=True)
names = st.lists(segments, min_size=1, max_size=3).map("/".join)


def has_folder_in_place_of_a_file(files: dict[str, bytes]) -> bool:
    return any(other.startswith(f"{name}/") for name in files for other in files)


trees = st.dictionaries(names, st.binary(max_size=2000), min_size=1, max_size=6).filter(
    lambda files: not has_folder_in_place_of_a_file(files)
)


def write(folder: Path, files: dict[str, bytes]) -> Layer:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return Layer("model", folder, tuple(files))


@given(files=trees)
def test_unpacking_gives_what_was_packed(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    packed = b"".join(write(source, files).stream())
    unpacked = extract_tar(io.BytesIO(packed), target, Limits(total_bytes=10**6))
    assert {name: (target / name).read_bytes() for name in unpacked} == files


def test_equal_files_give_equal_bytes_whenever_and_whoever_packs(tmp_path: Path) -> None:
    files = {"b/x": b"1" * 600, "a": b"2"}
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    first = write(tmp_path / "one", files)
    second = write(tmp_path / "two", dict(reversed(files.items())))
    (tmp_path / "two" / "a").chmod(0o600)
    assert first.measure() == second.measure()
    packed = b"".join(first.stream())
    digest, size = first.measure()
    assert (digest, size) == (f"sha256:{hashlib.sha256(packed).hexdigest()}", len(packed))


def test_members_are_readable_by_every_user_and_carry_no_time(tmp_path: Path) -> None:
    packed = b"".join(write(tmp_path, {"d/x": b"1"}).stream())
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {member.name: member for member in archive}
    assert {name: (m.mode, m.mtime, m.uid, m.gid) for name, m in members.items()} == {
        "d": (0o555, 0, 0, 0),
        "d/x": (0o444, 0, 0, 0),
    }


def a_tar(*members: tarfile.TarInfo) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    buffer.seek(0)
    return buffer


def a_member(name: str, size: int = 1, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
        info.linkname, info.size = "a", 0
    return info


BAD_TARS = {
    "a name above": (a_tar(a_member("../x")), "plain relative path"),
    "a name above inside": (a_tar(a_member("a/../../x")), "plain relative path"),
    "an absolute name": (a_tar(a_member("/x")), "plain relative path"),
    "a symbolic link": (a_tar(a_member("x", kind=tarfile.SYMTYPE)), "neither a regular file"),
    "a hard link": (
        a_tar(a_member("a"), a_member("x", kind=tarfile.LNKTYPE)),
        "neither a regular file",
    ),
    "a device": (a_tar(a_member("x", 0, tarfile.CHRTYPE)), "neither a regular file"),
    "a pipe": (a_tar(a_member("x", 0, tarfile.FIFOTYPE)), "neither a regular file"),
    "a name twice": (a_tar(a_member("x"), a_member("x")), "cannot be unpacked"),
    "more bytes than allowed": (a_tar(a_member("x", 600), a_member("y", 600)), "more than is"),
    "more files than allowed": (a_tar(*(a_member(str(i)) for i in range(5))), "more than is"),
    "bytes that are no tar": (io.BytesIO(b"\x01" * 2000), "cannot be unpacked"),
}


@pytest.mark.parametrize(("tar", "want"), BAD_TARS.values(), ids=BAD_TARS.keys())
def test_an_archive_is_refused_for(tar: io.BytesIO, want: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ArtifactError, match=want):
        extract_tar(tar, tmp_path / "in", Limits(total_bytes=1000, files=4))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_report_is_the_only_file_of_its_layer(tmp_path: Path) -> None:
    packed = b"".join(write(tmp_path, {"report.json": b"{}"}).stream())
    assert read_only_file(io.BytesIO(packed), "report.json", 100) == b"{}"
    with pytest.raises(ArtifactError, match="longer than 1 bytes"):
        read_only_file(io.BytesIO(packed), "report.json", 1)
    with pytest.raises(ArtifactError, match="and nothing else"):
        read_only_file(a_tar(a_member("report.json"), a_member("x")), "report.json", 100)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_only_file(io.BytesIO(b"no tar at all" * 100), "report.json", 100)
