"""Whole valid objects: the smallest, and ones that set every field a person may set."""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]

HEX = "0123456789abcdef" * 4
OTHER_HEX = "fedcba9876543210" * 4
DIGEST = f"sha256:{HEX}"
API_VERSION = "modelwright.dev/v1alpha1"

REMOVE = object()


def change(document: Object, changes: dict[str, Any]) -> Object:
    """A copy with the values at these paths replaced, added or (REMOVE) taken out."""
    result = copy.deepcopy(document)
    for path, value in changes.items():
        target = result
        *parents, last = path.split(".")
        for part in parents:
            target = target.setdefault(part, {})
        if value is REMOVE:
            target.pop(last, None)
        else:
            target[last] = value
    return result


def minimal_model(name: str = "digits") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"oci://registry.example/models/digits@{DIGEST}"},
            "evaluation": {
                "uri": "https://data.example/digits.npz",
                "sha256": HEX,
                "metric": "Accuracy",
            },
        },
    }


def full_model(name: str = "digits") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {
            "model": {
                "uri": "oci://registry.example:5000/models/digits",
                "sha256": HEX,
                "secretRef": {"name": "registry-login"},
            },
            "evaluation": {
                "uri": "pvc://datasets/digits/eval.npz",
                "sha256": HEX,
                "secretRef": {"name": "unused"},
                "metric": "TopK",
                "topK": 5,
                "budget": {"type": "AbsoluteDrop", "value": "0.5"},
            },
            "calibration": {
                "uri": "http://data.example:8080/a/b.npz?version=1",
                "sha256": HEX,
                "secretRef": {"name": "data-login"},
            },
            "optimization": {
                "objective": "Throughput",
                "techniques": ["Fusion", "StaticInt8"],
                "profiles": ["x86-avx2", "arm64-dotprod"],
                "apply": "Manual",
                "approvedDigest": DIGEST,
            },
            "serving": {
                "mode": "Deployment",
                "variant": "static-int8",
                "resources": {
                    "requests": {"cpu": "500m", "memory": "256Mi"},
                    "limits": {"cpu": 2, "memory": "1Gi"},
                },
            },
            "scaling": {
                "minReplicas": 1,
                "maxReplicas": 10,
                "target": {"cpuUtilizationPercent": 60},
            },
            "suspend": False,
            "rebuildToken": "again",
        },
    }


def full_build(name: str = "build-0123456789abcdef") -> Object:
    source = {"uri": f"oci://registry.example/models/digits@{DIGEST}", "digest": DIGEST}
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelBuild",
        "metadata": {"name": name},
        "spec": {
            "requestKey": HEX,
            "model": "digits",
            "request": {
                "model": dict(source),
                "evaluation": dict(source),
                "calibration": dict(source),
                "metric": {"name": "TopK", "topK": 5},
                "budget": {"type": "AbsoluteDrop", "value": "0.5"},
                "objective": "Latency",
                "techniques": ["DynamicInt8", "Fusion", "StaticInt8"],
                "resources": {"cpu": "1", "memory": "1Gi"},
                "profile": {
                    "name": "x86-avx2",
                    "architecture": "amd64",
                    "features": ["avx2", "fma"],
                },
                "rebuildToken": "",
            },
            "profile": "x86-avx2",
            "repository": "registry.example/artifacts/vision/digits",
            "images": {"optimizer": "modelwright/optimizer:1", "runtime": "modelwright/runtime:1"},
        },
    }


def full_profile(name: str = "big-nodes") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "HardwareProfile",
        "metadata": {"name": name},
        "spec": {
            "architecture": "amd64",
            "features": ["avx2", "avx512_vnni"],
            "nodeSelector": {"example.com/size": "big", "kubernetes.io/os": "linux"},
        },
    }


CONDITION: Object = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "reason": "Serving",
    "message": "serving static-int8",
}

VARIANT: Object = {
    "profile": "x86-avx2",
    "name": "static-int8",
    "recipe": "static-int8",
    "precision": "int8",
    "kept": True,
    "verdict": "Chosen",
    "why": "the fastest inside the budget",
    "accuracy": "0.9800",
    "drop": "0.100",
    "dropLow": "-0.200",
    "dropHigh": "0.400",
    "p50Micros": 700,
    "p99Micros": 900,
    "speedup": "2.50",
    "speedupLow": "2.40",
    "speedupHigh": "2.60",
    "sizeBytes": 1048576,
    "peakMemoryBytes": 10485760,
}

MODEL_STATUS: Object = {
    "conditions": [CONDITION],
    "observedGeneration": 1,
    "url": "http://digits.vision.svc.cluster.local",
    "summary": {
        "ready": "True",
        "reason": "Serving",
        "variant": "static-int8",
        "speedup": "2.50x",
        "drop": "0.10",
        "p99": "0.90ms",
        "replicas": "2/2",
    },
    "replicas": 2,
    "readyReplicas": 2,
    "profiles": [
        {
            "name": "x86-avx2",
            "build": "build-0123456789abcdef",
            "repository": "registry.example/artifacts/vision/digits",
            "digest": DIGEST,
            "runtimeImage": "modelwright/runtime:1",
            "variant": "static-int8",
            "drop": "0.100",
            "dropLow": "-0.200",
            "dropHigh": "0.400",
            "p50Micros": 700,
            "p99Micros": 900,
            "speedup": "2.50",
        }
    ],
    "serving": [
        {
            "profile": "x86-avx2",
            "build": "build-0123456789abcdef",
            "repository": "registry.example/artifacts/vision/digits",
            "digest": DIGEST,
            "runtimeImage": "modelwright/runtime:1",
            "variant": "static-int8",
        }
    ],
    "builds": ["build-0123456789abcdef"],
    "variants": [VARIANT],
    "history": [
        {"time": "2026-01-02T03:04:05Z", "reason": "Serving", "message": "serving static-int8"}
    ],
}

BUILD_STATUS: Object = {
    "conditions": [CONDITION],
    "observedGeneration": 1,
    "attempts": 2,
    "job": "build-0123456789abcdef-2",
    "progress": {
        "step": "Measure",
        "percent": 42,
        "message": "round 4 of 10",
        "remainingSeconds": 12,
    },
    "digest": DIGEST,
    "chosen": "static-int8",
    "variants": [VARIANT],
    "startTime": "2026-01-02T03:04:05Z",
    "completionTime": "2026-01-02T03:05:05Z",
    "failure": {"reason": "OutOfMemory", "message": "raise the limit", "retry": "Backoff"},
}

PROFILE_STATUS: Object = {
    "conditions": [CONDITION],
    "observedGeneration": 1,
    "nodeCount": 1,
    "nodes": [{"name": "n1", "bootID": "8a3c", "cores": 2}],
}

FULL: dict[str, Object] = {
    "InferenceModel": full_model(),
    "ModelBuild": full_build(),
    "HardwareProfile": full_profile(),
}

STATUS: dict[str, Object] = {
    "InferenceModel": MODEL_STATUS,
    "ModelBuild": BUILD_STATUS,
    "HardwareProfile": PROFILE_STATUS,
}
