"""Every way to install gives what it promises, and kustomize and Helm give the same."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.installation import write_installation
from modelwright_operator.settings import parse_settings

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("demo", "kind", "namespaced", "production")
Objects = dict[str, dict[str, Any]]


def kustomize(kubectl: Path, folder: Path) -> Objects:
    return by_name(call(kubectl, "kustomize", str(folder)))


@cache
def build_overlay(kubectl: Path, overlay: str) -> Objects:
    """The objects of an overlay of the repository; built once, so do not change them."""
    return kustomize(kubectl, MANIFESTS / "overlays" / overlay)


def call(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_name(text: str) -> Objects:
    documents = [document for document in yaml.safe_load_all(text) if document]
    found = {object_name(document): document for document in documents}
    assert len(found) == len(documents)
    return found


def object_name(document: dict[str, Any]) -> str:
    metadata = document["metadata"]
    parts = (document["kind"], metadata.get("namespace"), metadata["name"])
    return "/".join(part for part in parts if part)


def without_hashes(objects: Objects) -> Objects:
    """The objects with one name for the settings, whose real name ends in a hash."""
    text = yaml.safe_dump_all(objects.values())
    plain = by_name(re.sub(r"modelwright-settings-[a-z0-9]+", "modelwright-settings", text))
    settings = plain["ConfigMap/modelwright-system/modelwright-settings"]
    settings["data"] = {key: yaml.safe_load(value) for key, value in settings["data"].items()}
    return plain


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_and_its_settings_are_valid(kubectl: Path, overlay: str) -> None:
    objects = build_overlay(kubectl, overlay)

    (settings,) = [o for name, o in objects.items() if name.startswith("ConfigMap/")]
    assert settings["immutable"] is True
    parse_settings(yaml.safe_load(settings["data"]["settings.yaml"]))
    volume = pod_spec(objects)["volumes"][0]
    assert volume["configMap"]["name"] == settings["metadata"]["name"]
    assert {name for name in objects if name.startswith("CustomResourceDefinition/")} == {
        "CustomResourceDefinition/hardwareprofiles.modelwright.dev",
        "CustomResourceDefinition/inferencemodels.modelwright.dev",
        "CustomResourceDefinition/modelbuilds.modelwright.dev",
    }


def pod_spec(objects: Objects) -> dict[str, Any]:
    deployment = objects["Deployment/modelwright-system/modelwright-operator"]
    return deployment["spec"]["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_placeholder_image_is_left(kubectl: Path, overlay: str) -> None:
    (container,) = pod_spec(build_overlay(kubectl, overlay))["containers"]

    assert container["image"].count("/") >= 1
    assert ":" in container["image"].rsplit("/", 1)[1]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_helm_gives_what_kustomize_gives(kubectl: Path, helm: Path, overlay: str) -> None:
    chart = MANIFESTS / "helm" / "modelwright"
    rendered = call(
        helm, "template", "modelwright", str(chart), "--namespace", "modelwright-system",
        "--include-crds", "--kube-version", "1.36.4",
        "--values", str(chart / "ci" / f"{overlay}-values.yaml"),
    )  # fmt: skip

    ours = without_hashes(build_overlay(kubectl, overlay))
    theirs = without_hashes(by_name(rendered))
    # Helm makes the namespace itself, and the CRDs are the files without kustomize's two labels.
    del ours["Namespace/modelwright-system"]
    for name, document in ours.items():
        if name.startswith("CustomResourceDefinition/"):
            del document["metadata"]["labels"]["app.kubernetes.io/name"]
    assert theirs == ours


def test_helm_lint_finds_nothing(helm: Path) -> None:
    chart = MANIFESTS / "helm" / "modelwright"

    call(helm, "lint", "--strict", str(chart), "--values", str(chart / "ci/demo-values.yaml"))


def test_helm_says_what_is_missing(helm: Path) -> None:
    command = [helm, "template", "modelwright", str(MANIFESTS / "helm" / "modelwright")]
    command += ["--kube-version", "1.36.4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "is needed" in done.stderr or "where artifacts are pushed" in done.stderr


def test_namespaced_mode_grants_nothing_everywhere(kubectl: Path) -> None:
    objects = build_overlay(kubectl, "namespaced")

    everywhere = [o for name, o in objects.items() if name.startswith("ClusterRoleBinding/")]
    assert [o["roleRef"]["name"] for o in everywhere] == ["modelwright-operator-hardware"]
    hardware = objects["ClusterRole/modelwright-operator-hardware"]
    assert {resource for rule in hardware["rules"] for resource in rule["resources"]} == {
        "nodes", "hardwareprofiles", "hardwareprofiles/status",
    }  # fmt: skip


def test_namespaced_mode_binds_each_watched_namespace(kubectl: Path) -> None:
    objects = build_overlay(kubectl, "namespaced")

    (settings,) = [o for name, o in objects.items() if name.startswith("ConfigMap/")]
    watched = yaml.safe_load(settings["data"]["settings.yaml"])["watchNamespaces"]
    assert "modelwright-system" in watched
    for namespace in watched:
        binding = objects[f"RoleBinding/{namespace}/modelwright-operator-serves"]
        assert binding["roleRef"]["name"] == "modelwright-operator"


@pytest.mark.parametrize("component", ["ca-bundle", "owner-references", "monitoring"])
def test_a_component_fits_the_base(kubectl: Path, tmp_path: Path, component: str) -> None:
    folder = write_installation(tmp_path / "with", images(), overlay="production")
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    relative = kustomization["resources"][0].replace("overlays/production", "components")
    kustomization["components"] = [f"{relative}/{component}"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    plain = build_overlay(kubectl, "production")

    changed = kustomize(kubectl, folder)

    assert without_hashes(changed) != without_hashes(plain)
    assert {re.sub(r"-[a-z0-9]{10}$", "", name) for name in plain} <= {
        re.sub(r"-[a-z0-9]{10}$", "", name) for name in changed
    }


def test_a_written_installation_pins_every_image_by_digest(kubectl: Path, tmp_path: Path) -> None:
    folder = write_installation(tmp_path / "install", images(), settings={"logLevel": "DEBUG"})

    objects = kustomize(kubectl, folder)

    assert pod_spec(objects)["containers"][0]["image"] == images()["operator"]
    (settings,) = [o for name, o in objects.items() if name.startswith("ConfigMap/")]
    parsed = parse_settings(yaml.safe_load(settings["data"]["settings.yaml"]))
    assert parsed.images.optimizer == images()["optimizer"]
    assert parsed.images.runtime == images()["runtime"]
    assert parsed.log_level == "DEBUG"
    assert parsed.insecure_registries == ("10.77.0.1:5000",)


def test_a_changed_setting_rolls_the_operator(kubectl: Path, tmp_path: Path) -> None:
    before = kustomize(kubectl, write_installation(tmp_path / "a", images()))
    after = kustomize(
        kubectl, write_installation(tmp_path / "b", images(), settings={"workers": 3})
    )

    assert pod_spec(before)["volumes"][0] != pod_spec(after)["volumes"][0]


def images() -> dict[str, str]:
    return {
        plane: f"10.77.0.1:5000/modelwright-{plane}@sha256:{letter * 64}"
        for plane, letter in (("operator", "a"), ("optimizer", "b"), ("runtime", "c"))
    }
