"""The samples' manifests are ones the API server would take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import samples
from modelwright_operator.api.checks import check_inference_model
from samples.publish import SAMPLES, render_manifest

FOLDER = Path(samples.__path__[0])
PINNED = {
    stem: f"oci://10.77.0.1:5000/samples/any/{stem}@sha256:{digit * 64}"
    for stem, digit in (("model", "a"), ("evaluation", "b"), ("calibration", "c"))
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_manifest_keeps_every_rule_of_the_api(sample) -> None:
    assert check_inference_model(yaml.safe_load((FOLDER / f"{sample}.yaml").read_text())) == []
    assert check_inference_model(yaml.safe_load(render_manifest(sample, PINNED))) == []


@pytest.mark.parametrize("sample", SAMPLES)
def test_rendering_pins_every_source_and_changes_nothing_else(sample) -> None:
    template = yaml.safe_load((FOLDER / f"{sample}.yaml").read_text())
    rendered = yaml.safe_load(render_manifest(sample, PINNED))
    for stem in ("model", "evaluation", "calibration"):
        if stem in template["spec"]:
            assert rendered["spec"][stem].pop("uri") == PINNED[stem]
            template["spec"][stem].pop("uri")
    assert rendered == template


def test_no_manifest_keeps_a_placeholder() -> None:
    assert all("registry.example" not in render_manifest(sample, PINNED) for sample in SAMPLES)


def test_every_manifest_is_of_a_known_sample() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(SAMPLES)


def test_uris_name_their_own_sample() -> None:
    for sample in SAMPLES:
        uris = re.findall(r"oci://\S+", (FOLDER / f"{sample}.yaml").read_text())
        assert uris
        assert all(f"/samples/{sample}/" in uri for uri in uris)
