"""The real operator as a process that dies at a chosen request, forked from a warm server.

Only the artifact registry and the builds' progress are played; store, queue, watches, lists,
applier and reconcilers are the product's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright_operator.control.assembly import assemble
from modelwright_operator.control.logs import configure_logging
from modelwright_operator.control.main import Endpoints, Installation, Operator
from modelwright_operator.control.reconcilers import BuildReconciler
from modelwright_operator.kube.config import load_kubeconfig
from tests.support import builders as a
from tests.support.playing_kubelet import PlayedProgress, PlayedRegistry

if TYPE_CHECKING:
    from modelwright_operator.control.contract import Context, Wiring
    from modelwright_operator.kube.client import Request

_FORKS = multiprocessing.get_context("forkserver")
_WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True)
class Order:
    """Which operator to run; `kill_at` is the number of the request it does not survive."""

    kubeconfig: str
    namespace: str
    log: str
    kill_at: int = 0


class OperatorProcess:
    """One life of an operator."""

    def __init__(self, order: Order) -> None:
        """Start it."""
        _FORKS.set_forkserver_preload(["pytest", "tests.support.operator_process"])
        self._requests = _FORKS.Value("i", 0)
        self._writes = _FORKS.Value("i", 0)
        self._process = _FORKS.Process(
            target=_live, args=(order, self._requests, self._writes), daemon=True
        )
        self._process.start()

    @property
    def requests(self) -> int:
        """How many requests it has made, watches aside."""
        return int(self._requests.value)

    @property
    def writes(self) -> int:
        """How many of them were writes."""
        return int(self._writes.value)

    @property
    def exit_code(self) -> int | None:
        """None while it lives, negative when a signal ended it."""
        return self._process.exitcode

    async def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGTERM)
        await asyncio.to_thread(self._process.join, 60)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError("the operator does not end when it is asked to")


def _live(order: Order, requests: Any, writes: Any) -> None:
    """The life itself, in the forked process."""
    with Path(order.log).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)
        configure_logging("INFO")

        def count(request: Request) -> None:
            requests.value += 1
            writes.value += request.verb in _WRITES
            if requests.value == order.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def wire(context: Context) -> Wiring:
            context.client._on_request = count
            wiring = assemble(context)
            builds = BuildReconciler(context, PlayedRegistry(), PlayedProgress())
            return dataclasses.replace(
                wiring, reconcilers={**wiring.reconcilers, "ModelBuild": builds}
            )

        raise SystemExit(asyncio.run(Operator(_installation(order), wire).run()))


def _installation(order: Order) -> Installation:
    return Installation(
        settings=a.settings(
            watchNamespaces=[order.namespace],
            leaderElection={"enabled": False},
            probeNodes=False,
            workers=4,
        ),
        config=load_kubeconfig([Path(order.kubeconfig)]),
        namespace="modelwright-system",
        identity=f"operator-of-{order.namespace}",
        endpoints=Endpoints("127.0.0.1", 0, 0),
    )
