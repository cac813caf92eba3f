"""What runs as pods from the start: cluster DNS and resource metrics, and every pod's pause."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from e2e.cluster.binaries import architecture
from e2e.cluster.oci_archive import build_image, write_archive
from e2e.cluster.spec import DNS_SERVICE, cache_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.cluster.kubectl import Kubectl
    from e2e.cluster.pki import Pki

MANIFESTS: Final = Path(__file__).parent / "manifests"
ROLLOUT_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Image:
    """An archive of one static binary; the reference names the build that is inside."""

    reference: str
    archive: Path


def archive_directory() -> Path:
    return cache_directory() / "archives"


def ensure_image(binary: Path) -> tuple[Image, bool]:
    """Return the image of a binary in the binary cache, and whether it was made now."""
    key = binary.parent.name
    image = Image(
        reference=f"localhost/{binary.name}:{key}",
        archive=archive_directory() / f"{binary.name}-{key}.tar",
    )
    if image.archive.exists():
        return image, False
    content = build_image(
        {binary.name: binary.read_bytes()},
        architecture=architecture(),
        entrypoint=[f"/{binary.name}"],
    )
    write_archive(image.archive, content, reference=image.reference)
    return image, True


def apply_addon(name: str, image: Image, kubectl: Kubectl, pki: Pki) -> None:
    kubectl.apply_text(render_manifest(name, image.reference, pki.certificate("ca").read_text()))


def wait_for_addon(name: str, kubectl: Kubectl) -> None:
    deadline = f"--timeout={ROLLOUT_SECONDS}s"
    kubectl("--namespace=kube-system", "rollout", "status", f"deployment/{name}", deadline)


def render_manifest(name: str, image: str, authority: str) -> str:
    values: Mapping[str, str] = {
        "IMAGE": image,
        "DNS_SERVICE": DNS_SERVICE,
        # A JSON string is a YAML string, line ends included.
        "CA": json.dumps(authority),
    }
    return Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values)
