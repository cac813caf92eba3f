"""Base images from Debian packages, for machines that reach a Debian mirror but no image registry.

Two images per architecture, unpacked with `dpkg-deb` and never installed, so that another
architecture needs no emulation: `runtime` holds Python and its libraries (no shell, no package
manager, like the distroless image that is the Dockerfile's default), `build` adds pip and binutils.
Called by `images.py`; knows nothing of Modelwright's own images.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.image import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2e.cluster.buildah import Buildah

Architecture = str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GNU_CPU: Final = {"amd64": "x86_64", "arm64": "aarch64"}
PYTHON: Final = "python3.11"

RUNTIME_PACKAGES: Final = _words(
    "base-files ca-certificates gcc-12-base libbz2-1.0 libc6 libcrypt1 libdb5.3 libexpat1 libffi8 "
    "libgcc-s1 liblzma5 libncursesw6 libnsl2 libpython3.11-minimal libpython3.11-stdlib "
    "libreadline8 libsqlite3-0 libssl3 libstdc++6 libtinfo6 libtirpc3 libuuid1 media-types netbase "
    "python3.11-minimal tzdata zlib1g"
)
BUILD_PACKAGES: Final = _words(
    "binutils-aarch64-linux-gnu binutils-common binutils-x86-64-linux-gnu libbinutils libctf0 "
    "libctf-nobfd0 libgprofng0 libjansson4 libzstd1 python3-pip-whl"
)

# What no running server reads. `gconv` keeps UTF-*; glibc itself knows ASCII and UTF-8.
UNUSED_PATHS: Final = _words(
    "etc/cron.d etc/init.d etc/motd etc/update-motd.d usr/bin/pdb3.11 usr/bin/py3versions "
    "usr/games usr/include usr/lib/binfmt.d usr/lib/systemd usr/lib/tmpfiles.d usr/libexec "
    "usr/local usr/sbin usr/share/apps usr/share/base-files usr/share/binfmts usr/share/bug "
    "usr/share/debconf usr/share/dict usr/share/doc "
    "usr/share/doc-base usr/share/info usr/share/lintian usr/share/locale usr/share/man "
    "usr/share/perl5 usr/share/python3 usr/share/gdb var/cache var/lib/systemd"
)
UNUSED_PYTHON: Final = _words(
    "__phello__ ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo turtle.py"
)
# Legacy time zones double the size of tzdata; the canonical names stay.
UNUSED_ZONES: Final = ("posix", "right")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What to unpack into one base image."""

    name: str
    packages: Sequence[str]
    architecture: Architecture

    def key(self) -> str:
        """Return what names the image: its packages and the way they are unpacked."""
        recipe = Path(__file__).read_bytes() + Path(layout.__file__).read_bytes()
        listed = "\n".join((self.name, self.architecture, *self.packages)).encode()
        return hashlib.sha256(recipe + listed).hexdigest()[:16]

    def plain_name(self) -> str:
        return f"localhost/modelwright-base-{self.name}:{self.architecture}"

    def reference(self) -> str:
        return f"{self.plain_name()}-{self.key()}"


def runtime_base(architecture: Architecture) -> BaseImage:
    return BaseImage("runtime", RUNTIME_PACKAGES, architecture)


def build_base(architecture: Architecture) -> BaseImage:
    return BaseImage("build", (*RUNTIME_PACKAGES, *BUILD_PACKAGES), architecture)


def ensure_base(
    image: BaseImage,
    *,
    buildah: Buildah,
    cache: Path,
    report: Callable[[str], None],
    refresh: bool = False,
) -> str:
    """Return the plain name of the base image, making the image when it is not there yet.

    The plain name, because it is written into the images that are built on it.
    """
    reference = image.reference()
    if refresh or not buildah.has(reference):
        _make_base(image, buildah=buildah, cache=cache, report=report, refresh=refresh)
    buildah.run("tag", reference, image.plain_name())
    return image.plain_name()


def _make_base(
    image: BaseImage,
    *,
    buildah: Buildah,
    cache: Path,
    report: Callable[[str], None],
    refresh: bool,
) -> None:
    report(f"base image {image.name} ({image.architecture}): Debian packages")
    debs = download_packages(image.packages, image.architecture, cache=cache, refresh=refresh)
    report(f"base image {image.name} ({image.architecture}): unpack {len(debs)} packages")
    with tempfile.TemporaryDirectory(prefix="rootfs-", dir=cache) as folder:
        rootfs = Path(folder) / "root"
        unpack_rootfs(debs, rootfs, image.architecture)
        buildah.commit_rootfs(rootfs, image.reference(), architecture=image.architecture)


def download_packages(
    packages: Sequence[str], architecture: Architecture, *, cache: Path, refresh: bool
) -> list[Path]:
    """Fetch the packages through apt, whose signed lists vouch for their hashes.

    State of its own keeps the machine's apt as it is, also for another architecture.
    """
    directory = cache / "debs" / architecture
    directory.mkdir(parents=True, exist_ok=True)
    if refresh:
        for deb in directory.glob("*.deb"):
            deb.unlink()
    missing = [name for name in packages if not list(directory.glob(f"{name}_*.deb"))]
    if missing:
        options = _apt_options(cache / "apt" / architecture, architecture)
        _run(["apt-get", *options, "-qq", "update"])
        _run(["apt-get", *options, "-qq", "download", *missing], cwd=directory)
    return [max(directory.glob(f"{name}_*.deb")) for name in sorted(packages)]


def unpack_rootfs(debs: Sequence[Path], rootfs: Path, architecture: Architecture) -> None:
    """Lay out a root file system from packages without running a maintainer script."""
    rootfs.mkdir(parents=True)
    for deb in debs:
        _run(["dpkg-deb", "--extract", str(deb), str(rootfs)])
    _merge_usr(rootfs)
    _remove_unused(rootfs, architecture)
    _link_python(rootfs)
    _install_pip(rootfs)
    _compile_python(rootfs)
    _write_accounts(rootfs)
    _write_certificates(rootfs)


def _apt_options(state: Path, architecture: Architecture) -> list[str]:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    status = state / "status"
    status.touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": str(state / "state"),
        "Dir::State::status": str(status),
        "Dir::Cache": str(state / "cache"),
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _merge_usr(rootfs: Path) -> None:
    """Move /bin, /lib, ... below /usr: packages still ship the old paths, the loader needs both."""
    for name in ("bin", "lib", "lib64", "sbin"):
        old, new = rootfs / name, rootfs / "usr" / name
        new.mkdir(parents=True, exist_ok=True)
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)
        if not old.is_symlink():
            old.symlink_to(f"usr/{name}")


def _remove_unused(rootfs: Path, architecture: Architecture) -> None:
    triplet = rootfs / "usr/lib" / f"{GNU_CPU[architecture]}-linux-gnu"
    unused = [rootfs / path for path in UNUSED_PATHS]
    unused += [rootfs / "usr/lib" / PYTHON / path for path in UNUSED_PYTHON]
    unused += [rootfs / "usr/share/zoneinfo" / zone for zone in UNUSED_ZONES]
    unused += [triplet / "perl", triplet / "perl-base", triplet / "engines-3"]
    unused += [path for path in (triplet / "gconv").glob("*.so") if "UTF" not in path.name]
    unused += list(rootfs.rglob("__pycache__"))
    unused += list((rootfs / "usr/bin").glob("c_rehash"))
    for path in unused:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _link_python(rootfs: Path) -> None:
    for name in ("python3", "python"):
        link = rootfs / "usr/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(PYTHON)


def _install_pip(rootfs: Path) -> None:
    """Unpack pip where Python finds it, in the base image that brings its wheel."""
    for wheel in (rootfs / "usr/share/python-wheels").glob("pip-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(rootfs / "usr/lib/python3/dist-packages")


def _compile_python(rootfs: Path) -> None:
    """Compile the standard library: halves the start of a container, which may not write there.

    Compiled files are the same on every architecture, so this machine's Python 3.11 makes them;
    Debian's own comes first, whose version is the image's.
    """
    python = shutil.which(PYTHON, path="/usr/bin") or shutil.which(PYTHON)
    if python is None:
        raise BaseImageError(f"{PYTHON} is needed to make base images: apt-get install {PYTHON}")
    library = rootfs / "usr/lib" / PYTHON
    layout.compile_folder(library, installed_at=f"/usr/lib/{PYTHON}", python=python)


def _write_accounts(rootfs: Path) -> None:
    etc = rootfs / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0::/root:/sbin/nologin\nmodelwright:x:10001:10001::/:/sbin/nologin\n"
    )
    (etc / "group").write_text("root:x:0:\nmodelwright:x:10001:\n")
    (etc / "nsswitch.conf").write_text("hosts: files dns\n")
    for folder in ("dev", "proc", "sys", "root"):
        (rootfs / folder).mkdir(exist_ok=True)
    (rootfs / "tmp").mkdir(exist_ok=True)
    (rootfs / "tmp").chmod(0o1777)


def _write_certificates(rootfs: Path) -> None:
    """Join the public authorities into the bundle that `update-ca-certificates` would write."""
    authorities = sorted((rootfs / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle = rootfs / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in authorities))


def _run(arguments: Sequence[str], *, cwd: Path | None = None) -> None:
    done = subprocess.run(arguments, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BaseImageError(f"{' '.join(arguments[:4])} … failed: {done.stderr.strip()[-2000:]}")


class BaseImageError(RuntimeError):
    """A base image could not be made; the message holds what the tool said."""
