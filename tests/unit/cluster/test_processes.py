from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.errors import ClusterError
from e2e.cluster.probes import wait_until
from e2e.cluster.processes import BOOT_ID, Component, Identity, Supervisor, end_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEPER = ("/bin/sh", "-c", "echo started; exec sleep 600")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo started; while true; do sleep 0.1; done")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "run", tmp_path / "log")
    yield supervisor
    for name in supervisor.names():
        supervisor.stop(name, patience_seconds=0)


def own_identity() -> Identity:
    return Identity.parse(Path("/proc/self/stat").read_text() + BOOT_ID.read_text())


def test_own_process_is_alive() -> None:
    assert own_identity().pid == os.getpid()
    assert own_identity().is_alive()


@pytest.mark.parametrize(
    "stranger",
    [
        dataclasses.replace(own_identity(), start_ticks=1),
        dataclasses.replace(own_identity(), boot_id="another"),
    ],
)
def test_recycled_pid_is_another_process(stranger: Identity) -> None:
    assert not stranger.is_alive()
    assert end_process(stranger, 0) is False  # or this test would end here


@given(
    name=st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=15),
    pid=st.integers(1, 2**22),
    ticks=st.integers(0, 2**63),
)
def test_property_identity_survives_any_program_name(name: str, pid: int, ticks: int) -> None:
    stat = f"{pid} ({name}) S {' '.join(['0'] * 18)} {ticks} 0 0\n"

    assert Identity.parse(stat + "boot\n") == Identity(pid, ticks, "boot")


@pytest.mark.parametrize("text", ["", "12", "12 (sh) S 1\nboot\n", "\n"])
def test_cut_pid_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a pid file"):
        Identity.parse(text)


def test_component_starts_once_and_stops(supervisor: Supervisor) -> None:
    component = Component("sleeper", SLEEPER)

    assert supervisor.ensure(component) is True
    first = supervisor.identity("sleeper")
    assert supervisor.ensure(component) is False

    assert supervisor.identity("sleeper") == first
    assert supervisor.stop("sleeper") is True
    assert first is not None
    assert not first.is_alive()
    assert supervisor.names() == []


def test_pid_file_names_the_component_itself(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("sleeper", SLEEPER))
    identity = supervisor.identity("sleeper")
    assert identity is not None

    command = Path(f"/proc/{identity.pid}/cmdline")
    wait_until("exec", lambda: b"sleep\x00600" in command.read_bytes(), deadline_seconds=30)


def test_killed_component_is_started_anew(supervisor: Supervisor) -> None:
    component = Component("sleeper", SLEEPER)
    supervisor.ensure(component)
    killed = supervisor.identity("sleeper")
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    wait_until("dead", lambda: not killed.is_alive(), deadline_seconds=30)

    assert supervisor.ensure(component) is True

    assert supervisor.is_alive("sleeper")
    assert supervisor.identity("sleeper") != killed


def test_changed_command_and_configuration_start_it_anew(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    configuration = tmp_path / "configuration"
    configuration.write_text("one")
    component = Component("sleeper", SLEEPER, configuration=(configuration,))
    supervisor.ensure(component)

    configuration.write_text("two")
    assert supervisor.ensure(component) is True
    assert supervisor.ensure(component) is False
    assert supervisor.ensure(dataclasses.replace(component, environment={"A": "b"})) is True


def test_stubborn_process_is_killed(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("stubborn", STUBBORN))
    log = supervisor.log("stubborn")
    wait_until("trap set", lambda: "started" in log.read_text(), deadline_seconds=30)

    assert supervisor.stop("stubborn", patience_seconds=0.2) is True


def test_component_that_ends_is_reported_with_its_log(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("broken", ("/bin/sh", "-c", "echo no such flag >&2; exit 1")))

    with pytest.raises(ClusterError, match=r"broken ended(.|\n)*no such flag"):
        supervisor.wait_ready("broken", lambda: False, deadline_seconds=30)


def test_component_that_is_never_ready_is_reported(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("sleeper", SLEEPER))

    with pytest.raises(ClusterError, match="not ready after 0 s"):
        supervisor.wait_ready("sleeper", lambda: False, deadline_seconds=0)
