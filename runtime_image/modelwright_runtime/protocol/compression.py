"""Request bodies under `Content-Encoding`, with a bound on what they may unfold to. Pure."""

from __future__ import annotations

import zlib

from modelwright_runtime.errors import InvalidRequest, TooLarge, Unsupported

_WINDOW_BITS = {
    b"gzip": 16 + zlib.MAX_WBITS,
    b"x-gzip": 16 + zlib.MAX_WBITS,
    b"deflate": zlib.MAX_WBITS,  # which means the zlib format
}


def is_compressed(encoding: bytes) -> bool:
    """Whether that `Content-Encoding` changes the body."""
    return encoding not in (b"", b"identity")


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The plain body.

    Raises:
        Unsupported: another encoding than gzip and deflate.
        TooLarge: it unfolds to more than `limit` bytes.
        InvalidRequest: it is not what its encoding says, or is cut short.
    """
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        name = encoding[:40].decode("latin-1")
        raise Unsupported(f"Content-Encoding '{name}' is not supported, use gzip or deflate")
    decompressor = zlib.decompressobj(window_bits)
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not valid {encoding.decode()}: {error}") from None
    if len(plain) > limit:
        raise TooLarge(f"the body unfolds to more than {limit} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidRequest(f"the body is not one whole {encoding.decode()} stream")
    return plain
