from __future__ import annotations

from pathlib import Path

import pytest

from modelwright_operator.api import crds, reference

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("generator", "directory"),
    [(crds, "crds"), (reference, "docs/api")],
    ids=["crds", "reference"],
)
def test_committed_files_are_not_stale(generator: object, directory: str) -> None:
    arguments = ["--check", "--directory", str(ROOT / directory)]
    assert generator.main(arguments) == 0  # type: ignore[attr-defined]


def test_check_names_what_is_stale_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--directory", str(tmp_path)]
    assert crds.main(arguments) == 0
    file = tmp_path / "modelwright.dev_modelbuilds.yaml"
    file.write_text("edited by hand\n", encoding="utf-8")
    (tmp_path / "stray.yaml").write_text(crds.HEADER, encoding="utf-8")
    (tmp_path / "foreign.yaml").touch()
    capsys.readouterr()

    assert crds.main(["--check", *arguments]) == 1
    told = capsys.readouterr().err
    assert "modelbuilds.yaml is stale" in told
    assert "stray.yaml is stale" in told
    assert "inferencemodels" not in told
    assert "foreign" not in told
    assert file.read_text(encoding="utf-8") == "edited by hand\n"

    assert crds.main(arguments) == 0
    assert crds.main(["--check", *arguments]) == 0
    assert (tmp_path / "foreign.yaml").exists()
