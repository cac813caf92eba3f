"""Opens the user's model: nothing is trusted, everything wrong becomes a sentence.

The checks run in order of what they need: bytes, protobuf, names and paths, the ONNX checker,
opset, and ONNX Runtime last. Reasons for the less obvious ones: `ENGINE_CONTEXT` nodes carry
native code; hard-linked external data leaked in ONNX Runtime 1.31; 1.3 KB of nested local
functions can expand to millions of nodes.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onnx
from google.protobuf.message import DecodeError

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import check_plain_path
from modelwright_optimizer.engine import (
    ENGINE_ERRORS,
    Interface,
    UnsupportedTensor,
    describe_error,
    open_graph,
)
from modelwright_optimizer.failures import BuildFailure, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_MODEL_BYTES: Final = 2_000_000_000
MAX_EXPANDED_NODES: Final = 50_000
MIN_OPSET: Final = 7
WANTED_OPSET: Final = 13

_BUILT_IN_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_NATIVE_CODE_OPS: Final = frozenset({"EPContext"})
_REFUSED_METADATA: Final = frozenset({"ort_config"})


@dataclass(frozen=True, slots=True)
class Model:
    """The user's graph as one file of our own with its weights, at opset 13 or later."""

    path: Path
    interface: Interface
    operators: frozenset[str]
    source_opset: int


def load_model(path: Path, folder: Path, threads: int) -> Model:
    """Check a model, convert and store it in `folder`, and try to open it.

    `BuildFailure(ModelInvalid)` says what is wrong with it.
    """
    proto = _parse(path)
    _check_operators(proto)
    _check_expansion(proto)
    _check_external_data(proto, path.parent)
    _check_by_onnx(path)
    _load_weights(proto, path.parent)
    opset = read_opset(proto)
    if opset > onnx.defs.onnx_opset_version():
        raise _invalid(
            f"The model uses opset {opset}; opsets up to {onnx.defs.onnx_opset_version()} are "
            "known here. Export it with an earlier one."
        )
    if opset < WANTED_OPSET:
        proto = _convert_opset(proto, opset)
    stored = folder / "model.onnx"
    stored.write_bytes(proto.SerializeToString(deterministic=True))
    operators = frozenset(node.op_type for node in proto.graph.node)
    wanted = read_opset(proto)
    del proto
    return Model(stored, _check_by_engine(stored, wanted, threads), operators, opset)


def read_opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operator set."""
    return max((o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}), default=0)


def list_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph inside its nodes, and inside functions."""
    yield from _list_graphs_of(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _list_subgraphs(node)


def list_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, wherever it stands."""
    for graph in list_graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _parse(path: Path) -> onnx.ModelProto:
    size = path.stat().st_size
    if size == 0:
        raise _invalid("The model file is empty (0 bytes): export it again.")
    if size > MAX_MODEL_BYTES:
        raise _invalid(f"The model file is {size} bytes long; more than {MAX_MODEL_BYTES}.")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise _invalid(
            "The file is not an ONNX model, or it is truncated: export or upload it again."
        ) from error
    if not proto.graph.node or not proto.graph.output:
        raise _invalid("The file holds no ONNX graph, or a truncated one: export it again.")
    return proto


def _check_operators(proto: onnx.ModelProto) -> None:
    known = _BUILT_IN_DOMAINS | {function.domain for function in proto.functions}
    for node in list_nodes(proto):
        if node.op_type in _NATIVE_CODE_OPS:
            raise _invalid(
                f"The model holds a compiled {node.op_type} node, which is native code: "
                "bring the plain ONNX graph instead."
            )
        if node.domain not in known:
            raise _invalid(
                f"The model uses {node.op_type} from the domain {node.domain!r}; only standard "
                "ONNX and ONNX Runtime operators can be served. Export without custom operators."
            )
    for entry in proto.metadata_props:
        if entry.key in _REFUSED_METADATA:
            raise _invalid(f"The model carries {entry.key} metadata: remove it.")


def _check_expansion(proto: onnx.ModelProto) -> None:
    functions = {(f.domain, f.name): list(f.node) for f in proto.functions}
    costs: dict[tuple[str, str], int | None] = {}

    def cost_of_function(key: tuple[str, str]) -> int:
        if key not in costs:
            costs[key] = None
            costs[key] = sum(cost(node) for node in functions[key])
        known = costs[key]
        if known is None:
            raise _invalid("A function of the model calls itself: export it without recursion.")
        return known

    def cost(node: onnx.NodeProto) -> int:
        key = (node.domain, node.op_type)
        inner = sum(cost(n) for graph in _attribute_graphs(node) for n in graph.node)
        return inner + (cost_of_function(key) if key in functions else 1)

    try:
        total = sum(cost(node) for node in proto.graph.node)
    except RecursionError as error:
        raise _invalid("The model's graphs are nested too deeply.") from error
    if total > MAX_EXPANDED_NODES:
        raise _invalid(
            f"The model expands to {total} operators; more than {MAX_EXPANDED_NODES} are refused."
        )


def _check_external_data(proto: onnx.ModelProto, folder: Path) -> None:
    total = 0
    for tensor in _list_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            total += _check_external_tensor(tensor, folder)
    if total > MAX_MODEL_BYTES:
        raise _invalid(f"The model's weights are {total} bytes; more than {MAX_MODEL_BYTES}.")


def _check_external_tensor(tensor: onnx.TensorProto, folder: Path) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        check_plain_path(location, f"The place of the weights {tensor.name!r}")
    except ArtifactError as error:
        raise _invalid(str(error)) from error
    path = folder / location
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise _invalid(
            f"The weights {tensor.name!r} are in {location!r}, which is missing: bring the model "
            "as an OCI artifact with all its files, or export it into a single file."
        ) from error
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    if not inside or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise _invalid(f"{location!r} is not a plain file of its own beside the model.")
    return _check_extent(tensor, entries, location, status.st_size)


def _check_extent(
    tensor: onnx.TensorProto, entries: Mapping[str, str], location: str, size: int
) -> int:
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0) or 0)
    except ValueError as error:
        raise _invalid(f"The extent of the weights {tensor.name!r} is not a number.") from error
    end = offset + length if length else size
    if offset < 0 or length < 0 or not offset <= end <= size:
        raise _invalid(
            f"The weights {tensor.name!r} reach beyond the end of {location!r}: "
            "the file is truncated; upload it again."
        )
    return end - offset


def _check_by_onnx(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise _invalid(
            f"The ONNX checker refuses the model: {describe_error(error)}. Export it again."
        ) from error


def _load_weights(proto: onnx.ModelProto, folder: Path) -> None:
    try:
        onnx.load_external_data_for_model(proto, str(folder))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise _invalid(f"The model's weights cannot be read: {describe_error(error)}.") from error


def _convert_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset < MIN_OPSET:
        raise _invalid(
            f"The model uses opset {opset}; export it with opset {WANTED_OPSET} or later."
        )
    try:
        return onnx.version_converter.convert_version(proto, WANTED_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise _invalid(
            f"The model uses opset {opset} and cannot be converted to {WANTED_OPSET} "
            f"({describe_error(error)}): export it with opset {WANTED_OPSET} or later."
        ) from error


def _check_by_engine(path: Path, opset: int, threads: int) -> Interface:
    try:
        interface = open_graph(path, threads).interface
    except UnsupportedTensor as error:
        raise _invalid(str(error)) from error
    except ENGINE_ERRORS as error:
        raise _invalid(
            f"ONNX Runtime cannot load the model (opset {opset}): {describe_error(error)}."
        ) from error
    if not interface.inputs:
        raise _invalid("The model takes no input: there is nothing to serve.")
    if any(not spec.shape for spec in interface.inputs):
        raise _invalid("An input of the model is a scalar: every input needs an axis for rows.")
    return interface


def _list_graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        yield from _list_subgraphs(node)


def _list_subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for graph in _attribute_graphs(node):
        yield from _list_graphs_of(graph)


def _attribute_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _list_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in list_graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in list_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def _invalid(message: str) -> BuildFailure:
    return BuildFailure(Reason.MODEL_INVALID, message)
