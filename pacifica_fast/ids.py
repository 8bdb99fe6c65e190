# SPDX-License-Identifier: MIT
"""Request ids: version 4 UUIDs that no request of this process has had.

74 random bits, drawn once per process and again in a forked child, then a number that
counts up from a random start; see ``pf_random.h``. C writes the id into the request; Python needs its text to
find the reply's request.
"""

from __future__ import annotations

from pacifica_fast._sodium import ffi, lib

__all__ = ["reserve", "text_of"]

ID_LENGTH = 36


def reserve(count: int) -> range:
    """Reserve ``count`` request numbers for the caller alone."""
    first = lib.pf_id_take(count)
    if first < 0:
        raise RuntimeError(f"no request ids: {ffi.string(lib.pf_error_text(first)).decode()}")
    return range(first, first + count)


def text_of(number: int) -> str:
    """The UUID of a reserved number, 36 characters."""
    out = ffi.new("char[36]")
    code = lib.pf_id_text(out, ID_LENGTH, number)
    if code < 0:
        raise RuntimeError(f"request number {number}: {ffi.string(lib.pf_error_text(code)).decode()}")
    return bytes(ffi.buffer(out)).decode()
