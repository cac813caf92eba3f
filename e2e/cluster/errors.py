from __future__ import annotations


class ClusterError(RuntimeError):
    """The local cluster cannot do what was asked; the message says what to do about it."""
