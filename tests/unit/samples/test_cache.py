"""Samples are made once and never half."""

from __future__ import annotations

import pytest

from samples.cache import ensure_sample


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "script.py"
    path.write_text("first")
    return path


def test_second_call_makes_nothing(script) -> None:
    made = []

    def make(out) -> None:
        made.append(out)
        (out / "model").write_text("weights")

    first = ensure_sample("toy", [script], make)
    assert ensure_sample("toy", [script], make) == first
    assert len(made) == 1
    assert (first / "model").read_text() == "weights"


def test_changed_script_makes_anew(script) -> None:
    first = ensure_sample("toy", [script], lambda _out: None)
    script.write_text("second")
    assert ensure_sample("toy", [script], lambda _out: None) != first


def test_failure_leaves_nothing_behind(script, tmp_path) -> None:
    def fail(out) -> None:
        (out / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_sample("toy", [script], fail)
    assert list((tmp_path / "cache" / "samples").iterdir()) == []


def test_two_makers_at_once_end_with_one_folder(script) -> None:
    def overtaken(_out) -> None:
        ensure_sample("toy", [script], lambda out: (out / "winner").touch())

    folder = ensure_sample("toy", [script], overtaken)
    assert (folder / "winner").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
