# SPDX-License-Identifier: MIT
"""Bytes in and out of C memory, the constants of the headers, and error codes on their way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from pacifica_fast._declared import ffi

__all__ = ["C", "Code", "coded", "ffi", "put", "taken"]

P = ParamSpec("P")

# Of a library opened this way only the constants are looked at, which are in the declarations.
C: Any = ffi.dlopen("kernel32.dll" if sys.platform == "win32" else None)
"""The constants of the headers, and the names of the functions."""


class Code(Exception):
    """A negative ``PF_ERR_*`` code, where C would return it."""

    def __init__(self, code: int) -> None:
        self.code = code


def coded(function: Callable[P, int]) -> Callable[P, int]:
    """The same function, which returns the code that it raises."""

    @wraps(function)
    def returning(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return function(*args, **kwargs)
        except Code as error:
            return error.code

    return returning


def put(out: Any, cap: int, data: bytes) -> int:
    """Write ``data`` where there is room for ``cap`` bytes. Returns its length."""
    if len(data) > cap:
        raise Code(C.PF_ERR_CAPACITY)
    ffi.memmove(out, data, len(data))
    return len(data)


def taken(pointer: Any, size: int) -> bytes:
    """``size`` bytes of what C is given as ``const char *``: bytes, or memory."""
    if isinstance(pointer, bytes):
        return pointer[:size]
    return bytes(ffi.buffer(ffi.cast("char *", pointer), size)) if size else b""
