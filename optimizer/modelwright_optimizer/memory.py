"""Peak memory of a process that loads a variant and answers one call.

Run as a program in a process of its own, so that nothing else counts: the figure is the whole
process (interpreter and ONNX Runtime included), VmHWM of /proc/self/status.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_TIMEOUT_SECONDS: Final = 600
_KIB: Final = 1024


def measure_peak_bytes(model: Path, golden_inputs: Path, rows: int, threads: int) -> int | None:
    """Peak resident bytes, or None where the system does not count them."""
    command = [
        sys.executable,
        "-m",
        "modelwright_optimizer.memory",
        str(model),
        str(golden_inputs),
        str(rows),
        str(threads),
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    return int(run.stdout) if run.returncode == 0 and run.stdout.strip().isdigit() else None


def main(arguments: list[str]) -> int:
    """Load, run once, print the peak in bytes."""
    from modelwright_artifact.attestation import INPUT_PREFIX, load_arrays
    from modelwright_optimizer.engine import open_graph

    model, inputs, rows, threads = arguments
    graph = open_graph(Path(model), int(threads))
    arrays = load_arrays(Path(inputs), INPUT_PREFIX)
    graph.run({name: array[: int(rows)] for name, array in arrays.items()})
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            sys.stdout.write(f"{int(line.split()[1]) * _KIB}\n")
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
