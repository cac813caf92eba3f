"""kubectl bound to one cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.commands import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kubectl:
    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, input_text: str | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            CommandError: it ended with another status than 0.
        """
        return run([*self.command(), *arguments], input_text=input_text)

    def command(self) -> list[str]:
        return [str(self.program), f"--kubeconfig={self.kubeconfig}"]

    def apply(self, *manifests: Mapping[str, object]) -> None:
        """Server-side apply objects as they are given."""
        content = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self("apply", *APPLY_FLAGS, "--filename=-", input_text=json.dumps(content))

    def apply_text(self, manifest: str) -> None:
        self("apply", *APPLY_FLAGS, "--filename=-", input_text=manifest)


APPLY_FLAGS = ("--server-side", "--force-conflicts", "--field-manager=local-cluster")
