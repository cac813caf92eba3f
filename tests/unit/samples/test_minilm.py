"""The MiniLM graph with small random weights, against plain numpy; the text it is judged on."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples.minilm import reference, weights
from samples.minilm.graph import build_model
from samples.minilm.text import TEMPLATES, write_sentences
from samples.minilm.weights import HIDDEN, Weights

VOCABULARY, WIDE, LAYERS = 40, 64, 2


def draw_weights(seed: int) -> Weights:
    """The real shapes, but for few words, few layers and a narrow middle."""
    random = np.random.default_rng(seed)
    tensors = {}

    def add(name: str, *shape: int, spread: float = 0.3, centre: float = 0.0) -> None:
        tensors[name] = random.normal(centre, spread, shape).astype(np.float32)

    def add_linear(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns, spread=1.5 / columns**0.5)
        add(f"{name}.bias", rows)

    def add_norm(name: str) -> None:
        add(f"{name}.weight", HIDDEN, centre=1.0)
        add(f"{name}.bias", HIDDEN)

    for kind, rows in (("word", VOCABULARY), ("position", 16), ("token_type", 2)):
        add(f"embeddings.{kind}_embeddings.weight", rows, HIDDEN, spread=1.0)
    add_norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            add_linear(f"{block}.attention.{part}", HIDDEN, HIDDEN)
        add_norm(f"{block}.attention.output.LayerNorm")
        add_linear(f"{block}.intermediate.dense", WIDE, HIDDEN)
        add_linear(f"{block}.output.dense", HIDDEN, WIDE)
        add_norm(f"{block}.output.LayerNorm")
    return Weights(tensors)


@pytest.fixture(scope="module")
def small():
    drawn = draw_weights(5)
    session = onnxruntime.InferenceSession(
        build_model(drawn).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return drawn, session


@settings(max_examples=15, deadline=None)
@given(
    sentences=st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=4
    ),
    padding=st.integers(0, 4),
    filler=st.integers(0, VOCABULARY - 1),
)
def test_graph_equals_plain_numpy_whatever_the_padding(small, sentences, padding, filler) -> None:
    drawn, session = small
    length = max(map(len, sentences)) + padding
    ids = np.full((len(sentences), length), filler, np.int64)
    mask = np.zeros((len(sentences), length), np.int64)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)], mask[row, : len(sentence)] = sentence, 1
    (got,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    want = [reference.embed_sentence(drawn, sentence) for sentence in sentences]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_embeddings_tell_sentences_apart(small) -> None:
    """Else the comparison above would hold for a graph that ignores its input."""
    drawn, _ = small
    one, other = (reference.embed_sentence(drawn, ids) for ids in ([1, 2, 3], [3, 2, 1]))
    assert np.abs(one - other).max() > 0.01


def test_a_row_of_padding_alone_gives_no_nan(small) -> None:
    _, session = small
    zeros = np.zeros((1, 4), np.int64)
    (got,) = session.run(None, {"input_ids": zeros, "attention_mask": zeros})
    assert np.isfinite(got).all()


def test_graph_is_the_same_every_time() -> None:
    first, second = (build_model(draw_weights(5)).SerializeToString() for _ in range(2))
    assert first == second


def test_files_with_another_digest_are_refused(tmp_path, monkeypatch) -> None:
    def install(target):
        folder = target / weights.FOLDER
        folder.mkdir(parents=True)
        for name in weights.DIGESTS:
            (folder / name).write_text("something else")
        return target

    monkeypatch.setattr(weights, "PACKAGE", "modelwright-no-such-package")
    monkeypatch.setattr(weights, "_install", install)
    with pytest.raises(ValueError, match=r"model\.safetensors has the SHA-256"):
        weights.find_files(tmp_path)


def test_sentences_differ_and_do_not_change() -> None:
    sentences = write_sentences(800)
    assert len(set(sentences)) == 800
    assert write_sentences(800) == sentences
    assert not any("{" in sentence for sentence in sentences)
    assert len({sentence.split()[0] for sentence in sentences}) >= len(TEMPLATES) / 2
