"""How the operator behaves with many models: time, writes, memory, CPU, and silence when quiet.

A real control plane and a real registry; KWOK plays the kubelets; the operator is the product's
own process under its own ServiceAccount. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from benchmarks.operator.audit import AuditLog, Write, count_failures, count_writes
from benchmarks.operator.changes import Snapshot, find_changes
from benchmarks.operator.processes import (
    OPERATOR_USER,
    BenchmarkError,
    Cost,
    OperatorProcess,
    running_operator,
    running_registry,
    write_settings,
)
from benchmarks.operator.readiness import Readiness, watching
from benchmarks.operator.workload import (
    Model,
    build_list,
    build_models,
    build_namespace,
    build_nodes,
    push_builds,
    write_stages,
)
from e2e.cluster import Cluster, ClusterError, ClusterSpec
from modelwright_operator.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFESTS: Final = Path(__file__).parents[2] / "manifests" / "base"
CRDS: Final = Path(__file__).parents[2] / "crds"
# The installation without its Deployment: the operator runs here.
INSTALLED: Final = (
    "namespace",
    "service-account",
    "cluster-role",
    "cluster-role-binding",
    "role",
    "role-binding",
)
FIRST: Final = Model("scale-first", "digits-first", "scale-first")
_CALM_SECONDS: Final = 15.0
_CALM_DEADLINE_SECONDS: Final = 300.0
_READY_SECONDS: Final = 1800.0
_SHOWN_WRITES: Final = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    models: int
    namespaces: int
    nodes: int
    quiet_seconds: float
    name: str
    json: Path | None
    settings: dict[str, Any]


@dataclass(slots=True)
class Results:
    """Everything that is told in the end."""

    machine: dict[str, Any]
    options: dict[str, Any]
    memory: dict[str, Cost] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    converge: dict[str, Any] = field(default_factory=dict)
    quiet: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """The running parts."""

    cluster: Cluster
    operator: OperatorProcess
    audit: AuditLog
    readiness: Readiness


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when the quiet operator wrote something."""
    options = parse_options(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    results = Results(describe_machine(), _describe_options(options))
    try:
        measure(options, results)
    except (BenchmarkError, ClusterError, TimeoutError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if options.json is not None:
            options.json.write_text(json.dumps(asdict(results), indent=1, default=str) + "\n")
    print_results(results)
    return 1 if results.quiet.get("writes") else 0


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m benchmarks.operator.scale"
    )
    parser.add_argument("--models", type=int, default=200, metavar="N")
    parser.add_argument("--namespaces", type=int, default=4, metavar="N")
    parser.add_argument(
        "--nodes", type=int, default=10, metavar="N", help="one build at a time on each"
    )
    parser.add_argument(
        "--quiet-seconds", type=float, default=600.0, metavar="S", help="0: leave it out"
    )
    parser.add_argument("--name", default="operator-scale", help="of the cluster")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument(
        "--settings", type=json.loads, default={}, metavar="JSON", help="changes to the settings"
    )
    return Options(**vars(parser.parse_args(arguments)))


def measure(options: Options, results: Results) -> None:
    """Start everything, measure in three phases, end everything."""
    models = build_models(options.models, options.namespaces)
    cluster = Cluster(ClusterSpec(name=options.name))
    cluster.clean()
    root = cluster.layout.root
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(cluster))
        settings_file = write_settings(root / "settings.yaml", registry, options.settings)
        stages = prepare_builds([FIRST, *models], load_settings(settings_file), root)
        stack.callback(cluster.down)
        cluster = start_cluster(options.name, stages)
        install(cluster)
        cluster.kubectl("apply", "--filename=-", input=build_list(build_nodes(options.nodes)))
        operator = stack.enter_context(running_operator(cluster, settings_file))
        audit = AuditLog(cluster.layout.audit_log, OPERATOR_USER)
        stack.callback(audit.close)
        readiness = stack.enter_context(watching(cluster))
        bench = Bench(cluster, operator, audit, readiness)
        measure_first(bench, results)
        measure_convergence(bench, models, results)
        if options.quiet_seconds > 0:
            measure_silence(bench, options.quiet_seconds, results)


def prepare_builds(models: Sequence[Model], settings: Settings, root: Path) -> tuple[Path, ...]:
    """Push an artifact for each model, and write what its build will say."""
    say(f"pushing {len(models)} artifacts")
    scratch = root / "artifact"
    words = push_builds(models, settings, scratch)
    shutil.rmtree(scratch)
    return write_stages(root / "stages", words)


def start_cluster(name: str, stages: tuple[Path, ...]) -> Cluster:
    """Etcd, API server, controller manager, scheduler and KWOK on loopback."""
    spec = ClusterSpec(
        name=name, control_plane_only=True, audit_log=True, kwok=True, kwok_stages=stages
    )
    return Cluster(spec).up()


def install(cluster: Cluster) -> None:
    """Apply the definitions, the operator's identity and its rights."""
    cluster.kubectl("apply", "--server-side", f"--filename={CRDS}")
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    files = [f"--filename={MANIFESTS / name}.yaml" for name in INSTALLED]
    cluster.kubectl("apply", *files)


def measure_first(bench: Bench, results: Results) -> None:
    """One model alone: memory with nothing and with one, and the time of an idle operator."""
    wait_until_calm(bench)
    results.memory["none"] = bench.operator.cost()
    results.first = converge(bench, [FIRST])
    results.memory["one"] = bench.operator.cost()
    bench.cluster.kubectl("delete", "namespace", FIRST.namespace, "--timeout=120s")
    wait_until_calm(bench)


def measure_convergence(bench: Bench, models: Sequence[Model], results: Results) -> None:
    """All models at once."""
    results.converge = converge(bench, models)
    results.memory["all"] = bench.operator.cost()


def converge(bench: Bench, models: Sequence[Model]) -> dict[str, Any]:
    """Apply models, wait until all are Ready, and until the operator has said all of it."""
    namespaces = sorted({model.namespace for model in models})
    bench.cluster.kubectl(
        "apply", "--filename=-", input=build_list(build_namespace(name) for name in namespaces)
    )
    cost, passes = bench.operator.cost(), Counter(bench.operator.passes())
    start, started = datetime.now(UTC), time.monotonic()
    say(f"applying {len(models)} models")
    bench.cluster.kubectl(
        "apply", "--filename=-", input=build_list(model.manifest() for model in models)
    )
    applied = time.monotonic() - started
    names = [f"{model.namespace}/{model.name}" for model in models]
    moments = [moment - started for moment in bench.readiness.wait(names, _READY_SECONDS)]
    say(f"{len(models)} models are Ready after {moments[-1]:.1f} s")
    wait_until_calm(bench)
    writes = bench.audit.between(start)
    return {
        "models": len(models),
        "applySeconds": round(applied, 1),
        "readySeconds": {
            "first": round(moments[0], 1),
            "median": round(statistics.median(moments), 1),
            "last": round(moments[-1], 1),
        },
        "lastWriteSeconds": round((max(write.at for write in writes) - start).total_seconds(), 1),
        "cpuSeconds": round(bench.operator.cost().cpu_seconds - cost.cpu_seconds, 1),
        "passes": dict(Counter(bench.operator.passes()) - passes),
        "writes": len(writes),
        "writesPerModel": round(len(writes) / len(models), 2),
        "writesByKind": count_writes(writes),
        "refused": count_failures(writes),
    }


def measure_silence(bench: Bench, seconds: float, results: Results) -> None:
    """Count what the operator writes when there is nothing to do; the Lease is aside."""
    before = Snapshot.take(bench.cluster)
    cost, passes = bench.operator.cost(), Counter(bench.operator.passes())
    start = datetime.now(UTC)
    say(f"listening to a quiet operator for {seconds:.0f} s")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 5.0))
        bench.operator.check()
        bench.audit.read()
    writes = bench.audit.between(start)
    leases = [write for write in bench.audit.writes if write.is_lease and write.at >= start]
    after = bench.operator.cost()
    results.memory["quiet"] = after
    results.quiet = {
        "seconds": seconds,
        "writes": len(writes),
        "writesByKind": count_writes(writes),
        "examples": [str(write) for write in writes[:_SHOWN_WRITES]],
        "changes": find_changes(before, Snapshot.take(bench.cluster)) if writes else [],
        "leaseWrites": len(leases),
        "cpuSeconds": round(after.cpu_seconds - cost.cpu_seconds, 1),
        "passes": dict(Counter(bench.operator.passes()) - passes),
    }


def wait_until_calm(bench: Bench) -> None:
    """Wait until the operator has written nothing for a while.

    Raises:
        TimeoutError: it goes on writing.
    """
    start = datetime.now(UTC)
    deadline = time.monotonic() + _CALM_DEADLINE_SECONDS
    while True:
        bench.operator.check()
        bench.audit.read()
        last = max((w.at for w in bench.audit.writes if not w.is_lease), default=start)
        if (datetime.now(UTC) - max(last, start)).total_seconds() > _CALM_SECONDS:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(_explain_unrest(bench.audit.between(start)))
        time.sleep(1.0)


def _explain_unrest(writes: list[Write]) -> str:
    shown = "\n  ".join(str(write) for write in writes[-_SHOWN_WRITES:])
    return (
        f"the operator goes on writing for {_CALM_DEADLINE_SECONDS:.0f} s: "
        f"{count_writes(writes)}\n  {shown}"
    )


def describe_machine() -> dict[str, Any]:
    """What the numbers were measured on; the load says how busy it was with other things."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "loadAverage": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def print_results(results: Results) -> None:
    machine = results.machine
    print(f"\nmachine: {machine['cores']} cores, load {machine['loadAverage']} at the start")
    for name, cost in results.memory.items():
        print(
            f"memory with {name:6} {cost.resident_mib:7.1f} MiB (peak {cost.peak_mib:.1f}),"
            f" CPU so far {cost.cpu_seconds:.1f} s"
        )
    for part in (results.first, results.converge):
        _print_convergence(part)
    if quiet := results.quiet:
        _print_silence(quiet)


def _print_convergence(part: dict[str, Any]) -> None:
    ready = part["readySeconds"]
    print(f"\n{part['models']} models, applied in {part['applySeconds']} s")
    print(f"  Ready: first {ready['first']} s, median {ready['median']} s, last {ready['last']} s")
    print(f"  last write after {part['lastWriteSeconds']} s, CPU {part['cpuSeconds']} s")
    print(f"  passes: {part['passes']}")
    print(f"  writes: {part['writes']}, per model {part['writesPerModel']}")
    for kind, count in part["writesByKind"].items():
        print(f"    {count:6}  {count / part['models']:6.2f} per model  {kind}")
    for kind, count in part["refused"].items():
        print(f"    {count:6}  refused: {kind}")


def _print_silence(quiet: dict[str, Any]) -> None:
    print(f"\nquiet for {quiet['seconds']:.0f} s: {quiet['writes']} writes")
    print(f"  Lease aside ({quiet['leaseWrites']}); CPU {quiet['cpuSeconds']} s")
    print(f"  passes: {quiet['passes']}")
    for line in (*quiet["examples"], *quiet["changes"]):
        print(f"  {line}")


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def _describe_options(options: Options) -> dict[str, Any]:
    return {key: value for key, value in asdict(options).items() if key not in {"json", "name"}}


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
