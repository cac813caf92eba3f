"""The model server: one attested variant of an artifact behind the Open Inference Protocol."""

from __future__ import annotations

__version__ = "0.1.0"
