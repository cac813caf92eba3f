from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright_runtime.errors import InferenceFault, InvalidRequest, TooLarge, Unsupported
from modelwright_runtime.protocol.compression import decompress, is_compressed


@given(st.binary(max_size=200))
def test_decompress_inverts_gzip_and_zlib(body: bytes) -> None:
    assert decompress(gzip.compress(body), b"gzip", 200) == body
    assert decompress(zlib.compress(body), b"deflate", 200) == body


def test_a_bomb_is_refused_at_the_limit() -> None:
    bomb = gzip.compress(bytes(1 << 20))
    assert len(decompress(bomb, b"gzip", 1 << 20)) == 1 << 20
    with pytest.raises(TooLarge):
        decompress(bomb, b"gzip", (1 << 20) - 1)


@pytest.mark.parametrize(
    "body",
    [b"", b"plain", gzip.compress(b"abc")[:-1], gzip.compress(b"abc") + b"more"],
    ids=["nothing", "plain text", "cut", "trailing bytes"],
)
def test_what_is_no_whole_stream_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decompress(body, b"gzip", 100)


def test_raw_deflate_and_unknown_encodings_are_refused() -> None:
    raw = zlib.compress(b"abc")[2:-4]
    with pytest.raises(InvalidRequest):
        decompress(raw, b"deflate", 100)
    with pytest.raises(Unsupported, match="br"):
        decompress(b"abc", b"br", 100)


@given(st.binary(max_size=100), st.sampled_from([b"gzip", b"deflate"]))
def test_any_bytes_unfold_or_are_refused(body: bytes, encoding: bytes) -> None:
    try:
        plain = decompress(body, encoding, 1000)
    except InferenceFault:
        return
    assert len(plain) <= 1000


def test_identity_is_not_compressed() -> None:
    assert not is_compressed(b"")
    assert not is_compressed(b"identity")
    assert is_compressed(b"gzip")
