# SPDX-License-Identifier: MIT
"""Base58 with the Bitcoin alphabet, as Solana and Pacifica write keys and signatures."""

from __future__ import annotations

from pacifica_fast import reference
from pacifica_fast._sodium import ffi, lib

__all__ = ["b58decode", "b58encode"]

_C_TEXT_MAX = 128
_C_ENCODES = (32, 64)


def b58encode(data: bytes) -> str:
    """Encode bytes; every leading zero byte becomes a leading ``1``.

    32 and 64 bytes, keys and signatures, take C (about 0.3 µs); other lengths take Python.
    Raises ``TypeError`` for anything but ``bytes``.
    """
    if type(data) is not bytes:
        raise TypeError(f"data: expected bytes, got {type(data).__name__}")
    if len(data) not in _C_ENCODES:
        return reference.b58encode(data)
    out = ffi.new("char[88]")
    return bytes(ffi.buffer(out, lib.pf_b58encode(out, 88, data, len(data)))).decode()


def b58decode(text: str) -> bytes:
    """Decode a string; every leading ``1`` becomes a leading zero byte.

    Raises ``ValueError`` for a character outside the alphabet and ``TypeError`` for
    anything but ``str``.
    """
    if type(text) is not str:
        raise TypeError(f"text: expected str, got {type(text).__name__}")
    if len(text) > _C_TEXT_MAX or not text.isascii():
        return reference.b58decode(text)
    out = ffi.new("char[128]")
    n = lib.pf_b58decode(out, 128, text.encode(), len(text))
    if n < 0:
        return reference.b58decode(text)  # its error names the character's position
    return bytes(ffi.buffer(out, n))
