"""Start a built image's Python and import what its plane lives from, on any architecture.

Another architecture runs under user-mode QEMU, brought into the image's root for the one run: slow
and without the real CPU's vector instructions, but every library must load and compute.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster.buildah import ImageBuildError
from tools.image.layout import WHEEL_CPU

if TYPE_CHECKING:
    from e2e.cluster.buildah import Buildah

# One ONNX graph, y = x · x for a 2 by 2 matrix, small enough to stand here.
GRAPH: Final = (
    "CAg6QAoRCgF4CgF4EgF5IgZNYXRNdWwSAWdaEwoBeBIOCgwIARIICgIIAgoCCAJiEwoBeRIOCgwIARIICgIIAgoCCAJC"
    "BAoAEBE="
)
INFERENCE: Final = f"""
import base64, numpy, onnxruntime
session = onnxruntime.InferenceSession(base64.b64decode("{GRAPH}"))
(answer,) = session.run(None, {{"x": numpy.array([[1, 2], [3, 4]], numpy.float32)}})
assert answer.tolist() == [[7, 10], [15, 22]], answer
"""
# Every module of the plane must find what it imports.
IMPORTS: Final = """
import importlib, pkgutil
package = importlib.import_module("modelwright_{plane}")
for module in pkgutil.walk_packages(package.__path__, "modelwright_{plane}."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
# What must not be in an image: each would help an attacker and no plane uses it.
FORBIDDEN: Final = ("bash", "dpkg", "apt-get", "gcc", "ld", "perl", "pip", "sh", "strip")


def smoke_test(
    reference: str, target: str, architecture: str, buildah: Buildah, *, tls: bool
) -> None:
    """Pull the image and start it.

    Raises:
        ImageBuildError: it does not start, import and compute as it should.
    """
    container = buildah.pull_container(reference, architecture=architecture, tls=tls)
    try:
        root = Path(buildah.run("mount", container).strip())
        _check_contents(root, reference)
        _check_config(json.loads(buildah.run("inspect", "--type", "container", container)))
        _run_python(root, target, architecture, reference)
    finally:
        buildah.run("rm", container)


def program_of(target: str) -> str:
    """Return what an image's Python has to get through."""
    imports = IMPORTS.format(plane=target)
    return imports if target == "operator" else imports + INFERENCE


def _check_contents(root: Path, reference: str) -> None:
    folders = [root / "usr/bin", root / "usr/sbin", root / "usr/local/bin"]
    found = [name for name in FORBIDDEN for folder in folders if (folder / name).exists()]
    found += [str(path) for path in (root / "opt/modelwright/lib").glob("pip*")]
    if found:
        raise ImageBuildError(f"{reference} holds {', '.join(found)}")


def _check_config(inspected: dict[str, object]) -> None:
    user = str(inspected["OCIv1"]["config"]["User"])  # type: ignore[index]
    if user.split(":")[0] != "10001":
        raise ImageBuildError(f"the image runs as user {user or 'root'}, not as 10001")


def _run_python(root: Path, target: str, architecture: str, reference: str) -> None:
    command = ["chroot", "--userspec=10001:10001", str(root)]
    if WHEEL_CPU[architecture] != os.uname().machine:
        emulator = shutil.which(f"qemu-{WHEEL_CPU[architecture]}-static")
        if emulator is None:
            raise ImageBuildError(f"install qemu-user-static to try images for {architecture}")
        shutil.copy2(emulator, root / "qemu")
        command.append("/qemu")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": "/opt/modelwright/lib",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    program = [*command, "/usr/bin/python3", "-c", program_of(target)]
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise ImageBuildError(f"{reference} does not start: {done.stderr.strip()[-2000:]}")
