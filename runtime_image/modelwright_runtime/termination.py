"""The last words of a container: /dev/termination-log, which its pod's status repeats."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from modelwright_runtime.errors import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG = logging.getLogger(__name__)

LIMIT_BYTES = 4096  # the kubelet cuts what is longer


def build_failure(reason: str, message: str) -> dict[str, str]:
    """The document of a failed start, with as much of the message as fits."""
    message = shorten(message)
    while len(_encode({"reason": reason, "message": message})) > LIMIT_BYTES:
        message = message[: len(message) * 3 // 4] + "…"
    return {"reason": reason, "message": message}


def write_termination(path: Path, document: Mapping[str, Any]) -> None:
    """Leave the document for the kubelet; without its file (outside a pod) nothing is written."""
    if not path.exists():
        return
    try:
        path.write_bytes(_encode(document))
    except OSError as error:
        LOG.warning("can not write %s: %s", path, error)


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")
