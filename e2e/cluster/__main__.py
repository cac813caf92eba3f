"""`python -m e2e.cluster`: the local cluster from the command line."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.addons import archive_directory
from e2e.cluster.binaries import BINARIES, BinaryCache
from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.packages import (
    IMAGE_PACKAGES,
    NODE_PACKAGES,
    TEST_PACKAGES,
    ensure_packages,
)
from e2e.cluster.spec import DEFAULT_NAME, MAX_NODES, ClusterSpec, HostPorts
from e2e.cluster.status import observe_components, render_table

if TYPE_CHECKING:
    from collections.abc import Sequence

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    # A termination is an interrupt: it, too, leaves nothing half started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = build_parser().parse_args(arguments)
    command: Command = options.run
    try:
        return command(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, `head` perhaps, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    name = os.environ.get("MODELWRIGHT_CLUSTER", DEFAULT_NAME)
    parser.add_argument("--name", default=name, help="which cluster (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands)
    _add(commands, "down", down, "end the cluster; keep certificates, logs and registry data")
    clean_parser = _add(commands, "clean", clean, "end the cluster and remove its files")
    clean_parser.add_argument("--all", action="store_true", help="remove the built programs too")
    build_parser_ = _add(commands, "build", build, "build the cluster's programs")
    build_parser_.add_argument("names", nargs="*", metavar="PROGRAM", help="default: all")
    _add(commands, "status", status, "show what runs, and the addresses of this machine")
    images_parser = _add(commands, "images", images, "build and push Modelwright's images")
    images_parser.add_argument("arguments", nargs=argparse.REMAINDER)
    forward_parser = _add(commands, "forward", forward, "lead a port of this machine to a service")
    forward_parser.add_argument("target", help="namespace/service:port, or address:port")
    forward_parser.add_argument("--host-port", type=int, help="default: a free one")
    _add(commands, "packages", packages, "install the Debian packages of cluster, images and tests")
    _add(commands, "env", env, 'print shell exports: eval "$(python -m e2e.cluster env)"')
    logs_parser = _add(commands, "logs", logs, "print the log of a component")
    logs_parser.add_argument("component", nargs="?")
    logs_parser.add_argument("-f", "--follow", action="store_true")
    kubectl_parser = _add(commands, "kubectl", kubectl, "run kubectl against the cluster")
    kubectl_parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "up", up, "start what is not running; may be repeated")
    parser.add_argument("--nodes", type=int, default=1, help=f"1 to {MAX_NODES}")
    parser.add_argument(
        "--control-plane-only", action="store_true", help="without nodes, root and namespaces"
    )
    parser.add_argument(
        "--controller-manager", action="store_true", help="with --control-plane-only"
    )
    parser.add_argument("--scheduler", action="store_true", help="with --control-plane-only")
    parser.add_argument("--kwok", action="store_true", help="play kubelets of fake nodes")
    parser.add_argument(
        "--kwok-stages", type=Path, action="append", default=[], metavar="FILE", help="repeatable"
    )
    parser.add_argument("--audit-log", action="store_true", help="write metadata of all requests")
    parser.add_argument("--port-base", type=int, help="first of three ports on 127.0.0.1")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Command,
    summary: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run=run)
    return parser


def up(options: argparse.Namespace) -> int:
    base: int | None = options.port_base
    spec = ClusterSpec(
        name=options.name,
        nodes=options.nodes,
        host_ports=None if base is None else HostPorts(base, base + 1, base + 2),
        control_plane_only=options.control_plane_only,
        controller_manager=options.controller_manager,
        scheduler=options.scheduler,
        audit_log=options.audit_log,
        kwok=options.kwok,
        kwok_stages=tuple(options.kwok_stages),
    )
    cluster = Cluster(spec).up()
    print(f"kubeconfig: {cluster.kubeconfig}")
    return 0


def down(options: argparse.Namespace) -> int:
    _cluster(options).down()
    return 0


def clean(options: argparse.Namespace) -> int:
    _cluster(options).clean()
    if options.all:
        for directory in (BinaryCache.default().directory, archive_directory()):
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def build(options: argparse.Namespace) -> int:
    unknown = set(options.names) - set(BINARIES)
    if unknown:
        raise ClusterError(f"unknown: {' '.join(sorted(unknown))}; known: {' '.join(BINARIES)}")
    cluster = _cluster(options)
    paths = BinaryCache.default().ensure(options.names or tuple(BINARIES), cluster.progress)
    for path in paths.values():
        print(path)
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what runs; the exit status tells whether all of it does."""
    cluster = _cluster(options)
    components = observe_components(cluster.supervisor)
    if not components:
        print(f"cluster {options.name} is down; start it: python -m e2e.cluster up")
        return 1
    print(render_table(components))
    print()
    for name, value in cluster.environment().items():
        if name != "PATH":
            print(f"{name}={value}")
    return 0 if all(component.is_running for component in components) else 1


def packages(options: argparse.Namespace) -> int:
    ensure_packages(
        {**NODE_PACKAGES, **IMAGE_PACKAGES, **TEST_PACKAGES}, _cluster(options).progress
    )
    return 0


def images(options: argparse.Namespace) -> int:
    # Building images needs tools that a cluster does not.
    from e2e.cluster.images import main as build_images

    cluster = _cluster(options)
    registries = ("--registry", cluster.host_registry, "--pull-registry", cluster.registry)
    return build_images([*registries, *options.arguments])


def forward(options: argparse.Namespace) -> int:
    port = _cluster(options).forward(options.target, host_port=options.host_port)
    print(f"127.0.0.1:{port}")
    return 0


def env(options: argparse.Namespace) -> int:
    for name, value in _cluster(options).environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def logs(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    log = cluster.supervisor.log(options.component or "")
    if not log.exists():
        known = sorted(path.stem for path in cluster.layout.logs.glob("*.log"))
        raise ClusterError(f"no such log; there are: {' '.join(known) or 'none'}")
    command = (
        ["tail", "--follow=name", "--lines=100", str(log)] if options.follow else ["cat", str(log)]
    )
    return subprocess.run(command, check=False).returncode


def kubectl(options: argparse.Namespace) -> int:
    command = _cluster(options).kubectl_command()
    return subprocess.run([*command, *options.arguments], check=False).returncode


def _cluster(options: argparse.Namespace) -> Cluster:
    return Cluster(ClusterSpec(name=options.name))


if __name__ == "__main__":
    sys.exit(main())
