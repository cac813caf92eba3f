"""The neutral middle with an engine of numpy: checks, queue, cancellation, isolation."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from modelwright_runtime import errors
from modelwright_runtime.dataplane import DataPlane, Outcome, Phase, ServedModel
from modelwright_runtime.metrics import Metrics
from modelwright_runtime.protocol.datatypes import DATATYPES
from modelwright_runtime.protocol.messages import (
    InferRequest,
    InferResult,
    ModelDescription,
    Tensor,
    TensorSpec,
)
from modelwright_runtime.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from numpy.typing import NDArray

    from modelwright_runtime.engine import Engine

FP32, INT64 = DATATYPES["FP32"], DATATYPES["INT64"]
MODEL = ModelDescription(
    name="m",
    version="v1",
    variant="fp32",
    inputs=(TensorSpec("a", FP32, (-1, 2)), TensorSpec("b", INT64, ())),
    outputs=(TensorSpec("sum", FP32, (-1,)), TensorSpec("twice", FP32, (-1, 2))),
)


class NumpyEngine:
    """Sums and doubles; waits at the gate, breaks when told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.runs = 0
        self.entered = threading.Semaphore(0)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], output_names: Sequence[str]
    ) -> list[NDArray[Any]]:
        self.runs += 1
        self.entered.release()
        assert self.gate.wait(10)
        if np.isnan(feeds["a"]).any():
            raise ZeroDivisionError("poisoned")
        results = {"sum": feeds["a"].sum(axis=1), "twice": feeds["a"] * 2}
        return [results[name] for name in output_names]


class Plane:
    def __init__(self) -> None:
        self.engine = NumpyEngine()
        self.metrics = Metrics("m", "0")
        self.dataplane = DataPlane("m", self.metrics)
        self.workers = WorkerPool(asyncio.get_running_loop(), workers=1, queue_limit=2)
        engine = cast("Engine", self.engine)
        self.model = ServedModel(MODEL, engine, self.workers)

    def submit(self, request: InferRequest) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.job = self.dataplane.submit(self.model, request, future.set_result)
        return future


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane()
    plane.dataplane.activate(plane.model)
    yield plane
    plane.engine.gate.set()
    plane.workers.close(10)


def request(rows: int = 1, **changes: Any) -> InferRequest:
    a = Tensor("a", FP32, np.ones((rows, 2), np.float32))
    b = Tensor("b", INT64, np.array(1))
    return InferRequest(inputs=changes.pop("inputs", [a, b]), **changes)


def a_tensor(datatype: str, shape: tuple[int, ...]) -> Tensor:
    kind = DATATYPES[datatype]
    return Tensor("a", kind, np.zeros(shape, kind.numpy))


B = Tensor("b", INT64, np.array(1))


async def test_outputs_come_in_the_order_asked_for(plane: Plane) -> None:
    outcome = await plane.submit(request(output_names=["twice", "sum"]))
    assert isinstance(outcome, InferResult)
    assert [one.name for one in outcome.outputs] == ["twice", "sum"]
    everything = await plane.submit(request())
    assert isinstance(everything, InferResult)
    assert [one.name for one in everything.outputs] == ["sum", "twice"]
    assert everything.inference_nanos > 0


@pytest.mark.parametrize(
    ("wrong", "want"),
    [
        (request(inputs=[]), "missing input: a, b"),
        (request(inputs=[B]), "missing input: a"),
        (request(inputs=[B, B]), "input 'b' is given twice"),
        (
            request(inputs=[Tensor("c", FP32, np.zeros(1))]),
            "unknown input 'c', the model has: a, b",
        ),
        (request(inputs=[a_tensor("FP64", (1, 2)), B]), "'a' is FP64, the model takes FP32"),
        (request(inputs=[a_tensor("FP32", (1, 3)), B]), "shape [1, 3], the model takes [-1, 2]"),
        (request(inputs=[a_tensor("FP32", (2,)), B]), "shape [2], the model takes [-1, 2]"),
        (request(inputs=[a_tensor("FP32", (1, 1, 2)), B]), "shape [1, 1, 2]"),
        (request(output_names=["nope"]), "unknown output 'nope', the model has: sum, twice"),
        (request(output_names=["sum", "sum"]), "asked for twice"),
    ],
)
async def test_requests_that_do_not_fit_the_model_are_refused_before_the_queue(
    plane: Plane, wrong: InferRequest, want: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        plane.submit(wrong)
    assert want in caught.value.message
    assert plane.workers.unfinished == 0


async def test_a_full_queue_refuses_and_then_recovers(plane: Plane) -> None:
    plane.engine.gate.clear()
    taken = [plane.submit(request()) for _ in range(3)]  # one runs, two wait
    with pytest.raises(errors.Overloaded):
        plane.submit(request())
    plane.engine.gate.set()
    assert all(isinstance(outcome, InferResult) for outcome in await asyncio.gather(*taken))
    assert isinstance(await plane.submit(request()), InferResult)


async def test_cancelled_work_is_never_run(plane: Plane) -> None:
    plane.engine.gate.clear()
    first = plane.submit(request())
    second = plane.submit(request())
    plane.job.cancel()
    plane.engine.gate.set()
    assert isinstance(await first, InferResult)
    assert isinstance(await second, errors.Cancelled)
    assert plane.engine.runs == 1


async def test_a_request_that_breaks_the_engine_fails_alone(plane: Plane) -> None:
    poison = Tensor("a", FP32, np.full((1, 2), np.nan, np.float32))
    outcomes = await asyncio.gather(
        plane.submit(request()), plane.submit(request(inputs=[poison, B])), plane.submit(request())
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [InferResult, errors.ModelFailed, InferResult]


async def test_models_are_found_by_name_and_version(plane: Plane) -> None:
    find = plane.dataplane.find_model
    assert find("m", None) is find("m", "v1") is find("m", "") is plane.model
    with pytest.raises(errors.NotServed, match="'x'"):
        find("x", None)
    with pytest.raises(errors.NotServed, match="version 'v2'"):
        find("m", "v2")


async def test_phases_of_a_life() -> None:
    plane = Plane()
    dataplane = plane.dataplane
    assert (dataplane.phase, dataplane.is_ready) == (Phase.LOADING, False)
    with pytest.raises(errors.NotReady):
        dataplane.find_model("m", None)
    with pytest.raises(errors.NotServed):
        dataplane.find_model("x", None)
    dataplane.activate(plane.model)
    assert dataplane.is_ready
    dataplane.start_draining()
    assert not dataplane.is_ready
    assert isinstance(await plane.submit(request()), InferResult)
    plane.workers.close(10)
