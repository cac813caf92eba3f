"""Artifacts and sources through a real registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelwright_artifact.errors import (
    ArtifactError,
    DigestMismatch,
    NotFoundInRegistry,
    RegistryDenied,
    RegistryUnreachable,
    SourceDenied,
    SourceInvalid,
    SourceNotFound,
    SourceUnreachable,
)
from modelwright_artifact.manifest import load_manifest
from modelwright_artifact.oci import (
    SourceOptions,
    build_tag,
    fetch_report,
    fetch_source,
    inspect_artifact,
    pull_artifact,
    push_artifact,
    resolve,
)
from modelwright_artifact.registry import MANIFEST_MEDIA_TYPE, Reference, Registry
from modelwright_artifact.request import SourceRef
from tests.integration.optimizer.conftest import RegistryServer, free_port, running
from tests.unit.artifact.builders import KEY, write_artifact

if TYPE_CHECKING:
    from pathlib import Path

TAG = build_tag(KEY)
BCRYPT_OF_SECRET = "$2b$04$yuJbN/R3vFmNKfYUGg0IruxsB/2yxvu6JtJdLcU8Pc2i7sYmmGD7i"


def push_layers(
    server: RegistryServer,
    repository: str,
    layers: list[tuple[str, bytes, dict[str, str]]],
    tag: str = "v1",
) -> str:
    """Push an artifact of any shape, as other tools do, and return its digest."""
    with Registry(Reference.parse(f"{server.host}/{repository}"), server.options) as client:
        blobs = [("application/vnd.oci.empty.v1+json", b"{}", {}), *layers]
        descriptors = []
        for media_type, body, annotations in blobs:
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            client.put_blob(digest, len(body), lambda body=body: (body,))
            descriptors.append(
                {
                    "mediaType": media_type,
                    "digest": digest,
                    "size": len(body),
                    "annotations": annotations,
                }
            )
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": descriptors[0],
            "layers": descriptors[1:],
        }
        return client.put_manifest(tag, json.dumps(manifest).encode(), MANIFEST_MEDIA_TYPE)


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def oci_source(server: RegistryServer, repository: str, digest: str) -> SourceRef:
    return SourceRef(uri=f"oci://{server.host}/{repository}@{digest}", digest=digest)


def source_options(server: RegistryServer) -> SourceOptions:
    return SourceOptions(registry=server.options)


def test_an_artifact_comes_back_as_it_was_pushed(registry: RegistryServer, tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path / "built", weights=3_000_000)
    repository = f"{registry.host}/modelwright/vision/digits"
    digest = push_artifact(tmp_path / "built", repository, TAG, registry.options)
    assert resolve(f"{repository}:{TAG}", registry.options) == digest
    assert (
        pull_artifact(f"{repository}@{digest}", tmp_path / "pulled", registry.options) == manifest
    )
    assert load_manifest(tmp_path / "pulled") == manifest
    built = {p.relative_to(tmp_path / "built"): p.read_bytes() for p in files(tmp_path / "built")}
    pulled = {
        p.relative_to(tmp_path / "pulled"): p.read_bytes() for p in files(tmp_path / "pulled")
    }
    assert pulled == built
    assert push_artifact(tmp_path / "built", repository, TAG, registry.options) == digest


def test_the_pushed_shape_is_an_image_a_kubelet_can_mount(
    registry: RegistryServer, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "built")
    repository = f"{registry.host}/digits"
    digest = push_artifact(tmp_path / "built", repository, TAG, registry.options)
    info = inspect_artifact(f"{repository}@{digest}", registry.options)
    assert info.request_key == KEY
    assert info.architecture == "amd64"
    assert [layer.content for layer in info.layers] == ["tensors", "model", "report"]
    assert {layer.media_type for layer in info.layers} == {"application/vnd.oci.image.layer.v1.tar"}


def test_the_report_is_fetched_alone_and_capped(registry: RegistryServer, tmp_path: Path) -> None:
    write_artifact(tmp_path / "built")
    repository = f"{registry.host}/digits"
    digest = push_artifact(tmp_path / "built", repository, TAG, registry.options)
    report = fetch_report(repository, digest, 4096, registry.options)
    assert report == {"schemaVersion": 1, "requestKey": KEY}
    with pytest.raises(ArtifactError, match="longer than 10 bytes"):
        fetch_report(repository, digest, 10, registry.options)


def test_a_tampered_tree_is_not_pushed(registry: RegistryServer, tmp_path: Path) -> None:
    write_artifact(tmp_path / "built")
    (tmp_path / "built" / "fp32.onnx").write_bytes(b"FP32")
    with pytest.raises(DigestMismatch, match=r"fp32\.onnx"):
        push_artifact(tmp_path / "built", f"{registry.host}/digits", TAG, registry.options)
    with pytest.raises(NotFoundInRegistry):
        resolve(f"{registry.host}/digits:{TAG}", registry.options)


def test_bytes_changed_inside_the_registry_are_noticed(
    registry: RegistryServer, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "built", weights=3_000_000)
    repository = f"{registry.host}/digits"
    digest = push_artifact(tmp_path / "built", repository, TAG, registry.options)
    tensors = inspect_artifact(f"{repository}@{digest}", registry.options).layer("tensors").digest
    blob = next((registry.folder / "storage").rglob(f"{tensors.removeprefix('sha256:')}/data"))
    body = bytearray(blob.read_bytes())
    body[2_000_000] ^= 1
    blob.write_bytes(bytes(body))
    with pytest.raises(DigestMismatch, match="other bytes"):
        pull_artifact(f"{repository}@{digest}", tmp_path / "pulled", registry.options)
    assert not (tmp_path / "pulled").exists()


def test_a_lost_layer_makes_the_artifact_unusable(registry: RegistryServer, tmp_path: Path) -> None:
    write_artifact(tmp_path / "built")
    repository = f"{registry.host}/digits"
    digest = push_artifact(tmp_path / "built", repository, TAG, registry.options)
    tensors = inspect_artifact(f"{repository}@{digest}", registry.options).layer("tensors").digest
    name = tensors.removeprefix("sha256:")
    next((registry.folder / "storage").rglob(f"_layers/sha256/{name}/link")).unlink()
    next((registry.folder / "storage").rglob(f"blobs/sha256/*/{name}/data")).unlink()
    registry.stop()
    registry.start()
    with pytest.raises(ArtifactError, match="lost a layer"):
        inspect_artifact(f"{repository}@{digest}", registry.options)


def test_a_foreign_image_is_no_artifact(registry: RegistryServer) -> None:
    digest = push_layers(registry, "other", [("application/x", b"abc", {})])
    with pytest.raises(ArtifactError, match="no Modelwright artifact"):
        inspect_artifact(f"{registry.host}/other@{digest}", registry.options)


def test_a_registry_that_is_down_is_unreachable(registry: RegistryServer, tmp_path: Path) -> None:
    write_artifact(tmp_path / "built")
    registry.stop()
    with pytest.raises(RegistryUnreachable, match="cannot be reached"):
        push_artifact(tmp_path / "built", f"{registry.host}/digits", TAG, registry.options)


SOURCE_SHAPES = {
    "a raw layer named by its title, as ORAS pushes files": [
        (
            "application/vnd.oci.image.layer.v1.tar",
            b"onnx",
            {"org.opencontainers.image.title": "m.onnx"},
        ),
        ("application/octet-stream", b"data", {"org.opencontainers.image.title": "m.onnx.data"}),
    ],
    "a tar layer": [
        (
            "application/vnd.oci.image.layer.v1.tar",
            tar_of({"m.onnx": b"onnx", "m.onnx.data": b"data"}),
            {},
        ),
    ],
    "a gzipped tar layer, as ORAS pushes folders": [
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            gzip.compress(tar_of({"./m.onnx": b"onnx", "./m.onnx.data": b"data"})),
            {"org.opencontainers.image.title": "model", "io.deis.oras.content.unpack": "true"},
        ),
    ],
}


@pytest.mark.parametrize("layers", SOURCE_SHAPES.values(), ids=SOURCE_SHAPES.keys())
def test_a_source_is_read_from(
    layers: list[tuple[str, bytes, dict[str, str]]], registry: RegistryServer, tmp_path: Path
) -> None:
    digest = push_layers(registry, "models/m", layers)
    source = oci_source(registry, "models/m", digest)
    path = fetch_source(source, ".onnx", tmp_path / "in", source_options(registry))
    assert path.read_bytes() == b"onnx"
    assert (path.parent / "m.onnx.data").read_bytes() == b"data"
    assert {p.name for p in files(tmp_path / "in")} == {"m.onnx", "m.onnx.data"}


def _link(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
    return buffer.getvalue()


TAR = "application/vnd.oci.image.layer.v1.tar"
BAD_SHAPES = {
    "two models": ([(TAR, tar_of({"a.onnx": b"1", "b.onnx": b"2"}), {})], "exactly one"),
    "no model": ([(TAR, tar_of({"a.txt": b"1"}), {})], "exactly one"),
    "a name outside": ([(TAR, tar_of({"../a.onnx": b"1"}), {})], "plain relative path"),
    "an absolute name": ([(TAR, tar_of({"/a.onnx": b"1"}), {})], "plain relative path"),
    "a link": ([(TAR, _link("a.onnx", "/etc/passwd"), {})], "neither a regular file"),
    "a title outside": (
        [("application/x", b"1", {"org.opencontainers.image.title": "../a.onnx"})],
        "plain relative path",
    ),
    "a truncated archive": ([(TAR, tar_of({"a.onnx": b"1" * 9000})[:3000], {})], "unpacked"),
    "bytes that are no archive": ([(TAR, b"x" * 2000, {})], "unpacked"),
    "more than is allowed": (
        [(TAR + "+gzip", gzip.compress(tar_of({"a.onnx": bytes(3_000_000)})), {})],
        "more than is allowed",
    ),
}


@pytest.mark.parametrize(("layers", "want"), BAD_SHAPES.values(), ids=BAD_SHAPES.keys())
def test_a_source_is_refused_with(
    layers: list[tuple[str, bytes, dict[str, str]]],
    want: str,
    registry: RegistryServer,
    tmp_path: Path,
) -> None:
    digest = push_layers(registry, "models/m", layers)
    options = replace(source_options(registry), max_bytes=2_000_000)
    with pytest.raises(SourceInvalid, match=want):
        fetch_source(oci_source(registry, "models/m", digest), ".onnx", tmp_path / "in", options)
    assert [p.name for p in tmp_path.iterdir()] in (["registry", "in"], ["in", "registry"])


def test_an_unknown_digest_is_not_found_and_a_dead_registry_unreachable(
    registry: RegistryServer, tmp_path: Path
) -> None:
    source = oci_source(registry, "models/m", f"sha256:{'0' * 64}")
    with pytest.raises(SourceNotFound):
        fetch_source(source, ".onnx", tmp_path / "a", source_options(registry))
    registry.stop()
    with pytest.raises(SourceUnreachable):
        fetch_source(source, ".onnx", tmp_path / "b", source_options(registry))


@pytest.fixture
def tls_files(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


def docker_config(folder: Path, host: str, password: str) -> Path:
    folder.mkdir()
    auth = base64.b64encode(f"builder:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return folder


def test_tls_and_basic_auth_work_with_the_ca_and_the_password_only(
    tls_files: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "htpasswd").write_text(f"builder:{BCRYPT_OF_SECRET}\n")
    extra = (
        f"  tls: {{certificate: {tls_files / 'cert.pem'}, key: {tls_files / 'key.pem'}}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n"
    )
    write_artifact(tmp_path / "built")
    with running(RegistryServer(folder, free_port(), extra)) as server:
        repository = f"{server.host}/modelwright/digits"
        trusting = replace(
            server.options, insecure_hosts=frozenset(), ca_bundle=tls_files / "cert.pem"
        )
        good = replace(
            trusting, docker_config=docker_config(tmp_path / "good", server.host, "secret")
        )
        bad = replace(trusting, docker_config=docker_config(tmp_path / "bad", server.host, "wrong"))
        digest = push_artifact(tmp_path / "built", repository, TAG, good)
        assert resolve(f"{repository}:{TAG}", good) == digest
        with pytest.raises(RegistryDenied, match="refuses access"):
            resolve(f"{repository}:{TAG}", bad)
        with pytest.raises(RegistryDenied, match="asks for credentials"):
            resolve(f"{repository}:{TAG}", trusting)
        with pytest.raises(RegistryUnreachable, match="not trusted"):
            resolve(f"{repository}:{TAG}", replace(good, ca_bundle=None))
        source = SourceRef(uri=f"oci://{repository}@{digest}", digest=digest)
        with pytest.raises(SourceDenied):
            fetch_source(source, ".onnx", tmp_path / "in", SourceOptions(registry=bad))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}
