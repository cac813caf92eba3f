from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.oci_archive import build_image, digest_of, write_archive

if TYPE_CHECKING:
    from pathlib import Path

FILES = st.dictionaries(st.text("abc", min_size=1, max_size=8), st.binary(max_size=64), max_size=4)


def layer_files(layer: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        found = {}
        for entry in tar.getmembers():
            stream = tar.extractfile(entry)
            assert stream is not None
            found[entry.name] = stream.read()
        return found


@given(files=FILES)
def test_property_equal_files_give_equal_digests_and_come_back(files: dict[str, bytes]) -> None:
    first = build_image(files, architecture="amd64", entrypoint=["/a"])
    second = build_image(files, architecture="amd64", entrypoint=["/a"])

    assert first == second
    assert layer_files(first.layer) == files


def test_manifest_and_config_describe_the_layer() -> None:
    image = build_image({"tool": b"program"}, architecture="arm64", entrypoint=["/tool"])

    manifest, config = json.loads(image.manifest), json.loads(image.config)
    (layer,) = manifest["layers"]
    assert layer["digest"] == digest_of(image.layer)
    assert layer["size"] == len(image.layer)
    assert manifest["config"]["digest"] == digest_of(image.config)
    assert config["rootfs"]["diff_ids"] == [digest_of(gzip.decompress(image.layer))]
    assert (config["architecture"], config["config"]["Entrypoint"]) == ("arm64", ["/tool"])


def test_archive_holds_every_blob_under_its_digest(tmp_path: Path) -> None:
    image = build_image({"tool": b"program"}, architecture="amd64")
    target = tmp_path / "tool.tar"

    write_archive(target, image, reference="localhost/tool:abc")

    with tarfile.open(target) as tar:
        content = {entry.name: tar.extractfile(entry) for entry in tar.getmembers()}
        blobs = {n: s.read() for n, s in content.items() if s is not None}
    index = json.loads(blobs.pop("index.json"))
    (listed,) = index["manifests"]
    assert listed["digest"] == image.digest
    assert listed["annotations"]["io.containerd.image.name"] == "localhost/tool:abc"
    assert json.loads(blobs.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    assert len(blobs) == 3
    for name, blob in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"
