"""One table of objects and what is wrong with them.

Three judges read it: the Python twin and CEL in `tests/unit/api`, and a real API server in
`tests/integration/api`. `want` names the rules that must speak, and the fields they speak of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.unit.api.samples import (
    DIGEST,
    HEX,
    OTHER_HEX,
    REMOVE,
    Object,
    change,
    full_build,
    full_model,
    full_profile,
    minimal_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Want = tuple[tuple[str, str], ...]
"""Pairs of field path and rule name."""


@dataclass(frozen=True)
class Case:
    name: str
    document: Object
    want: Want = ()
    old: Object | None = field(default=None)

    @property
    def kind(self) -> str:
        return str(self.document["kind"])


LONG_NAME = "a" * 253
SOURCES = ("model", "evaluation", "calibration")


def _model(name: str, changes: dict[str, Any], *want: tuple[str, str]) -> Case:
    return Case(name, change(minimal_model(), changes), want)


def _full(name: str, changes: dict[str, Any], *want: tuple[str, str]) -> Case:
    return Case(name, change(full_model(), changes), want)


# A uri with its sha256 (None: absent), and the rules that refuse it: (".field", rule).
_URI_TABLE: tuple[tuple[str, str, str | None, Want], ...] = (
    ("an OCI artifact pinned in the uri", f"oci://r.example/a/b-c.d__e@{DIGEST}", None, ()),
    ("an OCI artifact pinned beside", "oci://10.77.0.1:5000/a", HEX, ()),
    ("a file over https", "https://host.example/a.onnx", HEX, ()),
    ("a file on an IPv6 host", "http://[fd00::1]:8080/a.onnx?x=1", HEX, ()),
    ("a file in a claim", "pvc://claim.a-b/dir/...strange/a.onnx", HEX, ()),
    ("an unknown scheme", "s3://bucket/a.onnx", HEX, ((".uri", "uri-scheme"),)),
    ("a path without a scheme", "/models/a.onnx", HEX, ((".uri", "uri-scheme"),)),
    ("a scheme in upper case", "HTTPS://host/a.onnx", HEX, ((".uri", "uri-scheme"),)),
    (
        "a password in an https uri",
        "https://me:secret@host/a.onnx",
        HEX,
        ((".uri", "uri-without-credentials"),),
    ),
    (
        "a user in an OCI uri",
        f"oci://me@r.example/a@{DIGEST}",
        None,
        ((".uri", "uri-without-credentials"),),
    ),
    ("an OCI tag", "oci://r.example/a:v1", HEX, ((".uri", "uri-oci"),)),
    (
        "an OCI tag with a digest",
        f"oci://r.example/a:v1@{DIGEST}",
        None,
        ((".uri", "uri-oci"),),
    ),
    ("an OCI host alone", "oci://r.example", HEX, ((".uri", "uri-oci"),)),
    ("a repository in upper case", f"oci://r.example/A@{DIGEST}", None, ((".uri", "uri-oci"),)),
    ("a digest cut short", "oci://r.example/a@sha256:abc", None, ((".uri", "uri-oci"),)),
    ("an https uri without a path", "https://host", HEX, ((".uri", "uri-http"),)),
    ("an https uri with a space", "https://host/a b.onnx", HEX, ((".uri", "uri-http"),)),
    ("an https uri with a fragment", "https://host/a.onnx#part", HEX, ((".uri", "uri-http"),)),
    ("an http uri with a line break", "http://host/a\n", HEX, ((".uri", "uri-http"),)),
    ("a claim alone", "pvc://claim", HEX, ((".uri", "uri-pvc"),)),
    ("a claim in upper case", "pvc://Claim/a.onnx", HEX, ((".uri", "uri-pvc"),)),
    ("a way out of the claim", "pvc://claim/a/../../b", HEX, ((".uri", "uri-pvc-inside"),)),
    ("a way out at the end", "pvc://claim/a/..", HEX, ((".uri", "uri-pvc-inside"),)),
    ("an idle part in a path", "pvc://claim/a/./b", HEX, ((".uri", "uri-pvc-inside"),)),
    ("an empty part in a path", "pvc://claim/a//b", HEX, ((".uri", "uri-pvc-inside"),)),
    ("a folder", "pvc://claim/a/", HEX, ((".uri", "uri-pvc-inside"),)),
    (
        "a digest in an https uri",
        f"https://host/a@{DIGEST}",
        None,
        ((".uri", "digest-place"), ("", "digest-required")),
    ),
    ("an OCI artifact without a digest", "oci://r.example/a", None, (("", "digest-required"),)),
    ("an https file without a digest", "https://host/a", None, (("", "digest-required"),)),
    ("a claim's file without a digest", "pvc://claim/a", None, (("", "digest-required"),)),
    (
        "two digests that contradict",
        f"oci://r.example/a@{DIGEST}",
        OTHER_HEX,
        ((".sha256", "digest-once"),),
    ),
    (
        "two digests that agree",
        f"oci://r.example/a@{DIGEST}",
        HEX,
        ((".sha256", "digest-once"),),
    ),
    ("a digest with a prefix", "https://host/a", DIGEST, ((".sha256", "sha256-form"),)),
    ("a digest in upper case", "https://host/a", HEX.upper(), ((".sha256", "sha256-form"),)),
    ("a digest of another length", "pvc://claim/a", HEX[:40], ((".sha256", "sha256-form"),)),
)


def _source_cases() -> Iterator[Case]:
    for source in SOURCES:
        base = change(minimal_model(), {"spec.calibration.uri": "pvc://c/x"})
        base = change(base, {"spec.calibration.sha256": HEX})
        for name, uri, sha256, refused in _URI_TABLE:
            changes = {
                f"spec.{source}.uri": uri,
                f"spec.{source}.sha256": REMOVE if sha256 is None else sha256,
            }
            want = tuple((f"spec.{source}{suffix}", rule) for suffix, rule in refused)
            yield Case(f"{name} as {source}", change(base, changes), want)
        yield Case(
            f"a Secret's name in upper case for {source}",
            change(base, {f"spec.{source}.secretRef.name": "My_Secret"}),
            ((f"spec.{source}.secretRef.name", "secret-name"),),
        )


def _budget_cases() -> Iterator[Case]:
    path = "spec.evaluation.budget.value"
    for value in ("0.5", "1", "10", "99.99", "0.001", "1.0"):
        budget = {"type": "AbsoluteDrop", "value": value}
        yield _model(f"a budget of {value}", {"spec.evaluation.budget": budget})
    for value in ("0", "0.0", "-1", "+1", "1e3", ".5", "1.", "01", "half", "0,5", "NaN", "1 "):
        budget = {"type": "AbsoluteDrop", "value": value}
        yield _model(
            f"a budget of {value!r}", {"spec.evaluation.budget": budget}, (path, "budget-value")
        )


def _quantity_cases() -> Iterator[Case]:
    good = {
        "cpu": (1, 2, "1", "2.5", "0.25", "100m", "1500m", "0.500"),
        "memory": ("64Mi", "1.5Gi", 268435456, "1G", "0.5Gi"),
    }
    bad = {
        "cpu": (0, -1, "0", "0m", "0.0", "1Gi", "half", "1.5m", "1 ", "1e3", "-2"),
        "memory": (0, -5, "0", "0Gi", "1gb", "1GB", "64 Mi", "100m", "lots", "-1Gi"),
    }
    for side in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            path = f"spec.serving.resources.{side}.{resource}"
            for value in good[resource]:
                yield _model(f"{side} of {value!r} {resource}", {path: value})
            for value in bad[resource]:
                want = (path, f"{resource}-quantity")
                yield _model(f"{side} of {value!r} {resource}", {path: value}, want)


def _limit_cases() -> Iterator[Case]:
    where = "spec.serving.resources"
    for name, requests, limits, want in (
        ("requests equal to limits", {"cpu": "1000m"}, {"cpu": 1}, ()),
        ("requests below limits in other units", {"memory": "1G"}, {"memory": "1Gi"}, ()),
        ("requests without limits", {"cpu": 64}, {}, ()),
        (
            "more CPU requested than allowed",
            {"cpu": "1.5"},
            {"cpu": "1400m"},
            ((f"{where}.requests", "cpu-within-limit"),),
        ),
        (
            "more memory requested than allowed",
            {"memory": "1Gi"},
            {"memory": "1G"},
            ((f"{where}.requests", "memory-within-limit"),),
        ),
        (
            "a limit that is no quantity is said once",
            {"cpu": "1"},
            {"cpu": "lots"},
            ((f"{where}.limits.cpu", "cpu-quantity"),),
        ),
    ):
        resources = {"requests": requests, "limits": limits}
        yield _model(name, {where: resources}, *want)


def _scaling_cases() -> Iterator[Case]:
    target = {"cpuUtilizationPercent": 50}
    for name, scaling, want in (
        ("a minimum alone", {"minReplicas": 3}, ()),
        ("a maximum alone", {"maxReplicas": 3}, ()),
        ("a maximum equal to the minimum", {"minReplicas": 3, "maxReplicas": 3}, ()),
        ("a target with room", {"maxReplicas": 2, "target": target}, ()),
        ("an empty target with room", {"maxReplicas": 2, "target": {}}, ()),
        ("no scaling words at all", {}, ()),
        (
            "a maximum below the minimum",
            {"minReplicas": 3, "maxReplicas": 2},
            ((".maxReplicas", "replicas-ordered"),),
        ),
        ("a target without a maximum", {"target": target}, ((".target", "target-with-room"),)),
        (
            "a target without room",
            {"minReplicas": 2, "maxReplicas": 2, "target": target},
            ((".target", "target-with-room"),),
        ),
        (
            "a target with one server",
            {"maxReplicas": 1, "target": target},
            ((".target", "target-with-room"),),
        ),
    ):
        refused = tuple((f"spec.scaling{suffix}", rule) for suffix, rule in want)
        yield _model(name, {"spec.scaling": scaling}, *refused)


def _model_cases() -> Iterator[Case]:
    yield Case("the smallest model", minimal_model())
    yield Case("every field at once", full_model())
    yield Case("a name of 253 characters", minimal_model(LONG_NAME))
    yield Case("a name with dots and a leading digit", minimal_model("3.digits.v1"))
    evaluation = "spec.evaluation"
    yield _model(
        "TopK without topK",
        {f"{evaluation}.metric": "TopK"},
        (f"{evaluation}.topK", "top-k-required"),
    )
    yield _model("TopK with topK", {f"{evaluation}.metric": "TopK", f"{evaluation}.topK": 1})
    for metric in ("Accuracy", "F1", "RMSE", "CosineSimilarity", "SQNR"):
        yield _model(f"metric {metric}", {f"{evaluation}.metric": metric})
        yield _model(
            f"topK with {metric}",
            {f"{evaluation}.metric": metric, f"{evaluation}.topK": 5},
            (f"{evaluation}.topK", "top-k-alone"),
        )
    for budget_type in ("AbsoluteDrop", "RelativeDrop", "Minimum"):
        budget = {"type": budget_type, "value": "30"}
        changes = {f"{evaluation}.metric": "SQNR", f"{evaluation}.budget": budget}
        want = () if budget_type == "Minimum" else ((f"{evaluation}.budget", "sqnr-minimum"),)
        yield _model(f"SQNR with a budget of type {budget_type}", changes, *want)
        yield _model(
            f"Accuracy with a budget of type {budget_type}", {f"{evaluation}.budget": budget}
        )
    optimization = "spec.optimization"
    approval = (f"{optimization}.approvedDigest", "approval-manual")
    yield _full("approval of a Manual model", {})
    yield _full("approval without apply", {f"{optimization}.apply": REMOVE}, approval)
    yield _full("approval of an Automatic model", {f"{optimization}.apply": "Automatic"}, approval)
    for name, digest in (("without a prefix", HEX), ("of sha512", f"sha512:{HEX}"), ("'x'", "x")):
        yield _full(
            f"an approved digest {name}",
            {f"{optimization}.approvedDigest": digest},
            (f"{optimization}.approvedDigest", "approved-digest-form"),
        )
    yield _model(
        "a profile's name with a space",
        {f"{optimization}.profiles": ["x86-avx2", "my nodes"]},
        (f"{optimization}.profiles[1]", "profile-name"),
    )
    serving = "spec.serving"
    yield _model("build only", {f"{serving}.mode": "None"})
    yield _model("a variant without a mode", {f"{serving}.variant": "fp32"})
    yield _model(
        "a variant of a model that is not served",
        {f"{serving}.mode": "None", f"{serving}.variant": "fp32"},
        (f"{serving}.variant", "variant-served"),
    )
    yield _model(
        "a variant's name in upper case",
        {f"{serving}.variant": "FP32"},
        (f"{serving}.variant", "variant-name"),
    )
    yield _model(
        "scaling of a model that is not served",
        {f"{serving}.mode": "None", "spec.scaling": {"minReplicas": 2}},
        ("spec.scaling", "scaling-served"),
    )
    yield Case("a changed spec", full_model(), old=minimal_model())


def _build_cases() -> Iterator[Case]:
    build = full_build()
    yield Case("a build", build)
    yield Case("a build without calibration", change(build, {"spec.request.calibration": REMOVE}))
    yield Case("a build written again", build, old=build)
    for path, value in (
        ("spec.model", "other"),
        ("spec.repository", "registry.example/elsewhere"),
        ("spec.images.runtime", "modelwright/runtime:2"),
        ("spec.request.rebuildToken", "again"),
        ("spec.request.calibration", REMOVE),
    ):
        changed = change(build, {path: value})
        yield Case(f"a build with another {path}", changed, (("spec", "build-unchanged"),), build)
    yield Case(
        "a build for two profiles",
        change(build, {"spec.profile": "arm64-dotprod"}),
        (("spec.profile", "build-profile"),),
    )
    yield Case(
        "a key that is no hash",
        change(build, {"spec.requestKey": "g" * 64}),
        (("spec.requestKey", "request-key"),),
    )
    for source in SOURCES:
        path = f"spec.request.{source}.digest"
        yield Case(
            f"a {source} whose digest is no SHA-256",
            change(build, {path: "sha256:" + "x" * 64}),
            ((path, "request-digest"),),
        )


def _profile_cases() -> Iterator[Case]:
    profile = full_profile()
    yield Case("a profile", profile)
    yield Case("a profile of any CPU", change(profile, {"spec.features": []}))
    yield Case("a profile of all nodes", change(profile, {"spec.nodeSelector": REMOVE}))
    yield Case("a profile with a name of 63 characters", full_profile("a" * 63))
    yield Case(
        "a profile with a name of 64 characters",
        full_profile("a" * 64),
        (("", "profile-short-name"),),
    )
    for feature in ("AVX2", "avx-512", "avx 512"):
        yield Case(
            f"a feature named {feature!r}",
            change(profile, {"spec.features": ["avx2", feature]}),
            (("spec.features[1]", "feature-name"),),
        )
    for selector in ({"bad key": "x"}, {"a/b/c": "x"}, {"size": "very big"}, {"": "x"}):
        yield Case(
            f"a selector of {selector}",
            change(profile, {"spec.nodeSelector": selector}),
            (("spec.nodeSelector", "node-labels"),),
        )
    yield Case("a selector with an empty value", change(profile, {"spec.nodeSelector": {"a": ""}}))


CASES: tuple[Case, ...] = (
    *_model_cases(),
    *_source_cases(),
    *_budget_cases(),
    *_quantity_cases(),
    *_limit_cases(),
    *_scaling_cases(),
    *_build_cases(),
    *_profile_cases(),
)
