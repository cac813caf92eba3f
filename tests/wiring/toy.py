"""A small operator on the real control room: one Job for each InferenceModel.

Run as `python -m tests.wiring.toy SERVER HEALTH_PORT METRICS_PORT IDENTITY PASS_SECONDS` it is a
process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from modelwright_operator.control.contract import Wiring
from modelwright_operator.control.logs import configure_logging
from modelwright_operator.control.main import Endpoints, Installation, Operator
from modelwright_operator.kube.config import ClusterConfig, load_kubeconfig
from modelwright_operator.plan.types import Key
from modelwright_operator.settings import parse_settings
from tests.wiring.conftest import WATCHED

log = logging.getLogger("modelwright_operator.toy")

LABELS = {"app.kubernetes.io/managed-by": "modelwright"}
POD = {"restartPolicy": "Never", "containers": [{"name": "toy", "image": "toy"}]}


class Toy:
    """Makes a Job `<model>` where there is none, and counts the passes."""

    def __init__(self, context):
        self.context = context
        self.passes = []
        self.pause_seconds = 0.0

    async def reconcile(self, key):
        self.passes.append(key.name)
        store = self.context.store
        model = store.get("InferenceModel", key.namespace, key.name)
        await asyncio.sleep(self.pause_seconds)
        if model is None or store.get("Job", key.namespace, key.name):
            return
        owner = {"kind": "InferenceModel", "name": key.name, "uid": model["metadata"]["uid"]}
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": LABELS,
                "ownerReferences": [{"apiVersion": model["apiVersion"], **owner}],
            },
            "spec": {"template": {"spec": POD}},
        }
        store.put(await self.context.client.apply(job))
        log.info("made", extra={"job": key.name})


def wake(before, after):
    changed = after or before
    metadata = changed["metadata"]
    if changed["kind"] == "InferenceModel":
        yield Key("InferenceModel", metadata["namespace"], metadata["name"])
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] == "InferenceModel":
            yield Key("InferenceModel", metadata["namespace"], owner["name"])


class Assembly:
    """Remembers the toy it made, so that a test can look at it."""

    def __init__(self):
        self.toy = None

    def __call__(self, context):
        self.toy = Toy(context)
        return Wiring(
            kinds=WATCHED,
            primary=frozenset({"InferenceModel"}),
            wake=wake,
            reconcilers={"InferenceModel": self.toy},
        )


def find_config(server):
    """The way to a server, given by its address or by a kubeconfig file."""
    if server.startswith("http"):
        return ClusterConfig(server, namespace="modelwright-system")
    return load_kubeconfig([Path(server)])


def installation(url, identity="toy-1", *, health_port=0, metrics_port=0, **settings):
    document = {
        "artifactRepository": "registry.test/m",
        "images": {"optimizer": "o", "runtime": "r"},
        "resyncSeconds": 10,
        "leaderElection": {
            "leaseDurationSeconds": 5,
            "renewDeadlineSeconds": 3,
            "retryPeriodSeconds": 1,
        },
        **settings,
    }
    return Installation(
        settings=parse_settings(document),
        config=find_config(url),
        namespace="modelwright-system",
        identity=identity,
        endpoints=Endpoints("127.0.0.1", health_port, metrics_port),
    )


def main(url, health_port, metrics_port, identity, pass_seconds):
    configure_logging("INFO")
    made = installation(url, identity, health_port=int(health_port), metrics_port=int(metrics_port))
    assembly = Assembly()
    operator = Operator(made, assembly)
    assembly.toy.pause_seconds = float(pass_seconds)
    return asyncio.run(operator.run())


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
