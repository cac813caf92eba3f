"""KWOK: nodes and kubelets that are only played, for benchmarks with hundreds of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
PLAYED_NODES: Final = "kwok.x-k8s.io/node=fake"


@dataclass(frozen=True, slots=True)
class Kwok:
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

    def component(self) -> Component:
        flags = (
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={PLAYED_NODES}",
            f"--server-address={ADDRESS}:{self.port}",
            *(f"--config={stage}" for stage in self.stages),
        )
        return Component(
            NAME,
            (str(self.program), *flags),
            self.namespace,
            configuration=(self.kubeconfig, *self.stages),
        )
