"""`modelwright serve` for people, `python -m modelwright_runtime {serve,probe}` for pods."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelwright_runtime.server import Serving
    from modelwright_runtime.settings import Settings

_EXIT_INTERNAL = 1
_DEFAULT_MODEL_NAME = "model"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` to the one command `modelwright`."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a built model on this machine",
        description="Serve what `modelwright optimize` built: REST and gRPC, Open Inference "
        "Protocol v2. The variant is checked against its golden outputs first.",
    )
    _add_serve_arguments(parser)
    parser.set_defaults(run=run_serve)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m modelwright_runtime`."""
    parser = argparse.ArgumentParser(prog="modelwright_runtime")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    register(subparsers)
    probe = subparsers.add_parser("probe", help="report what this machine's CPU can do")
    probe.set_defaults(run=run_probe)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def run_probe(_: argparse.Namespace) -> int:
    """Print this machine's hardware and leave it in the termination log."""
    from modelwright_artifact.hardware import detect
    from modelwright_runtime.settings import TERMINATION_LOG
    from modelwright_runtime.termination import write_termination

    document = detect().to_json()
    print(json.dumps(document))
    write_termination(TERMINATION_LOG, document)
    return 0


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything can import onnxruntime
    import asyncio

    import uvloop

    from modelwright_runtime.errors import StartupError
    from modelwright_runtime.logs import configure_logs
    from modelwright_runtime.server import serve
    from modelwright_runtime.termination import build_failure, write_termination

    settings = _read_settings(arguments)
    configure_logs(arguments.log_format, arguments.log_level)

    def announce(serving: Serving) -> None:
        if sys.stdout.isatty() or arguments.announce:
            print(describe_serving(serving, settings), flush=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings, announce))
    except StartupError as error:
        print(f"modelwright serve: {error.message}", file=sys.stderr)
        write_termination(settings.termination_log, build_failure(error.reason, error.message))
        return error.exit_code
    except Exception as error:
        message = f"The server broke: {type(error).__name__}: {error}"
        write_termination(settings.termination_log, build_failure("InternalError", message))
        raise


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    from modelwright_runtime import settings

    defaults = settings.Settings(artifacts=())
    http = defaults.http
    add = parser.add_argument
    add("directories", nargs="*", type=Path, metavar="DIR", help="folder of a built artifact")
    add("--artifact", action="append", type=Path, default=[], metavar="DIR", help="same as DIR")
    add("--model-name", default=_DEFAULT_MODEL_NAME, help="name in URLs (default: %(default)s)")
    add("--variant", help="serve this kept variant instead of the chosen one")
    add("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    add("--http-port", type=_port, default=defaults.http_port, help="REST (%(default)s)")
    add("--grpc-port", type=_port, default=defaults.grpc_port, help="gRPC (%(default)s), 0 = off")
    add(
        "--metrics-port",
        type=_port,
        default=defaults.metrics_port,
        help="Prometheus metrics (%(default)s), 0 = off",
    )
    add("--cpus", type=_count, help="CPUs to use (default: the cgroup's limit)")
    add(
        "--queue-size",
        type=_count,
        default=defaults.queue_limit,
        help="requests that may wait before 503 (default: %(default)s)",
    )
    add(
        "--max-body-bytes",
        type=_count,
        default=http.max_body_bytes,
        help="largest request, plain or unfolded (default: %(default)s)",
    )
    add(
        "--header-seconds",
        type=_seconds,
        default=http.header_seconds,
        help="time to send a request's headers (default: %(default)s)",
    )
    add(
        "--idle-seconds",
        type=_seconds,
        default=http.idle_seconds,
        help="time a connection may stay unused (default: %(default)s)",
    )
    add(
        "--drain-seconds",
        type=_seconds,
        default=None,
        help="time new requests are still taken after SIGTERM (default: "
        f"{defaults.drain_seconds}; 0 at a terminal)",
    )
    add(
        "--shutdown-seconds",
        type=_seconds,
        default=defaults.shutdown_seconds,
        help="time the last answers may take after that (default: %(default)s)",
    )
    add(
        "--termination-log",
        type=Path,
        default=defaults.termination_log,
        help="file for the reason of a failed start, if it exists (default: %(default)s)",
    )
    add("--log-format", choices=["auto", "json", "text"], default="auto")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    add("--announce", action="store_true", help="print how to send a request even to a pipe")


def _read_settings(arguments: argparse.Namespace) -> Settings:
    from modelwright_runtime.settings import HttpLimits, Settings

    directories = (*arguments.directories, *arguments.artifact)
    if not directories:
        print("modelwright serve: give the folder of a built artifact", file=sys.stderr)
        raise SystemExit(2)
    drain_seconds = arguments.drain_seconds
    if drain_seconds is None:
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        drain_seconds = 0.0 if at_terminal else Settings(artifacts=()).drain_seconds
    return Settings(
        artifacts=directories,
        model_name=arguments.model_name,
        variant=arguments.variant,
        host=arguments.host,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        cpus=arguments.cpus,
        queue_limit=arguments.queue_size,
        drain_seconds=drain_seconds,
        shutdown_seconds=arguments.shutdown_seconds,
        termination_log=arguments.termination_log,
        http=HttpLimits(
            max_body_bytes=arguments.max_body_bytes,
            header_seconds=arguments.header_seconds,
            idle_seconds=arguments.idle_seconds,
        ),
    )


def describe_serving(serving: Serving, settings: Settings) -> str:
    """What a person wants to know once the server is up: who answers, why, and how to ask."""
    loaded = serving.loaded
    base = f"http://{_reachable(settings.host)}:{settings.http_port}"
    lines = [
        f"model    {loaded.description.name}, version {loaded.description.version}",
        f"variant  {loaded.variant.name}: {loaded.why}{_describe_figures(serving)}",
        f"CPU      {loaded.manifest.profile.name} build, golden outputs reproduced here; "
        f"{loaded.threads.workers} worker(s) of {loaded.threads.intra_op} thread(s)",
        f"REST     {base}/v2/models/{loaded.description.name}",
    ]
    if settings.grpc_port:
        lines.append(f"gRPC     {_reachable(settings.host)}:{settings.grpc_port}")
    if settings.metrics_port:
        lines.append(f"metrics  http://{_reachable(settings.host)}:{settings.metrics_port}/metrics")
    lines += [
        f"started  in {serving.start_seconds:.2f} s; Ctrl-C stops",
        "",
        "Try it (zeros; the shapes are the model's own):",
        f"  {build_curl_line(serving, base)}",
    ]
    return "\n".join(lines)


def build_curl_line(serving: Serving, base: str) -> str:
    """A shell line that sends this model a request it accepts."""
    from modelwright_runtime.protocol.rest_codec import build_example_request

    model = serving.loaded.description
    document, zero_bytes = build_example_request(model)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    url = shlex.quote(f"{base}/v2/models/{model.name}/infer")
    if not zero_bytes:
        return f"curl -s {url} -d {shlex.quote(text)}"
    header = f"'Inference-Header-Content-Length: {len(text.encode())}'"
    body = f"printf %s {shlex.quote(text)}; head -c {zero_bytes} /dev/zero"
    return f"({body}) | curl -s {url} -H {header} --data-binary @-"


def _describe_figures(serving: Serving) -> str:
    """The build's own measurements of the variant that serves."""
    figures = serving.loaded.variant.figures
    facts: list[str] = []
    if figures.speedup is not None and serving.loaded.variant.name != "fp32":
        facts.append(f"{figures.speedup.value:.2f}x as fast as fp32")
    if figures.latency is not None:
        facts.append(f"p50 {figures.latency.p50_micros / 1000:.2f} ms")
    if figures.accuracy is not None:
        facts.append(f"{figures.accuracy.metric} {figures.accuracy.value:g}")
    return f" ({', '.join(facts)} as measured by the build)" if facts else ""


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _port(text: str) -> int:
    return _bounded(text, int(text), 0, 65_535)


def _count(text: str) -> int:
    return _bounded(text, int(text), 1, 1 << 40)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return value


def _bounded(text: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
    return value
