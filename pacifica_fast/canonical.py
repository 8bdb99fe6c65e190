# SPDX-License-Identifier: MIT
"""Canonical JSON: the bytes that the exchange's official SDK signs."""

from __future__ import annotations

from pacifica_fast._sodium import LONG_INPUT, ffi, lib
from pacifica_fast.errors import InvalidJSON

__all__ = ["canonicalize"]

_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


def canonicalize(json: str | bytes) -> bytes:
    """The canonical form of a JSON text, as ASCII bytes.

    It is what ``json.dumps(value, separators=(",", ":"))`` writes for the value of the
    text once the keys of every object are sorted by code point: compact, non-ASCII and
    DEL escaped as ``\\uxxxx``, integers as they stand.

    Raises :class:`~pacifica_fast.InvalidJSON`, with position and reason, for anything
    that is not JSON (RFC 8259) in UTF-8, and for what cannot be signed safely: duplicate
    keys, numbers with fraction or exponent (pass decimals as strings), integers of more
    than 4300 digits, NaN and Infinity, nesting deeper than 256, a byte order mark.
    ``TypeError`` for anything but ``str`` and ``bytes``.

    Texts of more than 16 KiB are worked on without the GIL.
    """
    surrogates = 0
    if type(json) is bytes:
        text = json
    elif isinstance(json, str):
        try:
            text = str.encode(json)
        except UnicodeEncodeError:
            # Lone surrogates, which Python's json accepts in a str.
            text = str.encode(json, "utf-8", "surrogatepass")
            surrogates = 1
    elif isinstance(json, bytes):
        text = memoryview(json).tobytes()  # bytes() would ask the subclass, and may get it back
    else:
        raise TypeError(f"json: expected str or bytes, got {type(json).__name__}")

    size = len(text)
    position = ffi.new("size_t *")
    if size <= LONG_INPUT:
        cap = lib.pf_canonical_bound(text, size)
        out = _uncleared("char[]", cap)
        n = lib.pf_canonicalize(out, cap, text, size, surrogates, position)
    else:
        cap = lib.pf_canonical_bound_detached(text, size)
        out = _uncleared("char[]", cap)
        n = lib.pf_canonicalize_detached(out, cap, text, size, surrogates, position)
    if n < 0:
        raise _refusal(n, position[0], json, text)
    return bytes(ffi.buffer(out, n))


def _refusal(code: int, offset: int, json: str | bytes, text: bytes) -> Exception:
    if code == lib.PF_ERR_MEMORY:
        return MemoryError("no memory for the canonical form")
    if isinstance(json, str):
        offset = len(text[:offset].decode("utf-8", "surrogatepass"))
    return InvalidJSON(ffi.string(lib.pf_error_text(code)).decode(), offset)
