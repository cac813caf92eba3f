"""The operator's own metrics; `docs/operator-metrics.md` explains each of them.

Labels are bounded: kinds, verbs, codes, results and reasons, never names of objects.
"""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelwright_operator.kube.cache import Store
    from modelwright_operator.kube.client import Request
    from modelwright_operator.plan.types import Manifest

PREFIX = "modelwright_operator"
_PASS_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_REPORTED_KINDS = ("InferenceModel", "ModelBuild", "HardwareProfile")


class Metrics:
    """Counts what the control room does."""

    def __init__(self) -> None:
        """Make a registry of its own, so that tests get fresh ones."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._passes = Counter(
            f"{PREFIX}_reconciles",
            "Passes by kind of key and result",
            ("kind", "result"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a pass",
            ("kind",),
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            f"{PREFIX}_api_requests",
            "Requests to the API server by verb, resource and code; code 0 got no answer",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self._events = Counter(
            f"{PREFIX}_watch_events",
            "Watch events by kind",
            ("kind",),
            registry=self.registry,
        )
        self._restarts = Counter(
            f"{PREFIX}_watcher_restarts",
            "Restarts of the watcher by cause: ended or silent",
            ("why",),
            registry=self.registry,
        )
        self._differing = Counter(
            f"{PREFIX}_resync_differences",
            "Objects a resync found other than the watch had told",
            ("kind",),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def count_pass(self, kind: str, result: str, seconds: float) -> None:
        """A pass ended."""
        self._passes.labels(kind, result).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_request(self, request: Request) -> None:
        """A request was answered, or not."""
        plural = request.resource.plural
        resource = f"{plural}/{request.subresource}" if request.subresource else plural
        self._requests.labels(request.verb, resource, str(request.code)).inc()

    def count_event(self, kind: str) -> None:
        """A watch event came."""
        self._events.labels(kind).inc()

    def count_restart(self, why: str) -> None:
        """The watcher was started again."""
        self._restarts.labels(why).inc()

    def count_differences(self, kind: str, differing: int) -> None:
        """A resync compared."""
        self._differing.labels(kind).inc(differing)

    def follow(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number that is read when somebody looks."""
        Gauge(f"{PREFIX}_{name}", description, registry=self.registry).set_function(read)

    def follow_by_kind(
        self, name: str, description: str, read: Callable[[], dict[str, float]]
    ) -> None:
        """Show a number per kind that is read when somebody looks."""
        self.registry.register(_ByKind(f"{PREFIX}_{name}", description, read))

    def follow_objects(self, store: Store) -> None:
        """Show our objects by kind and by the status and reason of their Ready condition."""
        self.registry.register(_Objects(store))


class _ByKind(Collector):
    def __init__(self, name: str, description: str, read: Callable[[], dict[str, float]]) -> None:
        self._name = name
        self._description = description
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._description, labels=("kind",))
        for kind, value in sorted(self._read().items()):
            family.add_metric((kind,), value)
        yield family


class _Objects(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            f"{PREFIX}_objects",
            "Our objects by the status and reason of their Ready condition",
            labels=("kind", "ready", "reason"),
        )
        for kind in _REPORTED_KINDS:
            tally = Tally(_readiness(obj) for obj in self._store.list(kind))
            for (ready, reason), count in sorted(tally.items()):
                family.add_metric((kind, ready, reason), count)
        yield family


def _readiness(obj: Manifest) -> tuple[str, str]:
    """Status and reason of the Ready condition; the reasons are an enumeration of the API."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            return str(condition.get("status")), str(condition.get("reason"))
    return "Unknown", ""
