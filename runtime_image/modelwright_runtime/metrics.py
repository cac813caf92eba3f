"""The server's own figures: plain integers on the hot path, Prometheus text at scrape.

All of it is touched on the event loop's thread only, so nothing is locked.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_BOUNDS_MICROS = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000,
    100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
)  # fmt: skip


class Histogram:
    """Counts of durations up to each bound, in integer microseconds."""

    __slots__ = ("counts", "total_micros")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_MICROS) + 1)
        self.total_micros = 0

    def observe(self, micros: int) -> None:
        """Count one duration."""
        self.counts[bisect_left(_BOUNDS_MICROS, micros)] += 1
        self.total_micros += micros

    def render(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        """The sample lines."""
        running = 0
        for bound, count in zip(_BOUNDS_MICROS, self.counts, strict=False):
            running += count
            yield _sample(f"{name}_bucket", {**labels, "le": f"{bound / 1e6:g}"}, running)
        running += self.counts[-1]
        yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, running)
        yield _sample(f"{name}_sum", labels, self.total_micros / 1e6)
        yield _sample(f"{name}_count", labels, running)


@dataclass(frozen=True, slots=True)
class Attestation:
    """How the check of one variant ended."""

    variant: str
    result: str  # passed | failed | unsupported
    seconds: float


class Metrics:
    """Everything the metrics port shows; see docs/server.md for the table."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._version = version
        self._variant = ""
        self._info: Mapping[str, str] = {}
        self._requests: dict[tuple[str, str, str], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._inference = Histogram()
        self._queue = Histogram()
        self._http_errors: dict[int, int] = {}
        self._attestations: tuple[Attestation, ...] = ()
        self._load_seconds = 0.0
        self._gauges: dict[str, tuple[str, Callable[[], int]]] = {}

    # --- hot path -----------------------------------------------------------------------------

    def observe_request(self, protocol: str, code: int | str, seconds: float) -> None:
        """Count an inference request and how long it took from first byte to answer."""
        key = protocol, str(code), self._variant
        self._requests[key] = self._requests.get(key, 0) + 1
        histogram = self._durations.get(protocol)
        if histogram is None:
            histogram = self._durations[protocol] = Histogram()
        histogram.observe(int(seconds * 1e6))

    def observe_inference(self, queue_nanos: int, inference_nanos: int) -> None:
        """Count one run of the model and the wait before it."""
        self._queue.observe(queue_nanos // 1000)
        self._inference.observe(inference_nanos // 1000)

    # --- rare ---------------------------------------------------------------------------------

    def count_http_error(self, status: int) -> None:
        """Count an answer that no inference was behind: bad HTTP, no such path."""
        self._http_errors[status] = self._http_errors.get(status, 0) + 1

    def set_gauge(self, name: str, text: str, read: Callable[[], int]) -> None:
        """Show a number that is read at scrape."""
        self._gauges[name] = text, read

    def set_attestations(self, attestations: Iterable[Attestation]) -> None:
        """Show how the checks at load ended."""
        self._attestations = tuple(attestations)

    def set_serving(self, variant: str, info: Mapping[str, str], load_seconds: float) -> None:
        """Show which variant serves from now on."""
        self._variant = variant
        self._info = {"variant": variant, **info}
        self._load_seconds = load_seconds

    def render(self) -> bytes:
        """The Prometheus text."""
        return "".join(f"{line}\n" for line in self._lines()).encode()

    def _lines(self) -> Iterable[str]:
        model = {"model": self._model}
        yield from _family("modelwright_server_info", "gauge", "The server's version.")
        yield _sample("modelwright_server_info", {"version": self._version}, 1)
        yield from _family("modelwright_model_info", "gauge", "The artifact and variant served.")
        if self._info:
            yield _sample("modelwright_model_info", {**model, **self._info}, 1)
        yield from self._load_lines(model)
        yield from self._request_lines(model)
        for name, histogram, text in (
            ("modelwright_inference_duration_seconds", self._inference, "One run of the model."),
            ("modelwright_queue_duration_seconds", self._queue, "The wait for a worker."),
        ):
            yield from _family(name, "histogram", text)
            yield from histogram.render(name, model)
        for name, (text, read) in self._gauges.items():
            yield from _family(name, "gauge", text)
            yield _sample(name, model, read())
        yield from _process_lines()

    def _load_lines(self, model: Mapping[str, str]) -> Iterable[str]:
        name = "modelwright_attestation_result"
        yield from _family(name, "gauge", "1 for how each variant's check at load ended.")
        for one in self._attestations:
            yield _sample(name, {**model, "variant": one.variant, "result": one.result}, 1)
        name = "modelwright_attestation_duration_seconds"
        yield from _family(name, "gauge", "What loading and checking each variant took.")
        for one in self._attestations:
            yield _sample(name, {**model, "variant": one.variant}, round(one.seconds, 6))
        name = "modelwright_load_duration_seconds"
        yield from _family(name, "gauge", "From process start to ready; 0 until then.")
        yield _sample(name, model, round(self._load_seconds, 6))

    def _request_lines(self, model: Mapping[str, str]) -> Iterable[str]:
        name = "modelwright_requests_total"
        yield from _family(name, "counter", "Inference requests by protocol, code and variant.")
        for (protocol, code, variant), count in self._requests.items():
            labels = {**model, "protocol": protocol, "code": code, "variant": variant}
            yield _sample(name, labels, count)
        name = "modelwright_request_duration_seconds"
        yield from _family(name, "histogram", "First byte of a request to its answer.")
        for protocol, histogram in self._durations.items():
            yield from histogram.render(name, {**model, "protocol": protocol})
        name = "modelwright_http_errors_total"
        yield from _family(name, "counter", "Refused before a model was asked, by status.")
        for status, count in self._http_errors.items():
            yield _sample(name, {**model, "code": str(status)}, count)


def _family(name: str, kind: str, text: str) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _process_lines() -> Iterable[str]:
    """The usual process figures, from /proc."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    times = os.times()
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    figures = (
        ("process_cpu_seconds_total", "counter", "CPU time.", times.user + times.system),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", resident_pages * page),
        ("process_start_time_seconds", "gauge", "Start, Unix time.", _start_time(ticks)),
    )
    for name, kind, text, value in figures:
        yield from _family(name, kind, text)
        yield _sample(name, {}, value)


def _start_time(ticks: int) -> float:
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    return round(boot + int(after_name[19]) / ticks, 2)
