"""What a build is asked for, and the key that names it.

The operator writes a request, the optimizer reads it, and both call `key()`. A request that
exists is valid: every field is checked where the value is made, whoever makes it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import (
    Fields,
    canonical_json,
    check_choice,
    check_digest,
    parse_object,
)
from modelwright_artifact.quantities import parse_bytes, parse_millicores

if TYPE_CHECKING:
    from collections.abc import Mapping

METRICS: Final = ("Accuracy", "TopK", "F1", "RMSE", "CosineSimilarity", "SQNR")
METRICS_WITHOUT_LABELS: Final = ("CosineSimilarity", "SQNR")
BUDGET_TYPES: Final = ("AbsoluteDrop", "RelativeDrop", "Minimum")
OBJECTIVES: Final = ("Latency", "Throughput", "Size")
TECHNIQUES: Final = ("DynamicInt8", "Fusion", "StaticInt8")
ARCHITECTURES: Final = ("amd64", "arm64")
DEFAULT_TOP_K: Final = 5

_OCI_URI = re.compile(r"oci://([a-z0-9.-]+(?::\d+)?/[a-z0-9._/-]+)@(sha256:[0-9a-f]{64})")
_HTTP_URI = re.compile(r"https?://[^/\s]+/\S+")
_FILE_URI = re.compile(r"file:///\S+")
_PVC_URI = re.compile(r"pvc://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/\S+")
_FEATURE = re.compile(r"[a-z0-9_]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRef:
    """Where a model or dataset lies, and the digest of what must lie there.

    `digest` is the SHA-256 of the file, or for `oci://` that of the manifest. `file://` stands
    for a build without a cluster; nothing is ever fetched from there.
    """

    uri: str
    digest: str

    def __post_init__(self) -> None:
        check_digest(self.digest, "The digest of a source")
        oci = _OCI_URI.fullmatch(self.uri)
        if oci is not None and oci[2] != self.digest:
            raise ArtifactError(f"The source {self.uri} does not carry its digest {self.digest}.")
        others = (_HTTP_URI, _PVC_URI, _FILE_URI)
        if oci is None and not any(shape.fullmatch(self.uri) for shape in others):
            raise ArtifactError(
                f"{self.uri[:200]!r} is not a source: it must read oci://host/repository@sha256:…, "
                "http(s)://host/file or pvc://claim/path."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What accuracy means for this model; `top_k` belongs to TopK alone."""

    name: str
    top_k: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, METRICS, "metric.name")
        if self.name == "TopK" and self.top_k is None:
            object.__setattr__(self, "top_k", DEFAULT_TOP_K)
        if self.name != "TopK" and self.top_k is not None:
            raise ArtifactError(f"metric.topK belongs to TopK, not to {self.name}.")
        if self.top_k is not None and not 1 <= self.top_k <= 1000:
            raise ArtifactError(f"metric.topK must be between 1 and 1000, not {self.top_k}.")

    @property
    def needs_labels(self) -> bool:
        """Whether the metric compares with labels rather than with the fp32 outputs."""
        return self.name not in METRICS_WITHOUT_LABELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much accuracy may be given up.

    AbsoluteDrop: in the metric's unit (points for Accuracy, TopK, F1). RelativeDrop: percent of
    the reference's value. Minimum: the value the metric must keep (RMSE: must not exceed).
    """

    type: str
    value: str

    def __post_init__(self) -> None:
        check_choice(self.type, BUDGET_TYPES, "budget.type")
        try:
            amount = Decimal(self.value)
        except InvalidOperation as error:
            raise ArtifactError(
                f"budget.value must be a decimal number such as 0.5, not {self.value[:40]!r}."
            ) from error
        if not amount.is_finite() or not 0 <= amount <= 10**9 or len(self.value) > 32:
            raise ArtifactError(f"budget.value must be zero or more, not {self.value[:40]}.")

    @property
    def amount(self) -> Decimal:
        """The value as a number."""
        return Decimal(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """CPU and memory as Kubernetes quantities: the limits of serving and of measuring."""

    cpu: str
    memory: str

    def __post_init__(self) -> None:
        if self.millicores <= 0 or self.memory_bytes <= 0:
            raise ArtifactError("resources.cpu and resources.memory must be more than zero.")

    @property
    def millicores(self) -> int:
        """CPU in thousandths of a core."""
        return parse_millicores(self.cpu)

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return parse_bytes(self.memory)

    @property
    def threads(self) -> int:
        """How many compute threads this much CPU feeds: whole cores, at least one."""
        return max(1, self.millicores // 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The class of hardware a build is for; features are kept sorted."""

    name: str
    architecture: str
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.architecture, ARCHITECTURES, "profile.architecture")
        bad = [feature for feature in self.features if not _FEATURE.fullmatch(feature)]
        if bad:
            raise ArtifactError(f"profile.features holds {bad[0][:60]!r}, which names no feature.")
        object.__setattr__(self, "features", tuple(sorted(set(self.features))))

    @classmethod
    def read(cls, fields: Fields) -> Profile:
        """Parse the profile of a request, manifest or report."""
        return cls(
            name=fields.text("name"),
            architecture=fields.text("architecture"),
            features=fields.texts("features"),
        )

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "features": list(self.features),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything a build depends on."""

    model: SourceRef
    evaluation: SourceRef
    metric: Metric
    budget: Budget
    objective: str
    techniques: tuple[str, ...]
    resources: Resources
    profile: Profile
    calibration: SourceRef | None = None
    rebuild_token: str = ""

    def __post_init__(self) -> None:
        check_choice(self.objective, OBJECTIVES, "objective")
        for technique in self.techniques:
            check_choice(technique, TECHNIQUES, "techniques")
        if self.metric.name == "SQNR" and self.budget.type != "Minimum":
            raise ArtifactError(
                "SQNR compares with the fp32 outputs themselves, so its budget must be of type "
                "Minimum, for example 30 (dB)."
            )
        if len(self.rebuild_token) > 256:
            raise ArtifactError("rebuildToken must not be longer than 256 characters.")
        object.__setattr__(self, "techniques", tuple(sorted(set(self.techniques))))

    @classmethod
    def from_json(cls, document: str | bytes | Mapping[str, Any]) -> BuildRequest:
        """Parse a request; `ArtifactError` names the field that is wrong.

        An unknown field is refused: dropped silently, two different requests would share a key.
        """
        root = parse_object(document, "request")
        request = cls(
            model=_read_source(root, "model"),
            evaluation=_read_source(root, "evaluation"),
            calibration=root.maybe("calibration", lambda name: _read_source(root, name)),
            metric=_read_metric(root.nested("metric")),
            budget=_read_budget(root.nested("budget")),
            objective=root.text("objective"),
            techniques=root.texts("techniques"),
            resources=_read_resources(root.nested("resources")),
            profile=Profile.read(root.nested("profile")),
            rebuild_token=root.maybe("rebuildToken", root.text) or "",
        )
        root.refuse_unknown()
        return request

    def to_json(self) -> dict[str, Any]:
        """The request as JSON; `from_json` reads it back to an equal value."""
        document: dict[str, Any] = {
            "model": {"uri": self.model.uri, "digest": self.model.digest},
            "evaluation": {"uri": self.evaluation.uri, "digest": self.evaluation.digest},
            "metric": _metric_json(self.metric),
            "budget": {"type": self.budget.type, "value": self.budget.value},
            "objective": self.objective,
            "techniques": list(self.techniques),
            "resources": {"cpu": self.resources.cpu, "memory": self.resources.memory},
            "profile": self.profile.to_json(),
            "rebuildToken": self.rebuild_token,
        }
        if self.calibration is not None:
            document["calibration"] = {
                "uri": self.calibration.uri,
                "digest": self.calibration.digest,
            }
        return document

    def key(self) -> str:
        """SHA-256 (64 hex digits) of what the result depends on.

        Not of places and names: two URIs with one digest are one build. Numbers count by value:
        a budget of 1.0 and of 1, or 1 and 1000m of CPU, are the same request.
        """
        return hashlib.sha256(canonical_json(self._identity())).hexdigest()

    def _identity(self) -> dict[str, Any]:
        return {
            "model": self.model.digest,
            "evaluation": self.evaluation.digest,
            "calibration": None if self.calibration is None else self.calibration.digest,
            "metric": _metric_json(self.metric),
            "budget": {
                "type": self.budget.type,
                "value": _plain(self.budget.amount),
            },
            "objective": self.objective,
            "techniques": list(self.techniques),
            "resources": {
                "cpuMillicores": self.resources.millicores,
                "memoryBytes": self.resources.memory_bytes,
            },
            "profile": {
                "architecture": self.profile.architecture,
                "features": list(self.profile.features),
            },
            "rebuildToken": self.rebuild_token,
        }


def _plain(amount: Decimal) -> str:
    text = format(amount.normalize(), "f")
    return "0" if text in {"-0", "0"} else text


def _metric_json(metric: Metric) -> dict[str, Any]:
    document: dict[str, Any] = {"name": metric.name}
    if metric.top_k is not None:
        document["topK"] = metric.top_k
    return document


def _read_source(root: Fields, name: str) -> SourceRef:
    fields = root.nested(name)
    source = SourceRef(uri=fields.text("uri"), digest=fields.text("digest"))
    fields.refuse_unknown()
    return source


def _read_metric(fields: Fields) -> Metric:
    metric = Metric(name=fields.text("name"), top_k=fields.maybe("topK", fields.integer))
    fields.refuse_unknown()
    return metric


def _read_budget(fields: Fields) -> Budget:
    budget = Budget(type=fields.text("type"), value=fields.text("value"))
    fields.refuse_unknown()
    return budget


def _read_resources(fields: Fields) -> Resources:
    resources = Resources(cpu=fields.text("cpu"), memory=fields.text("memory"))
    fields.refuse_unknown()
    return resources
