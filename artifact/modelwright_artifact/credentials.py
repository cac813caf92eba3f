"""Credentials, and to whom they may be shown.

Two shapes are read: a docker `config.json` (also under its Secret's key `.dockerconfigjson`),
and a folder with `host` and either `token` or `username` and `password`. A credential is sent
to its own host only.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modelwright_artifact.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DOCKER_FILES: Final = ("config.json", ".dockerconfigjson")
_DOCKER_HUB: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A user with a password, or a bearer token; never printed."""

    username: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "Credential(…)"

    def basic(self) -> str:
        """The value of a Basic authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def load_credential(folder: Path | None, host: str) -> Credential | None:
    """The credential that `folder` holds for `host` (`name` or `name:port`), if any."""
    if folder is None or not folder.is_dir():
        return None
    for name in DOCKER_FILES:
        if (folder / name).is_file():
            return _find_docker_credential(folder / name, host)
    if (folder / "host").is_file():
        return _read_host_credential(folder, host)
    return None


def _find_docker_credential(path: Path, host: str) -> Credential | None:
    try:
        document = json.loads(path.read_bytes())
        entries: Mapping[str, Mapping[str, str]] = document.get("auths", {})
        names = (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/")
        is_hub = host == "docker.io" or host.endswith(".docker.io")
        wanted = names + _DOCKER_HUB if is_hub else names
        for name in wanted:
            if name in entries:
                return _read_docker_entry(entries[name])
    except (ValueError, AttributeError, binascii.Error) as error:
        raise ArtifactError(
            "The registry credentials are not a docker config.json: check the Secret."
        ) from error
    return None


def _read_docker_entry(entry: Mapping[str, str]) -> Credential | None:
    if entry.get("registrytoken"):
        return Credential(token=entry["registrytoken"])
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return Credential(username=username, password=password.rstrip("\0"))
    if entry.get("username"):
        return Credential(username=entry["username"], password=entry.get("password", ""))
    return None


def _read_host_credential(folder: Path, host: str) -> Credential | None:
    def read(name: str) -> str:
        path = folder / name
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    if read("host") not in {host, host.partition(":")[0]}:
        return None
    return Credential(username=read("username"), password=read("password"), token=read("token"))
