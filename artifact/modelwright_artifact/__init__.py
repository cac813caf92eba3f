"""The contract between the planes: build requests, artifacts, digests, registry access.

Knows nothing of the operator, the optimizer or the server; all three know it.
"""
