"""`modelwright plan` and `report` as a person uses them: right input, wrong input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from modelwright_operator.cli.main import main
from tests.support import builders as a

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"profiles": [{"name": "x86-avx2"}]}


@pytest.fixture
def facts(tmp_path: Path) -> str:
    path = tmp_path / "facts.yaml"
    path.write_text(yaml.safe_dump(FACTS))
    return str(path)


def write_model(folder: Path, **spec: Any) -> str:
    document = a.model_object(**spec)
    path = folder / "model.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": document["apiVersion"],
                "kind": document["kind"],
                "metadata": {"name": "digits"},
                "spec": document["spec"],
            }
        )
    )
    return str(path)


def test_plan_prints_every_object_of_both_stages(
    tmp_path: Path, facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path, scaling={"minReplicas": 2, "maxReplicas": 3})
    assert main(["plan", "-f", model, "--facts", facts]) == 0
    documents = [item for item in yaml.safe_load_all(capsys.readouterr().out) if item]
    assert [item["kind"] for item in documents] == [
        *("ModelBuild", "ServiceAccount", "Job"),
        *("ServiceAccount", "Service", "Deployment"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget"),
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"surprise": 1}, "surprise", id="unknown field"),
        pytest.param({"scaling": {"minReplicas": 3, "maxReplicas": 1}}, "maxReplicas", id="bounds"),
        pytest.param({"optimization": {"profiles": ["nowhere"]}}, "nowhere", id="no such profile"),
    ],
)
def test_plan_says_what_is_wrong(
    tmp_path: Path,
    facts: str,
    capsys: pytest.CaptureFixture[str],
    spec: dict[str, Any],
    words: str,
) -> None:
    assert main(["plan", "-f", write_model(tmp_path, **spec), "--facts", facts]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["a: [", "kind: Pod", "", "kind: InferenceModel", "{kind: InferenceModel, metadata: foo}"],
    ids=["no YAML", "another kind", "empty", "no name", "metadata is a word"],
)
def test_plan_refuses_a_file_without_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(content)
    assert main(["plan", "-f", str(path)]) == 2
    assert "error:" in capsys.readouterr().err


def test_plan_refuses_wrong_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text("nodes: []")
    assert main(["plan", "-f", write_model(tmp_path), "--facts", str(path)]) == 2
    assert "profiles" in capsys.readouterr().err


def test_report_of_a_broken_folder_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"schemaVersion": 1}))
    assert main(["report", str(tmp_path)]) == 1
    assert "error:" in capsys.readouterr().err
