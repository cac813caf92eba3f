"""Writes `protocol/open_inference_pb2.py` and its types from the .proto beside it.

    python runtime_image/generate_protocol.py [--check]

Needs grpcio-tools. With `--check` nothing is written; the exit code says whether it is stale.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOCOL = Path(__file__).parent / "modelwright_runtime" / "protocol"
SOURCE = PROTOCOL / "open_inference.proto"
NOT_LINTED = {
    "open_inference_pb2.py": "E501, ERA001, I001, SLF001",
    "open_inference_pb2.pyi": "A002, E501, I001, RUF023, UP007, UP045",
}
HEADER = (
    "# Generated from open_inference.proto by: python runtime_image/generate_protocol.py\n"
    "# fmt: off\n"
    "# ruff: noqa: {codes}\n"
    "# mypy: ignore-errors\n"
)


def generate() -> dict[str, str]:
    """The text of each generated file by its name."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "protoc",
            f"--proto_path={PROTOCOL}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            str(SOURCE),
        ]
        if protoc.main(arguments):
            raise SystemExit("protoc refused open_inference.proto")
        return {
            name: HEADER.format(codes=codes) + (Path(folder) / name).read_text()
            for name, codes in NOT_LINTED.items()
        }


def list_stale() -> list[str]:
    """The files that differ from what the .proto gives."""
    return [
        name
        for name, text in generate().items()
        if not (PROTOCOL / name).exists() or (PROTOCOL / name).read_text() != text
    ]


def main() -> int:
    """Write, or check."""
    stale = list_stale()
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"{name} is stale: run python runtime_image/generate_protocol.py\n")
        return len(stale)
    for name, text in generate().items():
        (PROTOCOL / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
