"""Handwritten digits: scikit-learn's 1,797 scans, split once and drawn at twice their size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]  # rows, height, width, channels
Labels = NDArray[np.int64]

SIDE = 16
TRAINING_ROWS = 700
CALIBRATION_ROWS = 200
SPLIT_SEED = 7


@dataclass(frozen=True, slots=True)
class Rows:
    """Digits as scanned (8 x 8, values 0 to 1) and what they show."""

    scans: NDArray[np.float32]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Rows:
        return Rows(self.scans[index], self.labels[index])

    def images(self) -> Images:
        """The scans as the network sees them, undistorted."""
        return draw_scans(self.scans, np.tile(np.eye(2, 3, dtype=np.float32), (len(self), 1, 1)))


@dataclass(frozen=True, slots=True)
class Split:
    """What the network learns from, and what it never sees before it is judged."""

    training: Rows
    unseen: Rows

    @property
    def calibration(self) -> Rows:
        """Rows to set number ranges by; seen ones do, so that no unseen row is spent on it."""
        return self.training.take(np.arange(min(CALIBRATION_ROWS, len(self.training))))


def load_split() -> Split:
    """All digits in a fixed random order, cut in two."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = Rows((digits.images / 16).astype(np.float32), digits.target.astype(np.int64))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rows))
    return Split(rows.take(order[:TRAINING_ROWS]), rows.take(order[TRAINING_ROWS:]))


def draw_scans(scans: NDArray[np.float32], transforms: NDArray[np.float32]) -> Images:
    """Sample each scan bilinearly on the network's grid, after its own affine transform.

    A transform (2 x 3) maps the target's coordinates (-1 to 1, then a constant 1) to the scan's.
    """
    rows, side, _ = scans.shape
    axis = (np.arange(SIDE, dtype=np.float32) + 0.5) * 2 / SIDE - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    grid = np.stack([y.ravel(), x.ravel(), np.ones(SIDE * SIDE, np.float32)])
    points = ((transforms @ grid + 1) * side - 1) / 2 + 1  # in pixels of the framed scan
    framed = np.pad(scans, ((0, 0), (1, 1), (1, 1)))
    points = np.clip(points, 0, side + 0.999)
    corner = points.astype(np.int64)
    (fy, fx), (cy, cx) = np.moveaxis(points - corner, 1, 0), np.moveaxis(corner, 1, 0)
    row = np.arange(rows)[:, None]
    top = framed[row, cy, cx] * (1 - fx) + framed[row, cy, cx + 1] * fx
    bottom = framed[row, cy + 1, cx] * (1 - fx) + framed[row, cy + 1, cx + 1] * fx
    drawn = top * (1 - fy) + bottom * fy
    return np.asarray(drawn.reshape(rows, SIDE, SIDE, 1), np.float32)


def draw_transforms(rows: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Small turns, stretches and shifts, as hands make them."""
    angle = random.uniform(-0.2, 0.2, rows)
    scale_y, scale_x = random.uniform(0.88, 1.12, (2, rows))
    shear = random.uniform(-0.12, 0.12, rows)
    shift_y, shift_x = random.uniform(-0.15, 0.15, (2, rows))
    cosine, sine = np.cos(angle), np.sin(angle)
    first = np.stack([cosine * scale_y, -sine * scale_x, shift_y], axis=1)
    second = np.stack([sine * scale_y + shear, cosine * scale_x, shift_x], axis=1)
    return np.stack([first, second], axis=1).astype(np.float32)
