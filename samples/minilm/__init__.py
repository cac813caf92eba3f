"""MiniLM, a text embedding: published weights, a graph built from them here, and proof of it."""

from __future__ import annotations

from pathlib import Path

from samples.cache import ensure_sample


def ensure() -> Path:
    """Folder with model.onnx and evaluation.npz."""
    return ensure_sample("minilm", Path(__file__).parent.glob("*.py"), _make)


def _make(out: Path) -> None:
    from samples.minilm.build import build_sample

    build_sample(out)
