"""Write a kustomize overlay that installs Modelwright with images pinned by digest.

The overlays in `manifests/` name images by tag; what was just built is named by its content, so
that a changed image rolls the operator and an unchanged one does not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANIFESTS: Final = Path(__file__).resolve().parents[2] / "manifests"
NAMESPACE: Final = "modelwright-system"


def write_installation(
    folder: Path,
    images: Mapping[str, str],
    *,
    overlay: str = "demo",
    settings: Mapping[str, Any] | None = None,
    components: Sequence[str] = (),
) -> Path:
    """Write `folder` for `kubectl apply -k folder` and return it.

    Args:
        folder: made when it is missing; what stood in it is replaced.
        images: `repository@sha256:…` of operator, optimizer and runtime.
        overlay: the overlay in `manifests/overlays` to build on.
        settings: changes to the overlay's settings, by field.
        components: which of `manifests/components` to add.
    """
    base = MANIFESTS / "overlays" / overlay
    repository, digest = images["operator"].rsplit("@", 1)
    document = yaml.safe_load((base / "settings.yaml").read_text())
    document["images"] = {plane: images[plane] for plane in ("optimizer", "runtime")}
    document |= settings or {}
    overlaid = yaml.safe_load((base / "kustomization.yaml").read_text())["images"][0]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base.resolve(), folder.resolve())],
        "components": [
            os.path.relpath(MANIFESTS / "components" / name, folder.resolve())
            for name in components
        ],
        "images": [{"name": overlaid["newName"], "newName": repository, "digest": digest}],
        "generatorOptions": {"immutable": True},
        "configMapGenerator": [
            {
                "name": "modelwright-settings",
                "namespace": NAMESPACE,
                "behavior": "replace",
                "files": ["settings.yaml"],
            }
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization, sort_keys=False))
    return folder
