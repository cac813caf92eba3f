"""Where the demo runs: the project's own local cluster, or the one a person's KUBECONFIG names."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster import Cluster, ClusterSpec
from e2e.cluster.controlplane import find_free_ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.spec import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.cluster.progress import Progress


@dataclass(frozen=True, slots=True)
class RegistryNames:
    """One registry by its two names: as this machine reaches it, and as the cluster does."""

    push: str
    pull: str
    insecure: bool


class LocalTarget:
    """The cluster of `e2e/cluster`."""

    hint = "make clean-cluster removes everything; make demo starts again where it stopped"

    def __init__(self, progress: Progress) -> None:
        name = os.environ.get("MODELWRIGHT_CLUSTER", DEFAULT_NAME)
        self._cluster = Cluster(ClusterSpec(name=name), progress=progress)

    @property
    def registry(self) -> RegistryNames:
        return RegistryNames(self._cluster.host_registry, self._cluster.registry, insecure=True)

    @property
    def environment(self) -> str:
        name = self._cluster.spec.name
        option = "" if name == DEFAULT_NAME else f" --name {name}"
        return f'eval "$(.venv/bin/python -m e2e.cluster{option} env)"'

    def prepare(self) -> None:
        self._cluster.up()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self._cluster.kubectl(*arguments, input=stdin)

    @contextmanager
    def reach(self, service: str) -> Iterator[str]:
        yield f"http://127.0.0.1:{self._cluster.forward(f'{service}:80')}"


class CurrentTarget:
    """The cluster that `KUBECONFIG` (or kubectl's default) points to; images go to `REGISTRY`."""

    hint = "kubectl delete namespace modelwright-demo removes the sample"
    environment = "# your own KUBECONFIG"

    def __init__(self) -> None:
        push = os.environ.get("REGISTRY", "")
        if not push:
            raise ClusterError(
                "CLUSTER=current needs REGISTRY=host[:port][/path], a registry this machine can "
                "push to and the cluster can pull from (REGISTRY_IN_CLUSTER, if it has another "
                "name there; REGISTRY_INSECURE=true, if it speaks plain HTTP)"
            )
        if shutil.which("kubectl") is None:
            raise ClusterError("CLUSTER=current needs kubectl on the PATH")
        pull = os.environ.get("REGISTRY_IN_CLUSTER", push)
        insecure = os.environ.get("REGISTRY_INSECURE", "") == "true"
        self.registry = RegistryNames(push, pull, insecure)

    def prepare(self) -> None:
        self.kubectl("version", "--request-timeout=10s")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def reach(self, service: str) -> Iterator[str]:
        namespace, _, name = service.partition("/")
        (port,) = find_free_ports(1)
        command = ["kubectl", "-n", namespace, "port-forward", f"service/{name}", f"{port}:80"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarder:
            try:
                assert forwarder.stdout is not None
                forwarder.stdout.readline()  # it says so once it forwards
                yield f"http://127.0.0.1:{port}"
            finally:
                forwarder.terminate()


Target = LocalTarget | CurrentTarget


def choose_target(progress: Progress) -> Target:
    """The local cluster, unless `CLUSTER=current` asks for the person's own."""
    return CurrentTarget() if os.environ.get("CLUSTER") == "current" else LocalTarget(progress)
