"""The optimizer: the fastest graph that keeps its accuracy, found by measurement.

ONNX in, artifact out: inspect, prepare, apply recipes, judge, measure, select, write.
"""

from __future__ import annotations

import os

# ONNX Runtime reports home unless told otherwise before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
