"""The protocol-neutral middle: checks a request against the model, runs it, reports the result.

REST and gRPC are two faces of it. It knows tensors, models and faults, no sockets or codes.
All of it lives on the event loop's thread; only `Engine.run` happens in a worker.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from modelwright_runtime.errors import (
    Cancelled,
    InferenceFault,
    InvalidRequest,
    NotReady,
    NotServed,
)
from modelwright_runtime.protocol.messages import InferRequest, InferResult, Tensor
from modelwright_runtime.workers import Job, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelwright_runtime.engine import Engine
    from modelwright_runtime.metrics import Metrics
    from modelwright_runtime.protocol.messages import ModelDescription, TensorSpec


class Phase(enum.Enum):
    """Where the server stands in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The variant that answers: what it says of itself, its engine, its workers."""

    description: ModelDescription
    engine: Engine
    workers: WorkerPool


Outcome: TypeAlias = "InferResult | InferenceFault"


class DataPlane:
    """One model under one name, from loading to draining."""

    def __init__(self, model_name: str, metrics: Metrics) -> None:
        self.model_name = model_name
        self.phase = Phase.LOADING
        self.model: ServedModel | None = None
        self._metrics = metrics
        self._inputs: dict[str, TensorSpec] = {}
        self._outputs: dict[str, TensorSpec] = {}

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.phase is Phase.SERVING

    def activate(self, model: ServedModel) -> None:
        """Serve this variant from now on."""
        self._inputs = {spec.name: spec for spec in model.description.inputs}
        self._outputs = {spec.name: spec for spec in model.description.outputs}
        self.model = model
        self.phase = Phase.SERVING

    def start_draining(self) -> None:
        """Not ready any more, but what still arrives is answered."""
        self.phase = Phase.DRAINING

    def find_model(self, name: str, version: str | None) -> ServedModel:
        """The model of that name; raises NotServed, or NotReady while it loads."""
        if name != self.model_name:
            raise NotServed(f"no model '{name}' here, this server serves '{self.model_name}'")
        if self.model is None:
            raise NotReady(f"model '{name}' is still loading")
        served = self.model.description.version
        if version and version != served:
            raise NotServed(f"model '{name}' has no version '{version}', it serves '{served}'")
        return self.model

    def submit(
        self, model: ServedModel, request: InferRequest, deliver: Callable[[Outcome], None]
    ) -> Job:
        """Check and queue a request; `deliver` is called once, on the loop, unless this raises.

        Returns:
            The job, for `cancel()` when the caller goes away.
        """
        feeds = {tensor.name: tensor.array for tensor in self._check_inputs(request.inputs)}
        specs = self._select_outputs(request.output_names)
        names = [spec.name for spec in specs]
        engine = model.engine

        def run() -> Sequence[Tensor]:
            arrays = engine.run(feeds, names)
            return [
                Tensor(spec.name, spec.datatype, array)
                for spec, array in zip(specs, arrays, strict=True)
            ]

        def finish(job: Job) -> None:
            queue_nanos = job.started - job.queued
            inference_nanos = job.finished - job.started
            if not isinstance(job.fault, Cancelled):
                self._metrics.observe_inference(queue_nanos, inference_nanos)
            deliver(job.fault or InferResult(job.outputs, queue_nanos, inference_nanos))

        job = Job(run, finish)
        model.workers.submit(job)
        return job

    def _check_inputs(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        seen: set[str] = set()
        for tensor in tensors:
            spec = self._inputs.get(tensor.name)
            if spec is None:
                expected = ", ".join(self._inputs)
                raise InvalidRequest(f"unknown input '{tensor.name}', the model has: {expected}")
            if tensor.name in seen:
                raise InvalidRequest(f"input '{tensor.name}' is given twice")
            seen.add(tensor.name)
            check_tensor(tensor, spec)
        if len(seen) != len(self._inputs):
            missing = ", ".join(name for name in self._inputs if name not in seen)
            raise InvalidRequest(f"missing input: {missing}")
        return tensors

    def _select_outputs(self, names: Sequence[str] | None) -> Sequence[TensorSpec]:
        if names is None:
            return tuple(self._outputs.values())
        if len(set(names)) != len(names):
            raise InvalidRequest("an output is asked for twice")
        for name in names:
            if name not in self._outputs:
                expected = ", ".join(self._outputs)
                raise InvalidRequest(f"unknown output '{name}', the model has: {expected}")
        return [self._outputs[name] for name in names]


def check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    """Raise InvalidRequest unless datatype and shape fit; -1 in the model fits any size."""
    if tensor.datatype is not spec.datatype:
        raise InvalidRequest(
            f"input '{tensor.name}' is {tensor.datatype.name}, the model takes {spec.datatype.name}"
        )
    shape = tensor.array.shape
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for got, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"input '{tensor.name}' has shape {list(shape)}, the model takes {list(spec.shape)}"
        )
