"""The health table's kstatus column, judged by the real library."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.golden.health.documents import TABLE, as_object

if TYPE_CHECKING:
    from pathlib import Path


def test_kstatus_is_what_the_table_says(kstatus: Path) -> None:
    documents = "\n---\n".join(json.dumps(as_object(row)) for row in TABLE)
    done = subprocess.run([kstatus], input=documents, capture_output=True, text=True, check=True)

    found = dict(zip([row["case"] for row in TABLE], done.stdout.split(), strict=True))
    assert found == {row["case"]: row["kstatus"] for row in TABLE}
