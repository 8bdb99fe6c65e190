# SPDX-License-Identifier: MIT
"""Pools of prepared nonces: the slow part of signatures, made ahead of time in the background.

What a pool promises, and why, is in ``csrc/pf_nonce.h``; what it defends against in
``docs/security.md``. Here is only who keeps it full: one thread, whose one act is a call
into C that gives the GIL up and comes back when the pool or its key is closed.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, NamedTuple

from pacifica_fast._sodium import COMPILED, PREPARED_SIGNING_POSSIBLE, ffi, lib
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.keys import Keypair

__all__ = ["NONCES_MAX", "NoncePool", "Stats"]

NONCES_MAX: int = lib.PF_NONCES_MAX
"""Nonces of one pool at most; each takes 192 bytes of locked memory."""


class Stats(NamedTuple):
    """What a pool has done since it was made. Counts, all of them."""

    prepared: int = 0
    """Signatures made with a prepared nonce."""
    deterministic: int = 0
    """Signatures made without (RFC 8032), because no nonce was ready."""
    refilled: int = 0
    """Nonces made in the background."""
    burnt: int = 0
    """Nonces thrown away unused: too old, or made before the clocks were set."""
    ready: int = 0
    """Nonces to use now."""
    unlocked_pages: int = 0
    """Private mappings of this process that could not be locked in RAM (``ulimit -l``)."""


class NoncePool:
    """``size`` nonces for one key, kept ready until :meth:`close`.

    ``max_age`` is in ms: older ones are thrown away. In a forked child it is empty for
    good, as the key is. Raises :class:`InvalidRequest` if PyNaCl's libsodium is a minimal
    one, and ``MemoryError``.
    """

    __slots__ = ("__weakref__", "_end", "_final", "handle")

    def __init__(self, keypair: Keypair, size: int, max_age: int) -> None:
        if COMPILED and not PREPARED_SIGNING_POSSIBLE:  # without C the pool stays empty, and counts
            raise InvalidRequest("prepared: PyNaCl's libsodium is a minimal build and cannot prepare nonces")
        self.handle: Any = ffi.new("pf_pool *")
        self._final = Stats()
        code = lib.pf_pool_make(self.handle, size, max_age, keypair._key)
        if code != 0:
            raise MemoryError(f"no room for {size} nonces: {ffi.string(lib.pf_error_text(code)).decode()}")
        # Neither the thread nor the finalizer may keep the pool's owner alive.
        thread = threading.Thread(
            target=lib.pf_pool_refill_detached,
            args=(self.handle, keypair._key),
            name="pacifica_fast nonces",
            daemon=True,
        )
        self._end = weakref.finalize(self, _end, self.handle, thread, os.getpid())
        thread.start()

    def stats(self) -> Stats:
        """The counts now, or as they were at the end."""
        counts = ffi.new("pf_pool_stats *")
        if lib.pf_pool_state(self.handle, counts) != 0:
            return self._final
        mapped, unlocked = ffi.new("size_t *"), ffi.new("size_t *")
        lib.pf_pages_state(mapped, unlocked)
        return Stats(
            counts.prepared, counts.deterministic, counts.refilled, counts.burnt, counts.ready, unlocked[0]
        )

    def close(self) -> None:
        """Wait for calls in flight, wipe all nonces, and end the thread: within 10 ms. Idempotent."""
        if self._end.alive:
            self._final = self.stats()._replace(ready=0)
            self._end()


def _end(handle: Any, thread: threading.Thread, pid: int) -> None:
    lib.pf_pool_end_detached(handle)
    # A process forked by C code takes its parent's threads for its own, and would wait for ever.
    if os.getpid() == pid and thread is not threading.current_thread() and thread.ident is not None:
        thread.join()
