"""KWOK: nodes and kubelets that are only played, for benchmarks with hundreds of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from e2e.cluster.addons import MANIFESTS
from e2e.cluster.probes import Endpoint
from e2e.cluster.processes import Component

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2e.cluster.netns import NetworkNamespace
    from e2e.cluster.processes import Supervisor

NAME: Final = "kwok"
ADDRESS: Final = "127.0.0.1"
DEADLINE_SECONDS: Final = 60.0
# A node is played when it says so itself; real nodes beside it stay real.
NODE_STAGES: Final = MANIFESTS / "kwok-nodes.yaml"
POD_STAGES: Final = MANIFESTS / "kwok-pods.yaml"
LEASE_SECONDS: Final = 40
PLAYED_NODES: Final = "kwok.x-k8s.io/node=fake"


@dataclass(frozen=True, slots=True)
class Kwok:
    """The KWOK controller; `stages` replace those of pods, nodes are played the same always."""

    program: Path
    kubeconfig: Path
    port: int
    stages: Sequence[Path] = ()
    namespace: NetworkNamespace | None = None

    def up(self, supervisor: Supervisor) -> bool:
        """Start the controller unless it runs; tell whether it was started."""
        started = supervisor.ensure(self.component())
        health = Endpoint(ADDRESS, self.port, self.namespace)
        supervisor.wait_ready(NAME, health.probe("/healthz"), deadline_seconds=DEADLINE_SECONDS)
        return started

    @property
    def all_stages(self) -> tuple[Path, ...]:
        return (NODE_STAGES, *(self.stages or (POD_STAGES,)))

    def component(self) -> Component:
        flags = (
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={PLAYED_NODES}",
            f"--node-lease-duration-seconds={LEASE_SECONDS}",
            f"--server-address={ADDRESS}:{self.port}",
            *(f"--config={stage}" for stage in self.all_stages),
        )
        return Component(
            NAME,
            (str(self.program), *flags),
            self.namespace,
            configuration=(self.kubeconfig, *self.all_stages),
        )
