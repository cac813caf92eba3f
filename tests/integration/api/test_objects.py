"""How our objects live on a real API server: status, apply, size, columns."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e.cluster import ClusterError
from modelwright_operator.api.base import MAX_PHRASE, MAX_TEXT
from modelwright_operator.api.crds import KINDS, Kind
from modelwright_operator.api.inference_model import MAX_RETAINED_BUILDS
from tests.integration.api.conftest import CRDS
from tests.unit.api.samples import (
    FULL,
    MODEL_STATUS,
    STATUS,
    VARIANT,
    change,
    full_build,
    full_model,
    full_profile,
    minimal_model,
)

if TYPE_CHECKING:
    from e2e.cluster import Cluster
    from tests.integration.api.server import Server
    from tests.unit.api.samples import Object

pytestmark = pytest.mark.integration

MODEL_COLUMNS = ["NAME", "READY", "REASON", "VARIANT", "SPEEDUP", "DROP", "P99", "REPLICAS", "AGE"]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def _own(kind: Kind, server: Server) -> Object:
    """A full object under a name of the test's own (one kind has no namespace)."""
    return change(FULL[kind.name], {"metadata.name": server.namespace})


def _operators_part(document: Object, status: Object) -> Object:
    """What the operator applies to the status subresource."""
    identity = {"name": document["metadata"]["name"]}
    head = {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": identity}
    return {**head, "status": status}


@each_kind
def test_crds_are_structural_and_established(kind: Kind, installed: Cluster) -> None:
    crd = json.loads(installed.kubectl("get", "crd", f"{kind.plural}.modelwright.dev", "-o=json"))
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert crd["status"]["acceptedNames"]["shortNames"] == [kind.short_name]


def test_crds_applied_again_do_not_change(installed: Cluster) -> None:
    assert installed.kubectl("apply", "-f", str(CRDS)).count("unchanged") == len(KINDS)
    again = installed.kubectl("apply", "-k", str(CRDS), "--server-side", "--force-conflicts")
    assert again.count("serverside-applied") == len(KINDS)
    assert installed.kubectl("diff", "-f", str(CRDS)) == ""


@each_kind
def test_an_object_nobody_has_looked_at_says_so(kind: Kind, server: Server) -> None:
    created = server.create(_own(kind, server))
    assert created["status"] == {"observedGeneration": -1}
    assert created["metadata"]["generation"] == 1


def test_the_first_status_survives_apply_and_edits(server: Server) -> None:
    document = minimal_model()
    unseen = {"observedGeneration": -1}
    assert server.apply(document, "user")["status"] == unseen
    document = change(document, {"spec.suspend": True})
    edited = server.apply(document, "user")
    assert (edited["status"], edited["metadata"]["generation"]) == (unseen, 2)
    edited = server.merge(change(document, {"spec.rebuildToken": "1"}))
    assert (edited["status"], edited["metadata"]["generation"]) == (unseen, 3)
    edited["spec"]["rebuildToken"] = "2"
    assert server.replace(edited)["status"] == unseen


def test_a_status_the_operator_wrote_survives_the_users_apply(server: Server) -> None:
    document = minimal_model()
    server.apply(document, "user")
    told = server.apply(_operators_part(document, MODEL_STATUS), "modelwright", "/status")
    assert told["status"] == MODEL_STATUS
    edited = server.apply(change(document, {"spec.suspend": True}), "user")
    assert edited["status"] == MODEL_STATUS


def test_the_operator_can_take_back_what_it_said(server: Server) -> None:
    document = minimal_model()
    server.apply(document, "user")
    server.apply(_operators_part(document, MODEL_STATUS), "modelwright", "/status")
    less = {"observedGeneration": 1, "conditions": MODEL_STATUS["conditions"]}
    told = server.apply(_operators_part(document, less), "modelwright", "/status")
    assert told["status"] == less


@each_kind
def test_a_spec_does_not_change_through_the_status(kind: Kind, server: Server) -> None:
    created = server.create(_own(kind, server))
    path = {"InferenceModel": "rebuildToken", "ModelBuild": "model", "HardwareProfile": "features"}
    other = change(created, {f"spec.{path[kind.name]}": ["sve"]})
    told = server.replace({**other, "status": STATUS[kind.name]}, "/status")
    assert told["spec"] == created["spec"]
    assert told["metadata"]["generation"] == 1
    assert told["status"] == STATUS[kind.name]


@each_kind
def test_a_status_does_not_change_through_the_spec(kind: Kind, server: Server) -> None:
    created = server.create({**_own(kind, server), "status": STATUS[kind.name]})
    assert created["status"] == {"observedGeneration": -1}
    written = server.replace({**created, "status": STATUS[kind.name]})
    assert written["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("way", [(), ("--server-side",)], ids=["client side", "server side"])
@pytest.mark.parametrize("document", [minimal_model(), full_model()], ids=["minimal", "full"])
def test_applying_the_same_file_again_changes_nothing(
    document: Object, way: tuple[str, ...], server: Server, installed: Cluster
) -> None:
    text = yaml.safe_dump(document)
    arguments = ("-n", server.namespace, "-f", "-")
    installed.kubectl("apply", *way, *arguments, input=text)
    server.apply(_operators_part(document, MODEL_STATUS), "modelwright", "/status")
    before = server.get(document)
    assert before["spec"] == document["spec"]
    for _ in range(3):
        installed.kubectl("apply", *way, *arguments, input=text)
    assert server.get(document) == before
    assert installed.kubectl("diff", *way, *arguments, input=text) == ""


def test_kubectl_refuses_a_misspelt_field(server: Server, installed: Cluster) -> None:
    text = yaml.safe_dump(change(minimal_model(), {"spec.model.sha_256": "x"}))
    with pytest.raises(ClusterError, match=r'unknown field \\?"spec\.model\.sha_256'):
        installed.kubectl("create", "-n", server.namespace, "-f", "-", input=text)


def _rows(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.strip().splitlines()]


def test_models_in_a_table(server: Server, installed: Cluster) -> None:
    document = minimal_model()
    server.create(document)
    server.apply(_operators_part(document, MODEL_STATUS), "modelwright", "/status")
    server.create(minimal_model("unseen"))
    header, seen, unseen = _rows(
        installed.kubectl("get", "mwm", "-n", server.namespace, "-o", "wide")
    )
    assert header == [
        "NAME",
        "READY",
        "REASON",
        "VARIANT",
        "SPEEDUP",
        "DROP",
        "P99",
        "REPLICAS",
        "AGE",
        "URL",
    ]
    assert seen[:8] == [
        "digits",
        "True",
        "Serving",
        "static-int8",
        "2.50x",
        "0.10",
        "0.90ms",
        "2/2",
    ]
    assert seen[9] == MODEL_STATUS["url"]
    assert unseen[0] == "unseen"
    narrow = _rows(installed.kubectl("get", "inferencemodels", "-n", server.namespace))
    assert narrow[0] == MODEL_COLUMNS


def test_builds_in_a_table(server: Server, installed: Cluster) -> None:
    document = full_build()
    server.create(document)
    server.apply(_operators_part(document, STATUS["ModelBuild"]), "modelwright", "/status")
    header, row = _rows(installed.kubectl("get", "mwb", "-n", server.namespace))
    assert header == ["NAME", "READY", "REASON", "PROFILE", "CHOSEN", "PROGRESS", "AGE"]
    assert row[1:6] == ["True", "Serving", "x86-avx2", "static-int8", "42"]


def test_profiles_in_a_table(server: Server, installed: Cluster) -> None:
    document = full_profile(server.namespace)
    server.create(document)
    server.apply(_operators_part(document, STATUS["HardwareProfile"]), "modelwright", "/status")
    header, row = _rows(installed.kubectl("get", "mwhp", server.namespace, "-o", "wide"))
    assert header == ["NAME", "ARCH", "NODES", "AGE", "FEATURES"]
    assert row[1:3] == ["amd64", "1"]
    assert row[4] == '["avx2","avx512_vnni"]'


def test_the_category_lists_all_kinds(server: Server, installed: Cluster) -> None:
    for kind in KINDS:
        server.create(_own(kind, server))
    listed = installed.kubectl("get", "modelwright", "-n", server.namespace, "-o", "name")
    assert {line.partition(".")[0] for line in listed.splitlines()} == {
        kind.name.lower() for kind in KINDS
    }


def test_explain_tells_what_the_reference_tells(installed: Cluster) -> None:
    told = installed.kubectl("explain", "inferencemodel.spec.evaluation.topK")
    assert "how many of the best classes count as a hit" in " ".join(told.split())


def _longest_variants() -> list[Object]:
    """As many rows as fit, each as long as may be."""
    words = {"why": "é" * MAX_TEXT, "recipe": "r" * MAX_PHRASE, "verdict": "v" * MAX_PHRASE}
    return [{**VARIANT, **words, "profile": "p" * 63, "name": f"{i:063}"} for i in range(64)]


def test_the_longest_status_of_a_model_is_taken(server: Server) -> None:
    document = full_model()
    server.create(document)
    entry: dict[str, Any] = MODEL_STATUS["history"][0]
    status = {
        **MODEL_STATUS,
        "variants": _longest_variants(),
        "history": [{**entry, "message": "é" * MAX_TEXT}] * 10,
        "builds": [f"{i:0253}" for i in range(MAX_RETAINED_BUILDS)],
        "conditions": [
            {**MODEL_STATUS["conditions"][0], "type": f"T{i}", "message": "é" * MAX_TEXT}
            for i in range(16)
        ],
    }
    told = server.apply(_operators_part(document, status), "modelwright", "/status")
    assert len(told["status"]["variants"]) == 64


def test_a_thousand_nodes_fit_into_a_profile(server: Server) -> None:
    document = full_profile(server.namespace)
    server.create(document)
    nodes = [{"name": f"{i:0253}", "bootID": f"{i:036}", "cores": 64} for i in range(1000)]
    told = server.apply(
        _operators_part(document, {"observedGeneration": 1, "nodeCount": 1000, "nodes": nodes}),
        "modelwright",
        "/status",
    )
    assert len(told["status"]["nodes"]) == 1000
