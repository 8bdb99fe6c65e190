# SPDX-License-Identifier: MIT
"""libsodium's functions, from PyNaCl, for the proof's C code."""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import Any

# The fields of proof_functions in proof.c: those of pf_sodium, and what only the proof needs.
NAMES = (
    "crypto_sign",
    "crypto_sign_seed_keypair",
    "crypto_hash_sha512",
    "randombytes",
    "crypto_core_ed25519_scalar_reduce",
    "crypto_core_ed25519_scalar_mul",
    "crypto_scalarmult_ed25519_base_noclamp",
    "sodium_add",
    "crypto_sign_open",
    "crypto_core_ed25519_scalar_sub",
)


def functions() -> Any:
    """Their addresses, one behind the other."""
    pynacl = import_module("nacl._sodium")
    if pynacl.lib.sodium_init() < 0:
        raise OSError("sodium_init() failed")
    addresses = [int(pynacl.ffi.cast("uintptr_t", pynacl.ffi.addressof(pynacl.lib, name))) for name in NAMES]
    return (ctypes.c_void_p * len(NAMES))(*addresses)
