"""HardwareProfile: a class of nodes with the same abilities. Found by probing, or written."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from modelwright_operator.api.base import (
    Count,
    Generation,
    ObjectName,
    SpecModel,
    StatusModel,
    list_type,
)
from modelwright_operator.api.conditions import Conditions

MAX_NODES = 1000

Feature = Annotated[str, Field(min_length=1, max_length=40)]
Features = Annotated[tuple[Feature, ...], Field(max_length=64, json_schema_extra=list_type("set"))]
"""What a CPU can do, by the names of /proc/cpuinfo."""


class Architecture(StrEnum):
    """The instruction set."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class HardwareProfileSpec(SpecModel):
    """Which nodes belong to the class."""

    architecture: Architecture
    """architecture is the instruction set: amd64 or arm64."""
    features: Features | None = None
    """features are what every CPU of the class can do, by the names of /proc/cpuinfo: avx2,
    avx512_vnni, asimddp. Default: nothing beyond the architecture."""
    node_selector: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=63)]], Field(min_length=1, max_length=16)
        ]
        | None
    ) = None
    """nodeSelector narrows the class to nodes with these labels. Default: all nodes with the
    features."""


class ProfileNode(StatusModel):
    """A node of the class."""

    name: ObjectName
    """name is the node's name."""
    boot_id: Annotated[str, Field(max_length=64)] | None = Field(default=None, alias="bootID")
    """bootID is the boot of the node that was probed; after another boot it is probed again."""
    cores: Count | None = None
    """cores is how many CPUs it has."""


class HardwareProfileStatus(StatusModel):
    """Which nodes there are."""

    conditions: Conditions | None = None
    """conditions are the aspects of the profile's state, one of each type."""
    observed_generation: Generation | None = None
    """observedGeneration is the generation of the spec that status speaks of; -1 before the
    operator has seen the object."""
    node_count: Count | None = None
    """nodeCount is how many nodes belong to the class."""
    nodes: (
        Annotated[
            tuple[ProfileNode, ...],
            Field(max_length=MAX_NODES, json_schema_extra=list_type("map", "name")),
        ]
        | None
    ) = None
    """nodes are the nodes of the class, at most a thousand."""
