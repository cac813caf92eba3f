"""`python3 -m modelwright_optimizer job`: what a build Job runs."""

from __future__ import annotations

import os
import sys

from modelwright_optimizer.job import main

if __name__ == "__main__":
    if sys.argv[1:] != ["job"]:
        sys.stderr.write("usage: python3 -m modelwright_optimizer job\n")
        sys.exit(2)
    sys.exit(main(os.environ))
