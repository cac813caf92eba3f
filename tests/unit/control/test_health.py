import asyncio
import itertools
import logging
import sys
from pathlib import Path

import pytest

from modelwright_operator.control.contract import Watched
from modelwright_operator.control.health import LoopLag, check_below, check_each_below
from modelwright_operator.control.logs import KeyValueFormatter
from modelwright_operator.control.main import Operator
from modelwright_operator.control.metrics import Metrics
from modelwright_operator.control.watches import (
    Beats,
    EndlessBackoffs,
    build_kopf_settings,
    watched_paths,
)
from modelwright_operator.kube.cache import Store
from modelwright_operator.kube.client import Request
from modelwright_operator.kube.resources import resource_of
from tests.wiring import toy

ROOT = Path(__file__).parents[3]


def test_check_speaks_only_above_its_limit():
    values = iter([5.0, 5.1])
    check = check_below("lag", lambda: next(values), 5.0)
    assert check() is None
    assert check() == "lag 5.1 s, limit 5 s"


def test_check_by_kind_names_the_late_ones():
    check = check_each_below("silent", lambda: {"Pod": 10.0, "Job": 400.0}, 300)
    assert check() == "silent: Job 400 s, limit 300 s"


async def test_blocked_loop_is_seen():
    lag = LoopLag()
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    assert lag.seconds() == 0
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.2
    while loop.time() < until:
        pass
    async with asyncio.timeout(30):
        while lag.seconds() == 0:  # noqa: ASYNC110 - polled as the probe does
            await asyncio.sleep(0.01)
    assert lag.seconds() > 0.5
    task.cancel()


def test_paths_of_a_namespaced_and_of_a_cluster_wide_installation():
    kinds = [Watched("Pod"), Watched("Node")]
    assert watched_paths(kinds, ()) == {"/api/v1/pods": "Pod", "/api/v1/nodes": "Node"}
    assert watched_paths(kinds, ("a", "b")) == {
        "/api/v1/namespaces/a/pods": "Pod",
        "/api/v1/namespaces/b/pods": "Pod",
        "/api/v1/nodes": "Node",
    }


def test_silence_of_a_kind_is_that_of_its_most_silent_namespace():
    seconds = [0.0]
    beats = Beats({"/a": "Pod", "/b": "Pod", "/n": "Node"}, lambda: seconds[0])
    seconds[0] = 100
    beats.note("/a")
    beats.note("/n")
    beats.note("/unknown")
    assert beats.silence_seconds() == {"Pod": 100, "Node": 0}
    beats.reset()
    assert beats.silence_seconds() == {"Pod": 0, "Node": 0}


def test_dead_is_what_is_silent_while_open_or_closed_for_long():
    seconds = [0.0]
    beats = Beats({"/pods": "Pod", "/jobs": "Job"}, lambda: seconds[0])
    beats.note("/pods", 1)
    seconds[0] = 40
    assert beats.find_dead(150, 30) == {"Job"}
    beats.note("/jobs", 1)
    seconds[0] = 160
    assert beats.find_dead(150, 30) == {"Pod"}
    beats.note("/pods", -1)
    assert beats.find_dead(150, 30) == set()
    seconds[0] = 191
    assert beats.find_dead(150, 30) == {"Pod", "Job"}


def test_backoffs_never_end_and_start_anew_each_time():
    backoffs = EndlessBackoffs()
    first = list(itertools.islice(backoffs, 500))
    assert all(0.8 <= pause <= 18 for pause in first)
    assert first[0] < 1.3
    assert next(iter(backoffs)) < 1.3


def test_kopf_only_watches():
    settings = build_kopf_settings([Watched("Job", "a=b"), Watched("InferenceModel")])
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.queueing.worker_limit is None
    assert max(settings.queueing.error_delays) == 30
    assert settings.persistence.finalizer.startswith("kopf.modelwright.dev/")
    assert list(settings.watching.label_selectors.values()) == ["a=b"]


def read(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"modelwright_operator_{name}", labels)


def test_metrics_count_what_happens():
    metrics = Metrics()
    metrics.count_pass("Nodes", "Done", 0.2)
    metrics.count_request(Request("patch", resource_of("Job"), "n", "j", "status", 409, 0.1))
    metrics.count_event("Pod")
    metrics.count_restart("silent")
    metrics.count_differences("Pod", 3)
    metrics.follow("queue_depth", "Keys", lambda: 7)
    metrics.follow_by_kind("resync_age_seconds", "Age", lambda: {"Pod": 2.5})
    assert read(metrics, "reconciles_total", kind="Nodes", result="Done") == 1
    assert read(metrics, "reconcile_seconds_sum", kind="Nodes") == 0.2
    assert (
        read(metrics, "api_requests_total", verb="patch", resource="jobs/status", code="409") == 1
    )
    assert read(metrics, "watch_events_total", kind="Pod") == 1
    assert read(metrics, "watcher_restarts_total", why="silent") == 1
    assert read(metrics, "resync_differences_total", kind="Pod") == 3
    assert read(metrics, "queue_depth") == 7
    assert read(metrics, "resync_age_seconds", kind="Pod") == 2.5


def test_metrics_tell_our_objects_by_readiness():
    store, metrics = Store(), Metrics()
    metrics.follow_objects(store)
    for number, status in enumerate(
        [{}, {"conditions": [{"type": "Ready", "status": "True", "reason": "Available"}]}] * 2
    ):
        metadata = {"name": str(number), "uid": str(number), "resourceVersion": str(number + 1)}
        store.put({"kind": "ModelBuild", "metadata": metadata, "status": status})
    want = {"kind": "ModelBuild", "ready": "True", "reason": "Available"}
    assert read(metrics, "objects", **want) == 2
    assert read(metrics, "objects", kind="ModelBuild", ready="Unknown", reason="") == 2


def test_documented_metrics_are_the_ones_there_are():
    room = Operator(toy.installation("http://127.0.0.1:1"), toy.Assembly())
    room._follow()
    families = room._metrics.registry.collect()
    there = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if family.name.startswith("modelwright_operator_")
    }
    rows = (ROOT / "docs" / "operator-metrics.md").read_text().splitlines()
    documented = {row.split("`")[1] for row in rows if row.startswith("| `modelwright_operator_")}
    assert documented == there


@pytest.mark.parametrize(
    ("extra", "want"),
    [
        ({"key": "InferenceModel/ns/m"}, "key=InferenceModel/ns/m"),
        ({"error": "two words"}, 'error="two words"'),
        ({"error": 'a"b\nc=d'}, 'error="a\\"b\\nc=d"'),
        ({"again": 1.23456}, "again=1.23"),
        ({"count": 3, "new": True}, "count=3 new=True"),
        ({"empty": ""}, 'empty=""'),
    ],
)
def test_log_line_keeps_its_fields_apart(extra, want):
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "done", "created": 0.0, "msecs": 7.0, **extra}
    )
    line = KeyValueFormatter().format(record)
    assert line == f"1970-01-01T00:00:00.007Z INFO    n done {want}"


def test_log_line_stays_one_line():
    try:
        int("x")
    except ValueError:
        record = logging.makeLogRecord({"msg": "a\nb", "exc_info": sys.exc_info()})
    line = KeyValueFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: invalid literal" in line
