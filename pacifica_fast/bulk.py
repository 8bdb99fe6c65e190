# SPDX-License-Identifier: MIT
"""Signing many messages at once, on as many cores as are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pacifica_fast._sodium import ffi, lib
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.keys import Keypair

__all__ = ["sign_many"]

CHUNK = 64
"""Messages signed in one call without the GIL, 2 ms of work: so long Ctrl-C may have to wait."""

THREADS_MAX = 256

_TEXT_SIZE: int = lib.PF_SIGNATURE_TEXT_SZ


def sign_many(keypair: Keypair, messages: Sequence[bytes], threads: int) -> list[str]:
    """The signatures of ``messages`` in base58, in their order; see :meth:`Signer.sign_many`."""
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InvalidRequest(f"messages: expected a sequence of bytes, got {type(messages).__name__}")
    if type(threads) is not int or not 1 <= threads <= THREADS_MAX:
        raise InvalidRequest(f"threads: expected 1 to {THREADS_MAX}")
    messages = list(messages)  # nobody else may change it while threads work on it
    for index, message in enumerate(messages):
        if type(message) is not bytes:  # a bytearray could change while it is signed
            raise InvalidRequest(f"messages[{index}]: expected bytes, got {type(message).__name__}")
    return _Work(keypair, messages).run(threads)


class _Work:
    """Messages in chunks, which threads take one after the other until none is left."""

    def __init__(self, keypair: Keypair, messages: list[bytes]) -> None:
        self._keypair = keypair
        self._messages = messages
        self._signatures: list[str] = [""] * len(messages)
        self._starts: Iterator[int] = iter(range(0, len(messages), CHUNK))
        self._errors: list[int] = []

    def run(self, threads: int) -> list[str]:
        chunks = -(-len(self._messages) // CHUNK)
        helpers = [
            threading.Thread(target=self._take_chunks, name="pacifica_fast sign_many", daemon=True)
            for _ in range(min(threads, chunks) - 1)
        ]
        try:
            for helper in helpers:
                helper.start()
            self._take_chunks()
        finally:  # on an error, or Ctrl-C, there is nothing more to take
            self._starts = iter(())
            for helper in helpers:
                if helper.ident is not None:
                    helper.join()
        if self._errors:
            self._keypair._fail(self._errors[0])
        return self._signatures

    def _take_chunks(self) -> None:
        while not self._errors and (start := next(self._starts, None)) is not None:
            code = self._sign(start, self._messages[start : start + CHUNK])
            if code != 0:
                self._errors.append(code)

    def _sign(self, start: int, chunk: list[bytes]) -> int:
        out = ffi.new("char[]", len(chunk) * _TEXT_SIZE)
        error = ffi.new("int *")
        # The buffers keep their messages alive; the array of pointers does not.
        buffers: list[Any] = [ffi.from_buffer(message) for message in chunk]
        pointers = ffi.new("char *[]", buffers)
        sizes = ffi.new("size_t[]", [len(message) for message in chunk])
        lib.pf_sign_many_detached(out, self._keypair._key, pointers, sizes, len(chunk), error)
        if error[0] == 0:
            text = ffi.buffer(out)[:]
            self._signatures[start : start + len(chunk)] = [
                text[at : at + text[at + _TEXT_SIZE - 1]].decode() for at in range(0, len(text), _TEXT_SIZE)
            ]
        return int(error[0])
