"""An image is named by everything it is made of, and holds only what its plane reads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster import base_image, images
from tools.image import layout

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout with all that images are made of."""
    for path in ("Dockerfile", "pyproject.toml", "tools/image/layout.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "constraints").mkdir()
    for target, packages in images.PACKAGES.items():
        (tmp_path / "constraints" / f"{target}.txt").write_text(f"{target}==1\n")
        for package in packages:
            (tmp_path / package).mkdir(parents=True, exist_ok=True)
            (tmp_path / package / "__init__.py").write_text("")
    return tmp_path


def keys(root: Path) -> dict[str, str]:
    return {target: images.content_key(target, "amd64", root=root) for target in images.TARGETS}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {target for target in before if before[target] != after[target]}


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("Dockerfile", {"operator", "optimizer", "runtime"}),
        ("tools/image/layout.py", {"operator", "optimizer", "runtime"}),
        ("artifact/modelwright_artifact/__init__.py", {"operator", "optimizer", "runtime"}),
        ("operator/modelwright_operator/__init__.py", {"operator"}),
        ("optimizer/modelwright_optimizer/__init__.py", {"optimizer"}),
        ("runtime_image/modelwright_runtime/__init__.py", {"runtime"}),
        ("constraints/runtime.txt", {"runtime"}),
    ],
)
def test_a_change_renames_the_images_that_hold_it(
    checkout: Path, path: str, want: set[str]
) -> None:
    before = keys(checkout)
    with (checkout / path).open("a") as file:
        file.write("# changed\n")

    assert changed(before, keys(checkout)) == want


def test_compiled_files_and_other_folders_do_not_count(checkout: Path) -> None:
    before = keys(checkout)
    compiled = checkout / "operator/modelwright_operator/__pycache__/x.pyc"
    compiled.parent.mkdir()
    compiled.write_text("bytes")
    (checkout / "README.md").write_text("words")

    assert keys(checkout) == before


def test_a_moved_file_renames_the_image(checkout: Path) -> None:
    before = keys(checkout)
    package = checkout / "operator/modelwright_operator"
    (package / "__init__.py").rename(package / "main.py")

    assert changed(before, keys(checkout)) == {"operator"}


def test_architectures_have_names_of_their_own(checkout: Path) -> None:
    one, other = (images.content_key("runtime", a, root=checkout) for a in ("amd64", "arm64"))

    assert one != other


def test_a_base_image_is_named_by_its_packages() -> None:
    plain = base_image.runtime_base("amd64")
    more = base_image.BaseImage(plain.name, (*plain.packages, "hello"), plain.architecture)

    assert plain.reference() != more.reference()
    assert plain.reference() == base_image.runtime_base("amd64").reference()
    assert plain.reference() != base_image.runtime_base("arm64").reference()


@pytest.mark.parametrize("target", images.TARGETS)
def test_the_dockerfile_has_the_target_with_its_packages_only(target: str) -> None:
    stage = DOCKERFILE.split(f"FROM base AS {target}\n")[1].split("\nFROM ")[0]
    copied = set(re.findall(r"COPY --from=code /code/(\S+)", stage))

    assert copied == {Path(package).name for package in images.PACKAGES[target]}
    assert f'ENTRYPOINT ["python3", "-m", "modelwright_{target}"]' in stage
    assert f"COPY --from={target}-site /site" in stage
    assert "RUN" not in stage


def test_images_run_as_nobody_and_say_nothing_home() -> None:
    assert "USER 10001:10001" in DOCKERFILE
    for target in ("optimizer", "runtime"):
        stage = DOCKERFILE.split(f"FROM base AS {target}\n")[1].split("\nFROM ")[0]
        assert "ORT_DISABLE_TELEMETRY=1" in stage


def test_the_context_holds_nothing_but_what_the_dockerfile_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    allowed = {line[1:] for line in lines if line.startswith("!")}

    assert lines[0] == "*"
    assert allowed == {
        "pyproject.toml", "constraints/*.txt", "tools/image/layout.py",
        "artifact", "operator", "optimizer", "runtime_image",
    }  # fmt: skip


def test_pruning_removes_tests_headers_and_named_paths_only(tmp_path: Path) -> None:
    kept = ("pkg/core.py", "pkg/lib.so", "pkg/testing/__init__.py", "pkg-1.dist-info/LICENSE")
    gone = ("pkg/tests/test_core.py", "pkg/include/core.h", "pkg/core.pyx", "bin/tool", "big/x.bin")
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    layout.prune_site(tmp_path, ("big",))

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)


def test_compiled_code_is_the_same_wherever_it_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "KINDS = frozenset({'a', 'bc', '['})\n\ndef is_kind(x):\n    return x in {'z', '[', 'y'}\n"
    )
    for seed, folder in (("1", "one"), ("2", "other/deeper")):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text(source)
        layout.compile_folder(tmp_path / folder, installed_at="/opt/modelwright/lib")

    one, other = sorted(path.read_bytes() for path in tmp_path.rglob("*.pyc"))
    assert one == other
    assert b"/opt/modelwright/lib/module.py" in one


@given(st.sampled_from(sorted(layout.WHEEL_CPU)), st.text("abc/", min_size=1, max_size=20))
def test_locked_options_always_demand_hashes_and_wheels(architecture: str, path: str) -> None:
    """Property: no dependency is ever taken without a listed hash or built from source."""
    options = layout.locked_options(Path(path), architecture)

    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(options)
    platforms = [option for option in options if option.startswith("--platform=")]
    assert platforms
    assert all(option.endswith(layout.WHEEL_CPU[architecture]) for option in platforms)
