# SPDX-License-Identifier: MIT
"""Keys and what they sign: see ``csrc/pf_signer.h``. Pools of nonces are empty, and count."""

from __future__ import annotations

import os
import secrets
import threading
from itertools import count
from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from pacifica_fast import reference
from pacifica_fast._pure.memory import C, Code, coded, ffi, put, taken

__all__ = [
    "pair_sign",
    "pf_key_end",
    "pf_key_generate",
    "pf_key_open_seed",
    "pf_key_sign_bytes",
    "pf_key_sign_bytes_prepared",
    "pf_pool_end",
    "pf_pool_make",
    "pf_pool_prepare",
    "pf_pool_refill_detached",
    "pf_pool_state",
    "pf_sign_many",
    "sign",
]

SEED_SIZE = 32
PAIR_SIZE = 64
SIGNATURE_SIZE = 64

_generations = count(1)


class _Key:
    """The pair in memory that is wiped, and the lock that closing waits for."""

    def __init__(self, seed: bytes) -> None:
        public, pair = crypto_sign_seed_keypair(seed)
        self.public, self.pair, self.lock = public, bytearray(pair), threading.Lock()
        self.pid = os.getpid()

    def sign(self, message: bytes) -> bytes:
        if os.getpid() != self.pid:  # C forked, and Python's handlers did not run
            self.wipe()
            raise Code(C.PF_ERR_FORKED)
        with self.lock:
            if not any(self.pair):  # closed since it was looked up
                raise Code(C.PF_ERR_CLOSED)
            return crypto_sign(message, bytes(self.pair))[:SIGNATURE_SIZE]

    def wipe(self) -> None:
        self.pair[:] = bytes(PAIR_SIZE)


class _Pool:
    """A pool that has no nonce."""

    def __init__(self) -> None:
        self.deterministic = 0


_keys: dict[int, _Key] = {}
_pools: dict[int, _Pool] = {}


def _forget() -> None:
    """Nothing crosses a fork."""
    for key in _keys.values():
        key.wipe()
    _keys.clear()
    _pools.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)


def sign(key: int, message: bytes, pool: int = 0) -> bytes:
    """The signature by the key of that generation; the pool of that generation counts it."""
    found = _keys.get(key)
    if found is None:
        raise Code(C.PF_ERR_CLOSED)
    signature = found.sign(message)
    if counter := _pools.get(pool):
        counter.deterministic += 1
    return signature


def pair_sign(pair: bytes, message: bytes) -> bytes:
    """The signature by 64 secret bytes whose public half is held against the seed."""
    public, derived = crypto_sign_seed_keypair(pair[:SEED_SIZE])
    if public != pair[SEED_SIZE:]:
        raise Code(C.PF_ERR_MISMATCH)
    return crypto_sign(message, derived)[:SIGNATURE_SIZE]


def _open(key: Any, pubkey: Any, seed: bytes) -> int:
    opened = _Key(seed)
    key.generation = next(_generations)
    _keys[key.generation] = opened
    put(pubkey, SEED_SIZE, opened.public)
    return 0


def pf_key_open_seed(key: Any, pubkey: Any, seed: Any) -> int:
    if seed == ffi.NULL:
        return int(C.PF_ERR_ARGUMENT)
    return _open(key, pubkey, taken(seed, SEED_SIZE))


def pf_key_generate(key: Any, pubkey: Any) -> int:
    return _open(key, pubkey, secrets.token_bytes(SEED_SIZE))


def pf_key_end(key: Any) -> int:
    closed = _keys.pop(key.generation, None)
    if closed is None:
        return int(C.PF_ERR_CLOSED)
    with closed.lock:
        closed.wipe()
    return 0


@coded
def pf_key_sign_bytes_prepared(out: Any, cap: int, key: Any, pool: Any, message: Any, size: int) -> int:
    if cap < SIGNATURE_SIZE:
        return int(C.PF_ERR_CAPACITY)
    return put(out, cap, sign(key.generation, taken(message, size), pool.generation if pool else 0))


def pf_key_sign_bytes(out: Any, cap: int, key: Any, message: Any, size: int) -> int:
    return pf_key_sign_bytes_prepared(out, cap, key, None, message, size)


def pf_sign_many(out: Any, key: Any, messages: Any, sizes: Any, count: int, error: Any) -> int:
    error[0] = 0
    each = C.PF_SIGNATURE_TEXT_SZ
    for index in range(count):
        try:
            signature = sign(key.generation, taken(messages[index], sizes[index]))
        except Code as refused:
            error[0] = refused.code
            return index
        text = reference.b58encode(signature).encode()
        put(out + index * each, each, text.ljust(each - 1, b"\0") + bytes([len(text)]))
    return count


def pf_pool_make(pool: Any, size: int, max_age: int, key: Any) -> int:
    if not 1 <= size <= C.PF_NONCES_MAX or max_age < 1:
        return int(C.PF_ERR_ARGUMENT)
    pool.generation = next(_generations)
    _pools[pool.generation] = _Pool()
    return 0


def pf_pool_prepare(pool: Any, key: Any) -> int:
    return int(C.PF_ERR_NO_NONCE)


def pf_pool_refill_detached(pool: Any, key: Any) -> int:
    return 0


def pf_pool_state(pool: Any, stats: Any) -> int:
    counter = _pools.get(pool.generation)
    if counter is None:
        return int(C.PF_ERR_CLOSED)
    stats.prepared = stats.refilled = stats.burnt = stats.ready = 0
    stats.deterministic = counter.deterministic
    return 0


def pf_pool_end(pool: Any) -> int:
    return 0 if _pools.pop(pool.generation, None) else int(C.PF_ERR_CLOSED)
