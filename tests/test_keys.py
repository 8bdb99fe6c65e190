# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import InvalidRequest, KeyClosed, Keypair, Signer, b58decode, keys, reference
from pacifica_fast._sodium import LONG_INPUT, ffi, lib

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBKEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
PAIR = SEED + PUBKEY
WRONG_PAIR = SEED + PUBKEY[:-1] + bytes([PUBKEY[-1] ^ 1])
TEXT = reference.b58encode(PAIR)
ACCOUNT = reference.b58encode(PUBKEY)


def public_half(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def check_is(keypair: Keypair, seed: bytes = SEED) -> None:
    assert keypair.pubkey() == reference.b58encode(public_half(seed))
    assert keypair.sign_message(b"m") == Ed25519PrivateKey.from_private_bytes(seed).sign(b"m")
    keypair.close()


# Known answers.

# RFC 8032, section 7.1: TEST 1, 2, 3, 1024 (its message by what it starts with), SHA(abc).
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize("vector", RFC_8032, ids=["1", "2", "3", "SHA(abc)"])
def test_rfc_8032(vector: tuple[str, str, str, str]) -> None:
    seed, pubkey, message, signature = map(bytes.fromhex, vector)
    with Keypair.from_bytes(seed + pubkey) as keypair:
        assert b58decode(keypair.pubkey()) == pubkey
        assert keypair.sign_message(message) == signature


def signing_vectors() -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Seed, public key, message and signature, from D. J. Bernstein's ``sign.input``."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as lines:
        for line in lines:
            pair, pubkey, message, signed = map(bytes.fromhex, line.strip().split(":")[:4])
            yield pair[:32], pubkey, message, signed[:64]


def test_1024_signing_vectors() -> None:
    count = 0
    for seed, pubkey, message, signature in signing_vectors():
        with Keypair.from_bytes(seed + pubkey) as keypair:
            assert b58decode(keypair.pubkey()) == pubkey
            assert keypair.sign_message(message) == signature
        count += 1
    assert count == 1024


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 16384, 16385, 1 << 20])
def test_messages_of_any_size(size: int) -> None:
    """Around every boundary: the C stack's buffer, the heap's, with and without the GIL."""
    message = os.urandom(size)
    with Keypair.from_seed(SEED) as keypair:
        assert keypair.sign_message(message) == Ed25519PrivateKey.from_private_bytes(SEED).sign(message)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_signatures_are_those_of_cryptography(seed: bytes, message: bytes) -> None:
    with Keypair.from_seed(seed) as keypair:
        assert keypair.sign_message(message) == Ed25519PrivateKey.from_private_bytes(seed).sign(message)


@pytest.mark.core
@pytest.mark.parametrize("more", [0, 1])
def test_long_messages_are_signed_without_the_gil(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    asked: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(lib, name)

    monkeypatch.setattr("pacifica_fast.keys.lib", Watched())
    Keypair.from_seed(SEED).sign_message(bytes(LONG_INPUT + more))
    assert ("pf_key_sign_bytes" in asked, "pf_key_sign_bytes_detached" in asked) == (not more, bool(more))


@pytest.mark.parametrize(
    "message", [bytearray(b"message"), memoryview(b"message"), memoryview(b"m-e-s-s-a-g-e")[::2]]
)
def test_other_buffers_are_copied_and_signed(message: Any) -> None:
    with Keypair.from_seed(SEED) as keypair:
        assert keypair.sign_message(message) == keypair.sign_message(b"message")


def test_a_subclass_cannot_lie_about_its_length() -> None:
    class Liar(bytes):
        def __bytes__(self) -> bytes:
            return self

        def __len__(self) -> int:
            return 200

    with Keypair.from_seed(SEED) as keypair:
        assert keypair.sign_message(Liar(b"message")) == keypair.sign_message(b"message")


@pytest.mark.parametrize("message", ["message", None, 7, [1, 2], b"m"[0]])
def test_messages_must_be_bytes(message: Any) -> None:
    with (
        Keypair.from_seed(SEED) as keypair,
        pytest.raises(TypeError, match=f"message: expected bytes, got {type(message).__name__}"),
    ):
        keypair.sign_message(message)


# Where keys come from.


def test_from_base58_pair_and_seed() -> None:
    check_is(Keypair.from_base58_string(reference.b58encode(PAIR)))
    check_is(Keypair.from_base58_string(reference.b58encode(SEED)))


@pytest.mark.parametrize("zeros", [1, 2, 31, 32])
def test_leading_zero_seeds(zeros: int) -> None:
    """Their base58 starts with ones, and is shorter."""
    seed = bytes(zeros) + SEED[zeros:]
    pair = seed + public_half(seed)
    check_is(Keypair.from_base58_string(reference.b58encode(seed)), seed)
    check_is(Keypair.from_base58_string(reference.b58encode(pair)), seed)
    for wrong in ("1" + reference.b58encode(seed), reference.b58encode(seed)[1:]):
        with pytest.raises(InvalidRequest, match="private key"):
            Keypair.from_base58_string(wrong)


@given(st.binary(min_size=32, max_size=32))
def test_every_source_gives_the_same_key(seed: bytes) -> None:
    pair = seed + public_half(seed)
    for secret in (seed, pair):
        check_is(Keypair.from_base58_string(reference.b58encode(secret)), seed)
        check_is(Keypair.from_bytes(secret), seed)
        check_is(Keypair.from_bytes(bytearray(secret)), seed)
    check_is(Keypair.from_seed(seed), seed)


def test_from_bytes_and_buffers() -> None:
    for secret in (SEED, PAIR):
        for view in (secret, bytearray(secret), memoryview(secret), memoryview(bytearray(secret))):
            check_is(Keypair.from_bytes(view))
    check_is(Keypair.from_bytes(memoryview(b"x" + PAIR + b"x")[1:-1]))
    check_is(Keypair.from_bytes(memoryview(PAIR).cast("I")))
    check_is(Keypair.from_seed(memoryview(SEED)))


def test_the_callers_buffer_is_left_alone() -> None:
    secret = bytearray(PAIR)
    Keypair.from_bytes(secret).close()
    assert secret == PAIR
    secret.extend(b"x")  # and not kept exported


@pytest.mark.parametrize("make", [bytearray, lambda secret: memoryview(bytearray(secret)).cast("I")])
def test_the_callers_buffer_is_wiped_if_asked(make: Callable[[bytes], Any]) -> None:
    for load, secrets in ((Keypair.from_bytes, (SEED, PAIR)), (Keypair.from_seed, (SEED,))):
        for secret in secrets:
            buffer = make(secret)
            check_is(load(buffer, wipe=True))
            assert bytes(buffer) == bytes(len(secret))


@pytest.mark.parametrize("secret", [WRONG_PAIR, PAIR + b"x", SEED[:31]])
def test_it_is_wiped_if_it_makes_no_key(secret: bytes) -> None:
    for load in (Keypair.from_bytes, Keypair.from_seed):
        buffer = bytearray(secret)
        with pytest.raises(InvalidRequest):
            load(buffer, wipe=True)
        assert buffer == bytes(len(secret))


@pytest.mark.parametrize("secret", [PAIR, memoryview(PAIR), memoryview(bytearray(PAIR * 2))[::2], TEXT, None])
def test_what_cannot_be_wiped_makes_no_key(secret: Any) -> None:
    """The caller believes that nothing is left; so it is an error, not a key."""
    with pytest.raises(InvalidRequest, match="wipe: expected a bytearray") as caught:
        Keypair.from_bytes(secret, wipe=True)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("secret", [SEED, PAIR])
@pytest.mark.parametrize("form", ["[{}]", "[ {} ]\n", "\n[\n{}\n]\n"])
def test_from_json_file(tmp_path: Path, secret: bytes, form: str) -> None:
    path = tmp_path / "id.json"
    path.write_text(form.format(", ".join(map(str, secret))))
    check_is(Keypair.from_json_file(path))
    check_is(Keypair.from_json_file(str(path)))


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        reference.b58encode(PAIR),
        reference.b58encode(SEED),
        f"  {reference.b58encode(PAIR)}\n",
        json.dumps(list(PAIR)),
        f" {json.dumps(list(SEED))} ",
    ):
        monkeypatch.setenv("PACIFICA_PRIVATE_KEY", text)
        check_is(Keypair.from_env())
        monkeypatch.setenv("OTHER", text)
        check_is(Keypair.from_env("OTHER"))


def test_generated() -> None:
    with Keypair.generate() as first, Keypair.generate() as second:
        assert first.pubkey() != second.pubkey()
        for keypair in (first, second):
            public = Ed25519PublicKey.from_public_bytes(reference.b58decode(keypair.pubkey()))
            public.verify(keypair.sign_message(b"m"), b"m")
            with pytest.raises(InvalidSignature):
                public.verify(keypair.sign_message(b"m"), b"n")


def test_is_made_by_its_class_methods_only() -> None:
    with pytest.raises(TypeError, match="is made by"):
        Keypair()


# Refusals. The secret in them is recognisable; none of what they say or carry contains it.

BAD_TEXTS: dict[str, Any] = {
    "empty": "",
    "31 characters": TEXT[:31],
    "between the two": TEXT[:50],
    "one character short": TEXT[:-1],
    "one character more": TEXT + "1",
    "89 characters": TEXT + "11",
    "a character outside": TEXT[:20] + "0" + TEXT[21:],
    "not ASCII": TEXT[:20] + "ä" + TEXT[21:],
    "lone surrogate": TEXT[:20] + "\ud800" + TEXT[21:],
    "spaces around": f" {TEXT} ",
    "another public half": reference.b58encode(WRONG_PAIR),
    "wiped public half": reference.b58encode(SEED + bytes(32)),
    "wiped pair": "1" * 64,
    "33 bytes": reference.b58encode(SEED + b"x"),
    "too large for 32": "z" * 44,
    "too large for 64": "z" * 88,
    "hexadecimal": SEED.hex(),
}

BAD_BYTES: dict[str, Any] = {
    "empty": b"",
    "31 bytes": SEED[:31],
    "33 bytes": SEED + b"x",
    "63 bytes": PAIR[:63],
    "65 bytes": PAIR + b"x",
    "another public half": WRONG_PAIR,
    "wiped public half": SEED + bytes(32),
    "wiped pair": bytes(64),
    "not contiguous": memoryview(bytes(x for b in PAIR for x in (b, 0)))[::2],
    "reversed": memoryview(PAIR)[::-1],
    "a str": TEXT,
    "a list": list(PAIR),
    "None": None,
}

BAD_FILES: dict[str, bytes] = {
    "empty": b"",
    "no numbers": b"[]",
    "63 numbers": json.dumps(list(PAIR[:63])).encode(),
    "65 numbers": json.dumps([*PAIR, 1]).encode(),
    "256": json.dumps([*PAIR[:63], 256]).encode(),
    "-1": json.dumps([*PAIR[:63], -1]).encode(),
    "a huge number": json.dumps([*PAIR[:63], 10**400]).encode(),
    "too many digits": b"[" + b"9" * 5000 + b"]",
    "a fraction": json.dumps([*PAIR[:63], 1.5]).encode(),
    "strings": json.dumps([*map(str, PAIR)]).encode(),
    "a trailing comma": json.dumps(list(PAIR)).replace("]", ",]").encode(),
    "cut off": json.dumps(list(PAIR)).encode()[:100],
    "an object": json.dumps({"key": list(PAIR)}).encode(),
    "nested": json.dumps([list(PAIR)]).encode(),
    "base58": TEXT.encode(),
    "not UTF-8": b"\xff" + json.dumps(list(PAIR)).encode(),
    "another public half": json.dumps(list(WRONG_PAIR)).encode(),
}

# Each would be a seed if one character of it were overlooked: every 32 bytes are one.
NUMBERS = json.dumps(list(SEED)).encode()
BAD_FILES |= {
    "colons for digits": b"[" + b",".join([b"0:"] * 32) + b"]",
    "slashes for digits": b"[" + b",".join([b"0/"] * 32) + b"]",
    "spaces inside numbers": b"[" + b",".join([b"1 1"] * 32) + b"]",
    "31 numbers": json.dumps(list(SEED[:31])).encode(),
    "33 numbers": json.dumps([*SEED, 1]).encode(),
    "256 in a seed": json.dumps([256, *SEED[1:]]).encode(),
    "more behind it": NUMBERS + b"x",
    "a number behind it": NUMBERS + b"1",
    "a comma behind it": NUMBERS + b",",
    "a bracket behind it": NUMBERS + b"]",
    "another behind it": NUMBERS + b"[]",
    "a bracket before it": b"[" + NUMBERS,
    "a number before it": b"1" + NUMBERS,
    "a comma before it": b"[," + NUMBERS[1:],
    "a place left empty": NUMBERS.replace(b",", b",,", 1),
    "no end": NUMBERS[:-1],
    "4096 bytes": NUMBERS.ljust(4096),
    "more behind 4096 bytes": NUMBERS.ljust(4096) + b"x",
}


def forms_of(secret: bytes) -> list[str]:
    """How a secret of 8 bytes or more may show in a text."""
    piece = secret[4:12]  # any eight bytes of it
    numbers = ", ".join(map(str, piece))
    return [
        piece.hex(),
        repr(piece)[2:-1],
        numbers,
        numbers.replace(" ", ""),
        TEXT[5:25],
        reference.b58encode(SEED)[5:25],
        reference.b58encode(WRONG_PAIR)[5:25],
    ]


FORMS = forms_of(SEED)


def check_says_nothing(text: str) -> None:
    for form in FORMS:
        assert form not in text


def check_error_says_nothing(error: BaseException) -> None:
    """Neither its text, nor what it carries, nor the frames it went through, nor its causes."""
    seen: BaseException | None = error
    while seen is not None:
        check_says_nothing(str(seen) + repr(seen) + repr(seen.args) + repr(vars(seen)))
        check_says_nothing("".join(traceback.format_exception(seen, limit=None)))
        frames = seen.__traceback__
        while frames is not None:
            if "pacifica_fast" in frames.tb_frame.f_code.co_filename.replace(os.sep, "/").split("/")[-2]:
                for name, value in frames.tb_frame.f_locals.items():
                    check_says_nothing(f"{name} {value!r} {show(value)}")
            frames = frames.tb_next
        seen = seen.__cause__ or seen.__context__


def show(value: Any) -> str:
    """What a curious reporter could print of a local: buffers by their content."""
    with contextlib.suppress(Exception):
        raw = bytes(memoryview(value))
        return raw.hex() + repr(raw)
    with contextlib.suppress(Exception):
        raw = bytes(ffi.buffer(value))
        return raw.hex() + repr(raw)
    return repr(value)


def test_the_checks_would_see_it() -> None:
    for value in (
        SEED,
        bytearray(PAIR),
        memoryview(PAIR),
        PAIR.hex(),
        list(PAIR),
        TEXT,
        ffi.from_buffer(PAIR),
    ):
        with pytest.raises(AssertionError):
            check_says_nothing(f"{value!r} {show(value)}")


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_from_base58_refuses(text: str) -> None:
    why = "expected base58 |not base58 |its public half "
    with pytest.raises(InvalidRequest, match=f"^private key: ({why})") as caught:
        Keypair.from_base58_string(text)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("value", [PAIR, bytearray(PAIR), list(PAIR), None, 7])
def test_from_base58_refuses_types(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"expected str, got {type(value).__name__}") as caught:
        Keypair.from_base58_string(value)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("secret", BAD_BYTES.values(), ids=BAD_BYTES)
def test_from_bytes_refuses(secret: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^private key: (expected |its public half )") as caught:
        Keypair.from_bytes(secret)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("secret", [*BAD_BYTES.values(), PAIR], ids=[*BAD_BYTES, "a pair"])
def test_from_seed_refuses(secret: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^seed: expected ") as caught:
        Keypair.from_seed(secret)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_from_json_file_refuses(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "id.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"id\.json: ") as caught:
        Keypair.from_json_file(path)
    check_error_says_nothing(caught.value)
    another_number = content in [BAD_FILES[f"{count} numbers"] for count in (31, 33, 63)]
    if not another_number and content != BAD_FILES["another public half"]:
        assert "expected the array of 64 numbers of a Solana id.json" in str(caught.value)


def test_what_was_read_on_the_way_is_wiped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wiped: list[bytearray | memoryview] = []

    def wipe(secret: bytearray | memoryview) -> None:
        wiped.append(secret)
        real(secret)

    real = keys._wipe
    monkeypatch.setattr(keys, "_wipe", wipe)
    path = tmp_path / "id.json"
    path.write_bytes(NUMBERS)
    Keypair.from_json_file(path)
    Keypair.from_base58_string(TEXT)
    assert [len(secret) for secret in wiped] == [4096, 64, 4096, len(TEXT), 64]
    assert not any(map(any, wiped))


@pytest.mark.parametrize(
    ("make", "parser"), [(Keypair.from_file, "_from_content"), (Keypair.from_json_file, "_from_numbers")]
)
def test_ctrl_c_between_reading_and_parsing_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[Path], Keypair], parser: str
) -> None:
    contents: list[bytearray] = []

    def interrupted(content: bytearray, _: int) -> None:
        assert content.startswith(NUMBERS)
        contents.append(content)
        raise KeyboardInterrupt

    monkeypatch.setattr(Keypair, parser, interrupted)
    path = tmp_path / "id.json"
    path.write_bytes(NUMBERS)
    with pytest.raises(KeyboardInterrupt):
        make(path)
    assert [any(content) for content in contents] == [False]


def test_ctrl_c_while_a_key_is_opened_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = []

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            if name == "buffer":  # for the public key, of a key that is open
                raise KeyboardInterrupt
            return getattr(ffi, name)

        def new(self, kind: str, *how: Any) -> Any:
            made = ffi.new(kind, *how)
            if kind == "pf_key *":
                handles.append(made)
            return made

    monkeypatch.setattr(keys, "ffi", Interrupted())
    with contextlib.suppress(KeyboardInterrupt):  # pytest.raises would keep the frames
        Keypair.generate()
    gc.collect()
    (handle,) = handles
    assert handle.generation
    assert lib.pf_key_end(handle) == lib.PF_ERR_CLOSED


@pytest.mark.parametrize("content", [NUMBERS.ljust(4095), b"[255" + b" , 255" * 31 + b"\t\n]"])
def test_numbers_with_white_space(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "id.json"
    path.write_bytes(content)
    seed = bytes(json.loads(content))
    for make in (Keypair.from_json_file, Keypair.from_file):
        assert make(path).pubkey() == Keypair.from_seed(seed).pubkey()


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(list(PAIR)),
        json.dumps(list(SEED)),
        f"\n {json.dumps(list(PAIR))} \n",
        TEXT,
        f"\t{TEXT}\r\n",
        TEXT.ljust(4095),
        TEXT.rjust(4095),
    ],
)
def test_from_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    assert Keypair.from_file(path).pubkey() == Keypair.from_bytes(PAIR).pubkey()


@pytest.mark.parametrize(
    "content",
    [content for content in BAD_FILES.values() if content.strip() != TEXT.encode()] + [b" ", b"x" * 10_000],
)
def test_from_file_refuses(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="key: ") as caught:
        Keypair.from_file(path)
    check_error_says_nothing(caught.value)
    assert ("got 4096 bytes or more" in str(caught.value)) == (len(content) >= 4096)


def test_from_standard_input() -> None:
    program = "from pacifica_fast import Keypair; print(Keypair.from_fd(0).pubkey())"
    done = subprocess.run(
        [sys.executable, "-c", program], input=TEXT, capture_output=True, text=True, check=True
    )
    assert done.stdout == Keypair.from_bytes(PAIR).pubkey() + "\n"


def test_from_file_reads_a_pipe_piece_by_piece() -> None:
    reading, writing = os.pipe()
    text = json.dumps(list(PAIR)).encode()

    def write() -> None:
        for start in range(0, len(text), 50):
            os.write(writing, text[start : start + 50])
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert Keypair.from_file(f"/dev/fd/{reading}").pubkey() == Keypair.from_bytes(PAIR).pubkey()
    finally:
        thread.join()
        os.close(reading)


def test_from_file_does_not_stop_reading_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(TEXT.encode() + b" " * 5000 + b"and more")
    with pytest.raises(InvalidRequest, match="key: ") as caught:
        Keypair.from_file(path)
    check_error_says_nothing(caught.value)


@contextlib.contextmanager
def piped(content: bytes) -> Iterator[int]:
    """A descriptor that has this to read, and then its end."""
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
        os.close(writing)
        yield reading
    finally:
        os.close(reading)  # raises, had anyone else closed it


@pytest.mark.parametrize("content", [json.dumps(list(PAIR)), json.dumps(list(SEED)), TEXT, f"{TEXT}\n"])
def test_from_fd(content: str) -> None:
    with piped(content.encode()) as fd:
        check_is(Keypair.from_fd(fd))


@pytest.mark.parametrize("content", [b"", PAIR, SEED, b"x" * 10_000, TEXT.encode() + b"1", TEXT.encode()[1:]])
def test_from_fd_refuses(content: bytes) -> None:
    with piped(content) as fd, pytest.raises(InvalidRequest, match=f"descriptor {fd}: ") as caught:
        Keypair.from_fd(fd)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("fd", [TEXT, PAIR, True, 3.0, -1, None])
def test_from_fd_refuses_what_is_none(fd: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"fd: .* got {type(fd).__name__}$") as caught:
        Keypair.from_fd(fd)
    check_error_says_nothing(caught.value)


def test_from_fd_does_not_take_half_a_key_for_one() -> None:
    """The seed's base58 and the pair's differ in length only: what is not there yet is awaited."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        os.write(writing, TEXT[:44].encode())
        with pytest.raises(BlockingIOError, match="does not block") as caught:
            Keypair.from_fd(reading)
        check_error_says_nothing(caught.value)
    finally:
        os.close(reading)
        os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Keypair.from_fd(reading)


@pytest.mark.parametrize("load", [Keypair.from_file, Keypair.from_json_file])
def test_a_read_that_fails_halfway_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[str], Keypair]
) -> None:
    class HalfAFile:
        def __enter__(self) -> HalfAFile:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def readinto(self, view: memoryview) -> int:
            if view[:] != bytes(len(view)) or len(view) < 4096:
                raise KeyboardInterrupt
            view[: len(TEXT)] = TEXT.encode()
            return len(TEXT)

    monkeypatch.setattr("builtins.open", lambda *_, **__: HalfAFile())
    with pytest.raises(KeyboardInterrupt) as caught:
        load("pipe")
    monkeypatch.undo()
    check_error_says_nothing(caught.value)


def test_from_json_file_without_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Keypair.from_json_file(tmp_path / "nowhere.json")


# What is wrong in a file or as a string, and right in a variable: base58, spaces around it. And
# what cannot be in one: a surrogate.
BAD_IN_ENV_AS_FILE = {name: content for name, content in BAD_FILES.items() if content != TEXT.encode()}
BAD_IN_ENV_AS_TEXT = {
    name: text for name, text in BAD_TEXTS.items() if text.strip() != TEXT and "\ud800" not in text
}


@pytest.mark.parametrize("content", BAD_IN_ENV_AS_FILE.values(), ids=BAD_IN_ENV_AS_FILE)
def test_from_env_refuses_what_a_file_may_not_hold(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setitem(os.environb, b"PACIFICA_PRIVATE_KEY", content)
    with pytest.raises(InvalidRequest, match="PACIFICA_PRIVATE_KEY: ") as caught:
        Keypair.from_env()
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("text", BAD_IN_ENV_AS_TEXT.values(), ids=BAD_IN_ENV_AS_TEXT)
def test_from_env_refuses_bad_base58(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OTHER", text)
    with pytest.raises(InvalidRequest, match="OTHER: ") as caught:
        Keypair.from_env("OTHER")
    check_error_says_nothing(caught.value)


def test_from_env_refuses_undecodable_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.environ has them as surrogates, which do not encode: that error would carry the text."""
    monkeypatch.setitem(os.environb, b"OTHER", json.dumps(list(PAIR)).encode()[:-1] + b"\xff]")
    with pytest.raises(InvalidRequest, match="OTHER: ") as caught:
        Keypair.from_env("OTHER")
    check_error_says_nothing(caught.value)


def test_from_env_without_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PACIFICA_PRIVATE_KEY", raising=False)
    with pytest.raises(InvalidRequest, match="PACIFICA_PRIVATE_KEY: no such environment variable"):
        Keypair.from_env()


BY_MISTAKE = {
    "base58 pair": TEXT,
    "base58 seed": reference.b58encode(SEED),
    "the shortest there is": reference.b58encode(bytes(32)),
    "with a line's end": TEXT + "\n",
    "id.json": json.dumps(list(PAIR)),
    "hex": PAIR.hex(),
}


@pytest.mark.parametrize("secret", BY_MISTAKE.values(), ids=BY_MISTAKE)
@pytest.mark.parametrize("load", [Keypair.from_env, Keypair.from_file, Keypair.from_json_file])
def test_a_key_where_its_name_should_be_is_not_shown(load: Callable[[str], Keypair], secret: str) -> None:
    """``from_env(os.environ["PACIFICA_PRIVATE_KEY"])``, say."""
    with pytest.raises((InvalidRequest, FileNotFoundError), match="not shown") as caught:
        load(secret)
    assert caught.value.__context__ is None
    assert secret not in str(caught.value)
    check_error_says_nothing(caught.value)


@pytest.mark.parametrize("load", [Keypair.from_env, Keypair.from_file, Keypair.from_json_file])
@pytest.mark.parametrize("name", [None, PAIR, bytearray(PAIR), 3])
def test_a_name_that_is_none(load: Callable[[Any], Keypair], name: Any) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"^(name|path): expected .*, got {type(name).__name__}$"
    ) as caught:
        load(name)
    check_error_says_nothing(caught.value)


def test_a_file_may_be_called_what_a_key_could_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some call it after its account."""
    monkeypatch.chdir(tmp_path)
    Path(ACCOUNT).write_text(TEXT)
    check_is(Keypair.from_file(ACCOUNT))
    with pytest.raises(FileNotFoundError, match="nowhere-in-particular-and-long-as-that-is"):
        Keypair.from_file("nowhere-in-particular-and-long-as-that-is")
    with pytest.raises(InvalidRequest, match="A_LONG_NAME_OF_THE_PRIVATE_KEY_OF_BOT_17: no such"):
        Keypair.from_env("A_LONG_NAME_OF_THE_PRIVATE_KEY_OF_BOT_17")


class FullLib:
    """Our ``lib`` once all slots are taken."""

    @staticmethod
    def pf_key_open_seed(*_: Any) -> int:
        return int(lib.PF_ERR_MEMORY)

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)


def test_no_slot_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    path.write_text(json.dumps(list(PAIR)))
    monkeypatch.setenv("PACIFICA_PRIVATE_KEY", TEXT)
    monkeypatch.setattr(keys, "lib", FullLib())
    sources: list[Callable[[], Keypair]] = [
        lambda: Keypair.from_base58_string(TEXT),
        lambda: Keypair.from_bytes(PAIR),
        lambda: Keypair.from_seed(SEED),
        lambda: Keypair.from_json_file(path),
        Keypair.from_env,
    ]
    for source in sources:
        with pytest.raises(MemoryError, match="no room for the key") as caught:
            source()
        check_error_says_nothing(caught.value)


# What shows of a key, and what moves it: nothing.


def test_nothing_shows_the_secret() -> None:
    keypair = Keypair.from_bytes(PAIR)
    shown = [
        repr(keypair),
        str(keypair),
        f"{keypair}",
        f"{keypair!r:>100}",
        f"{keypair!a}",
        repr(dir(keypair)),
    ]
    shown += [repr([keypair]), repr({"keypair": keypair}), repr(Signer(keypair))]
    with contextlib.suppress(TypeError):
        shown.append(repr(vars(keypair)))
    with contextlib.suppress(TypeError):
        shown.append(repr(keypair.__getstate__()))
    for name in dir(keypair):
        with contextlib.suppress(Exception):
            shown.append(repr(getattr(keypair, name)))
    for text in shown:
        check_says_nothing(text)
    assert repr(keypair) == f"<Keypair {ACCOUNT}>"
    keypair.close()
    assert repr(keypair) == f"<Keypair {ACCOUNT} (closed)>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_does_not_pickle(protocol: int) -> None:
    with Keypair.from_bytes(PAIR) as keypair:
        for what in (keypair, [keypair], {"keypair": keypair}, Signer(keypair)):
            out = io.BytesIO()
            with pytest.raises(TypeError) as caught:
                pickle.Pickler(out, protocol).dump(what)
            check_error_says_nothing(caught.value)
            assert SEED[:8] not in out.getvalue()
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            pickle.dumps(keypair, protocol)


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda k: k.__reduce__(), lambda k: k.__reduce_ex__(4)]
)
def test_does_not_copy(make: Callable[[Keypair], Any]) -> None:
    with Keypair.from_bytes(PAIR) as keypair, pytest.raises(TypeError, match="cannot be pickled or copied"):
        make(keypair)


def test_garbage_that_python_can_reach_has_no_seed() -> None:
    """Of all that a Keypair refers to, directly or not, nothing holds the seed."""
    keypair = Keypair.from_bytes(bytearray(PAIR))
    reached = [getattr(keypair, name) for name in ("_key", "_pubkey", "_pid", "_end")]
    reached += [keypair._end.peek()]
    for value in reached:
        check_says_nothing(show(value) + repr(value))
    keypair.close()


# Closing.


def slot_of(keypair: Keypair) -> bytes:
    """The 256 bytes where the key lives."""
    return bytes(ffi.buffer(ffi.cast("char *", keypair._key.slot), 256))


@pytest.mark.core
def test_close() -> None:
    keypair = Keypair.from_seed(SEED)
    assert not keypair.closed
    assert SEED in slot_of(keypair)
    keypair.close()
    assert keypair.closed
    assert slot_of(keypair) == bytes(256)
    keypair.close()
    with pytest.raises(KeyClosed, match=f"the key {ACCOUNT} is closed"):
        keypair.sign_message(b"m")
    with pytest.raises(KeyClosed):
        keypair.sign_message(b"m" * 20_000)
    assert keypair.pubkey() == ACCOUNT


def test_leaving_the_context_closes() -> None:
    with Keypair.from_seed(SEED) as keypair:
        assert not keypair.closed
    assert keypair.closed
    with pytest.raises(ZeroDivisionError), Keypair.from_seed(SEED) as keypair:
        raise ZeroDivisionError
    assert keypair.closed


@pytest.mark.core
def test_a_closed_key_does_not_sign_with_its_successor() -> None:
    first = Keypair.from_seed(SEED)
    first.close()
    second = Keypair.generate()
    assert second._key.slot == first._key.slot  # the very same slot
    with pytest.raises(KeyClosed):
        first.sign_message(b"m")
    first.close()
    second.sign_message(b"m")
    second.close()


@pytest.mark.core
def test_forgetting_wipes() -> None:
    keypair = Keypair.from_seed(SEED)
    address = int(ffi.cast("uintptr_t", keypair._key.slot))
    del keypair
    gc.collect()
    assert bytes(ffi.buffer(ffi.cast("char *", address), 256)) == bytes(256)


@pytest.mark.core
def test_many_keys_made_and_dropped() -> None:
    mapped = ffi.new("size_t *")
    unlocked = ffi.new("size_t *")
    lib.pf_pages_state(mapped, unlocked)
    before = mapped[0]
    for _ in range(20_000):
        Keypair.from_seed(SEED)
    lib.pf_pages_state(mapped, unlocked)
    assert mapped[0] <= before + 1


def test_many_keys_at_once() -> None:
    seeds = [number.to_bytes(32, "big") for number in range(1, 1001)]
    keypairs = [Keypair.from_seed(seed) for seed in seeds]
    for seed, keypair in zip(seeds, keypairs, strict=True):
        check_is(keypair, seed)


@pytest.mark.core
@pytest.mark.parametrize("size", [100, 100_000])
def test_close_while_threads_sign(size: int) -> None:
    """Every call returns the right signature or says that the key is closed."""
    message = b"m" * size
    expected = Ed25519PrivateKey.from_private_bytes(SEED).sign(message)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def sign(keypair: Keypair, outcomes: list[bytes | None]) -> None:
        while True:
            try:
                outcomes.append(keypair.sign_message(message))
            except KeyClosed:
                outcomes.append(None)
                return

    try:
        for _ in range(20):
            keypair = Keypair.from_seed(SEED)
            outcomes: list[bytes | None] = []
            threads = [threading.Thread(target=sign, args=(keypair, outcomes)) for _ in range(4)]
            for thread in threads:
                thread.start()
            while len(outcomes) < 8:
                pass
            keypair.close()
            assert slot_of(keypair) == bytes(256)
            for thread in threads:
                thread.join()
            assert outcomes.count(None) == 4
            assert set(outcomes) == {None, expected}
    finally:
        sys.setswitchinterval(before)


@pytest.mark.core
def test_close_from_many_threads() -> None:
    for _ in range(50):
        keypair = Keypair.from_seed(SEED)
        threads = [threading.Thread(target=keypair.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert slot_of(keypair) == bytes(256)


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (lib.PF_ERR_CLOSED, KeyClosed, "the key .* is closed"),
        (lib.PF_ERR_MEMORY, MemoryError, "no memory to sign"),
        (lib.PF_ERR_JSON_END, RuntimeError, "signing failed: text ends inside a value"),
    ],
)
def test_every_failure_of_the_core_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], says: str
) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: code) if name == "pf_key_sign_bytes" else getattr(lib, name)

    monkeypatch.setattr("pacifica_fast.keys.lib", Failing())
    with pytest.raises(error, match=says):
        Keypair.from_seed(SEED).sign_message(b"message")


@pytest.mark.core
def test_every_close_waits_for_calls_in_flight() -> None:
    """Not only the first: whoever has called close() may rely on the key being gone."""
    message = b"m" * (32 << 20)
    keypair = Keypair.from_seed(SEED)
    threads = [threading.Thread(target=keypair.sign_message, args=(message,))]
    threads[0].start()
    while not int.from_bytes(slot_of(keypair)[:8], sys.byteorder) & 1:
        pass
    wiped: list[bool] = []

    def close() -> None:
        keypair.close()
        wiped.append(slot_of(keypair) == bytes(256))

    threads += [threading.Thread(target=close) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert wiped == [True, True, True]


AT_EXIT = """
from pacifica_fast import Keypair
import atexit
from pacifica_fast._sodium import ffi
keypair = Keypair.generate()
address = int(ffi.cast("uintptr_t", keypair._key.slot))
import weakref
def look():
    assert bytes(ffi.buffer(ffi.cast("char *", address), 256)) == bytes(256)
    print("wiped")
# Exit functions run last in, first out; weakref's was registered with the first finalizer.
import weakref
atexit.unregister(weakref.finalize._exitfunc)
atexit.register(look)
atexit.register(weakref.finalize._exitfunc)
"""


@pytest.mark.core
def test_wiped_at_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "wiped\n"


# Forks.


def in_child(check: Callable[[], Any]) -> Any:
    """Run ``check`` in a forked child and return what it returned."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        try:
            answer = json.dumps({"result": check()})
        except BaseException as error:
            answer = json.dumps({"error": "".join(traceback.format_exception(error))})
        os.write(send, answer.encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    done = json.loads(answer)
    assert "error" not in done, done["error"]
    return done["result"]


@pytest.mark.core
def test_a_key_does_not_cross_a_fork() -> None:
    keypair = Keypair.from_seed(SEED)
    signer = Signer(keypair)
    signer.cancel_order("BTC", order_id=1)
    parent = os.getpid()

    def child() -> list[str]:
        assert slot_of(keypair) == bytes(256)
        said: list[str] = []
        calls: list[Callable[[], Any]] = [
            lambda: keypair.sign_message(b"m"),
            lambda: keypair.sign_message(b"m" * 20_000),
            lambda: signer.cancel_order("BTC", order_id=1),
            lambda: signer.cancel_order("ETH", order_id=1),
            signer.cancel_all_orders,
            lambda: signer.batch_cancel([("BTC", 1)]),
            lambda: signer.sign("x", {}),
            lambda: signer.request("x", {}),
        ]
        for call in calls:
            with pytest.raises(KeyClosed) as caught:
                call()
            check_error_says_nothing(caught.value)
            said.append(str(caught.value))
        keypair.close()  # harmless
        return said

    for text in in_child(child):
        assert str(parent) in text
        assert "does not cross a fork" in text
        assert ACCOUNT in text
    check_is(keypair)  # the parent's is as before


def test_a_child_loads_its_own_key() -> None:
    keypair = Keypair.from_seed(SEED)

    def child() -> str:
        own = Keypair.from_seed(SEED)
        other = Keypair.generate()
        assert other.sign_message(b"m") != own.sign_message(b"m")
        with pytest.raises(KeyClosed):
            keypair.sign_message(b"m")
        return own.sign_message(b"m").hex()

    assert in_child(child) == keypair.sign_message(b"m").hex()
    keypair.close()


def test_request_ids_of_parent_and_child_differ() -> None:
    with Keypair.generate() as keypair:
        signer = Signer(keypair)
        before = [signer.cancel_order("BTC", order_id=1).id for _ in range(10)]

        def child() -> list[str]:
            own = Signer(Keypair.generate())
            return [own.cancel_order("BTC", order_id=1).id for _ in range(1000)]

        children = [in_child(child) for _ in range(3)]
        after = [signer.cancel_order("BTC", order_id=1).id for _ in range(1000)]
    ids = [*before, *after, *(request_id for ids in children for request_id in ids)]
    assert len(set(ids)) == len(ids) == 4010
    assert len({request_id[:24] for request_id in ids}) == 4  # a prefix for each process


def test_generated_keys_of_parent_and_child_differ() -> None:
    def pubkeys() -> list[str]:
        return [Keypair.generate().pubkey() for _ in range(20)]

    pubkeys()
    both = [*in_child(pubkeys), *in_child(pubkeys), *pubkeys()]
    assert len(set(both)) == 60


def worker(queue: Any, inherited: Keypair) -> None:
    with pytest.raises(KeyClosed) as caught:
        inherited.sign_message(b"m")
    queue.put((str(caught.value), Keypair.from_seed(SEED).sign_message(b"m")))


def test_multiprocessing_fork() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    inherited = Keypair.from_seed(SEED)
    expected = inherited.sign_message(b"m")
    process = context.Process(target=worker, args=(queue, inherited))  # no pickling with fork
    process.start()
    said, signature = queue.get()
    process.join()
    assert process.exitcode == 0
    assert "does not cross a fork" in said
    assert signature == expected
    inherited.close()


def test_fork_while_threads_sign() -> None:
    """Calls cut off in the middle do not keep the child from anything."""
    keypair = Keypair.from_seed(SEED)
    stop = threading.Event()
    message = b"m" * 200_000

    def sign() -> None:
        while not stop.is_set():
            keypair.sign_message(message)

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()

    def child() -> str:
        keypair.close()
        own = Keypair.from_seed(SEED)
        Signer(own).cancel_order("BTC", order_id=1)
        signature = own.sign_message(b"m").hex()
        own.close()
        return signature

    expected = Ed25519PrivateKey.from_private_bytes(SEED).sign(b"m").hex()
    try:
        for _ in range(20):
            assert in_child(child) == expected
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    check_is(keypair)
