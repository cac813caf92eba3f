"""ONNX Runtime behind a small face: one loaded variant, arrays in, arrays out.

The only importer of onnxruntime. It is imported on first use, in the loading thread, so that
the ports answer before the library is in memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright_runtime.errors import InvalidRequest, ModelFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Threads:
    """How an engine's CPUs are laid out: `workers` concurrent runs of `intra_op` threads each."""

    workers: int
    intra_op: int


def plan_threads(cpu_limit: int, measured_threads: int) -> Threads:
    """Each run gets the threads it was measured with, and as many runs as the CPUs allow.

    Runs of one thread side by side beat one run of many threads in throughput, and N runs of N
    threads lose to both.
    """
    intra_op = max(1, min(measured_threads, cpu_limit))
    return Threads(workers=max(1, cpu_limit // intra_op), intra_op=intra_op)


def engine_version() -> str:
    """The version of ONNX Runtime in use."""
    return str(_import_onnxruntime().__version__)


class Engine:
    """One ONNX graph ready to run; safe to call from several threads at once."""

    def __init__(self, model_file: Path, intra_op_threads: int) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _LOG_ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        state = onnxruntime.capi.onnxruntime_pybind11_state
        self._refusals = (state.InvalidArgument,)
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelFailed(f"ONNX Runtime can not load {model_file.name}: {error}") from error
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(
        self, feeds: Mapping[str, NDArray[Any]], output_names: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Run the graph; BYTES arrays hold `bytes` on both sides.

        Raises:
            InvalidRequest: the engine refuses the inputs.
            ModelFailed: it broke while running.
        """
        ready = {
            name: _to_text(name, array) if array.dtype.hasobject else array
            for name, array in feeds.items()
        }
        try:
            outputs = self._session.run(output_names, ready)
        except self._refusals as error:
            raise InvalidRequest(f"the model refuses this input: {error}") from error
        except Exception as error:
            raise ModelFailed(f"the model failed on this input: {error}") from error
        return [_to_bytes(array) if array.dtype.hasobject else array for array in outputs]


def _import_onnxruntime() -> Any:  # a module without types
    """ONNX Runtime without its usage reports, which start at import unless told before."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # heavy, and only after the line above

    return onnxruntime


def _to_text(name: str, array: NDArray[Any]) -> NDArray[Any]:
    text = np.empty(array.shape, dtype=object)
    try:
        text.reshape(-1)[:] = [element.decode() for element in array.reshape(-1)]
    except UnicodeDecodeError:
        raise InvalidRequest(f"tensor '{name}': BYTES elements must be UTF-8 text") from None
    return text


def _to_bytes(array: NDArray[Any]) -> NDArray[Any]:
    raw = np.empty(array.shape, dtype=object)
    raw.reshape(-1)[:] = [str(element).encode() for element in array.reshape(-1)]
    return raw
