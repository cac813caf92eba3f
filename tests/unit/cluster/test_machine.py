"""Reading the machine: cgroups, mounts, packages, files, and what is said about it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.cgroups import Hierarchies, parse_hierarchies
from e2e.cluster.errors import ClusterError
from e2e.cluster.files import locked, write_if_changed
from e2e.cluster.mounts import list_mounts_below
from e2e.cluster.packages import ensure_packages
from e2e.cluster.progress import Durations, Progress
from e2e.cluster.status import ComponentStatus, format_seconds, render_table

V1 = "30 24 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
V2 = "40 24 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
ONLY_V2 = "40 24 0:36 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "want"),
    [
        (
            V1 + V2,
            Hierarchies(
                (Path("/sys/fs/cgroup/cpu"),), False, beside=(Path("/sys/fs/cgroup/unified"),)
            ),
        ),
        (ONLY_V2, Hierarchies((Path("/sys/fs/cgroup"),), True)),
    ],
)
def test_hierarchies_are_those_with_controllers(mountinfo: str, want: Hierarchies) -> None:
    assert parse_hierarchies(mountinfo) == want


def test_machine_without_cgroups_is_refused() -> None:
    with pytest.raises(ClusterError, match="no cgroups are mounted"):
        parse_hierarchies("22 1 0:20 / /proc rw - proc proc rw\n")


def test_new_cpuset_gets_its_parents_cpus(tmp_path: Path) -> None:
    cpuset, cpu = tmp_path / "cpuset", tmp_path / "cpu"
    for root in (cpuset, cpu):
        root.mkdir()
    (cpuset / "cpuset.cpus").write_text("0-1\n")
    (cpuset / "cpuset.mems").write_text("0\n")

    Hierarchies((cpuset, cpu), unified=False).create("node")

    assert (cpuset / "node/cpuset.cpus").read_text() == "0-1\n"
    assert (cpu / "node").is_dir()


def unified_root(path: Path, controllers: str) -> Hierarchies:
    for folder in (path, path / "node"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers)
        (folder / "cgroup.subtree_control").write_text("cpu\n")
    return Hierarchies((path,), unified=True)


def test_v2_group_passes_its_controllers_on(tmp_path: Path) -> None:
    unified_root(tmp_path, "cpu cpuset memory pids io\n").create("node")

    for folder in (tmp_path, tmp_path / "node"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpuset +memory +pids"


def test_v2_without_a_needed_controller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="lacks the controllers memory pids"):
        unified_root(tmp_path, "cpu cpuset\n").create("node")


def test_mounts_below_a_folder_come_deepest_first() -> None:
    lines = [f"1 1 0:1 / {p} rw - tmpfs x rw" for p in ("/a", "/a/b", "/a/b/c\\040d", "/ab", "/")]

    assert list_mounts_below(Path("/a"), "\n".join(lines)) == ["/a/b/c d", "/a/b", "/a"]


def test_missing_packages_are_named_to_those_who_cannot_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    progress = Progress(Durations(tmp_path / "durations.json"), io.StringIO())

    with pytest.raises(ClusterError, match=r"install --no-install-recommends not-there$"):
        ensure_packages({"not-there": str(tmp_path / "missing"), "sh": "sh"}, progress)


def test_unchanged_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "etc/proxy.yaml"
    assert write_if_changed(path, "one") is True
    before = path.stat()

    assert write_if_changed(path, "one") is False
    assert path.stat() == before
    assert write_if_changed(path, "two") is True
    assert [each.name for each in path.parent.iterdir()] == ["proxy.yaml"]


def test_lock_file_may_be_removed_by_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        path.unlink()

    with locked(path):
        assert path.exists()


def test_steps_tell_their_time_and_last_time(tmp_path: Path) -> None:
    out = io.StringIO()
    progress = Progress(Durations(tmp_path / "durations.json"), out)

    for _ in range(2):
        with progress.step("etcd"):
            pass

    first, second = out.getvalue().splitlines()
    assert "last time" not in first
    assert "✓ etcd" in second
    assert "last time" in second


def test_time_of_nothing_done_is_not_kept(tmp_path: Path) -> None:
    durations = Durations(tmp_path / "durations.json")
    with Progress(durations, io.StringIO()).step("etcd") as step:
        step.was_done()

    assert durations.last_seconds("etcd") is None


def test_failed_step_is_marked_and_its_time_not_kept(tmp_path: Path) -> None:
    durations, out = Durations(tmp_path / "durations.json"), io.StringIO()

    with pytest.raises(ClusterError), Progress(durations, out).step("etcd"):
        raise ClusterError

    assert "✗ etcd" in out.getvalue()
    assert durations.last_seconds("etcd") is None


@given(seconds=st.floats(0, 10**7))
def test_property_written_duration_is_true_in_its_units(seconds: float) -> None:
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    parts = format_seconds(seconds).split()

    written = sum(int(n) * sizes[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))

    smallest = sizes[parts[-1]]
    assert 0 <= seconds - written < smallest


def test_table_shows_the_dead_too() -> None:
    running = ComponentStatus("etcd", Path("/log/etcd.log"), 12, 61.0, 2**20)
    dead = ComponentStatus("kubelet", Path("/log/kubelet.log"))

    header, *rows = render_table([running, dead]).splitlines()

    assert header.split()[0] == "COMPONENT"
    assert " ".join(rows[0].split()) == "etcd running 12 1 min 1 s 1 MiB /log/etcd.log"
    assert rows[1].split() == ["kubelet", "dead", "/log/kubelet.log"]
