# SPDX-License-Identifier: MIT
"""Binding to PyNaCl's libsodium: each thing that can be wrong with it is an ImportError that says so."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import nacl
import pytest

from pacifica_fast import Keypair, _sodium
from pacifica_fast._sodium import ffi, lib

pytestmark = pytest.mark.core

pynacl: Any = importlib.import_module("nacl._sodium")

TYPES = {name: c_type for name, (c_type, _) in (_sodium._SIGNING | _sodium._PREPARED).items()}


class FakeLib:
    """PyNaCl's ``lib``: the real one, but for what a test changes."""

    def __init__(self, **changes: Any) -> None:
        self._real = pynacl.lib
        self.changes = changes

    def __getattr__(self, name: str) -> Any:
        if name in self.changes:
            value = self.changes[name]
            if value is AttributeError:
                raise AttributeError(name)
            return value
        return getattr(self._real, name)


class FakeFFI:
    """PyNaCl's ``ffi``, whose functions can be missing, null or of another type."""

    def __init__(self, **changes: Any) -> None:
        self._real = pynacl.ffi
        self._lib = pynacl.lib
        self.changes = changes

    def addressof(self, _lib: Any, name: str) -> Any:
        change = self.changes.get(name, self)
        if change is AttributeError:
            raise AttributeError(name)
        if change is self:
            return self._real.addressof(self._lib, name)
        return change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def fake_pynacl(lib_changes: dict[str, Any] | None = None, **functions: Any) -> ModuleType:
    return cast(ModuleType, SimpleNamespace(lib=FakeLib(**(lib_changes or {})), ffi=FakeFFI(**functions)))


def null(name: str) -> Any:
    return pynacl.ffi.cast(TYPES[name], 0)


def check_message(message: str) -> None:
    """Every refusal names the PyNaCl found and those supported."""
    assert f"found PyNaCl {version('PyNaCl')}" in message
    assert "supported: PyNaCl 1.5 to 1.6" in message
    assert "pip install -U pynacl" in message


def refuse_table(module: ModuleType) -> str:
    with pytest.raises(ImportError) as caught:
        _sodium._table(module)
    check_message(str(caught.value))
    return str(caught.value)


# What is imported.


@pytest.fixture
def replaced_extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts something in the place of ``nacl._sodium``."""

    def replace(module: Any) -> None:
        monkeypatch.setitem(sys.modules, "nacl._sodium", module)
        if module is None:
            monkeypatch.delattr(nacl, "_sodium", raising=False)
        else:
            monkeypatch.setattr(nacl, "_sodium", module, raising=False)

    return replace


def test_no_extension_module(replaced_extension: Any) -> None:
    replaced_extension(None)
    with pytest.raises(ImportError, match="extension module does not load") as caught:
        _sodium._load_pynacl()
    check_message(str(caught.value))
    assert isinstance(caught.value.__cause__, ImportError)


def test_no_pynacl_at_all(replaced_extension: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", not_found)
    replaced_extension(None)
    with pytest.raises(ImportError, match=r"found no PyNaCl; supported: PyNaCl 1\.5 to 1\.6"):
        _sodium._load_pynacl()


@pytest.mark.parametrize("present", ["lib", "ffi", ""])
def test_extension_of_another_make(replaced_extension: Any, present: str) -> None:
    module = SimpleNamespace(**({present: object()} if present else {}))
    replaced_extension(module)
    with pytest.raises(ImportError, match="not a cffi module") as caught:
        _sodium._load_pynacl()
    check_message(str(caught.value))


def test_sodium_init_fails(replaced_extension: Any) -> None:
    replaced_extension(fake_pynacl({"sodium_init": lambda: -1}))
    with pytest.raises(ImportError, match=r"sodium_init\(\) failed") as caught:
        _sodium._load_pynacl()
    check_message(str(caught.value))


def test_sodium_init_missing(replaced_extension: Any) -> None:
    replaced_extension(fake_pynacl({"sodium_init": AttributeError}))
    with pytest.raises(ImportError, match=r"sodium_init\(\) failed") as caught:
        _sodium._load_pynacl()
    check_message(str(caught.value))


@pytest.mark.parametrize("answer", [0, 1])
def test_sodium_init_succeeds(replaced_extension: Any, answer: int) -> None:
    called: list[int] = []

    def init() -> int:
        called.append(answer)
        return answer

    module = fake_pynacl({"sodium_init": init})
    replaced_extension(module)
    assert _sodium._load_pynacl() is module
    assert called == [answer]


# The functions.


@pytest.mark.parametrize("name", TYPES)
def test_function_missing(name: str) -> None:
    assert f"it has no {name} (" in refuse_table(fake_pynacl(None, **{name: AttributeError}))


@pytest.mark.parametrize("name", TYPES)
def test_function_null(name: str) -> None:
    assert f"its {name} is a null pointer" in refuse_table(fake_pynacl(None, **{name: null(name)}))


@pytest.mark.parametrize("name", TYPES)
def test_function_of_another_type(name: str) -> None:
    other = pynacl.ffi.cast("int(*)(int)", 1)
    message = refuse_table(fake_pynacl(None, **{name: other}))
    assert f"its {name} has the type int(*)(int), not {TYPES[name]}" in message


def test_types_are_compared_before_null() -> None:
    other = pynacl.ffi.cast("int(*)(int)", 0)
    assert "has the type" in refuse_table(fake_pynacl(crypto_sign=other))


def test_table_is_filled_with_the_addresses_of_pynacl() -> None:
    table = _sodium._table(fake_pynacl())
    for name, (_, field) in (_sodium._SIGNING | _sodium._PREPARED).items():
        address = int(pynacl.ffi.cast("uintptr_t", pynacl.ffi.addressof(pynacl.lib, name)))
        assert int(ffi.cast("uintptr_t", getattr(table, field))) == address != 0, name


# Minimal builds.

MINIMAL: dict[str, dict[str, Any]] = {
    "no scalars": {"PYNACL_HAS_CRYPTO_CORE_ED25519": 0},
    "no multiplication": {"PYNACL_HAS_CRYPTO_SCALARMULT_ED25519": 0},
    "neither": {"PYNACL_HAS_CRYPTO_CORE_ED25519": 0, "PYNACL_HAS_CRYPTO_SCALARMULT_ED25519": 0},
    "flags unknown": {
        "PYNACL_HAS_CRYPTO_CORE_ED25519": AttributeError,
        "PYNACL_HAS_CRYPTO_SCALARMULT_ED25519": AttributeError,
    },
}


@pytest.mark.parametrize("flags", MINIMAL.values(), ids=MINIMAL)
def test_minimal_build_binds_without_prepared_signing(flags: dict[str, Any]) -> None:
    # The pointers of the right type are null, as in a real minimal build.
    module = fake_pynacl(flags, **{name: null(name) for name in _sodium._PREPARED})
    assert not _sodium._has_prepared_functions(module)
    table = _sodium._table(module)
    for _, field in _sodium._SIGNING.values():
        assert getattr(table, field) != ffi.NULL
    for _, field in _sodium._PREPARED.values():
        assert getattr(table, field) == ffi.NULL


def test_this_build_has_prepared_signing() -> None:
    assert _sodium._has_prepared_functions(fake_pynacl())
    assert _sodium.PREPARED_SIGNING_POSSIBLE is True


RUN_MINIMAL = """
import nacl._sodium as real, nacl, sys
from types import SimpleNamespace
class Lib:
    PYNACL_HAS_CRYPTO_CORE_ED25519 = 0
    def __getattr__(self, name):
        return getattr(real.lib, name)
class FFI:
    def addressof(self, lib, name):
        if "ed25519_scalar" in name or "noclamp" in name or name == "sodium_add":
            raise AssertionError(name)
        return real.ffi.addressof(real.lib, name)
    def __getattr__(self, name):
        return getattr(real.ffi, name)
fake = SimpleNamespace(lib=Lib(), ffi=FFI())
sys.modules["nacl._sodium"] = fake
nacl._sodium = fake
from pacifica_fast import _sodium, Keypair, Signer
assert _sodium.PREPARED_SIGNING_POSSIBLE is False
with Keypair.from_seed(bytes(range(32))) as keypair:
    signature = keypair.sign_message(b"m")
    Signer(keypair).cancel_order("BTC", order_id=1)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
assert signature == Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(b"m")
"""


def test_minimal_build_signs() -> None:
    subprocess.run([sys.executable, "-c", RUN_MINIMAL], check=True, timeout=60)


# Binding and the known answer.


def test_known_answer_is_right() -> None:
    _sodium._known_answer()


@pytest.mark.parametrize("name", ["_KNOWN_PUBKEY", "_KNOWN_SIGNATURE", "_KNOWN_MESSAGE", "_KNOWN_SEED"])
def test_known_answer_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    right: bytes = getattr(_sodium, name)
    monkeypatch.setattr(_sodium, name, right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(ImportError, match="does not give the signature that RFC 8032 demands") as caught:
        _sodium._known_answer()
    check_message(str(caught.value))


class FakeNative:
    """Our own ``lib``, but for what a test changes."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __getattr__(self, name: str) -> Any:
        return self.changes.get(name) or getattr(lib, name)


def test_no_key_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sodium, "lib", FakeNative(pf_key_open_seed=lambda *_: lib.PF_ERR_SODIUM))
    with pytest.raises(ImportError, match="it makes no key pair") as caught:
        _sodium._known_answer()
    check_message(str(caught.value))


def test_signing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sodium, "lib", FakeNative(pf_key_sign_bytes=lambda *_: lib.PF_ERR_SODIUM))
    with pytest.raises(ImportError, match="RFC 8032"):
        _sodium._known_answer()


def test_binding_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sodium, "lib", FakeNative(pf_bind_sodium=lambda _: lib.PF_ERR_MEMORY))
    with pytest.raises(ImportError, match="out of memory") as caught:
        _sodium._bind()
    check_message(str(caught.value))


def test_c_refuses_an_incomplete_table() -> None:
    for _, field in _sodium._SIGNING.values():
        table = _sodium._table(fake_pynacl())
        setattr(table, field, ffi.NULL)
        assert lib.pf_bind_sodium(table) == lib.PF_ERR_ARGUMENT
    assert lib.pf_bind_sodium(ffi.NULL) == lib.PF_ERR_ARGUMENT
    _sodium._known_answer()  # what was bound before is still bound


def test_binding_again_is_harmless() -> None:
    with Keypair.generate() as keypair:
        before = keypair.sign_message(b"m")
        assert _sodium._bind() is True
        assert keypair.sign_message(b"m") == before


RUN_BROKEN = """
import nacl._sodium as real, nacl, sys
from types import SimpleNamespace
class FFI:
    def addressof(self, lib, name):
        if name == "crypto_sign":
            raise AttributeError(name)
        return real.ffi.addressof(real.lib, name)
    def __getattr__(self, name):
        return getattr(real.ffi, name)
fake = SimpleNamespace(lib=real.lib, ffi=FFI())
sys.modules["nacl._sodium"] = fake
nacl._sodium = fake
try:
    import pacifica_fast
except ImportError as error:
    print(error)
else:
    raise AssertionError("imported")
"""


def test_the_package_does_not_import_without_a_function() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_BROKEN], check=True, timeout=60, capture_output=True, text=True
    )
    assert "it has no crypto_sign (" in done.stdout
    check_message(done.stdout)


def test_keys_signed_before_a_failed_binding_still_sign() -> None:
    with Keypair.generate() as keypair:
        before = keypair.sign_message(b"m")
        with pytest.raises(ImportError):
            _sodium._table(fake_pynacl(crypto_sign=AttributeError))
        assert keypair.sign_message(b"m") == before
