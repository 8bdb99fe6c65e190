# SPDX-License-Identifier: MIT
"""base58 of the reference, and that it stands alone.

What it shares with the fast path, the contract of the drop-in, is in ``test_sdk.py``,
which runs every test against both.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import reference

FOX = "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z"
KNOWN = [
    (b"", ""),
    (b"\0", "1"),
    (b"\0\0\1", "112"),
    (b"\x39", "z"),
    (b"\x3a", "21"),
    (b"\xff", "5Q"),
    (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
    (
        b"The quick brown fox jumps over the lazy dog.",
        "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
    ),
    (bytes.fromhex("0000287fb4cd"), "11233QC4"),
    (bytes(32), "1" * 32),
    (bytes(64), "1" * 64),
    (b"\xff" * 32, "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG"),
]


@pytest.mark.parametrize(("raw", "text"), KNOWN)
def test_known_base58(raw: bytes, text: str) -> None:
    assert reference.b58encode(raw) == text
    assert reference.b58decode(text) == raw


@given(st.binary(max_size=200), st.integers(0, 5))
def test_base58_makes_the_round_trip(raw: bytes, zeros: int) -> None:
    raw = bytes(zeros) + raw
    assert reference.b58decode(reference.b58encode(raw)) == raw


@given(st.binary(max_size=200))
def test_base58_is_that_of_the_base58_package(raw: bytes) -> None:
    base58 = pytest.importorskip("base58")
    assert reference.b58encode(raw) == base58.b58encode(raw).decode()


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0", 0),
        ("1O", 1),
        ("111I", 3),
        ("2l", 1),
        (" 2", 0),
        ("2\n", 1),
        ("z" * 25 + "\u0661", 25),
        ("\u00b2", 0),
    ],
)
def test_what_is_not_base58(text: str, position: int) -> None:
    with pytest.raises(ValueError, match=rf"^not a base58 character \(position {position}\)$"):
        reference.b58decode(text)


def test_a_million_zero_bytes_take_no_time() -> None:
    start = time.perf_counter()
    text = reference.b58encode(bytes(1_000_000))
    assert text == "1" * 1_000_000
    assert reference.b58decode(text) == bytes(1_000_000)
    assert time.perf_counter() - start < 1


def test_it_imports_neither_the_c_core_nor_solders() -> None:
    """Loaded from its file, so that the package's ``__init__`` has no part in it."""
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("reference", {reference.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
third_party = [name for name in sys.modules if name.split(".")[0] in
               ("pacifica_fast", "solders", "nacl", "_cffi_backend", "orjson", "base58")]
assert not third_party, third_party
"""
    subprocess.run([sys.executable, "-S", "-c", program], check=True)
