"""Mounts below a folder: find them, let go of them."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster.commands import run

MOUNT_INFO = Path("/proc/self/mountinfo")


def list_mounts_below(folder: Path, mountinfo: str | None = None) -> list[str]:
    """List mount points inside the folder, the deepest first."""
    text = MOUNT_INFO.read_text() if mountinfo is None else mountinfo
    points = [_unescape(line.split()[4]) for line in text.splitlines()]
    below = {point for point in points if Path(point).is_relative_to(folder)}
    return sorted(below, key=lambda point: (point.count("/"), point), reverse=True)


def unmount_below(folder: Path) -> None:
    # One mount may hide another at the same place.
    while points := list_mounts_below(folder):
        run(["umount", "--lazy", *points])


def _unescape(path: str) -> str:
    r"""Undo the octal escapes of the kernel, as `\040` for a space."""
    return path.encode("latin-1").decode("unicode_escape") if "\\" in path else path
