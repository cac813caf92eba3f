"""The Dockerfile, for real: built without a registry of base images, pushed, started.

Needs root, buildah, skopeo, docker-registry and a Debian mirror. The first run makes base images
and downloads wheels (about a minute); later ones find them in the cache.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from e2e.cluster.images import ROOT, TARGETS, build_images, copy_context, image_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_SECONDS = 60


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty registry on a free port of the loopback."""
    assert os.geteuid() == 0, "building images needs root"
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\nlog: {{level: error}}\n"
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(settings)],
            stdout=log, stderr=log, env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )  # fmt: skip
        try:
            wait_for(address)
            yield address
        finally:
            server.terminate()
            server.wait()


def wait_for(address: str) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nothing listens on {address}"
        else:
            return


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What images are made of, out of reach of an editor."""
    folder = tmp_path_factory.mktemp("sources")
    copy_context(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def built(registry: str, sources: Path) -> dict[str, str]:
    return build_images(registry, TARGETS, smoke=True, root=sources)


def test_every_image_starts_as_its_user_and_holds_no_tools(built: dict[str, str]) -> None:
    assert set(built) == set(TARGETS)
    assert all("@sha256:" in reference for reference in built.values())


def test_a_second_run_builds_nothing(registry: str, sources: Path, built: dict[str, str]) -> None:
    said: list[str] = []

    assert build_images(registry, TARGETS, report=said.append, root=sources) == built
    assert all(line.endswith("unchanged") for line in said)
    assert len(said) == len(TARGETS)


def test_the_nodes_name_of_the_registry_is_in_the_reference(
    registry: str, sources: Path, built: dict[str, str]
) -> None:
    seen = build_images(registry, ["runtime"], registry_pull="10.77.0.1:5000", root=sources)

    assert seen["runtime"] == built["runtime"].replace(registry, "10.77.0.1:5000")


def test_two_builds_of_the_same_sources_have_the_same_digest(
    registry: str,
    sources: Path,
    built: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cache = image_cache()
    for kept in ("debs", "wheels"):
        shutil.copytree(cache / kept, tmp_path / "images" / kept)
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path))

    again = build_images(f"{registry}/again", ["runtime"], root=sources)

    assert again["runtime"].rsplit("@")[1] == built["runtime"].rsplit("@")[1]


def test_the_server_for_arm64_starts_under_emulation(registry: str) -> None:
    assert shutil.which("qemu-aarch64-static"), "apt-get install qemu-user-static"

    (reference,) = build_images(registry, ["runtime"], "arm64", smoke=True).values()

    assert "@sha256:" in reference
