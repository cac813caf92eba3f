"""Lay out what an image needs in one folder; run by the Dockerfile in its build stage.

`layout.py dependencies EXTRA FOLDER` installs the dependencies of one extra of `pyproject.toml`
for the target architecture (`TARGETARCH`) from binary wheels, so that nothing is compiled and
another architecture needs no emulation, and removes what a running plane never reads.
`layout.py code FOLDER` compiles our own packages. Needs only Python's standard library and pip.
"""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

INSTALLED_AT: Final = "/opt/modelwright/lib"
WHEEL_CPU: Final = {"amd64": "x86_64", "arm64": "aarch64"}
MANYLINUX: Final = ("_2_34", "_2_28", "_2_27", "_2_26", "_2_17", "2014", "_2_5", "2010")

UNUSED_FOLDERS: Final = frozenset({"tests", "test", "__pycache__", "include", "bin"})
UNUSED_SUFFIXES: Final = frozenset(
    {".pyi", ".pyx", ".pxd", ".h", ".hpp", ".a", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".lib"}
)
# The Python module links nothing of `libonnxruntime.so.*`: that is the C library for other
# languages, 34 MB. The optimizer's quantizer imports a helper from `transformers`.
UNUSED_PATHS: Final = {
    "operator": (),
    "optimizer": (
        "numpy/distutils",
        "numpy/f2py",
        "onnx/backend/test",
        "onnxruntime/backend",
        "onnxruntime/capi/libonnxruntime.so.*",
        "onnxruntime/datasets",
        "onnxruntime/transformers/models",
    ),
    "runtime": (
        "numpy/distutils",
        "numpy/f2py",
        "onnxruntime/backend",
        "onnxruntime/capi/libonnxruntime.so.*",
        "onnxruntime/datasets",
        "onnxruntime/quantization",
        "onnxruntime/tools",
        "onnxruntime/transformers",
    ),
}


@dataclass(frozen=True, slots=True)
class Project:
    """What `pyproject.toml` and `constraints.txt` say about an image's dependencies."""

    name: str
    version: str
    requirements: list[str]
    constraints: str

    @classmethod
    def read(cls, root: Path, extra: str) -> Project:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        pinned = root / "constraints.txt"
        return cls(
            name=project["name"],
            version=project["version"],
            requirements=project["optional-dependencies"][extra],
            constraints=pinned.read_text() if pinned.exists() else "",
        )

    def pins(self) -> list[str]:
        """Return the constraints without their hashes, `name==version; marker` a line."""
        joined = self.constraints.replace("\\\n", " ")
        lines = (re.sub(r"\s--hash=\S+", "", line).split(" #")[0] for line in joined.splitlines())
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def hashed_pins(self) -> dict[str, str]:
        """Return the pinned and hashed line of each package that has hashes, by its name."""
        joined = re.sub(r"\\\n\s*", " ", self.constraints)
        lines = [line for line in joined.splitlines() if "--hash=" in line]
        return {normalize_name(re.split(r"[=\[ ;]", line, maxsplit=1)[0]): line for line in lines}


def main(arguments: list[str]) -> int:
    match arguments:
        case ["dependencies", extra, folder]:
            install_dependencies(extra, Path(folder), os.environ["TARGETARCH"])
        case ["code", folder]:
            compile_folder(Path(folder), installed_at=INSTALLED_AT)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


def install_dependencies(extra: str, site: Path, architecture: str) -> None:
    """Install, prune, strip and compile the dependencies of an extra."""
    project = Project.read(Path(__file__).parent, extra)
    install_wheels(project, site, architecture)
    prune_site(site, UNUSED_PATHS[extra])
    strip_libraries(site, architecture)
    write_metadata(site, project)
    compile_folder(site, installed_at=INSTALLED_AT)


def install_wheels(project: Project, site: Path, architecture: str) -> None:
    """Install the requirements; with hashes in the constraints every file must match one.

    pip checks hashes only of requirements that are all pinned, so the closure is resolved first.
    """
    install = ["install", f"--target={site}", "--no-compile", "--ignore-installed"]
    install += platform_options(architecture)
    with tempfile.TemporaryDirectory() as folder:
        pins, report, closure = (Path(folder) / name for name in ("pins", "report", "closure"))
        pins.write_text("\n".join(project.pins()))
        constrained = [*install, f"--constraint={pins}", *project.requirements]
        hashed = project.hashed_pins()
        if not hashed:
            run_pip(constrained)
            return
        run_pip([*constrained, "--dry-run", f"--report={report}"])
        names = resolved_names(json.loads(report.read_text()))
        closure.write_text("\n".join(hashed[name] for name in names))
        run_pip([*install, "--no-deps", "--require-hashes", f"--requirement={closure}"])


def resolved_names(report: dict[str, Any]) -> list[str]:
    """Return the names in pip's installation report."""
    items = cast("list[dict[str, Any]]", report["install"])
    return sorted(normalize_name(item["metadata"]["name"]) for item in items)


def normalize_name(name: str) -> str:
    """Return the one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def platform_options(architecture: str) -> list[str]:
    """Return pip's options to take binary wheels for Python 3.11 on another machine."""
    tags = [f"--platform=manylinux{tag}_{WHEEL_CPU[architecture]}" for tag in MANYLINUX]
    return ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", *tags]


def run_pip(arguments: list[str]) -> None:
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", *arguments, *options], check=True)


def prune_site(site: Path, unused: tuple[str, ...]) -> None:
    """Remove tests, headers, sources of extensions and the named paths."""
    doomed = [path for pattern in unused for path in site.glob(pattern)]
    doomed += [path for path in site.rglob("*") if path.name in UNUSED_FOLDERS and path.is_dir()]
    doomed += [path for path in site.rglob("*") if path.suffix in UNUSED_SUFFIXES]
    for path in doomed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def strip_libraries(site: Path, architecture: str) -> None:
    """Drop symbol tables that only a debugger reads, where a strip for the target is at hand.

    Libraries in `*.libs` are left alone: auditwheel moved their sections with patchelf, and strip
    may then break the alignment of their segments.
    """
    tool = shutil.which(f"{WHEEL_CPU[architecture]}-linux-gnu-strip")
    if tool is None:
        sys.stderr.write(f"no strip for {architecture}: libraries keep their symbol tables\n")
        return
    for library in sorted(site.rglob("*.so")):
        if not library.parent.name.endswith(".libs"):
            subprocess.run([tool, "--strip-unneeded", str(library)], check=True)


def write_metadata(site: Path, project: Project) -> None:
    """Let `importlib.metadata` answer for the project itself."""
    folder = site / f"{project.name}-{project.version}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project.name}\nVersion: {project.version}\n"
    (folder / "METADATA").write_text(text)


def compile_folder(folder: Path, *, installed_at: str) -> None:
    """Compile every module, so that a read-only container starts without compiling.

    `unchecked-hash` files hold no time stamp: equal sources give equal bytes.
    """
    compileall.compile_dir(
        folder,
        maxlevels=64,
        quiet=2,
        stripdir=str(folder),
        prependdir=installed_at,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
