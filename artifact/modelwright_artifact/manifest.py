"""manifest.json: what an artifact holds, which variant was chosen, and every file's digest.

Written by the optimizer, read by the server and the operator. A manifest that exists is
consistent: variants name files that are listed, the chosen one and fp32 are among them.
Unknown fields are ignored, so that a later minor addition does not stop an older server;
another `schemaVersion` is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from modelwright_artifact.errors import ArtifactError
from modelwright_artifact.fields import (
    Fields,
    check_choice,
    check_digest,
    check_hex,
    check_plain_path,
    parse_object,
)
from modelwright_artifact.measurements import Figures, Recipe, check_precision
from modelwright_artifact.request import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
REPORT_FILE: Final = "report.json"
SIGNATURE_FILE: Final = "signature.json"
UNLISTED_FILES: Final = frozenset({MANIFEST_FILE, REPORT_FILE, SIGNATURE_FILE})
FALLBACK_VARIANT: Final = "fp32"
MAX_MANIFEST_BYTES: Final = 1 << 20

DATATYPES: Final = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output; the datatype by its Open Inference Protocol name, -1 = any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_choice(self.datatype, DATATYPES, f"the datatype of {self.name!r}")
        if any(size < -1 for size in self.shape):
            raise ArtifactError(f"The shape of {self.name!r} holds a size below -1.")

    @classmethod
    def read(cls, fields: Fields) -> TensorSpec:
        """Parse one input or output."""
        return cls(
            name=fields.text("name"),
            datatype=fields.text("datatype"),
            shape=fields.integers("shape"),
        )

    def to_json(self) -> dict[str, Any]:
        """The tensor as JSON."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs, the outputs they must give, and how far off these may be.

    An output y agrees with its golden g where |y - g| <= atol + rtol * |g|.
    """

    inputs: str
    outputs: str
    atol: float
    rtol: float

    def __post_init__(self) -> None:
        check_plain_path(self.inputs, "golden.inputs")
        check_plain_path(self.outputs, "golden.outputs")
        if self.atol < 0 or self.rtol < 0:
            raise ArtifactError("golden.atol and golden.rtol must not be negative.")

    @classmethod
    def read(cls, fields: Fields) -> Golden:
        """Parse the golden files of a variant."""
        return cls(
            inputs=fields.text("inputs"),
            outputs=fields.text("outputs"),
            atol=fields.number("atol"),
            rtol=fields.number("rtol"),
        )

    def to_json(self) -> dict[str, Any]:
        """The golden files as JSON."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "atol": self.atol,
            "rtol": self.rtol,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One kept graph.

    `requires` holds the CPU features without which it must not be used: its answers were
    judged on kernels that only such a CPU runs.
    """

    name: str
    file: str
    precision: str
    recipe: Recipe
    golden: Golden
    requires: tuple[str, ...] = ()
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        check_plain_path(self.name, "the name of a variant")
        check_plain_path(self.file, f"the file of variant {self.name}")
        check_precision(self.precision, self.name)

    @classmethod
    def read(cls, fields: Fields) -> Variant:
        """Parse one variant of the manifest."""
        return cls(
            name=fields.text("name"),
            file=fields.text("file"),
            precision=fields.text("precision"),
            recipe=Recipe.read(fields.nested("recipe")),
            requires=fields.texts("requires"),
            figures=Figures.read(fields),
            golden=Golden.read(fields.nested("golden")),
        )

    def to_json(self) -> dict[str, Any]:
        """The variant as JSON."""
        return {
            "name": self.name,
            "file": self.file,
            "precision": self.precision,
            "recipe": self.recipe.to_json(),
            "requires": list(self.requires),
            **self.figures.to_json(),
            "golden": self.golden.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """What a file must be: its SHA-256 in hex and its length."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_hex(self.sha256, "files[].sha256")

    @classmethod
    def read(cls, fields: Fields) -> FileEntry:
        """Parse one file's entry."""
        return cls(sha256=fields.text("sha256"), bytes=fields.integer("bytes"))

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {"sha256": self.sha256, "bytes": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of manifest.json; `variants` holds kept ones only, fp32 always among them."""

    request_key: str
    model_digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Profile
    tools: Mapping[str, str]
    threads: int
    chosen: str
    variants: tuple[Variant, ...]
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        check_hex(self.request_key, "manifest.requestKey")
        check_digest(self.model_digest, "manifest.model.digest")
        if self.threads < 1:
            raise ArtifactError("manifest.threads must be at least 1.")
        self._check_variants()
        for path in self.files:
            check_plain_path(path, "a name in manifest.files")
            if path in UNLISTED_FILES:
                raise ArtifactError(f"manifest.files must not list {path}.")

    def variant(self, name: str) -> Variant:
        """The kept variant of that name."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        kept = ", ".join(variant.name for variant in self.variants)
        raise ArtifactError(f"The artifact holds no variant {name!r}; it holds {kept}.")

    @classmethod
    def from_json(cls, document: str | bytes | Mapping[str, Any]) -> Manifest:
        """Parse a manifest; `ArtifactError` names the field that is wrong."""
        root = parse_object(document, "manifest")
        check_schema_version(root)
        return cls(
            request_key=root.text("requestKey"),
            model_digest=root.nested("model").text("digest"),
            inputs=tuple(TensorSpec.read(item) for item in root.objects("inputs")),
            outputs=tuple(TensorSpec.read(item) for item in root.objects("outputs")),
            profile=Profile.read(root.nested("profile")),
            tools=_read_tools(root.nested("tools")),
            threads=root.integer("threads"),
            chosen=root.text("chosen"),
            variants=tuple(Variant.read(item) for item in root.objects("variants")),
            files=_read_files(root.nested("files")),
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON; `from_json` reads it back to an equal value."""
        return {
            "schemaVersion": SCHEMA_VERSION,
            "requestKey": self.request_key,
            "model": {"digest": self.model_digest},
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "profile": self.profile.to_json(),
            "tools": dict(self.tools),
            "threads": self.threads,
            "chosen": self.chosen,
            "variants": [variant.to_json() for variant in self.variants],
            "files": {path: self.files[path].to_json() for path in sorted(self.files)},
        }

    def _check_variants(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ArtifactError("manifest.variants names a variant twice.")
        for wanted in (FALLBACK_VARIANT, self.chosen):
            if wanted not in names:
                raise ArtifactError(f"manifest.variants lacks {wanted!r}.")
        for variant in self.variants:
            for path in (variant.file, variant.golden.inputs, variant.golden.outputs):
                if path not in self.files:
                    raise ArtifactError(f"{path} of variant {variant.name} is not in files.")


def load_manifest(directory: Path) -> Manifest:
    """Read and check `directory/manifest.json`; the files it names are not looked at."""
    path = directory / MANIFEST_FILE
    try:
        size = path.stat().st_size
        if size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} is {size} bytes long; more than {MAX_MANIFEST_BYTES}.")
        return Manifest.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"There is no artifact in {directory}: it has no manifest.") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `directory/manifest.json`; equal manifests give equal bytes."""
    write_json(directory / MANIFEST_FILE, manifest.to_json())


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document for people and programs: indented, keys in their order."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def check_schema_version(root: Fields) -> None:
    """Refuse a document of another schema."""
    version = root.integer("schemaVersion")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{root.where}.schemaVersion is {version}; this version of Modelwright reads "
            f"{SCHEMA_VERSION}. Use matching versions of operator, optimizer and runtime."
        )


def _read_tools(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.names()}


def _read_files(fields: Fields) -> dict[str, FileEntry]:
    return {name: FileEntry.read(fields.nested(name)) for name in fields.names()}
