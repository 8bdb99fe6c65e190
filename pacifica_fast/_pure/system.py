# SPDX-License-Identifier: MIT
"""The rest of ``csrc/pf_api.h``: errors in words, wiping, and bytes to the kernel."""

from __future__ import annotations

import errno
import socket
from typing import Any

from pacifica_fast._pure.memory import C, ffi, taken

__all__ = ["TEXTS", "pf_bind_sodium", "pf_error_text", "pf_pages_state", "pf_send", "pf_wipe_bytes"]

TEXTS = {
    "CAPACITY": "output buffer too small",
    "ARGUMENT": "argument out of range",
    "MEMORY": "out of memory",
    "UNBOUND": "libsodium is not bound",
    "SODIUM": "libsodium refused",
    "CLOSED": "key is closed",
    "MISMATCH": "public key does not belong to the private key",
    "CLOCK": "wall clock not readable",
    "BASE58": "not base58 of the expected length",
    "FORKED": "request id belongs to another process",
    "SPENT": "no such armed cancel, or spent",
    "STALE": "armed cancel is too old",
    "NO_NONCE": "no prepared nonce is ready",
    "JSON_END": "text ends inside a value",
    "JSON_VALUE": "expected a value",
    "JSON_KEY": "expected a string as key",
    "JSON_COLON": "expected ':' after the key",
    "JSON_COMMA": "expected ',' or the closing bracket",
    "JSON_CONTROL": "control character in a string",
    "JSON_ESCAPE": "invalid escape",
    "JSON_UTF8": "invalid UTF-8",
    "JSON_BOM": "byte order mark",
    "JSON_TRAILING": "something after the value",
    "JSON_DUPLICATE": "duplicate key",
    "JSON_NUMBER": "malformed number",
    "JSON_FRACTION": "number with fraction or exponent (pass decimals as strings)",
    "JSON_DIGITS": "integer of more than 4300 digits",
    "JSON_NAN": "NaN or Infinity",
    "JSON_DEPTH": "nested deeper than 256",
    "JSON_LENGTH": "text of 4 GiB or more",
    "JSON_OBJECT": "expected an object",
}
_BY_CODE = {getattr(C, f"PF_ERR_{name}"): ffi.new("char[]", text.encode()) for name, text in TEXTS.items()}
_UNKNOWN = ffi.new("char[]", b"unknown error")

# Where the system has them: a socket that does not block, and no SIGPIPE.
_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def pf_bind_sodium(_: Any) -> int:
    """PyNaCl's functions are called by name."""
    return 0


def pf_error_text(code: int) -> Any:
    return _BY_CODE.get(code, _UNKNOWN)


def pf_pages_state(mapped: Any, unlocked: Any) -> None:
    mapped[0] = unlocked[0] = 0


def pf_wipe_bytes(data: Any, size: int) -> None:
    ffi.memmove(data, bytes(size), size)


def pf_send(descriptor: Any, data: Any, size: int) -> int:
    try:
        borrowed = socket.socket(fileno=descriptor[0])
    except (OSError, ValueError) as error:
        return -(getattr(error, "errno", None) or errno.EBADF)
    try:
        return borrowed.send(taken(data, size), _FLAGS)
    except BlockingIOError:
        return 0
    except OSError as error:
        return -(error.errno or errno.EIO)
    finally:
        borrowed.detach()
