# SPDX-License-Identifier: MIT
"""The boundary: our C core, bound to the libsodium that PyNaCl carries.

Nothing else in the package touches cffi's module; everything takes ``ffi`` and ``lib``
from here, and so finds libsodium initialised, bound and tried on a known answer, or an
``ImportError`` that names the PyNaCl found and those supported.

No libsodium is built, linked or shipped by this package. PyNaCl's own extension module
hands out C function pointers; upgrading PyNaCl upgrades the libsodium that signs.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pacifica_fast._interpreter import refuse_subinterpreters

refuse_subinterpreters()  # nothing of cffi before that
COMPILED: bool = True
"""Whether the C core is there; False: it never was, and :mod:`pacifica_fast._pure` stands in for it."""
try:
    from pacifica_fast._native import ffi, lib
except ModuleNotFoundError:
    # Only what was built without C has these. A core that is missing, or does not load, is an error.
    if find_spec("pacifica_fast._declared") is None:
        raise
    from pacifica_fast._pure import WARNING, ffi, lib

    COMPILED = False
    warnings.warn(WARNING, RuntimeWarning, stacklevel=2)

__all__ = ["COMPILED", "LONG_INPUT", "PREPARED_SIGNING_POSSIBLE", "ffi", "lib"]

LONG_INPUT = 16 * 1024
"""Inputs of more bytes than this are worked on without the GIL."""

SUPPORTED = "PyNaCl 1.5 to 1.6"

_UCHARS = "unsigned char *"
_SIZE = "unsigned long long"
_SIGNING = {
    # name: (C type as PyNaCl declares it, which drops libsodium's const; field of pf_sodium)
    "crypto_sign": (f"int(*)({_UCHARS}, {_SIZE} *, {_UCHARS}, {_SIZE}, {_UCHARS})", "crypto_sign"),
    "crypto_sign_seed_keypair": (f"int(*)({_UCHARS}, {_UCHARS}, {_UCHARS})", "crypto_sign_seed_keypair"),
    "crypto_hash_sha512": (f"int(*)({_UCHARS}, {_UCHARS}, {_SIZE})", "crypto_hash_sha512"),
    "randombytes": (f"void(*)({_UCHARS}, {_SIZE})", "randombytes"),
}
# A minimal libsodium has these as null pointers of the right type; PyNaCl says so in two flags.
_PREPARED = {
    "crypto_core_ed25519_scalar_reduce": (f"void(*)({_UCHARS}, {_UCHARS})", "scalar_reduce"),
    "crypto_core_ed25519_scalar_mul": (f"void(*)({_UCHARS}, {_UCHARS}, {_UCHARS})", "scalar_mul"),
    "crypto_scalarmult_ed25519_base_noclamp": (f"int(*)({_UCHARS}, {_UCHARS})", "scalarmult_base_noclamp"),
    "sodium_add": (f"void(*)({_UCHARS}, {_UCHARS}, size_t)", "sodium_add"),
}
_PREPARED_FLAGS = ("PYNACL_HAS_CRYPTO_CORE_ED25519", "PYNACL_HAS_CRYPTO_SCALARMULT_ED25519")


def _refuse(reason: str) -> ImportError:
    # Slow to import, and seldom needed.
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = f"PyNaCl {version('PyNaCl')}"
    except PackageNotFoundError:
        found = "no PyNaCl"
    return ImportError(
        f"pacifica_fast signs with the libsodium inside PyNaCl: {reason} "
        f"(found {found}; supported: {SUPPORTED}; try: pip install -U pynacl)"
    )


def _load_pynacl() -> Any:
    """PyNaCl's extension module, with libsodium initialised."""
    try:
        pynacl = import_module("nacl._sodium")
    except ImportError as error:
        raise _refuse(f"its extension module does not load: {error}") from error
    if not hasattr(pynacl, "lib") or not hasattr(pynacl, "ffi"):
        raise _refuse("its extension module is not a cffi module")
    # Importing the extension alone does not initialise libsodium. -1 is failure, 1 is "already".
    if not hasattr(pynacl.lib, "sodium_init") or pynacl.lib.sodium_init() < 0:
        raise _refuse("sodium_init() failed")
    return pynacl


def _address(pynacl: Any, name: str, c_type: str) -> int:
    """The address of a libsodium function, its C type compared; 0 if it is a null pointer."""
    try:
        pointer = pynacl.ffi.addressof(pynacl.lib, name)
    except AttributeError:
        raise _refuse(f"it has no {name}") from None
    found = pynacl.ffi.typeof(pointer).cname
    if found != c_type:
        raise _refuse(f"its {name} has the type {found}, not {c_type}")
    return int(pynacl.ffi.cast("uintptr_t", pointer))


def _has_prepared_functions(pynacl: Any) -> bool:
    return all(getattr(pynacl.lib, flag, 0) for flag in _PREPARED_FLAGS)


def _table(pynacl: Any) -> Any:
    """A ``pf_sodium`` filled from PyNaCl."""
    table = ffi.new("pf_sodium *")
    functions = dict(_SIGNING)
    if _has_prepared_functions(pynacl):
        functions |= _PREPARED
    for name, (c_type, field) in functions.items():
        address = _address(pynacl, name, c_type)
        if not address:
            raise _refuse(f"its {name} is a null pointer")
        setattr(table, field, ffi.cast(ffi.typeof(getattr(table, field)), address))
    return table


# RFC 8032, section 7.1, TEST 3.
_KNOWN_SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
_KNOWN_PUBKEY = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
_KNOWN_MESSAGE = b"\xaf\x82"
_KNOWN_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def _known_answer() -> None:
    """Sign RFC 8032's third test message through the very path that requests take."""
    key = ffi.new("pf_key *")
    pubkey = ffi.new("char[32]")
    signature = ffi.new("char[64]")
    if lib.pf_key_open_seed(key, pubkey, _KNOWN_SEED) != 0:
        raise _refuse("it makes no key pair")
    lib.pf_key_sign_bytes(signature, 64, key, _KNOWN_MESSAGE, len(_KNOWN_MESSAGE))
    lib.pf_key_end(key)
    if ffi.buffer(pubkey)[:] != _KNOWN_PUBKEY or ffi.buffer(signature)[:] != _KNOWN_SIGNATURE:
        raise _refuse("it does not give the signature that RFC 8032 demands")


def _verified_answer(pynacl: Any) -> None:
    """Sign the same message with a prepared nonce, and have libsodium itself verify it.

    Such a signature is different every time: there is no known one to compare with.
    """
    key, pool = ffi.new("pf_key *"), ffi.new("pf_pool *")
    signed = ffi.new("char[]", 64 + len(_KNOWN_MESSAGE))
    lib.pf_key_open_seed(key, ffi.new("char[32]"), _KNOWN_SEED)
    lib.pf_pool_make(pool, 1, 60_000, key)
    lib.pf_pool_prepare(pool, key)
    lib.pf_key_sign_bytes_prepared(signed, 64, key, pool, _KNOWN_MESSAGE, len(_KNOWN_MESSAGE))
    stats = ffi.new("pf_pool_stats *")
    lib.pf_pool_state(pool, stats)
    lib.pf_pool_end(pool)
    lib.pf_key_end(key)
    signed[64 : 64 + len(_KNOWN_MESSAGE)] = _KNOWN_MESSAGE
    message, size = pynacl.ffi.new("unsigned char[]", len(signed)), pynacl.ffi.new("unsigned long long *")
    opened = pynacl.lib.crypto_sign_open(message, size, bytes(ffi.buffer(signed)), len(signed), _KNOWN_PUBKEY)
    if stats.prepared != 1 or opened != 0:
        raise _refuse("a signature with a prepared nonce does not verify")


def _bind() -> bool:
    """Bind and try the C core, or what stands in for it; True if prepared signing is possible too."""
    if not COMPILED:
        _known_answer()
        return False
    pynacl = _load_pynacl()
    code = lib.pf_bind_sodium(_table(pynacl))
    if code != 0:
        raise _refuse(ffi.string(lib.pf_error_text(code)).decode())
    _known_answer()
    if not _has_prepared_functions(pynacl):
        return False
    _verified_answer(pynacl)
    return True


PREPARED_SIGNING_POSSIBLE: bool = _bind()
