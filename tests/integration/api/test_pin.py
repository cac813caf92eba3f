"""`modelwright pin` against a real registry and a real file server."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from modelwright_artifact.registry import MANIFEST_MEDIA_TYPE
from modelwright_operator.cli.main import main
from tests.integration.optimizer.conftest import RegistryServer, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

TOKEN = "let-me-in"
CONTENT = b"rows and labels"
CONTENT_HEX = hashlib.sha256(CONTENT).hexdigest()


class _Files(http.server.BaseHTTPRequestHandler):
    """Serves one file; `/private` wants a token, `/moved` points to the file."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/open/data.npz")
            self.end_headers()
            return
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        status = {"/open/data.npz": 200, "/private/data.npz": 200 if allowed else 401}
        code = status.get(self.path, 404)
        self.send_response(code)
        self.end_headers()
        if code == 200:
            self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def file_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with running(RegistryServer(tmp_path_factory.mktemp("registry"), free_port())) as server:
        yield server


def _push(host: str, tag: str) -> str:
    """Put the smallest artifact into the registry, with nothing of ours; its digest."""
    with httpx.Client(base_url=f"http://{host}/v2/models/digits") as client:
        empty = b"{}"
        digest = f"sha256:{hashlib.sha256(empty).hexdigest()}"
        place = httpx.URL(client.post("/blobs/uploads/").headers["location"])
        client.put(place.copy_add_param("digest", digest), content=empty).raise_for_status()
        blob = {"mediaType": "application/json", "digest": digest, "size": len(empty)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": blob,
            "layers": [blob],
            "annotations": {"tag": tag},
        }
        answer = client.put(
            f"/manifests/{tag}", json=manifest, headers={"Content-Type": MANIFEST_MEDIA_TYPE}
        )
        answer.raise_for_status()
        return answer.headers["docker-content-digest"]


def _manifest(folder: Path, uri: str) -> Path:
    path = folder / "model.yaml"
    path.write_text(
        "kind: InferenceModel\nmetadata: {name: m}\nspec:\n"
        f"  model: # the one in production\n    uri: {uri}\n",
        encoding="utf-8",
    )
    return path


def _model(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    assert "# the one in production\n" in text
    result: dict[str, str] = yaml.safe_load(text)["spec"]["model"]
    return result


def test_a_tag_becomes_the_digest_it_points_to(registry: RegistryServer, tmp_path: Path) -> None:
    digest = _push(registry.host, "v1")
    path = _manifest(tmp_path, f"oci://{registry.host}/models/digits:v1")
    assert main(["pin", str(path), "--insecure-registry", registry.host]) == 0
    assert _model(path) == {"uri": f"oci://{registry.host}/models/digits@{digest}"}


def test_a_tag_that_is_not_there_is_told(
    registry: RegistryServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, f"oci://{registry.host}/models/digits:gone")
    assert main(["pin", str(path), "--insecure-registry", registry.host]) == 1
    assert "gone" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["open/data.npz", "moved"])
def test_a_file_is_downloaded_and_hashed(place: str, file_server: str, tmp_path: Path) -> None:
    path = _manifest(tmp_path, f"http://{file_server}/{place}")
    assert main(["pin", str(path)]) == 0
    assert _model(path) == {"uri": f"http://{file_server}/{place}", "sha256": CONTENT_HEX}


def test_a_private_file_is_asked_for_with_its_credentials(
    file_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, f"http://{file_server}/private/data.npz")
    assert main(["pin", str(path)]) == 1
    assert "127.0.0.1 refuses access (HTTP 401); use --credentials" in capsys.readouterr().err
    login = tmp_path / "login"
    login.mkdir()
    (login / "host").write_text(file_server, encoding="utf-8")
    (login / "token").write_text(TOKEN, encoding="utf-8")
    assert main(["pin", str(path), "--credentials", str(login)]) == 0
    assert _model(path)["sha256"] == CONTENT_HEX


def test_a_file_that_is_not_there_is_told(
    file_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, f"http://{file_server}/gone.npz")
    assert main(["pin", str(path)]) == 1
    assert "127.0.0.1 answers HTTP 404; correct the uri" in capsys.readouterr().err


def test_a_file_server_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _manifest(tmp_path, f"http://127.0.0.1:{free_port()}/data.npz")
    assert main(["pin", str(path)]) == 1
    assert "127.0.0.1 does not answer: " in capsys.readouterr().err
