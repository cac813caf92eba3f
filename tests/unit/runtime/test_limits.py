from __future__ import annotations

import pytest

from modelwright_runtime.engine import Threads, plan_threads
from modelwright_runtime.limits import observe_cpu_limit, parse_cpu_max, resolve_cpu_limit


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1.0),
        ("250000 100000\n", 2.5),
        ("50000 100000\n", 0.5),
        ("-1 100000", None),
        ("100000 0", None),
        ("", None),
        ("nonsense", None),
        ("1 2 3", None),
    ],
)
def test_parse_cpu_max(text: str, want: float | None) -> None:
    assert parse_cpu_max(text) == want


@pytest.mark.parametrize(
    ("usable", "quotas", "want"),
    [
        (64, [], 64),
        (64, [2.0], 2),
        (64, [2.5], 3),
        (64, [0.5], 1),
        (64, [8.0, 1.0], 1),
        (2, [8.0], 2),
    ],
)
def test_the_smallest_limit_rules_and_parts_of_a_cpu_count(
    usable: int, quotas: list[float], want: int
) -> None:
    assert resolve_cpu_limit(usable, quotas) == want


def test_this_process_may_use_at_least_one_cpu() -> None:
    assert observe_cpu_limit() >= 1


@pytest.mark.parametrize(
    ("cpus", "measured", "want"),
    [
        (1, 1, Threads(1, 1)),
        (4, 1, Threads(4, 1)),
        (4, 2, Threads(2, 2)),
        (4, 3, Threads(1, 3)),
        (2, 8, Threads(1, 2)),
    ],
)
def test_each_run_gets_the_threads_it_was_measured_with(
    cpus: int, measured: int, want: Threads
) -> None:
    assert plan_threads(cpus, measured) == want
