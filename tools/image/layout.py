"""Lay out what an image needs in one folder; run by the Dockerfile in its build stage.

`layout.py dependencies EXTRA FOLDER` installs what `constraints/EXTRA.txt` locks for the target
architecture (`TARGETARCH`) from binary wheels, so that nothing is compiled and another architecture
needs no emulation, and removes what a running plane never reads.
`layout.py code FOLDER` compiles our own packages. Needs only Python's standard library and pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parent
INSTALLED_AT: Final = "/opt/modelwright/lib"
WHEEL_CPU: Final = {"amd64": "x86_64", "arm64": "aarch64"}
MANYLINUX: Final = ("_2_34", "_2_28", "_2_27", "_2_26", "_2_17", "2014", "_2_5", "2010")

UNUSED_FOLDERS: Final = frozenset({"tests", "test", "__pycache__", "include", "bin"})
UNUSED_SUFFIXES: Final = frozenset(
    {".pyi", ".pyx", ".pxd", ".h", ".hpp", ".a", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".lib"}
)
# The Python module links nothing of `libonnxruntime.so.*`: that is the C library for other
# languages, 34 MB. The optimizer's quantizer imports a helper from `transformers`,
# its scipy imports `numpy.f2py`.
UNUSED_PATHS: Final = {
    "operator": (),
    "optimizer": (
        "numpy/distutils",
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

# A file that no Python 3.11 can read is left uncompiled; a few packages ship such.
COMPILE_PROGRAM: Final = """
import compileall, py_compile, sys
sys.pycache_prefix = None
compileall.compile_dir(
    sys.argv[1], maxlevels=64, quiet=2, stripdir=sys.argv[1], prependdir=sys.argv[2],
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
)
"""


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
    install_wheels(SOURCE / "constraints" / f"{extra}.txt", site, architecture)
    prune_site(site, UNUSED_PATHS[extra])
    strip_libraries(site, architecture)
    write_metadata(site)
    compile_folder(site, installed_at=INSTALLED_AT)


def install_wheels(locked: Path, site: Path, architecture: str) -> None:
    """Install the locked closure of an extra; a file whose hash is not listed is refused."""
    command = [sys.executable, "-m", "pip", "install", f"--target={site}", "--no-compile"]
    command += ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([*command, *locked_options(locked, architecture)], check=True)


def locked_options(locked: Path, architecture: str) -> list[str]:
    """Return pip's options for exactly the locked wheels, for Python 3.11 on any machine."""
    options = ["--require-hashes", "--no-deps", f"--requirement={locked}", "--only-binary=:all:"]
    options += ["--implementation=cp", "--python-version=3.11"]
    return options + [f"--platform=manylinux{v}_{WHEEL_CPU[architecture]}" for v in MANYLINUX]


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


def write_metadata(site: Path) -> None:
    """Let `importlib.metadata` answer for the project itself."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def compile_folder(folder: Path, *, installed_at: str, python: str = sys.executable) -> None:
    """Compile every module, so that a read-only container starts without compiling.

    Equal sources give equal bytes: `unchecked-hash` files hold no time stamp, and the process that
    compiles starts from nothing, because which strings are interned in it, and the order of sets,
    show in what it writes.
    """
    # Its own imports are compiled anew, from a cache that is nowhere; what it makes goes beside.
    fresh = [python, "-s", "-S", "-B", "-X", "pycache_prefix=/nonexistent"]
    subprocess.run(
        [*fresh, "-c", COMPILE_PROGRAM, str(folder), installed_at],
        check=True,
        env={"PYTHONHASHSEED": "0"},
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
