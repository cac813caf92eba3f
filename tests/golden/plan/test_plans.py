"""Every object, decision and status of each case, against files a person has reviewed.

After a wanted change: `pytest tests/golden/plan --update-golden`, then read the diff.
"""

from __future__ import annotations

import difflib

import pytest

from tests.support import golden_plans as golden


@pytest.mark.parametrize("case", golden.list_cases())
def test_a_case_comes_out_as_reviewed(case: str, update_golden: bool) -> None:
    folder = golden.CASES / case
    differences = []
    files = golden.play(case).files()
    for name, text in files.items():
        path = folder / name
        if update_golden:
            path.write_text(text, "utf-8")
        before = path.read_text("utf-8") if path.exists() else ""
        differences += difflib.unified_diff(
            before.splitlines(), text.splitlines(), f"reviewed/{case}/{name}", "now", lineterm=""
        )
    assert not differences, "\n".join(differences)
    assert {path.name for path in folder.iterdir()} == {"in.yaml", *files}


def test_no_folder_is_left_without_a_case() -> None:
    folders = {path.name for path in golden.CASES.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(golden.list_cases())
