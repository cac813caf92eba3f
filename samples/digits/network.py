"""A small residual network in plain numpy: every layer knows its forward and backward pass.

Activations are (rows, height, width, channels): one convolution is one matrix product over the
patches of its input (im2col), and its gradient two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[np.float32]

KERNEL = 3
NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.9


@dataclass(slots=True)
class Parameter:
    value: Array
    decays: bool = False
    gradient: Array = field(init=False)

    def __post_init__(self) -> None:
        self.gradient = np.zeros_like(self.value)


class Layer(Protocol):
    def forward(self, x: Array, *, training: bool = False) -> Array: ...

    def backward(self, gradient: Array) -> Array: ...

    def parameters(self) -> Iterator[Parameter]: ...


class Normalization:
    """Batch normalization and, on demand, a rectifier, over rows of channels."""

    def __init__(self, channels: int, *, rectified: bool, gain: float = 1.0) -> None:
        self.rectified = rectified
        self.scale = Parameter(np.full(channels, gain, np.float32))
        self.shift = Parameter(np.zeros(channels, np.float32))
        self.mean = np.zeros(channels, np.float32)
        self.variance = np.ones(channels, np.float32)

    def parameters(self) -> Iterator[Parameter]:
        yield from (self.scale, self.shift)

    def forward(self, x: Array, *, training: bool = False) -> Array:
        if training:
            output = self._normalize_batch(x)
        else:
            factor, offset = self.affine()
            output = x * factor + offset
        if self.rectified:
            np.maximum(output, 0, out=output)
            self._positive = output > 0
        return output

    def backward(self, gradient: Array) -> Array:
        if self.rectified:
            gradient = gradient * self._positive
        rows = np.float32(len(gradient))
        self.shift.gradient = gradient.sum(axis=0)
        self.scale.gradient = np.einsum("rc,rc->c", gradient, self._normal)
        correction = self._normal * (self.scale.gradient / rows) + self.shift.gradient / rows
        return np.asarray((gradient - correction) * (self.scale.value / self._deviation))

    def affine(self) -> tuple[Array, Array]:
        """Factor and offset that a trained normalization comes down to."""
        factor = self.scale.value / np.sqrt(self.variance + NORM_EPSILON)
        return factor, self.shift.value - self.mean * factor

    def _normalize_batch(self, x: Array) -> Array:
        mean, variance = x.mean(axis=0), x.var(axis=0)
        self.mean = NORM_MOMENTUM * self.mean + (1 - NORM_MOMENTUM) * mean
        self.variance = NORM_MOMENTUM * self.variance + (1 - NORM_MOMENTUM) * variance
        self._deviation = np.sqrt(variance + NORM_EPSILON)
        self._normal = (x - mean) / self._deviation
        return np.asarray(self._normal * self.scale.value + self.shift.value)


class Convolution:
    """3 x 3, padded by one, normalized."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        random: np.random.Generator,
        *,
        stride: int = 1,
        rectified: bool = True,
        gain: float = 1.0,
    ) -> None:
        self.channels_in, self.stride = channels_in, stride
        self.weight = _draw_weight(KERNEL * KERNEL * channels_in, channels_out, random)
        self.normalization = Normalization(channels_out, rectified=rectified, gain=gain)

    def parameters(self) -> Iterator[Parameter]:
        yield self.weight
        yield from self.normalization.parameters()

    def forward(self, x: Array, *, training: bool = False) -> Array:
        patches, shape = gather_patches(x, self.stride)
        if training:
            self._input_shape, self._patches = x.shape, patches
        product = patches @ self.weight.value
        output = self.normalization.forward(product, training=training)
        return output.reshape(*shape, output.shape[1])

    def backward(self, gradient: Array) -> Array:
        flat = self.normalization.backward(gradient.reshape(-1, gradient.shape[-1]))
        self.weight.gradient = self._patches.T @ flat
        return scatter_patches(flat @ self.weight.value.T, self._input_shape, self.stride)

    def folded(self) -> tuple[Array, Array]:
        """Weight (out, in, 3, 3) and bias that do the normalization's work as well."""
        factor, bias = self.normalization.affine()
        weight = (self.weight.value * factor).reshape(KERNEL, KERNEL, self.channels_in, -1)
        return np.ascontiguousarray(weight.transpose(3, 2, 0, 1)), bias


class Residual:
    """Two convolutions beside a shortcut, then a rectifier."""

    def __init__(self, channels: int, random: np.random.Generator) -> None:
        self.first = Convolution(channels, channels, random)
        self.second = Convolution(channels, channels, random, rectified=False, gain=0.5)
        self._positive: NDArray[np.bool_]

    def parameters(self) -> Iterator[Parameter]:
        yield from self.first.parameters()
        yield from self.second.parameters()

    def forward(self, x: Array, *, training: bool = False) -> Array:
        inner = self.first.forward(x, training=training)
        output: Array = np.maximum(x + self.second.forward(inner, training=training), 0)
        self._positive = output > 0
        return output

    def backward(self, gradient: Array) -> Array:
        through = gradient * self._positive
        return through + self.first.backward(self.second.backward(through))


class Hidden:
    """All of the image's plane into one normalized, rectified row."""

    def __init__(
        self, plane: tuple[int, int, int], units: int, random: np.random.Generator
    ) -> None:
        self.plane = plane
        self.weight = _draw_weight(math.prod(plane), units, random)
        self.normalization = Normalization(units, rectified=True)

    def parameters(self) -> Iterator[Parameter]:
        yield self.weight
        yield from self.normalization.parameters()

    def forward(self, x: Array, *, training: bool = False) -> Array:
        self._flat = x.reshape(len(x), -1)
        return self.normalization.forward(self._flat @ self.weight.value, training=training)

    def backward(self, gradient: Array) -> Array:
        flat = self.normalization.backward(gradient)
        self.weight.gradient = self._flat.T @ flat
        return (flat @ self.weight.value.T).reshape(-1, *self.plane)

    def folded(self) -> tuple[Array, Array]:
        """Weight and bias for a plane laid out channels first, normalization included."""
        factor, bias = self.normalization.affine()
        weight = (self.weight.value * factor).reshape(*self.plane, -1)
        return weight.transpose(2, 0, 1, 3).reshape(self.weight.value.shape), bias


class Classifier:
    """One linear layer from the hidden row to the classes."""

    def __init__(self, units: int, classes: int, random: np.random.Generator) -> None:
        self.weight = _draw_weight(units, classes, random)
        self.bias = Parameter(np.zeros(classes, np.float32))

    def parameters(self) -> Iterator[Parameter]:
        yield from (self.weight, self.bias)

    def forward(self, x: Array, *, training: bool = False) -> Array:
        if training:
            self._input = x
        return np.asarray(x @ self.weight.value + self.bias.value)

    def backward(self, gradient: Array) -> Array:
        self.weight.gradient = self._input.T @ gradient
        self.bias.gradient = gradient.sum(axis=0)
        return gradient @ self.weight.value.T


class Network:
    """Layers in a row."""

    def __init__(self, layers: list[Layer], *, classes: int) -> None:
        self.layers, self.classes = layers, classes

    def parameters(self) -> Iterator[Parameter]:
        for layer in self.layers:
            yield from layer.parameters()

    def forward(self, x: Array, *, training: bool = False) -> Array:
        for layer in self.layers:
            x = layer.forward(x, training=training)
        return x

    def backward(self, gradient: Array) -> Array:
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return gradient


def build_network(
    side: int,
    widths: tuple[int, ...],
    hidden_units: int,
    random: np.random.Generator,
    *,
    classes: int = 10,
) -> Network:
    """A stem of `widths[0]` channels, a residual stage per further width, a hidden row, classes.

    The first stage keeps the image's size, each later one halves it.
    """
    layers: list[Layer] = [Convolution(1, widths[0], random)]
    for stage, (channels_in, channels) in enumerate(pairwise(widths)):
        stride = 1 if stage == 0 else 2
        layers.append(Convolution(channels_in, channels, random, stride=stride))
        layers.append(Residual(channels, random))
        side = -(-side // stride)
    layers.append(Hidden((side, side, widths[-1]), hidden_units, random))
    layers.append(Classifier(hidden_units, classes, random))
    return Network(layers, classes=classes)


def gather_patches(x: Array, stride: int) -> tuple[Array, tuple[int, int, int]]:
    """Every 3 x 3 neighbourhood as one row; and the output's (rows, height, width)."""
    rows, height, width, channels = x.shape
    framed = np.zeros((rows, height + 2, width + 2, channels), np.float32)
    framed[:, 1:-1, 1:-1] = x
    out_height, out_width = -(-height // stride), -(-width // stride)
    patches = np.empty((rows, out_height, out_width, KERNEL * KERNEL, channels), np.float32)
    for place, window in enumerate(_windows(framed, stride, out_height, out_width)):
        patches[:, :, :, place] = window
    return patches.reshape(-1, KERNEL * KERNEL * channels), (rows, out_height, out_width)


def scatter_patches(patches: Array, shape: tuple[int, ...], stride: int) -> Array:
    """Add every patch back to where `gather_patches` took it from."""
    rows, height, width, channels = shape
    framed = np.zeros((rows, height + 2, width + 2, channels), np.float32)
    out_height, out_width = -(-height // stride), -(-width // stride)
    split = patches.reshape(rows, out_height, out_width, KERNEL * KERNEL, channels)
    for place, window in enumerate(_windows(framed, stride, out_height, out_width)):
        np.add(window, split[:, :, :, place], out=window)
    return framed[:, 1:-1, 1:-1]


def _windows(framed: Array, stride: int, out_height: int, out_width: int) -> Iterator[Array]:
    for dy in range(KERNEL):
        for dx in range(KERNEL):
            yield framed[
                :, dy : dy + stride * out_height : stride, dx : dx + stride * out_width : stride
            ]


def _draw_weight(fan_in: int, fan_out: int, random: np.random.Generator) -> Parameter:
    weight = random.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)).astype(np.float32)
    return Parameter(weight, decays=True)
