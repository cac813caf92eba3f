"""The health table as Kubernetes objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# The base loader leaves every scalar a text, so `True Serving` and `null` stay as written.
TABLE: list[dict[str, Any]] = yaml.load(
    (Path(__file__).parent / "table.yaml").read_text(),
    Loader=yaml.BaseLoader,  # noqa: S506 - it makes nothing but texts, lists and mappings
)


def as_object(row: dict[str, Any]) -> dict[str, Any]:
    """The Kubernetes object that a row of the table describes."""
    metadata: dict[str, Any] = {"name": "digits", "generation": int(row["generation"])}
    if row.get("deleting") == "true":
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    kind = row.get("kind", "InferenceModel")
    document = {"apiVersion": "modelwright.dev/v1alpha1", "kind": kind, "metadata": metadata}
    document["spec"] = {"suspend": True} if row.get("suspend") == "true" else {}
    if row["observed"] != "null":
        document["status"] = {"observedGeneration": int(row["observed"])}
        conditions = [as_condition(kind, *item) for item in row.get("conditions", {}).items()]
        if conditions:
            document["status"]["conditions"] = conditions
    return document


def as_condition(kind: str, name: str, value: str) -> dict[str, str]:
    status, reason = value.split()
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": f"{name} of this {kind} is {status}",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
