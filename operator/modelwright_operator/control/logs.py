"""Log lines people and machines can read: `time level logger message key=value …`."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+,%")


class KeyValueFormatter(logging.Formatter):
    """One line a record, the fields of `extra` behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a traceback goes on the same line, escaped."""
        moment = datetime.fromtimestamp(record.created, UTC)
        head = f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z {record.levelname:<7}"
        line = f"{head} {record.name} {record.getMessage()}"
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = self.formatException(record.exc_info)
        pairs = (f"{key}={_format_value(value)}" for key, value in fields.items())
        return " ".join((line.replace("\n", "\\n"), *pairs))


def configure_logging(level: str) -> None:
    """Send everything to standard error; the chatty libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("modelwright_operator").setLevel(level)
    # Signals are ours on purpose, and why it ended is told by whoever starts it again.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.CRITICAL)


def _format_value(value: Any) -> str:
    match value:
        case float():
            return f"{value:.3g}"
        case str() if value and set(value) <= _PLAIN:
            return value
        case bool() | int() | None:
            return str(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)
