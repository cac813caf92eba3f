"""Makes the MiniLM sample: graph from weights, proof that it is right, data to judge builds on.

python -m samples.minilm.build --out build/minilm
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime

from samples.minilm.graph import build_model
from samples.minilm.reference import embed_sentence
from samples.minilm.text import KNOWN_LIKENESS, KNOWN_SENTENCES, PARAPHRASES, write_sentences
from samples.minilm.weights import Array, Weights, find_files, load_tokenizer, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

TOKENS: Final = 32
EVALUATION_ROWS: Final = 800
COMPARED_ROWS: Final = 24
TOLERANCE: Final = 1e-4
PARAPHRASE_LEAD: Final = 0.3


def build_sample(out: Path) -> None:
    """Write model.onnx and evaluation.npz to `out`, unless a check says that they are wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = find_files(Path(scratch))
        weights, tokenizer = load_weights(folder), load_tokenizer(folder, tokens=TOKENS)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(build_model(weights), out / "model.onnx")
    embedder = Embedder(out / "model.onnx", tokenizer)
    sentences = write_sentences(EVALUATION_ROWS)
    difference = compare_with_reference(embedder, weights, sentences[:COMPARED_ROWS])
    check_known_likeness(embedder)
    check_paraphrases(embedder)
    write_rows(out / "evaluation.npz", tokenize(tokenizer, sentences))
    print(
        f"  minilm: within {difference:.0e} of plain numpy on {COMPARED_ROWS} sentences, "
        f"likeness as published; {len(sentences)} rows to judge builds on",
        file=sys.stderr,
    )


class Embedder:
    """The graph in ONNX Runtime, fed with text."""

    def __init__(self, model: Path, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def embed(self, sentences: Sequence[str]) -> Array:
        return np.asarray(self.session.run(None, tokenize(self.tokenizer, sentences))[0])


def tokenize(tokenizer: Tokenizer, sentences: Sequence[str]) -> dict[str, Any]:
    """The graph's inputs for some sentences, all padded to one length."""
    encodings = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64),
    }


def compare_with_reference(embedder: Embedder, weights: Weights, sentences: Sequence[str]) -> float:
    """The largest difference between the graph and plain numpy, which must be small."""
    embeddings = embedder.embed(sentences)
    inputs = tokenize(embedder.tokenizer, sentences)
    lengths = inputs["attention_mask"].sum(axis=1)
    wanted = [
        embed_sentence(weights, ids[:length])
        for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)
    ]
    difference = float(np.abs(embeddings - np.stack(wanted)).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"the graph differs from plain numpy by {difference}")
    return difference


def check_known_likeness(embedder: Embedder) -> None:
    embeddings = embedder.embed(KNOWN_SENTENCES)
    likeness = embeddings @ embeddings.T
    if not np.allclose(likeness, KNOWN_LIKENESS, atol=TOLERANCE):
        raise ValueError(f"the likeness of known sentences is not as published: {likeness}")


def check_paraphrases(embedder: Embedder) -> None:
    for sentence, same, other in PARAPHRASES:
        embeddings = embedder.embed((sentence, same, other))
        near, far = embeddings[0] @ embeddings[1], embeddings[0] @ embeddings[2]
        if not near > far + PARAPHRASE_LEAD:
            raise ValueError(f"{sentence!r}: {near:.2f} to {same!r}, {far:.2f} to {other!r}")


def write_rows(path: Path, inputs: dict[str, Any]) -> None:
    arrays = {f"inputs/{name}": array for name, array in inputs.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="samples.minilm.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    build_sample(parser.parse_args(arguments).out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
