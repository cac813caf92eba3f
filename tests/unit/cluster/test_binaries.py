from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.cluster import binaries
from e2e.cluster.binaries import BINARIES, WHOLE_CLUSTER, Binary, link_binaries, version_stamp

if TYPE_CHECKING:
    from pathlib import Path

GO = "1.26.8 linux/amd64"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go module with a program of its own."""
    monkeypatch.setattr(binaries, "GO_MODULES", tmp_path)
    folder = tmp_path / "tools"
    (folder / "cmd/own").mkdir(parents=True)
    (folder / "go.mod").write_text("module tools\n")
    (folder / "go.sum").write_text("")
    (folder / "cmd/own/main.go").write_text("package main\n")
    return folder


OWN = Binary("own", "tools", "./cmd/own")
FOREIGN = Binary("foreign", "tools", "example.org/foreign")


def test_key_is_stable(module: Path) -> None:
    assert OWN.key(GO) == OWN.key(GO)


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "cmd/own/main.go"])
def test_key_follows_every_source(module: Path, name: str) -> None:
    before = OWN.key(GO)

    (module / name).write_text("something else\n")

    assert OWN.key(GO) != before


def test_key_follows_toolchain_stamp_and_package(module: Path) -> None:
    stamped = Binary("own", "tools", "./cmd/own", stamped=True)

    keys = {OWN.key(GO), OWN.key("1.26.9 linux/amd64"), stamped.key(GO), FOREIGN.key(GO)}

    assert len(keys) == 4


def test_foreign_program_does_not_depend_on_our_sources(module: Path) -> None:
    before = FOREIGN.key(GO)

    (module / "cmd/own/main.go").write_text("something else\n")

    assert FOREIGN.key(GO) == before


def test_stamp_names_the_version_for_servers_and_clients() -> None:
    flags = version_stamp("v1.36.4").split(" -X ")

    assert "k8s.io/component-base/version.gitVersion=v1.36.4" in version_stamp("v1.36.4")
    assert "k8s.io/component-base/version.gitMinor=36" in flags
    assert "k8s.io/client-go/pkg/version.gitVersion=v1.36.4" in flags


def test_every_program_has_its_module_and_its_sources() -> None:
    assert set(WHOLE_CLUSTER) <= set(BINARIES)
    for binary in BINARIES.values():
        sources = binary.sources()
        assert all(path.is_file() for path in sources)
        assert (len(sources) > 2) == binary.package.startswith("./"), binary


def test_links_follow_a_new_build(tmp_path: Path) -> None:
    first, second = tmp_path / "1/kubectl", tmp_path / "2/kubectl"

    link_binaries({"kubectl": first}, tmp_path / "bin")
    link_binaries({"kubectl": second}, tmp_path / "bin")

    assert (tmp_path / "bin/kubectl").readlink() == second
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["kubectl"]
