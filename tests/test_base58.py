# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import base58 as peer
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pacifica_fast import b58decode, b58encode, reference
from pacifica_fast._sodium import ffi, lib

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

EDGES = [
    b"",
    bytes(1),
    bytes(32),
    bytes(64),
    b"\xff" * 32,
    b"\xff" * 64,
    bytes(31) + b"\1",
    bytes(63) + b"\1",
    b"\1" + bytes(31),
    b"\1" + bytes(63),
    bytes(16) + b"\xff" * 16,
    bytes(200),
    b"\xff" * 200,
]

# Keys and signatures, and any other length.
payloads = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
    st.binary(max_size=200),
    st.builds(
        lambda zeros, rest: bytes(zeros) + rest[zeros:],
        st.integers(0, 64),
        st.binary(min_size=64, max_size=64),
    ),
)


def agree(data: bytes) -> None:
    text = b58encode(data)
    assert text == peer.b58encode(data).decode() == reference.b58encode(data)
    assert b58decode(text) == peer.b58decode(text) == reference.b58decode(text) == data


@pytest.mark.parametrize("data", EDGES)
def test_edges(data: bytes) -> None:
    agree(data)


@given(payloads)
def test_both_ways_agree_with_others(data: bytes) -> None:
    agree(data)


@given(st.text(ALPHABET, max_size=200))
@example("1" * 128)
@example("z" * 128)
@example("z" * 129)
@example("1" * 129)
def test_decode_agrees_with_others(text: str) -> None:
    assert b58decode(text) == peer.b58decode(text) == reference.b58decode(text)
    assert b58encode(b58decode(text)) == text


@given(st.text(ALPHABET, max_size=75), st.characters().filter(lambda c: c not in ALPHABET), st.text(ALPHABET))
@example("1" * 44, "0", "")
@example("abc", "\0", "def")
@example("", "\ud800", "abc")
@example("abc", "ä", "def")
def test_character_outside_the_alphabet(head: str, character: str, tail: str) -> None:
    bad, at = head + character + tail, len(head)
    with pytest.raises(ValueError, match=rf"position {at}\b") as caught:
        b58decode(bad)
    assert len(bad) < 4 or bad not in str(caught.value)  # it may be a key


@pytest.mark.parametrize("text", [" ", "1 ", " 1", "1\n", "0", "O", "I", "l", "\0"])
def test_nothing_is_stripped(text: str) -> None:
    with pytest.raises(ValueError, match="not a base58 character"):
        b58decode(text)


@pytest.mark.parametrize("value", [bytearray(32), memoryview(bytes(32)), "text", None, 7, [1, 2]])
def test_encode_takes_bytes(value: Any) -> None:
    with pytest.raises(TypeError, match=f"data: expected bytes, got {type(value).__name__}"):
        b58encode(value)


@pytest.mark.parametrize("value", [b"11", bytearray(b"11"), None, 7, ["1"]])
def test_decode_takes_str(value: Any) -> None:
    with pytest.raises(TypeError, match=f"text: expected str, got {type(value).__name__}"):
        b58decode(value)


# The decoder for secrets.


def decode_exact(text: bytes, size: int) -> bytes | None:
    out = ffi.new("char[]", b"\xaa" * size + b"!")
    code = lib.pf_b58decode_exact(out, size, text, len(text))
    raw = bytes(ffi.buffer(out))
    assert raw[size : size + 1] == b"!"
    if code == 0:
        return raw[:size]
    assert code == lib.PF_ERR_BASE58
    assert raw[:size] in (bytes(size), b"\xaa" * size)  # nothing of a refused secret is left
    return None


@given(st.sampled_from([32, 64]), st.text(ALPHABET, max_size=88))
@example(32, "1" * 32)
@example(64, "1" * 64)
@example(32, "1" * 31)
@example(32, "1" * 33)
@example(32, "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG")
@example(32, "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFH")  # 2^256
def test_exact_accepts_what_has_that_length(size: int, text: str) -> None:
    data = reference.b58decode(text)
    assert decode_exact(text.encode(), size) == (data if len(data) == size else None)


@given(st.sampled_from([32, 64]), st.binary(max_size=100))
def test_exact_takes_any_bytes(size: int, text: bytes) -> None:
    decode_exact(text, size)


@given(st.binary(min_size=32, max_size=32) | st.binary(min_size=64, max_size=64))
def test_exact_accepts_what_encode_writes(data: bytes) -> None:
    text = b58encode(data).encode()
    assert decode_exact(text, len(data)) == data
    assert decode_exact(b"1" + text, len(data)) is None
    assert decode_exact(text, 96 - len(data)) is None
