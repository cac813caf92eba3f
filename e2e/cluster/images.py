"""Build Modelwright's own images with the project's Dockerfile and push them to a registry.

An image is named by the hash of everything it is made of. Where the registry already holds that
name nothing is built, so a second run costs one look per image. Wheels, Debian packages and layers
are kept in the cache folder, outside the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.cluster.base_image import build_base, ensure_base, runtime_base
from e2e.cluster.buildah import Buildah, ImageBuildError
from e2e.cluster.files import locked
from e2e.cluster.image_smoke import smoke_test
from e2e.cluster.packages import IMAGE_PACKAGES, ensure_packages
from e2e.cluster.progress import Durations, Progress
from e2e.cluster.spec import cache_directory
from tools.image.layout import locked_options

Report = Callable[[str], None]

ROOT: Final = Path(__file__).resolve().parents[2]
HOST_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
PACKAGES: Final = {
    "operator": ("artifact/modelwright_artifact", "operator/modelwright_operator"),
    "optimizer": ("artifact/modelwright_artifact", "optimizer/modelwright_optimizer"),
    "runtime": ("artifact/modelwright_artifact", "runtime_image/modelwright_runtime"),
}
TARGETS: Final = tuple(PACKAGES)
CONTEXT: Final = (
    *(".dockerignore", "Dockerfile", "constraints", "pyproject.toml", "tools/image/layout.py"),
    *sorted({package for packages in PACKAGES.values() for package in packages}),
)


@dataclass(frozen=True, slots=True)
class Registry:
    """Where images go, as this machine reaches it and as the nodes do."""

    push: str
    pull: str
    tls: bool = False

    def repository(self, target: str, *, host: str) -> str:
        return f"{host}/modelwright-{target}"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The tools and folders that a build uses.

    `context` is a copy of what images are made of, so that an edit meanwhile cannot come between
    an image's name and its content.
    """

    cache: Path
    context: Path
    buildah: Buildah
    report: Report

    @classmethod
    @contextmanager
    def open(cls, report: Report, root: Path) -> Iterator[Workshop]:
        ensure_packages(IMAGE_PACKAGES, Progress(Durations(cache_directory() / "durations.json")))
        cache = image_cache()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="modelwright-context-") as folder:
            copy_context(root, Path(folder))
            yield cls(cache, Path(folder), Buildah(cache / "containers"), report)


def image_cache() -> Path:
    """Return the folder that holds wheels, Debian packages and layers."""
    home = os.environ.get("MODELWRIGHT_CACHE") or Path.home() / ".cache" / "modelwright"
    return Path(home) / "images"


def copy_context(root: Path, folder: Path) -> None:
    """Copy what the Dockerfile reads; times too, which decide what is found in the layer cache."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in CONTEXT:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, target, ignore=skip)
        else:
            shutil.copy2(root / name, target)


def build_images(
    registry_push: str,
    targets: Sequence[str] = TARGETS,
    arch: str = HOST_ARCHITECTURE,
    *,
    registry_pull: str | None = None,
    tls: bool = False,
    smoke: bool = False,
    report: Report | None = None,
    root: Path = ROOT,
) -> dict[str, str]:
    """Make sure that the registry holds the images; return `repository@sha256:…` by target.

    Args:
        registry_push: `host:port[/path]` as this machine reaches the registry.
        targets: which of `operator`, `optimizer`, `runtime`.
        arch: `amd64` or `arm64`, also when this machine is the other one.
        registry_pull: the same registry as the nodes reach it, when that differs.
        tls: whether the registry speaks HTTPS.
        smoke: whether to start the images, under emulation for another architecture.
        report: takes a line per long step; by default it is printed.
        root: the checkout to build.
    """
    registry = Registry(registry_push, registry_pull or registry_push, tls)
    with Workshop.open(report or _print_line, root) as workshop:
        digests = {target: _ensure_image(target, arch, registry, workshop) for target in targets}
        for target in targets if smoke else ():
            pushed = f"{registry.repository(target, host=registry.push)}@{digests[target]}"
            smoke_test(pushed, target, arch, workshop.buildah, tls=tls)
            workshop.report(f"image {target} ({arch}): starts, imports and computes")
    return {
        target: f"{registry.repository(target, host=registry.pull)}@{digest}"
        for target, digest in digests.items()
    }


def content_key(target: str, architecture: str, *, root: Path) -> str:
    """Return the name of an image's content: sources, dependencies, recipe and base images."""
    recipe = ("Dockerfile", "pyproject.toml", f"constraints/{target}.txt", "tools/image/layout.py")
    parts = [
        *((root / path).read_text() for path in recipe),
        runtime_base(architecture).reference(),
        build_base(HOST_ARCHITECTURE).reference(),
    ]
    for package in PACKAGES[target]:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                parts.append(f"{path.relative_to(root)} {digest}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _ensure_image(target: str, architecture: str, registry: Registry, workshop: Workshop) -> str:
    """Return the digest of the image in the registry, building and pushing it when it is new."""
    key = content_key(target, architecture, root=workshop.context)
    pushed = f"{registry.repository(target, host=registry.push)}:{architecture}-{key}"
    digest = _digest_in_registry(pushed, registry)
    if digest is not None:
        workshop.report(f"image {target} ({architecture}): unchanged")
        return digest
    waiting = f"image {target} ({architecture}): another build is under way, waiting for it"
    with locked(workshop.cache / "lock", on_wait=lambda: workshop.report(waiting)):
        local = _build(target, architecture, workshop)
        return _push(local, pushed, registry, workshop)


def _build(target: str, architecture: str, workshop: Workshop) -> str:
    buildah, report = workshop.buildah, workshop.report
    bases = {
        "BASE": runtime_base(architecture),
        "BUILD_BASE": build_base(HOST_ARCHITECTURE),
    }
    arguments = {
        name: ensure_base(image, buildah=buildah, cache=workshop.cache, report=report)
        for name, image in bases.items()
    }
    wheels = _ensure_wheels(target, architecture, workshop)
    arguments |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    # Debian's buildah does not set these two by itself before the first FROM.
    arguments |= {
        "BUILDPLATFORM": f"linux/{HOST_ARCHITECTURE}",
        "TARGETPLATFORM": f"linux/{architecture}",
    }
    local = f"localhost/modelwright-{target}:{architecture}"
    log = workshop.cache / f"build-{target}-{architecture}.log"
    started = time.monotonic()
    report(f"image {target} ({architecture}): build, log in {log}")
    buildah.build(
        workshop.context,
        local,
        target=target,
        architecture=architecture,
        arguments=arguments,
        volumes=[f"{wheels}:/wheels:ro"],
        log=log,
    )
    report(f"image {target} ({architecture}): built in {time.monotonic() - started:.0f} s")
    return local


def _push(local: str, pushed: str, registry: Registry, workshop: Workshop) -> str:
    started = time.monotonic()
    workshop.buildah.push(local, pushed, tls=registry.tls)
    digest = _digest_in_registry(pushed, registry)
    if digest is None:
        raise ImageBuildError(f"{pushed} was pushed but the registry does not show it")
    unpacked = workshop.buildah.size_bytes(local) / 1e6
    packed = _packed_bytes(pushed, registry) / 1e6
    workshop.report(
        f"image {pushed}: pushed in {time.monotonic() - started:.0f} s, "
        f"{unpacked:.0f} MB unpacked, {packed:.0f} MB compressed"
    )
    return digest


def _ensure_wheels(target: str, architecture: str, workshop: Workshop) -> Path:
    """Fetch the wheels of a target on this machine, with this machine's pip settings."""
    locked = workshop.context / "constraints" / f"{target}.txt"
    key = hashlib.sha256(locked.read_bytes()).hexdigest()[:16]
    folder = workshop.cache / "wheels" / f"{target}-{architecture}-{key}"
    complete = folder / ".complete"
    if complete.exists():
        return folder
    workshop.report(f"image {target} ({architecture}): download wheels")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += [f"--dest={folder}", *locked_options(locked, architecture)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ImageBuildError(f"pip download for {target} failed: {done.stderr.strip()[-2000:]}")
    complete.touch()
    return folder


def _digest_in_registry(reference: str, registry: Registry) -> str | None:
    command = ["skopeo", "inspect", "--no-tags", "--format={{.Digest}}", *_tls_option(registry)]
    done = subprocess.run(
        [*command, f"docker://{reference}"], check=False, capture_output=True, text=True
    )
    if done.returncode == 0:
        return done.stdout.strip()
    if "manifest unknown" in done.stderr or "name unknown" in done.stderr:
        return None
    raise ImageBuildError(f"registry {registry.push} does not answer: {done.stderr.strip()[-600:]}")


def _packed_bytes(reference: str, registry: Registry) -> int:
    command = ["skopeo", "inspect", "--raw", *_tls_option(registry), f"docker://{reference}"]
    manifest = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return sum(int(layer["size"]) for layer in manifest["layers"])


def _tls_option(registry: Registry) -> list[str]:
    return [] if registry.tls else ["--tls-verify=false"]


def _print_line(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str]) -> int:
    """Build and push from the command line; print one `target repository@digest` a line."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster images", description=__doc__)
    parser.add_argument("--registry", required=True, help="host:port[/path] to push to")
    parser.add_argument("--pull-registry", help="the same registry as the nodes reach it")
    parser.add_argument("--arch", choices=("amd64", "arm64"), default=HOST_ARCHITECTURE)
    parser.add_argument("--tls", action="store_true", help="the registry speaks HTTPS")
    parser.add_argument("--smoke", action="store_true", help="also start each image's Python")
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    options = parser.parse_args(argv)
    try:
        images = build_images(
            options.registry,
            options.target or TARGETS,
            options.arch,
            registry_pull=options.pull_registry,
            tls=options.tls,
            smoke=options.smoke,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for target, reference in images.items():
        print(target, reference)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
