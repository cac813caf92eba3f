"""The whole build Job against a real registry, an HTTP source and a mounted claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import onnx
import pytest

from modelwright_artifact.attestation import (
    compare_outputs,
    load_golden_inputs,
    load_golden_outputs,
)
from modelwright_artifact.digests import digest_file
from modelwright_artifact.errors import NotFoundInRegistry
from modelwright_artifact.hardware import detect, profile_of
from modelwright_artifact.oci import build_tag, fetch_report, pull_artifact, resolve
from modelwright_artifact.report import Report
from modelwright_artifact.request import BuildRequest, Profile, SourceRef
from modelwright_optimizer.engine import open_graph
from modelwright_optimizer.failures import BuildFailure, Reason
from modelwright_optimizer.job import JobSettings, run_job
from modelwright_optimizer.measure import RoundPlan
from tests.integration.optimizer.conftest import RegistryServer, free_port, running
from tests.integration.optimizer.test_oci import oci_source, push_layers
from tests.unit.artifact.builders import a_request
from tests.unit.optimizer.models import make_classifier, write_classifier, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUICK = RoundPlan(
    wanted_rounds=3, least_rounds=1, most_rounds=40, slice_seconds=0.001, quiet_spread=1.0
)


@contextmanager
def serving_files(folder: Path, on_request: Callable[[str], None] | None = None) -> Iterator[str]:
    """Serve a folder over HTTP; `on_request` hears each path before it is answered."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if on_request is not None:
                on_request(self.path)
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    write_classifier(folder / "model.onnx")
    write_rows(folder / "rows.npz", 400)
    return folder


def here() -> Profile:
    profile = profile_of(detect())
    assert profile is not None
    return profile


def claim_source(path: Path) -> SourceRef:
    """A source on a claim: the folder's name is the claim, its parent the mount root."""
    return SourceRef(uri=f"pvc://{path.parent.name}/{path.name}", digest=digest_file(path))


def a_job(registry: RegistryServer, files: Path, **changes: object) -> JobSettings:
    request = a_request(
        **{
            "model": claim_source(files / "model.onnx"),
            "evaluation": claim_source(files / "rows.npz"),
            "profile": here(),
            **changes,
        }
    )
    return JobSettings(
        request=request,
        repository=f"{registry.host}/modelwright/vision/digits",
        registry=registry.options,
        volumes=files.parent,
        credentials=files.parent / "no-credentials",
        progress_host="127.0.0.1",
        progress_port=0,
        rounds=QUICK,
    )


def test_a_build_is_pushed_and_found_again(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    job = a_job(registry, files)
    key = job.request.key()
    first = run_job(job)
    assert (first.request_key, first.reused) == (key, False)
    assert resolve(f"{job.repository}:{build_tag(key)}", job.registry) == first.digest

    second = run_job(job)
    assert (second.digest, second.reused) == (first.digest, True)

    manifest = pull_artifact(f"{job.repository}@{first.digest}", tmp_path / "out", job.registry)
    report = Report.from_json(fetch_report(job.repository, first.digest, options=job.registry))
    assert report.request_key == manifest.request_key == key
    assert report.chosen == manifest.chosen
    assert {one.name for one in report.variants if one.kept} == {
        variant.name for variant in manifest.variants
    }
    assert [one.name for one in report.variants] == [
        "fp32",
        "static-int8",
        "static-int8-percentile",
        "dynamic-int8",
    ]


def test_every_kept_variant_reproduces_its_golden_outputs_from_the_artifact(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    job = a_job(registry, files, objective="Size")
    digest = run_job(job).digest
    tree = tmp_path / "out"
    manifest = pull_artifact(f"{job.repository}@{digest}", tree, job.registry)
    assert len(manifest.variants) >= 2
    for variant in manifest.variants:
        graph = open_graph(tree / variant.file, manifest.threads)
        outputs = graph.run_rows(load_golden_inputs(tree, variant.golden))
        golden = load_golden_outputs(tree, variant.golden)
        assert not compare_outputs(
            outputs, golden, atol=variant.golden.atol, rtol=variant.golden.rtol
        )


def test_equal_inputs_give_equal_variants(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    trees = []
    for token in ("one", "two"):
        job = a_job(registry, files, objective="Size", rebuild_token=token)
        digest = run_job(job).digest
        manifest = pull_artifact(f"{job.repository}@{digest}", tmp_path / token, job.registry)
        trees.append(manifest.files)
    assert trees[0] == trees[1]


def test_an_unusable_artifact_under_the_tag_is_replaced(
    registry: RegistryServer, files: Path
) -> None:
    job = a_job(registry, files)
    tag = build_tag(job.request.key())
    path = job.repository.partition("/")[2]
    bad = push_layers(registry, path, [("application/x", b"abc", {})], tag=tag)
    result = run_job(job)
    assert result.digest != bad
    assert not result.reused


def test_a_model_with_external_data_comes_as_an_oci_artifact(
    registry: RegistryServer, files: Path
) -> None:
    onnx.save(
        make_classifier(),
        files / "big.onnx",
        save_as_external_data=True,
        location="big.onnx.data",
        size_threshold=0,
    )
    layers = [
        (
            "application/octet-stream",
            (files / name).read_bytes(),
            {"org.opencontainers.image.title": name},
        )
        for name in ("big.onnx", "big.onnx.data")
    ]
    digest = push_layers(registry, "models/big", layers)
    job = a_job(registry, files, model=oci_source(registry, "models/big", digest))
    assert not run_job(job).reused


# --- failures: reason and sentence ------------------------------------------------------------


def failure_of(job: JobSettings) -> BuildFailure:
    with pytest.raises(BuildFailure) as caught:
        run_job(job)
    return caught.value


def test_the_registry_is_down_at_the_look(registry: RegistryServer, files: Path) -> None:
    registry.stop()
    failure = failure_of(a_job(registry, files))
    assert (failure.reason, failure.exit_code) == (Reason.REGISTRY_UNREACHABLE, 1)
    assert "cannot be reached" in failure.message


def test_the_source_registry_is_down_at_the_fetch(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with running(RegistryServer(folder, free_port())) as other:
        digest = push_layers(
            other, "m", [("application/x", b"1", {"org.opencontainers.image.title": "m.onnx"})]
        )
        model = oci_source(other, "m", digest)
        job = a_job(registry, files, model=model)
        hosts = frozenset({registry.host, other.host})
        job = replace(job, registry=replace(job.registry, insecure_hosts=hosts))
    failure = failure_of(job)
    assert (failure.reason, failure.exit_code) == (Reason.SOURCE_UNREACHABLE, 1)
    assert "The model:" in failure.message


def test_the_registry_goes_down_before_the_push(registry: RegistryServer, files: Path) -> None:
    with serving_files(files, on_request=lambda path: registry.stop()) as address:
        path = files / "rows.npz"
        rows = SourceRef(uri=f"{address}/rows.npz", digest=digest_file(path))
        failure = failure_of(a_job(registry, files, evaluation=rows))
    assert (failure.reason, failure.exit_code) == (Reason.REGISTRY_UNREACHABLE, 1)
    registry.start()
    assert not run_job(a_job(registry, files)).reused


def other_digest(source: SourceRef) -> SourceRef:
    return SourceRef(uri=source.uri, digest=f"sha256:{'0' * 64}")


def test_a_file_with_another_digest_is_refused(registry: RegistryServer, files: Path) -> None:
    failure = failure_of(
        a_job(registry, files, model=other_digest(claim_source(files / "model.onnx")))
    )
    assert (failure.reason, failure.exit_code) == (Reason.DIGEST_MISMATCH, 42)
    assert "modelwright pin" in failure.message


HTTP_ANSWERS = {
    "a missing file": ("/nothing.npz", Reason.SOURCE_NOT_FOUND, 42, "does not exist"),
    "a dead server": (None, Reason.SOURCE_UNREACHABLE, 1, "no connection"),
}


@pytest.mark.parametrize(
    ("path", "reason", "code", "want"), HTTP_ANSWERS.values(), ids=HTTP_ANSWERS.keys()
)
def test_an_http_source_fails_with(
    path: str | None,
    reason: Reason,
    code: int,
    want: str,
    registry: RegistryServer,
    files: Path,
) -> None:
    digest = digest_file(files / "rows.npz")
    with serving_files(files) as address:
        if path is not None:
            job = a_job(registry, files, evaluation=SourceRef(uri=address + path, digest=digest))
            failure = failure_of(job)
    if path is None:
        job = a_job(registry, files, evaluation=SourceRef(uri=f"{address}/x", digest=digest))
        failure = failure_of(job)
    assert (failure.reason, failure.exit_code) == (reason, code)
    assert want in failure.message


def test_a_claim_without_the_file_is_not_found(registry: RegistryServer, files: Path) -> None:
    source = SourceRef(uri="pvc://files/none.onnx", digest=f"sha256:{'0' * 64}")
    assert failure_of(a_job(registry, files, model=source)).reason == Reason.SOURCE_NOT_FOUND


def test_a_link_out_of_the_claim_is_refused(registry: RegistryServer, files: Path) -> None:
    (files / "link.onnx").symlink_to("/etc/hostname")
    source = SourceRef(uri="pvc://files/link.onnx", digest=f"sha256:{'0' * 64}")
    failure = failure_of(a_job(registry, files, model=source))
    assert failure.reason == Reason.MODEL_INVALID
    assert "outside its claim" in failure.message


# --- the process: environment, progress, termination message ----------------------------------


def job_environment(job: JobSettings, folder: Path, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "MODELWRIGHT_REQUEST": json.dumps(job.request.to_json()),
        "MODELWRIGHT_REPOSITORY": job.repository,
        "MODELWRIGHT_INSECURE_REGISTRIES": ",".join(job.registry.insecure_hosts),
        "MODELWRIGHT_VOLUMES": str(job.volumes),
        "MODELWRIGHT_TERMINATION_LOG": str(folder / "termination"),
        "MODELWRIGHT_PROGRESS_ADDRESS": f"127.0.0.1:{port}",
        "TMPDIR": str(folder),
    }


def run_process(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelwright_optimizer", "job"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_process_tells_progress_and_result(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    folder, port = tmp_path / "scratch", free_port()
    folder.mkdir()
    job = a_job(registry, files)
    environment = job_environment(job, folder, port)
    process = subprocess.Popen(
        [sys.executable, "-m", "modelwright_optimizer", "job"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    seen = watch_progress(process, port)
    assert process.wait(timeout=300) == 0
    percents = [document["percent"] for document in seen]
    assert percents == sorted(percents)
    assert len({document["step"] for document in seen}) >= 2
    message = json.loads((folder / "termination").read_bytes())
    assert message["requestKey"] == job.request.key()
    assert message["reused"] is False
    assert message["digest"].startswith("sha256:")
    # The scratch folder is clean and the second process ends with the same artifact.
    assert [path.name for path in folder.iterdir()] == ["termination"]
    assert run_process(environment).returncode == 0
    assert json.loads((folder / "termination").read_bytes()) == {**message, "reused": True}


def watch_progress(process: subprocess.Popen[bytes], port: int) -> list[dict[str, object]]:
    seen: list[dict[str, object]] = []
    deadline = time.monotonic() + 300
    with httpx.Client() as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                assert client.get(f"http://127.0.0.1:{port}/healthz").text == "ok"
                document = client.get(f"http://127.0.0.1:{port}/progress").json()
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if not seen or document != seen[-1]:
                seen.append(document)
            time.sleep(0.02)
    return seen


def test_the_process_tells_a_users_fault(
    registry: RegistryServer, files: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    write_rows(files / "rows.npz", 3)
    environment = job_environment(a_job(registry, files), folder, free_port())
    assert run_process(environment).returncode == 42
    message = json.loads((folder / "termination").read_bytes())
    assert message["reason"] == "EvaluationInvalid"
    assert "3 rows" in message["message"]
    tag = build_tag(BuildRequest.from_json(environment["MODELWRIGHT_REQUEST"]).key())
    with pytest.raises(NotFoundInRegistry):
        resolve(f"{environment['MODELWRIGHT_REPOSITORY']}:{tag}", registry.options)


def test_the_process_survives_a_broken_request(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MODELWRIGHT_REQUEST": "{",
        "MODELWRIGHT_REPOSITORY": "x/y",
        "MODELWRIGHT_TERMINATION_LOG": str(tmp_path / "termination"),
    }
    assert run_process(environment).returncode == 1
    message = json.loads((tmp_path / "termination").read_bytes())
    assert message["reason"] == "InternalError"
    assert "request is not valid JSON" in message["message"]
