# SPDX-License-Identifier: MIT
"""Base58: see ``csrc/pf_base58.h``. Unlike there, the time that decoding takes depends on the text."""

from __future__ import annotations

from typing import Any

from pacifica_fast import reference
from pacifica_fast._pure.memory import C, Code, coded, ffi, put, taken

__all__ = ["decoded", "pf_b58decode", "pf_b58decode_exact", "pf_b58encode"]

DECODE_MAX = 128  # characters
EXACT_MAX = 88


def decoded(text: bytes) -> bytes:
    """The bytes that ``text`` stands for."""
    try:
        return reference.b58decode(text.decode("latin-1"))
    except ValueError:
        raise Code(C.PF_ERR_BASE58) from None


@coded
def pf_b58encode(out: Any, cap: int, data: Any, size: int) -> int:
    if size not in (32, 64):
        return int(C.PF_ERR_ARGUMENT)
    return put(out, cap, reference.b58encode(taken(data, size)).encode())


@coded
def pf_b58decode(out: Any, cap: int, text: Any, size: int) -> int:
    if size > DECODE_MAX:
        return int(C.PF_ERR_ARGUMENT)
    return put(out, cap, decoded(taken(text, size)))


@coded
def pf_b58decode_exact(out: Any, n: int, text: Any, size: int) -> int:
    if n % 4 or n > 64:
        return int(C.PF_ERR_ARGUMENT)
    ffi.memmove(out, bytes(n), n)
    found = decoded(taken(text, size)) if size <= EXACT_MAX else b""
    if len(found) != n or size > EXACT_MAX:
        return int(C.PF_ERR_BASE58)
    put(out, n, found)
    return 0
