"""When each model became Ready, seen through one watch."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from e2e.cluster import Cluster

_COLUMNS: Final = (
    '{.metadata.namespace}/{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}'
)


@dataclass
class Readiness:
    """The moments, on the monotonic clock, at which models were first seen Ready."""

    _seen: dict[str, float] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, models: Sequence[str], deadline_seconds: float) -> list[float]:
        """The moments of all of them, in order.

        Raises:
            TimeoutError: some are not Ready in time; the message names a few.
        """
        deadline = time.monotonic() + deadline_seconds
        with self._changed:
            while missing := [model for model in models if model not in self._seen]:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(
                        f"{len(missing)} of {len(models)} models are not Ready after "
                        f"{deadline_seconds:.0f} s, such as {', '.join(missing[:3])}"
                    )
            return sorted(self._seen[model] for model in models)

    def take(self, lines: Iterable[str]) -> None:
        for line in lines:
            model, _, ready = line.strip().partition(" ")
            if ready != "True":
                continue
            with self._changed:
                self._seen.setdefault(model, time.monotonic())
                self._changed.notify_all()


@contextmanager
def watching(cluster: Cluster) -> Iterator[Readiness]:
    """Watch all InferenceModels while the block runs."""
    command = [*cluster.kubectl_command(), "get", "inferencemodels", "--all-namespaces", "--watch"]
    process = subprocess.Popen(
        [*command, f"--output=jsonpath={_COLUMNS}"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    readiness = Readiness()
    reader = threading.Thread(target=readiness.take, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield readiness
    finally:
        process.terminate()
        process.wait()
        reader.join()
