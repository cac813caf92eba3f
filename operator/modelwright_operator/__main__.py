"""The operator's process: `python -m modelwright_operator`."""

from __future__ import annotations

from modelwright_operator.control.assembly import assemble
from modelwright_operator.control.main import main

if __name__ == "__main__":
    raise SystemExit(main(assemble))
