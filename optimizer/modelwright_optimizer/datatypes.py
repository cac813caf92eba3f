"""One table of element types: ONNX Runtime's name, the Open Inference Protocol's, numpy's."""

from __future__ import annotations

from typing import Final

# BF16 has no numpy type of its own: such a tensor cannot come from an .npz.
_ROWS: Final = (
    ("tensor(bool)", "BOOL", "bool"),
    ("tensor(uint8)", "UINT8", "uint8"),
    ("tensor(uint16)", "UINT16", "uint16"),
    ("tensor(uint32)", "UINT32", "uint32"),
    ("tensor(uint64)", "UINT64", "uint64"),
    ("tensor(int8)", "INT8", "int8"),
    ("tensor(int16)", "INT16", "int16"),
    ("tensor(int32)", "INT32", "int32"),
    ("tensor(int64)", "INT64", "int64"),
    ("tensor(float16)", "FP16", "float16"),
    ("tensor(float)", "FP32", "float32"),
    ("tensor(double)", "FP64", "float64"),
)

DATATYPE_OF_ORT: Final = {ort: datatype for ort, datatype, _ in _ROWS}
NUMPY_OF_DATATYPE: Final = {datatype: numpy for _, datatype, numpy in _ROWS}
