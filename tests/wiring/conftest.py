import asyncio
import time

import pytest

from modelwright_operator.control.contract import Watched
from modelwright_operator.kube.config import ClusterConfig
from tests.wiring.apiserver import FaultyApiServer

WATCHED = (Watched("InferenceModel"), Watched("Job", "app.kubernetes.io/managed-by=modelwright"))
DEADLINE_SECONDS = 60.0


@pytest.fixture
async def server():
    async with FaultyApiServer() as running:
        yield running


@pytest.fixture
def config(server):
    return ClusterConfig(server.url, namespace="modelwright-system")


@pytest.fixture
def eventually():
    """Wait until something holds; fail when it does not in a minute."""

    async def wait(condition, what="the condition"):
        until = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > until:
                pytest.fail(f"{what} did not come true in {DEADLINE_SECONDS:.0f} s")
            await asyncio.sleep(0.02)

    return wait
