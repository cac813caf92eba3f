from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "runtime_image" / "generate_protocol.py"


def test_the_generated_protocol_is_what_its_source_gives() -> None:
    spec = importlib.util.spec_from_file_location("generate_protocol", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.list_stale() == []
