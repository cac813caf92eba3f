"""The digit sample: its arithmetic against ONNX Runtime and against finite differences."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from samples.digits.data import SIDE, draw_scans, draw_transforms, load_split
from samples.digits.export import build_model, write_sample
from samples.digits.network import (
    Convolution,
    Network,
    build_network,
    gather_patches,
    scatter_patches,
)
from samples.digits.train import Recipe, cross_entropy, measure_accuracy, train_network

TINY = Recipe(widths=(4, 4, 8), hidden_units=16, epochs=2, batch_rows=16)


@pytest.fixture(scope="module")
def split():
    return load_split()


@pytest.fixture(scope="module")
def tiny_network(split):
    return train_network(split.training.take(np.arange(64)), TINY)


def onnx_logits(network: Network, images):
    session = onnxruntime.InferenceSession(
        build_model(network).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def test_the_parts_share_no_row_and_miss_none(split) -> None:
    assert (len(split.training), len(split.unseen)) == (700, 1097)
    dealt = np.concatenate([part.scans.reshape(-1, 64) for part in (split.training, split.unseen)])
    assert len(np.unique(dealt, axis=0)) == 1797, "scikit-learn's digits hold no duplicate"


def test_exported_model_answers_as_the_trained_network(split, tiny_network) -> None:
    images = split.unseen.take(np.arange(20)).images()
    want = tiny_network.forward(images)
    np.testing.assert_allclose(onnx_logits(tiny_network, images), want, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**16),
)
def test_convolution_equals_onnx_runtime(rows, height, width, channels, stride, seed) -> None:
    random = np.random.default_rng(seed)
    layer = Convolution(*channels, random, stride=stride, rectified=False)
    x = random.normal(size=(rows, height, width, channels[0])).astype(np.float32)
    weight, bias = layer.folded()
    node = onnx.helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[stride, stride]
    )
    values = [onnx.helper.make_tensor_value_info(n, 1, None) for n in ("x", "w", "b", "y")]
    graph = onnx.helper.make_graph([node], "one", values[:3], values[3:])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (want,) = session.run(None, {"x": x.transpose(0, 3, 1, 2), "w": weight, "b": bias})
    np.testing.assert_allclose(layer.forward(x), want.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4), stride=st.sampled_from([1, 2]), seed=st.integers(0)
)
def test_scattering_is_the_transpose_of_gathering(shape, stride, seed) -> None:
    """<gather(x), p> = <x, scatter(p)> for all x and p."""
    random = np.random.default_rng(seed)
    x = random.normal(size=shape).astype(np.float32)
    gathered, _ = gather_patches(x, stride)
    patches = random.normal(size=gathered.shape).astype(np.float32)
    left = float((gathered * patches).sum(dtype=np.float64))
    right = float((x * scatter_patches(patches, shape, stride)).sum(dtype=np.float64))
    assert left == pytest.approx(right, rel=1e-4, abs=1e-4)


def test_gradients_agree_with_finite_differences() -> None:
    random = np.random.default_rng(3)
    network = build_network(6, (3, 4, 5), 7, random, classes=3)
    images = random.normal(size=(12, 6, 6, 1)).astype(np.float32)
    labels = random.integers(0, 3, 12)

    def loss_and_backward() -> float:
        loss, gradient = cross_entropy(network.forward(images, training=True), labels, 0.1)
        network.backward(gradient)
        return loss

    loss_and_backward()
    gradients = [parameter.gradient.copy() for parameter in network.parameters()]
    step = 2e-3
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        norm = np.linalg.norm(gradient)
        assert norm > 0
        direction, start = gradient / norm, parameter.value.copy()
        parameter.value[...] = start + step * direction
        above = loss_and_backward()
        parameter.value[...] = start - step * direction
        below = loss_and_backward()
        parameter.value[...] = start
        assert (above - below) / (2 * step) == pytest.approx(norm, rel=0.05, abs=1e-3)


def test_training_is_deterministic_and_learns(split) -> None:
    rows = split.training.take(np.arange(128))
    recipe = Recipe(widths=(8, 8, 16), hidden_units=32, epochs=6, batch_rows=16)
    with threadpool_limits(1):
        losses: list[float] = []
        first = train_network(rows, recipe, lambda _epoch, loss: losses.append(loss))
        second = train_network(rows, recipe)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(one.value, other.value)
    assert losses[-1] < losses[0]
    assert measure_accuracy(first, split.unseen) > 0.6, "guessing gives 0.1"


def test_drawing_undistorted_is_bilinear_upsampling_by_two(split) -> None:
    """Each target pixel takes 3/4 of its scan pixel and 1/4 of the neighbour, along both axes."""
    framed = np.pad(split.unseen.scans, ((0, 0), (1, 1), (1, 1)))
    want = framed
    for axis in (1, 2):
        before, at, after = (np.take(want, range(k, k + 8), axis=axis) for k in range(3))
        stacked = np.stack([at * 0.75 + before * 0.25, at * 0.75 + after * 0.25], axis=axis + 1)
        want = stacked.reshape(*stacked.shape[:axis], SIDE, *stacked.shape[axis + 2 :])
    np.testing.assert_allclose(split.unseen.images()[..., 0], want, atol=1e-6)


def test_distortions_move_the_ink_but_keep_it(split) -> None:
    scans = split.training.scans
    images = draw_scans(scans, draw_transforms(len(scans), np.random.default_rng(0)))
    plain = split.training.images()
    ink = images.sum(axis=(1, 2, 3)) / plain.sum(axis=(1, 2, 3))
    assert np.quantile(ink, 0.05) > 0.7
    assert np.quantile(ink, 0.95) < 1.3
    assert np.abs(images - plain).mean() > 0.02


def test_sample_files_hold_what_the_manifest_promises(split, tiny_network, tmp_path) -> None:
    write_sample(tmp_path, tiny_network, split)
    model = onnx.load(tmp_path / "model.onnx")
    assert [v.name for v in model.graph.input] == ["image"]
    assert [v.name for v in model.graph.output] == ["logits"]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    for name, rows in (("calibration", 200), ("evaluation", 1097)):
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as data:
            assert data["inputs/image"].shape == (rows, 1, 16, 16)
            assert data["inputs/image"].dtype == np.float32
            assert data["labels"].shape == (rows,)
    examples = json.loads((tmp_path / "examples.json").read_text())
    assert len({example["label"] for example in examples}) == len(examples) == 5
    assert np.shape(examples[0]["image"]) == (1, 16, 16)


def test_writing_twice_gives_the_same_bytes(split, tiny_network, tmp_path) -> None:
    for folder in ("one", "two"):
        write_sample(tmp_path / folder, tiny_network, split)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
