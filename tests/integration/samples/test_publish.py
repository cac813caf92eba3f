"""Samples go into a real registry and come out as a build would fetch them."""

from __future__ import annotations

import pytest
import yaml

from modelwright_artifact.request import SourceRef
from modelwright_artifact.sources import SourceOptions, fetch_source
from samples.publish import main, publish_sample
from tests.integration.optimizer.conftest import RegistryServer, free_port, running


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(RegistryServer(folder, free_port())) as server:
        yield server


@pytest.fixture
def sample(tmp_path):
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph" * 500_000)
    (folder / "evaluation.npz").write_bytes(b"rows")
    (folder / "calibration.npz").write_bytes(b"ranges")
    return folder


def test_published_files_come_back_unchanged(registry, sample, tmp_path) -> None:
    pinned = publish_sample(sample, f"{registry.host}/samples/toy", registry.options)
    assert set(pinned) == {"model", "evaluation", "calibration"}
    for stem, uri in pinned.items():
        digest = uri.partition("@")[2]
        suffix = ".onnx" if stem == "model" else ".npz"
        fetched = fetch_source(
            SourceRef(uri=uri, digest=digest),
            suffix,
            tmp_path / stem,
            SourceOptions(registry=registry.options),
        )
        assert fetched.name == f"{stem}{suffix}"
        assert fetched.read_bytes() == (sample / fetched.name).read_bytes()


def test_publishing_twice_pins_the_same(registry, sample) -> None:
    prefix = f"{registry.host}/samples/toy"
    first = publish_sample(sample, prefix, registry.options)
    assert publish_sample(sample, prefix, registry.options) == first


def test_uris_name_the_registry_as_the_cluster_sees_it(registry, sample) -> None:
    pinned = publish_sample(
        sample,
        f"{registry.host}/samples/toy",
        registry.options,
        seen_as="10.77.0.1:5000/samples/toy",
    )
    assert pinned["model"].startswith("oci://10.77.0.1:5000/samples/toy/model@sha256:")


def test_command_prints_a_manifest_that_can_be_applied(
    registry, sample, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("samples.digits.ensure", lambda: sample)
    assert main(["digits", "--registry", registry.host, "--insecure"]) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert manifest["kind"] == "InferenceModel"
    for source in ("model", "evaluation", "calibration"):
        uri = manifest["spec"][source]["uri"]
        assert uri.startswith(f"oci://{registry.host}/samples/digits/{source}@sha256:")
