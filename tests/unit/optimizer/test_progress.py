from __future__ import annotations

import json

import httpx
from hypothesis import given
from hypothesis import strategies as st

from modelwright_optimizer.progress import STEPS, Progress, Snapshot
from modelwright_optimizer.progress_server import serving

reports = st.lists(
    st.tuples(st.sampled_from(list(STEPS)), st.floats(-1, 2)), min_size=1, max_size=20
)


@given(reports)
def test_progress_never_goes_backwards(steps: list[tuple[str, float]]) -> None:
    seen: list[Snapshot] = []
    progress = Progress(seen.append)
    for step, share in steps:
        progress.report(step, share, "working")
    percents = [snapshot.percent for snapshot in seen]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)


def test_the_steps_are_the_whole() -> None:
    assert sum(STEPS.values()) == 100
    progress = Progress()
    progress.report("Push", 1.0, "pushed")
    assert progress.snapshot().percent == 100


def test_the_rest_is_estimated_from_what_is_done() -> None:
    now = iter([0.0, 1.0, 30.0])
    progress = Progress(clock=lambda: next(now))
    assert progress.snapshot().remaining_seconds is None
    progress.report("Judge", 1.0, "judging")
    snapshot = progress.snapshot()
    assert (snapshot.percent, snapshot.elapsed_seconds, snapshot.remaining_seconds) == (50, 30, 30)


def test_progress_is_answered_over_http() -> None:
    progress = Progress(clock=lambda: 0.0)
    progress.report("Measure", 0.0, "measuring")
    with serving(progress, "127.0.0.1", 0) as port, httpx.Client() as client:
        base = f"http://127.0.0.1:{port}"
        assert json.loads(client.get(f"{base}/progress").content) == {
            "step": "Measure",
            "percent": 50,
            "message": "measuring",
            "elapsedSeconds": 0,
            "remainingSeconds": 0,
        }
        assert client.get(f"{base}/healthz").text == "ok"
        assert client.get(f"{base}/other").status_code == 404
