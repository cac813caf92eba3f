"""The last words of a container: /dev/termination-log, which its pod's status repeats."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG = logging.getLogger(__name__)

LIMIT_BYTES = 4096  # the kubelet cuts what is longer
_MESSAGE_LIMIT = 1024  # characters; 3 bytes each at most as UTF-8 JSON, so it always fits


def build_failure(reason: str, message: str) -> dict[str, str]:
    """The document of a failed start."""
    if len(message) > _MESSAGE_LIMIT:
        message = message[: _MESSAGE_LIMIT - 1] + "…"
    return {"reason": reason, "message": message}


def write_termination(path: Path, document: Mapping[str, Any]) -> None:
    """Leave the document for the kubelet; without its file (outside a pod) nothing is written."""
    if not path.exists():
        return
    try:
        path.write_bytes(json.dumps(document, ensure_ascii=False).encode()[:LIMIT_BYTES])
    except OSError as error:
        LOG.warning("can not write %s: %s", path, error)
