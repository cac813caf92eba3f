"""Kubernetes quantities, as far as CPU and memory need them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from modelwright_artifact.errors import ArtifactError

_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS: Final = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}


def parse_millicores(quantity: str) -> int:
    """CPU in thousandths of a core: `1` is 1000, `250m` is 250."""
    return int(_parse(quantity) * 1000)


def parse_bytes(quantity: str) -> int:
    """Memory in bytes: `1Gi` is 1073741824."""
    return int(_parse(quantity))


def _parse(quantity: str) -> Decimal:
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ArtifactError(f"{quantity[:40]!r} is not a quantity such as 500m, 2 or 1Gi.")
    return Decimal(match[1]) * _FACTORS[match[2]]
