"""MiniLM once more in plain numpy, to hold the graph against.

It shares nothing with `graph.py` but the weights: one sentence at a time, without padding or mask,
token types added where the authors add them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf, softmax

from samples.minilm.weights import HEADS, HIDDEN, NORM_EPSILON, Array, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence


def embed_sentence(weights: Weights, token_ids: Sequence[int]) -> Array:
    """The embedding of one sentence, given its tokens and no padding."""
    hidden = weights.embedding("word")[list(token_ids)]
    hidden = hidden + weights.embedding("token_type")[0]
    hidden = hidden + weights.embedding("position")[: len(token_ids)]
    hidden = _normalize(hidden, *weights.norm("embeddings.LayerNorm"))
    for layer in range(weights.layers):
        hidden = _encode(weights, f"encoder.layer.{layer}", hidden)
    mean = hidden.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _encode(weights: Weights, name: str, hidden: Array) -> Array:
    attended = _attend(weights, f"{name}.attention", hidden)
    hidden = _normalize(hidden + attended, *weights.norm(f"{name}.attention.output.LayerNorm"))
    wide = _apply(weights, f"{name}.intermediate.dense", hidden)
    narrow = _apply(weights, f"{name}.output.dense", wide * (1 + erf(wide / np.sqrt(2))) / 2)
    return _normalize(hidden + narrow, *weights.norm(f"{name}.output.LayerNorm"))


def _attend(weights: Weights, name: str, hidden: Array) -> Array:
    query, key, value = (
        _apply(weights, f"{name}.self.{part}", hidden) for part in ("query", "key", "value")
    )
    width = HIDDEN // HEADS
    mixed = [
        softmax(query[:, at] @ key[:, at].T / np.sqrt(width), axis=1) @ value[:, at]
        for at in (slice(head * width, (head + 1) * width) for head in range(HEADS))
    ]
    return _apply(weights, f"{name}.output.dense", np.concatenate(mixed, axis=1))


def _apply(weights: Weights, name: str, x: Array) -> Array:
    weight, bias = weights.linear(name)
    return np.asarray(x @ weight + bias)


def _normalize(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPSILON)
    return np.asarray(centred / deviation * scale + shift)
