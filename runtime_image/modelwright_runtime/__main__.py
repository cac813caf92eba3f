"""`python -m modelwright_runtime`."""

from __future__ import annotations

import sys

from modelwright_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
