"""What Argo CD concludes from our statuses; kstatus' half of the table runs in integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from modelwright_operator.api.conditions import Reason
from tests.golden.health.documents import TABLE, as_object

ROOT = Path(__file__).resolve().parents[3]
HEALTH_LUA = (ROOT / "manifests/argocd/health.lua").read_text()
# What one and the same status may mean in the two vocabularies.
AGREEMENT = {
    "Current": {"Healthy", "Suspended"},
    "InProgress": {"Progressing", "Suspended"},
    "Failed": {"Degraded"},
    "Terminating": {"Progressing"},
}


def argo_health(document: dict[str, Any]) -> tuple[str, str]:
    runtime = lupa.LuaRuntime(unpack_returned_tuples=True)
    runtime.globals().obj = runtime.table_from(document, recursive=True)
    result = runtime.execute(HEALTH_LUA)
    return str(result.status), str(result.message)


@pytest.mark.parametrize("row", TABLE, ids=[row["case"] for row in TABLE])
def test_argo_health_is_what_the_table_says(row: dict[str, Any]) -> None:
    status, message = argo_health(as_object(row))

    assert status == row["argo"]
    assert message


def test_the_table_is_large_and_every_case_has_its_own_name() -> None:
    assert len({row["case"] for row in TABLE}) == len(TABLE) >= 40


def test_every_reason_of_the_api_stands_in_the_table() -> None:
    written = {value.split()[1] for row in TABLE for value in row.get("conditions", {}).values()}

    assert written == {str(reason) for reason in Reason}


@pytest.mark.parametrize("row", TABLE, ids=[row["case"] for row in TABLE])
def test_both_vocabularies_agree(row: dict[str, Any]) -> None:
    if row["observed"] == "null":
        # kstatus takes an object without status for finished; Argo CD can be told to wait.
        assert (row["kstatus"], row["argo"]) == ("Current", "Progressing")
    else:
        assert row["argo"] in AGREEMENT[row["kstatus"]]


@pytest.mark.parametrize("kind", ["HardwareProfile", "InferenceModel", "ModelBuild"])
def test_the_config_map_patch_holds_the_script(kind: str) -> None:
    patch = yaml.safe_load((ROOT / "manifests/argocd/argocd-cm-patch.yaml").read_text())

    assert patch["data"][f"resource.customizations.health.modelwright.dev_{kind}"] == HEALTH_LUA
