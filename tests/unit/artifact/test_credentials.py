from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from modelwright_artifact.credentials import Credential, load_credential
from modelwright_artifact.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path


def docker(folder: Path, auths: dict[str, object], name: str = "config.json") -> Path:
    (folder / name).write_text(json.dumps({"auths": auths}))
    return folder


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


ENTRIES = {
    "an encoded pair": (
        {"auth": encoded("ann:s:ecret")},
        Credential(username="ann", password="s:ecret"),
    ),
    "a plain pair": (
        {"username": "ann", "password": "x"},
        Credential(username="ann", password="x"),
    ),
    "a token": ({"registrytoken": "t"}, Credential(token="t")),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("entry", "want"), ENTRIES.values(), ids=ENTRIES.keys())
def test_a_docker_entry_holds(
    entry: dict[str, str], want: Credential | None, tmp_path: Path
) -> None:
    folder = docker(tmp_path, {"registry.example:5000": entry})
    assert load_credential(folder, "registry.example:5000") == want


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("registry.example", True),
        ("registry.example:5000", False),
        ("other.example", False),
        ("registry.example.evil", False),
    ],
)
def test_a_credential_is_shown_to_its_own_host_only(host: str, found: bool, tmp_path: Path) -> None:
    folder = docker(tmp_path, {"https://registry.example": {"auth": encoded("a:b")}})
    assert (load_credential(folder, host) is not None) is found


def test_a_secret_of_kind_dockerconfigjson_is_read(tmp_path: Path) -> None:
    folder = docker(tmp_path, {"r.example": {"auth": encoded("a:b")}}, ".dockerconfigjson")
    assert load_credential(folder, "r.example") == Credential(username="a", password="b")


def test_a_secret_with_a_host_is_sent_there_only(tmp_path: Path) -> None:
    for name, value in {"host": "data.example\n", "token": "t\n"}.items():
        (tmp_path / name).write_text(value)
    assert load_credential(tmp_path, "data.example:8443") == Credential(token="t")
    assert load_credential(tmp_path, "other.example") is None


def test_no_folder_is_no_credential(tmp_path: Path) -> None:
    assert load_credential(None, "x") is None
    assert load_credential(tmp_path / "none", "x") is None
    assert load_credential(tmp_path, "x") is None


def test_a_broken_config_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"x": {"auth": "s3cret-but-no-base64"}}}')
    with pytest.raises(ArtifactError, match="check the Secret") as caught:
        load_credential(tmp_path, "x")
    assert "s3cret" not in str(caught.value)


def test_a_credential_does_not_print_itself() -> None:
    assert "secret" not in repr(Credential(username="a", password="secret", token="secret"))


@pytest.mark.parametrize(
    ("host", "is_hub"),
    [("docker.io", True), ("registry-1.docker.io", True), ("evildocker.io", False)],
)
def test_docker_hubs_credential_goes_to_docker_hub_only(
    tmp_path: Path, host: str, is_hub: bool
) -> None:
    folder = docker(tmp_path, {"https://index.docker.io/v1/": {"auth": encoded("ann:x")}})
    assert (load_credential(folder, host) is not None) is is_hub
