"""The processes beside the control plane: a real registry, the real operator, and their cost."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from e2e.cluster.controlplane import find_free_ports
from e2e.cluster.packages import find_program
from e2e.cluster.processes import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from e2e.cluster import Cluster
    from e2e.cluster.processes import Identity

OPERATOR: Final = "modelwright-operator"
SYSTEM: Final = "modelwright-system"
OPERATOR_USER: Final = f"system:serviceaccount:{SYSTEM}:{OPERATOR}"
LOOPBACK: Final = "127.0.0.1"
_STARTED_SECONDS: Final = 60.0
_ENDED_SECONDS: Final = 40.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process holds and has used since it began."""

    resident_mib: float
    peak_mib: float
    cpu_seconds: float

    @classmethod
    def of(cls, pid: int) -> Cost:
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":" in line
        )
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(
            resident_mib=round(int(status["VmRSS"].split()[0]) / 1024, 1),
            peak_mib=round(int(status["VmHWM"].split()[0]) / 1024, 1),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        )


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    """The operator as a process of this machine."""

    identity: Identity
    metrics_port: int

    def cost(self) -> Cost:
        self.check()
        return Cost.of(self.identity.pid)

    def passes(self) -> dict[str, int]:
        """Passes since it began, by kind and result."""
        counts: Counter[str] = Counter()
        for line in _get(f"http://{LOOPBACK}:{self.metrics_port}/metrics").splitlines():
            if line.startswith("modelwright_operator_reconciles_total{"):
                labels, _, value = line.partition("{")[2].rpartition("} ")
                pairs = dict(pair.split("=", 1) for pair in labels.split(","))
                kind, result = pairs["kind"].strip('"'), pairs["result"].strip('"')
                counts[f"{kind} {result}"] += int(float(value))
        return dict(counts)

    def check(self) -> None:
        if not self.identity.is_alive():
            raise BenchmarkError("the operator has ended; operator.log says why")


@contextmanager
def running_registry(cluster: Cluster) -> Iterator[str]:
    """Debian's docker-registry on a free port; yields its host and port."""
    program = find_program("docker-registry")
    if program is None:
        raise BenchmarkError("docker-registry is missing: apt-get install docker-registry")
    host = f"{LOOPBACK}:{find_free_ports(1)[0]}"
    folder = cluster.layout.registry
    folder.mkdir(parents=True)
    settings = folder / "config.yml"
    settings.write_text(
        yaml.safe_dump(
            {
                "version": "0.1",
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
                "http": {"addr": host},
            }
        )
    )
    component = Component(
        "registry",
        (program, "serve", str(settings)),
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )
    with _running(cluster, component, lambda: _answers(f"http://{host}/v2/")):
        yield host


@contextmanager
def running_operator(cluster: Cluster, settings: Path) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount, as an installation runs it."""
    health, metrics = find_free_ports(2)
    environment = {
        "KUBECONFIG": str(_write_kubeconfig(cluster)),
        "MODELWRIGHT_SETTINGS": str(settings),
        "MODELWRIGHT_BIND": LOOPBACK,
        "MODELWRIGHT_HEALTH_PORT": str(health),
        "MODELWRIGHT_METRICS_PORT": str(metrics),
        "POD_NAMESPACE": SYSTEM,
        "POD_NAME": OPERATOR,
    }
    component = Component(
        "operator", (sys.executable, "-m", "modelwright_operator"), environment=environment
    )
    ready = f"http://{LOOPBACK}:{health}/readyz"
    with _running(cluster, component, lambda: _answers(ready)) as identity:
        yield OperatorProcess(identity, metrics)


def write_settings(path: Path, registry: str, changes: Mapping[str, Any]) -> Path:
    """The settings of an installation with this registry."""
    document = {
        "artifactRepository": f"{registry}/modelwright",
        "insecureRegistries": [registry],
        "images": {
            plane: f"{registry}/modelwright-{plane}@sha256:{'1' * 64}"
            for plane in ("optimizer", "runtime")
        },
        **changes,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def _write_kubeconfig(cluster: Cluster) -> Path:
    """The administrator's kubeconfig with the operator's token in place of his certificate."""
    token = cluster.kubectl("-n", SYSTEM, "create", "token", OPERATOR, "--duration=12h").strip()
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    path = cluster.layout.root / "operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


@contextmanager
def _running(
    cluster: Cluster, component: Component, is_ready: Callable[[], bool]
) -> Iterator[Identity]:
    """Run it beside the cluster's own processes, which the next run finds and ends if need be."""
    supervisor = cluster.supervisor
    try:
        supervisor.ensure(component)
        supervisor.wait_ready(component.name, is_ready, deadline_seconds=_STARTED_SECONDS)
        identity = supervisor.identity(component.name)
        assert identity is not None
        yield identity
    finally:
        supervisor.stop(component.name, patience_seconds=_ENDED_SECONDS)


def _answers(url: str) -> bool:
    try:
        _get(url)
    except (urllib.error.URLError, OSError):
        return False
    return True


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback ports
        return str(answer.read().decode())
