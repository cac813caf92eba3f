from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from modelwright_optimizer.engine import open_graph
from modelwright_optimizer.memory import measure_peak_bytes
from modelwright_optimizer.writer import (
    GOLDEN_INPUTS,
    list_files,
    serialize,
    write_golden_inputs,
    write_graph,
)
from tests.unit.optimizer.models import make_classifier, make_rows

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = {"x": make_rows(4)[0]}


def test_a_written_graph_answers_as_before(tmp_path: Path) -> None:
    proto = make_classifier()
    write_graph(tmp_path, "fp32", proto)
    before = open_graph(serialize(proto), 1).run(INPUTS)["y"]
    after = open_graph(tmp_path / "fp32.onnx", 1).run(INPUTS)["y"]
    assert np.array_equal(before, after)


def test_graphs_share_equal_weights_and_count_them_both(tmp_path: Path) -> None:
    first = write_graph(tmp_path, "one", make_classifier())
    alone = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert first.size_bytes == alone
    second = write_graph(tmp_path, "two", make_classifier(opset=15))
    tensors = list((tmp_path / "tensors").iterdir())
    assert len(tensors) == 1
    together = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert together < first.size_bytes + second.size_bytes


def test_weights_are_named_by_their_content(tmp_path: Path) -> None:
    write_graph(tmp_path, "one", make_classifier())
    for path, entry in list_files(tmp_path).items():
        if path.startswith("tensors/"):
            assert path == f"tensors/{entry.sha256}.bin"


def test_weights_that_are_not_raw_are_written_too(tmp_path: Path) -> None:
    proto = make_classifier()
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).ravel().tolist()
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    write_graph(tmp_path / "a", "one", proto)
    write_graph(tmp_path / "b", "one", make_classifier())
    first, second = list_files(tmp_path / "a"), list_files(tmp_path / "b")
    assert {k: v for k, v in first.items() if "tensors" in k} == {
        k: v for k, v in second.items() if "tensors" in k
    }


def test_writing_does_not_change_the_graph_in_memory(tmp_path: Path) -> None:
    proto = make_classifier()
    before = serialize(proto)
    write_graph(tmp_path, "one", proto)
    assert serialize(proto) == before


def test_the_peak_of_a_process_is_more_than_its_weights(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, "one", make_classifier())
    write_golden_inputs(tmp_path, INPUTS)
    peak = measure_peak_bytes(tmp_path / graph.file, tmp_path / GOLDEN_INPUTS, 1, 1)
    assert peak is not None
    assert graph.size_bytes < peak < 2**31
    assert measure_peak_bytes(tmp_path / "none.onnx", tmp_path / GOLDEN_INPUTS, 1, 1) is None
