"""What must hold beyond structure: one table, in CEL for the API server and in Python for us.

A rule stands at a path of the schema; `self` (CEL) and the argument of `holds` (Python) are the
value there. Both twins must agree: the tests run one table of objects through both. Messages are
for the person who wrote the object: what is wrong, and what to write instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.quantities import parse_bytes, parse_millicores
from modelwright_operator.api.base import MAX_NAME
from modelwright_operator.api.inference_model import ApplyMode, BudgetType, Metric, ServingMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelwright_operator.api.inference_model import (
        Evaluation,
        InferenceModelSpec,
        Optimization,
        Scaling,
        Serving,
    )
    from modelwright_operator.api.model_build import ModelBuildSpec
    from modelwright_operator.api.objects import HardwareProfile
    from modelwright_operator.api.resources import Resources
    from modelwright_operator.api.source import Source

# Patterns are RE2 and match whole values.
_DOMAIN = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
_PORT = r"(:[0-9]{1,5})?"
_REPOSITORY_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_REPOSITORY_PART}(/{_REPOSITORY_PART})*"
_HEX = r"[0-9a-f]{64}"
_VISIBLE = r"[!-~]"
_VISIBLE_BUT_HASH = r"[!-\x22$-~]"
_CREDENTIALS = r"([^/?#@]*@)?"  # let through here: another rule speaks of them
OCI_URI: Final = rf"oci://{_CREDENTIALS}{_DOMAIN}{_PORT}/{_REPOSITORY}(@sha256:{_HEX})?"
HTTP_URI: Final = (
    rf"https?://{_CREDENTIALS}([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]){_PORT}"
    rf"/{_VISIBLE_BUT_HASH}+"
)
PVC_URI: Final = rf"pvc://{_DOMAIN}(/{_VISIBLE}+)+"
_HIDDEN_SEGMENT = r"pvc://.*/(\.{0,2}(/.*)?)"
_USER_INFO = r"[a-z]+://[^/?#]*@[\s\S]*"
_SCHEME = r"(oci|http|https|pvc)://[\s\S]*"
_DECIMAL = r"[1-9][0-9]{0,8}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9][0-9]{0,8}"
_CPU = r"[1-9][0-9]{0,8}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9]0{0,2}|[1-9][0-9]{0,11}m"
_MEMORY = (
    r"([1-9][0-9]{0,17}|[0-9]{1,9}\.[0-9]{0,2}[1-9]0{0,2})(k|M|G|T|Ki|Mi|Gi|Ti)|[1-9][0-9]{0,17}"
)
_LABEL_KEY = r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?"
_FEATURE = r"[a-z0-9_]{1,40}"

_DIGEST_MARK = "@sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sentence that must hold at each of `paths`.

    `[]` in a path stands for every item of a list. `immutable` rules compare with the value
    before the change (`oldSelf`); `holds` then takes both.
    """

    name: str
    paths: tuple[str, ...]
    cel: str
    message: str
    holds: Callable[..., bool]
    field: str | None = None
    immutable: bool = False


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches."""
    return re.fullmatch(pattern, text) is not None


def cel_matches(subject: str, pattern: str) -> str:
    """The same in CEL."""
    return f"{subject}.matches(r'^({pattern})$')"


def _form(name: str, paths: tuple[str, ...], pattern: str, message: str) -> Rule:
    """A string must have a form; in CEL instead of `pattern`, which has no sentence to say."""
    return Rule(
        name=name,
        paths=paths,
        cel=cel_matches("self", pattern),
        message=message,
        holds=lambda text: matches(pattern, text),
    )


def _uri_form(name: str, schemes: tuple[str, ...], pattern: str, message: str) -> Rule:
    """URIs of these schemes must have a form."""
    excuse = " || ".join(f"self.startsWith('{scheme}')" for scheme in schemes)
    return Rule(
        name=name,
        paths=_URIS,
        cel=f"!({excuse}) || {cel_matches('self', pattern)}",
        message=message,
        holds=lambda uri: not uri.startswith(schemes) or matches(pattern, uri),
    )


_SOURCES = ("spec.model", "spec.evaluation", "spec.calibration")
_URIS = tuple(f"{source}.uri" for source in _SOURCES)
_LISTS = ("spec.serving.resources.requests", "spec.serving.resources.limits")
_OBJECT_NAME_MESSAGE = "must be a name of lower-case letters, digits, dashes and dots"


def _has_no_credentials(source: Source) -> bool:
    return not matches(_USER_INFO, source.uri)


def _has_digest(source: Source) -> bool:
    return source.sha256 is not None or _carries_digest(source.uri)


def _carries_digest(uri: str) -> bool:
    return uri.startswith("oci://") and _DIGEST_MARK in uri


def _has_one_digest(source: Source) -> bool:
    return source.sha256 is None or not _carries_digest(source.uri)


_CEL_CARRIES_DIGEST = f"self.uri.startsWith('oci://') && self.uri.contains('{_DIGEST_MARK}')"

SOURCE_RULES: Final = (
    _form(
        "uri-scheme",
        _URIS,
        _SCHEME,
        "must start with oci://, https://, http:// or pvc://; for models elsewhere, push the file "
        "to a registry with `oras push` and use oci://",
    ),
    Rule(
        # At the source, not at the uri: the API server repeats a uri it refuses, password and all.
        name="uri-without-credentials",
        paths=_SOURCES,
        cel=f"!{cel_matches('self.uri', _USER_INFO)}",
        message="must not hold a user name or password; put them into a Secret and name it in "
        "secretRef",
        holds=_has_no_credentials,
        field=".uri",
    ),
    _uri_form(
        "uri-oci",
        ("oci://",),
        OCI_URI,
        "must read oci://host/repository@sha256:<64 hex digits>, in lower case and without a tag; "
        "`modelwright pin FILE` replaces a tag by its digest",
    ),
    _uri_form(
        "uri-http",
        ("http://", "https://"),
        HTTP_URI,
        "must read https://host/path, in visible ASCII characters and without a #fragment; "
        "write others as %XX",
    ),
    _uri_form(
        "uri-pvc",
        ("pvc://",),
        PVC_URI,
        "must read pvc://claim/path/to/file: the name of a PersistentVolumeClaim in this "
        "namespace and the file's path in it, in visible ASCII characters",
    ),
    Rule(
        name="uri-pvc-inside",
        paths=_URIS,
        cel=f"!{cel_matches('self', _HIDDEN_SEGMENT)}",
        message="must name a file inside the claim: no '.', '..' or empty part in the path",
        holds=lambda uri: not matches(_HIDDEN_SEGMENT, uri),
    ),
    Rule(
        name="digest-place",
        paths=_URIS,
        cel=f"self.startsWith('oci://') || !self.contains('{_DIGEST_MARK}')",
        message="carries a digest, which only oci:// can; put the 64 hex digits into sha256",
        holds=lambda uri: uri.startswith("oci://") or _DIGEST_MARK not in uri,
    ),
    Rule(
        name="digest-required",
        paths=_SOURCES,
        cel=f"has(self.sha256) || ({_CEL_CARRIES_DIGEST})",
        message="needs a digest, so that what is measured is what serves: set sha256, or for "
        "oci:// end the uri in @sha256:<digest>; `modelwright pin FILE` fills it in",
        holds=_has_digest,
    ),
    Rule(
        name="digest-once",
        paths=_SOURCES,
        cel=f"!has(self.sha256) || !({_CEL_CARRIES_DIGEST})",
        message="has two digests, in uri and in sha256; keep the one in uri and remove sha256",
        holds=_has_one_digest,
        field=".sha256",
    ),
    _form(
        "sha256-form",
        tuple(f"{source}.sha256" for source in _SOURCES),
        _HEX,
        "must be 64 lower-case hex digits, as sha256sum prints them, without a prefix",
    ),
    _form(
        "secret-name",
        tuple(f"{source}.secretRef.name" for source in _SOURCES),
        _DOMAIN,
        f"{_OBJECT_NAME_MESSAGE}: the Secret's name, in this namespace",
    ),
)


def _has_top_k(evaluation: Evaluation) -> bool:
    return evaluation.metric != Metric.TOP_K or evaluation.top_k is not None


def _has_no_stray_top_k(evaluation: Evaluation) -> bool:
    return evaluation.metric == Metric.TOP_K or evaluation.top_k is None


def _has_fitting_budget(evaluation: Evaluation) -> bool:
    return (
        evaluation.metric != Metric.SQNR
        or evaluation.budget is None
        or evaluation.budget.type == BudgetType.MINIMUM
    )


EVALUATION_RULES: Final = (
    Rule(
        name="top-k-required",
        paths=("spec.evaluation",),
        cel="self.metric != 'TopK' || has(self.topK)",
        message="metric TopK needs topK: how many of the best classes count as a hit, for example "
        "topK: 5",
        holds=_has_top_k,
        field=".topK",
    ),
    Rule(
        name="top-k-alone",
        paths=("spec.evaluation",),
        cel="self.metric == 'TopK' || !has(self.topK)",
        message="topK belongs to metric TopK; remove it or set metric: TopK",
        holds=_has_no_stray_top_k,
        field=".topK",
    ),
    Rule(
        name="sqnr-minimum",
        paths=("spec.evaluation",),
        cel="self.metric != 'SQNR' || !has(self.budget) || self.budget.type == 'Minimum'",
        message="SQNR compares with the fp32 model itself, so there is no drop to count; use "
        'budget: {type: Minimum, value: "30"} (dB)',
        holds=_has_fitting_budget,
        field=".budget",
    ),
    _form(
        "budget-value",
        ("spec.evaluation.budget.value",),
        _DECIMAL,
        'must be a decimal number above zero in quotes, such as "0.5"; with a budget of zero '
        "nothing could ever be proven",
    ),
)


def _has_allowed_digest(optimization: Optimization) -> bool:
    return optimization.approved_digest is None or optimization.apply == ApplyMode.MANUAL


def _serves_variant(serving: Serving) -> bool:
    return serving.variant is None or serving.mode != ServingMode.NONE


def _scales_servers(spec: InferenceModelSpec) -> bool:
    return spec.scaling is None or spec.serving is None or spec.serving.mode != ServingMode.NONE


def _has_ordered_replicas(scaling: Scaling) -> bool:
    return scaling.max_replicas is None or scaling.max_replicas >= (scaling.min_replicas or 1)


def _has_room_to_scale(scaling: Scaling) -> bool:
    return scaling.target is None or (scaling.max_replicas or 0) > (scaling.min_replicas or 1)


_CEL_MINIMUM = "(has(self.minReplicas) ? self.minReplicas : 1)"

SERVING_RULES: Final = (
    Rule(
        name="approval-manual",
        paths=("spec.optimization",),
        cel="!has(self.approvedDigest) || (has(self.apply) && self.apply == 'Manual')",
        message="approvedDigest is read only with apply: Manual; set that or remove approvedDigest",
        holds=_has_allowed_digest,
        field=".approvedDigest",
    ),
    _form(
        "approved-digest-form",
        ("spec.optimization.approvedDigest",),
        f"sha256:{_HEX}",
        "must read sha256:<64 hex digits>, as the build's status.digest shows it",
    ),
    _form(
        "profile-name",
        ("spec.optimization.profiles[]",),
        _DOMAIN,
        f"{_OBJECT_NAME_MESSAGE}; `kubectl get hardwareprofiles` lists the profiles there are",
    ),
    Rule(
        name="variant-served",
        paths=("spec.serving",),
        cel="!has(self.variant) || !has(self.mode) || self.mode != 'None'",
        message="variant chooses what is served, but mode None serves nothing; remove one of them",
        holds=_serves_variant,
        field=".variant",
    ),
    _form(
        "variant-name",
        ("spec.serving.variant",),
        r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?",
        "must be the name of a kept variant, as status.variants lists them, for example fp32",
    ),
    Rule(
        name="scaling-served",
        paths=("spec",),
        cel="!has(self.scaling) || !has(self.serving) || !has(self.serving.mode)"
        " || self.serving.mode != 'None'",
        message="scaling counts servers, but serving.mode None has none; remove scaling or "
        "serve with mode: Deployment",
        holds=_scales_servers,
        field=".scaling",
    ),
    Rule(
        name="replicas-ordered",
        paths=("spec.scaling",),
        cel=f"!has(self.maxReplicas) || self.maxReplicas >= {_CEL_MINIMUM}",
        message="maxReplicas must not be below minReplicas",
        holds=_has_ordered_replicas,
        field=".maxReplicas",
    ),
    Rule(
        name="target-with-room",
        paths=("spec.scaling",),
        cel=f"!has(self.target) || (has(self.maxReplicas) && self.maxReplicas > {_CEL_MINIMUM})",
        message="target needs room to scale: set maxReplicas above minReplicas, or remove target",
        holds=_has_room_to_scale,
        field=".target",
    ),
)


def _within_limits(resource: str, parse: Callable[[str], int]) -> Callable[[Resources], bool]:
    def holds(resources: Resources) -> bool:
        asked = getattr(resources.requests, resource, None)
        limit = getattr(resources.limits, resource, None)
        if asked is None or limit is None:
            return True
        patterns = {"cpu": _CPU, "memory": _MEMORY}[resource]
        if not (matches(patterns, str(asked)) and matches(patterns, str(limit))):
            return True  # that is said by the rule on the quantity itself
        return parse(str(asked)) <= parse(str(limit))

    return holds


def _cel_within_limits(resource: str) -> str:
    requests, limits = f"self.requests.{resource}", f"self.limits.{resource}"
    return (
        f"!has(self.requests) || !has(self.limits) || !has({requests}) || !has({limits})"
        f" || !isQuantity(string({requests})) || !isQuantity(string({limits}))"
        f" || quantity(string({requests})).compareTo(quantity(string({limits}))) <= 0"
    )


def _quantity(resource: str, pattern: str, message: str) -> Rule:
    return Rule(
        name=f"{resource}-quantity",
        paths=tuple(f"{resources}.{resource}" for resources in _LISTS),
        cel=cel_matches("string(self)", pattern),
        message=message,
        holds=lambda value: matches(pattern, str(value)),
    )


RESOURCE_RULES: Final = (
    _quantity("cpu", _CPU, "must be an amount of CPU above zero: cores such as 2, or 500m"),
    _quantity("memory", _MEMORY, "must be an amount of memory above zero, such as 512Mi or 2Gi"),
    *(
        Rule(
            name=f"{resource}-within-limit",
            paths=("spec.serving.resources",),
            cel=_cel_within_limits(resource),
            message=f"requests.{resource} must not be above limits.{resource}",
            holds=_within_limits(resource, parse),
            field=".requests",
        )
        for resource, parse in (("cpu", parse_millicores), ("memory", parse_bytes))
    ),
)

INFERENCE_MODEL_RULES: Final = (
    *SOURCE_RULES,
    *EVALUATION_RULES,
    *SERVING_RULES,
    *RESOURCE_RULES,
)


def _is_unchanged(spec: ModelBuildSpec, old: ModelBuildSpec) -> bool:
    return spec == old


def _has_one_profile(spec: ModelBuildSpec) -> bool:
    return spec.profile == spec.request.profile.name


MODEL_BUILD_RULES: Final = (
    Rule(
        name="build-unchanged",
        paths=("spec",),
        cel="self == oldSelf",
        message="a ModelBuild never changes; change the InferenceModel, and another build is made",
        holds=_is_unchanged,
        immutable=True,
    ),
    Rule(
        name="build-profile",
        paths=("spec",),
        cel="self.profile == self.request.profile.name",
        message="profile must be the profile of the request",
        holds=_has_one_profile,
        field=".profile",
    ),
    _form("request-key", ("spec.requestKey",), _HEX, "must be 64 lower-case hex digits"),
    _form(
        "request-digest",
        tuple(f"spec.request.{part}.digest" for part in ("model", "evaluation", "calibration")),
        f"sha256:{_HEX}",
        "must read sha256:<64 hex digits>",
    ),
)


def _has_short_name(profile: HardwareProfile) -> bool:
    return len(profile.metadata.name or "") <= MAX_NAME


def _selects_by_labels(selector: dict[str, Any]) -> bool:
    return all(
        matches(_LABEL_KEY, key) and matches(_LABEL_VALUE, value) for key, value in selector.items()
    )


HARDWARE_PROFILE_RULES: Final = (
    Rule(
        name="profile-short-name",
        paths=("",),
        cel=f"self.metadata.name.size() <= {MAX_NAME}",
        message=f"the name of a HardwareProfile must not be longer than {MAX_NAME} characters",
        holds=_has_short_name,
    ),
    _form(
        "feature-name",
        ("spec.features[]",),
        _FEATURE,
        "must be a CPU feature as /proc/cpuinfo names it: lower-case letters, digits and '_', "
        "for example avx512_vnni",
    ),
    Rule(
        name="node-labels",
        paths=("spec.nodeSelector",),
        cel="self.all(key, "
        f"{cel_matches('key', _LABEL_KEY)} && {cel_matches('self[key]', _LABEL_VALUE)})",
        message="must map label names to label values, as `kubectl get nodes --show-labels` "
        "shows them",
        holds=_selects_by_labels,
    ),
)
