"""Trains the digit classifier and writes what an InferenceModel needs.

    python -m samples.digits.train --out build/digits

No training framework: `network.py` is the network, this file is Adam and the loop.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from samples.digits.data import SIDE, Labels, Rows, draw_scans, draw_transforms, load_split
from samples.digits.export import write_sample
from samples.digits.network import Array, Network, Parameter, build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the trained weights."""

    widths: tuple[int, ...] = (32, 32, 64)
    hidden_units: int = 2048
    epochs: int = 8
    batch_rows: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.05
    seed: int = 1


class Adam:
    """Adam with decoupled weight decay."""

    def __init__(self, parameters: Iterable[Parameter], weight_decay: float) -> None:
        self.moments = [Moments.of(parameter) for parameter in parameters]
        self.weight_decay = weight_decay
        self.step = 0

    def update(self, learning_rate: float) -> None:
        self.step += 1
        unbiased = np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        rate, kept = learning_rate * unbiased, 1 - learning_rate * self.weight_decay
        for moments in self.moments:
            moments.update(np.float32(rate), np.float32(kept))


@dataclass(frozen=True, slots=True)
class Moments:
    """A parameter with the running means of its gradient and of its square."""

    parameter: Parameter
    mean: Array
    square: Array

    @classmethod
    def of(cls, parameter: Parameter) -> Moments:
        return cls(parameter, np.zeros_like(parameter.value), np.zeros_like(parameter.value))

    def update(self, rate: np.float32, kept: np.float32) -> None:
        parameter, gradient = self.parameter, self.parameter.gradient
        np.add(self.mean, np.float32(0.1) * (gradient - self.mean), out=self.mean)
        np.add(self.square, np.float32(0.001) * (gradient**2 - self.square), out=self.square)
        if parameter.decays:
            parameter.value *= kept
        parameter.value -= rate * self.mean / (np.sqrt(self.square) + np.float32(1e-8))


def train_network(
    rows: Rows, recipe: Recipe, report: Callable[[int, float], None] = lambda _epoch, _loss: None
) -> Network:
    """Train on `rows` alone; the same recipe gives the same weights."""
    random = np.random.default_rng(recipe.seed)
    network = build_network(SIDE, recipe.widths, recipe.hidden_units, random)
    adam = Adam(network.parameters(), recipe.weight_decay)
    batches = len(rows) // recipe.batch_rows
    for epoch in range(recipe.epochs):
        losses = []
        order = random.permutation(len(rows))[: batches * recipe.batch_rows]
        for batch, index in enumerate(np.split(order, batches)):
            scans, labels = rows.scans[index], rows.labels[index]
            images = draw_scans(scans, draw_transforms(len(index), random))
            logits = network.forward(images, training=True)
            loss, gradient = cross_entropy(logits, labels, recipe.label_smoothing)
            network.backward(gradient)
            adam.update(_learning_rate((epoch + batch / batches) / recipe.epochs, recipe))
            losses.append(loss)
        report(epoch, float(np.mean(losses)))
    return network


def cross_entropy(logits: Array, labels: Labels, smoothing: float) -> tuple[float, Array]:
    """Mean loss over the rows, and its gradient."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    target = np.full_like(logits, smoothing / classes)
    target[np.arange(len(labels)), labels] += 1 - smoothing
    loss = -(target * logarithms).sum(axis=1).mean()
    return float(loss), (np.exp(logarithms) - target) / np.float32(len(labels))


def measure_accuracy(network: Network, rows: Rows) -> float:
    images = rows.images()
    parts = np.array_split(np.arange(len(rows)), max(1, len(rows) // 64))
    right = sum((network.forward(images[p]).argmax(axis=1) == rows.labels[p]).sum() for p in parts)
    return float(right / len(rows))


def _learning_rate(progress: float, recipe: Recipe) -> float:
    """Up over the first tenth, then down a cosine."""
    if progress < 0.1:
        return recipe.learning_rate * (0.1 + 9 * progress)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="samples.digits.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    train_sample(options.out)
    return 0


def train_sample(out: Path, recipe: Recipe | None = None) -> None:
    """Train, say how it goes on stderr, and write the sample's files to `out`."""
    recipe = recipe or Recipe()
    split, start = load_split(), time.monotonic()

    def report(epoch: int, loss: float) -> None:
        elapsed = time.monotonic() - start
        remaining = elapsed / (epoch + 1) * (recipe.epochs - epoch - 1)
        print(
            f"  digits: epoch {epoch + 1}/{recipe.epochs}  loss {loss:.3f}  "
            f"{elapsed:.0f} s, {remaining:.0f} s to go",
            file=sys.stderr,
            flush=True,
        )

    # One thread: the demo compiles beside us, and sums in one order give the same weights.
    with threadpool_limits(1):
        network = train_network(split.training, recipe, report)
        accuracy = measure_accuracy(network, split.unseen)
    write_sample(out, network, split)
    print(
        f"  digits: {100 * accuracy:.2f} % of {len(split.unseen)} unseen rows right, "
        f"trained on {len(split.training)} in {time.monotonic() - start:.0f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
