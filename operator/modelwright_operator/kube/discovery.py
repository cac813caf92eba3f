"""Which optional APIs this cluster offers: found by asking, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelwright_operator.kube.faults import Gone
from modelwright_operator.kube.resources import Resource, resource_of

if TYPE_CHECKING:
    from modelwright_operator.kube.client import ApiClient


@dataclass(frozen=True, slots=True)
class Served:
    """The kinds an API server serves, by `apiVersion`."""

    kinds: frozenset[tuple[str, str]]

    def has(self, api_version: str, kind: str) -> bool:
        """Whether a kind is served in this version."""
        return (api_version, kind) in self.kinds


async def discover(client: ApiClient, api_versions: frozenset[str]) -> Served:
    """Ask for the kinds of some API versions; a version that is not installed has none.

    Raises:
        KubeFault: the API server gave no usable answer.
    """
    found: set[tuple[str, str]] = set()
    for api_version in sorted(api_versions):
        prefix = "/apis" if "/" in api_version else "/api"
        try:
            listing = await client.get_path(f"{prefix}/{api_version}")
        except Gone:
            continue
        for entry in listing.get("resources") or ():
            if "/" not in entry.get("name", ""):
                found.add((api_version, str(entry.get("kind"))))
    return Served(frozenset(found))


async def find_missing(client: ApiClient, kinds: tuple[str, ...]) -> tuple[Resource, ...]:
    """Those of our kinds that the cluster does not serve (yet), in the given order."""
    resources = [resource_of(kind) for kind in kinds]
    served = await discover(client, frozenset(item.api_version for item in resources))
    return tuple(item for item in resources if not served.has(item.api_version, item.kind))
