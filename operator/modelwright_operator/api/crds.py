"""Writes crds/*.yaml from the types: `python -m modelwright_operator.api.crds [--check]`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from modelwright_operator.api.base import GROUP, VERSION
from modelwright_operator.api.generated import MARK, write_or_compare
from modelwright_operator.api.objects import HardwareProfile, InferenceModel, ModelBuild
from modelwright_operator.api.rules import (
    HARDWARE_PROFILE_RULES,
    INFERENCE_MODEL_RULES,
    MODEL_BUILD_RULES,
    Rule,
)
from modelwright_operator.api.structural import Schema, attach_rules, build_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

HEADER: Final = f"# {MARK}\n"
# Not kustomization.yaml: `kubectl apply -f crds/` would take that for an object.
KUSTOMIZATION: Final = "Kustomization"
# kubectl apply keeps the whole file in an annotation, and annotations end there.
MAX_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; `wide` ones need `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """All that makes a CRD of a type."""

    model: type[BaseModel]
    rules: tuple[Rule, ...]
    plural: str
    short_name: str
    scope: str
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.model.__name__

    @property
    def file(self) -> str:
        """The name of its CRD's file."""
        return f"{GROUP}_{self.plural}.yaml"


_READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "whether it is done")
_REASON = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "why, in one word")
_AGE = Column("Age", ".metadata.creationTimestamp", "how old it is", type="date")

KINDS: Final = (
    Kind(
        model=InferenceModel,
        rules=INFERENCE_MODEL_RULES,
        plural="inferencemodels",
        short_name="mwm",
        scope="Namespaced",
        columns=(
            _READY,
            _REASON,
            Column("Variant", ".status.summary.variant", "the variant that serves"),
            Column("Speedup", ".status.summary.speedup", "times faster than fp32, as measured"),
            Column("Drop", ".status.summary.drop", "accuracy given up, as measured"),
            Column("P99", ".status.summary.p99", "latency of the build, 99th percentile"),
            Column("Replicas", ".status.summary.replicas", "servers that answer, of those wanted"),
            _AGE,
            Column("URL", ".status.url", "where it answers in the cluster", wide=True),
        ),
    ),
    Kind(
        model=ModelBuild,
        rules=MODEL_BUILD_RULES,
        plural="modelbuilds",
        short_name="mwb",
        scope="Namespaced",
        columns=(
            _READY,
            _REASON,
            Column("Profile", ".spec.profile", "the hardware that measures"),
            Column("Chosen", ".status.chosen", "the variant the build recommends"),
            Column("Progress", ".status.progress.percent", "percent done", type="integer"),
            _AGE,
            Column("Step", ".status.progress.step", "what the build does now", wide=True),
            Column("Digest", ".status.digest", "the finished artifact", wide=True),
        ),
    ),
    Kind(
        model=HardwareProfile,
        rules=HARDWARE_PROFILE_RULES,
        plural="hardwareprofiles",
        short_name="mwhp",
        scope="Cluster",
        columns=(
            Column("Arch", ".spec.architecture", "the instruction set"),
            Column("Nodes", ".status.nodeCount", "how many nodes belong to it", type="integer"),
            _AGE,
            Column("Features", ".spec.features", "what its CPUs can do", wide=True),
        ),
    ),
)


def build_crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "modelwright"},
        },
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["modelwright"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    # No `scale`: minReplicas is a floor, not a count that `kubectl scale` may set.
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": build_object_schema(kind)},
                }
            ],
        },
    }


def build_object_schema(kind: Kind) -> Schema:
    """The schema of whole objects, rules attached."""
    schema = build_schema(kind.model)
    properties = schema["properties"]
    # The API server fixes these two and knows metadata better than we do.
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    # kstatus takes an object without a status for done; this says that nobody has looked yet.
    properties["status"]["default"] = {"observedGeneration": -1}
    schema["required"] = ["spec"]
    attach_rules(schema, kind.rules)
    return schema


def render_crds() -> dict[str, str]:
    """File names and contents."""
    files = {kind.file: HEADER + _dump(build_crd(kind)) for kind in KINDS}
    return {**files, KUSTOMIZATION: HEADER + _dump(_build_kustomization(sorted(files)))}


def _build_kustomization(files: Sequence[str]) -> Schema:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }


def _column(column: Column) -> Schema:
    result: Schema = {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.path,
    }
    if column.wide:
        result["priority"] = 1
    return result


class _Dumper(yaml.SafeDumper):
    """No anchors: readers and diffs are better off without."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is given
        return True


def _dump(document: Schema) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check tell whether they are stale."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when stale")
    parser.add_argument("--directory", type=Path, default=Path("crds"))
    options = parser.parse_args(arguments)
    return write_or_compare(options.directory, render_crds(), check=options.check)


if __name__ == "__main__":
    sys.exit(main())
