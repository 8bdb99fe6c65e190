# SPDX-License-Identifier: MIT
"""The contract of the drop-in: one suite, run against the fast path and the reference.

What is asked of both: every recorded outcome of the official SDK. What is asked of the
two together: no input on which they differ. And of the fast path alone: that it is
taken where it may be, only there, and leaves nothing secret behind.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import inspect
import json
import os
import stat
import subprocess
import sys
import threading
import types
from collections import ChainMap, OrderedDict, UserDict
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from conformance import (
    CASE_NAMES,
    CASES,
    CONFORMANCE,
    FACTS,
    KNOWN_ANSWERS,
    LEADING_ZERO_VECTORS,
    Outcome,
    arguments,
    check_head,
    namespace,
    outcome,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from pacifica_fast import reference, sdk
from pacifica_fast._sodium import LONG_INPUT, lib
from pacifica_fast.errors import KeyClosed
from pacifica_fast.keys import Keypair

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [sdk, reference], ids=["sdk", "reference"])
HEADER = {"timestamp": 1748970123456, "expiry_window": 5000, "type": "cancel_order"}
CANCEL = {"symbol": "BTC", "order_id": 42069}
SEED = bytes(range(32))


class Duck:
    """Signs as any third-party keypair might."""

    def __init__(self, seed: bytes = SEED) -> None:
        self.key = SigningKey(seed)
        self.asked: list[bytes] = []

    def sign_message(self, message: bytes) -> bytes:
        assert type(message) is bytes
        self.asked.append(message)
        return self.key.sign(message).signature


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    pytest.importorskip("solders")
    return namespace()


@pytest.fixture
def own() -> Any:
    keypair = Keypair.from_seed(SEED)
    yield keypair
    keypair.close()


@pytest.fixture
def solders_keypair() -> Any:
    return pytest.importorskip("solders.keypair").Keypair.from_seed(SEED)


@pytest.fixture
def literal_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the literal path's steps, in the order the fast module took them."""
    taken: list[str] = []

    def spy(name: str) -> None:
        real = getattr(sdk, name)

        def noted(*arguments: Any) -> Any:
            taken.append(name)
            return real(*arguments)

        monkeypatch.setattr(sdk, name, noted)

    for name in ("_prepare_literally", "merge", "b58encode"):
        spy(name)
    return taken


def verify(account: str, message: str, signature: str) -> None:
    """Verify with two libraries, neither of which is our own code."""
    public_key, raw = reference.b58decode(account), reference.b58decode(signature)
    VerifyKey(public_key).verify(message.encode(), raw)
    Ed25519PublicKey.from_public_bytes(public_key).verify(raw, message.encode())


# One recorded keypair has an ``async`` sign_message, which nobody awaits.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*coroutine:pytest.PytestUnraisableExceptionWarning")
@IMPLEMENTATIONS
class TestContract:
    """All that the official SDK was recorded to do."""

    @pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
    def test_recorded_outcome(
        self, implementation: ModuleType, case: dict[str, Any], names: dict[str, Any]
    ) -> None:
        got = outcome(implementation.sign_message, *arguments(case, names))
        check_head(case, got)
        if case.get("verified_with_pubkey"):
            verify(CONFORMANCE["pubkey"], *got.result)

    @pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
    def test_prepare_message(
        self, implementation: ModuleType, case: dict[str, Any], names: dict[str, Any]
    ) -> None:
        """It gives the message that was signed; or the exception, unless the keypair is to blame."""
        header, payload, keypair = arguments(case, names)
        got = outcome(implementation.prepare_message, header, payload)
        signed = outcome(implementation.sign_message, *arguments(case, names))
        if signed.exception and not got.exception:
            assert type(got.result) is str
            assert type(keypair) is not names["Keypair"]
        elif signed.exception:
            assert got == signed
        else:
            assert got.result == signed.result[0]

    @pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
    def test_inputs_are_not_changed(
        self, implementation: ModuleType, case: dict[str, Any], names: dict[str, Any]
    ) -> None:
        header, payload, keypair = arguments(case, names)
        before = shape(header), shape(payload)
        outcome(implementation.sign_message, header, payload, keypair)
        assert (shape(header), shape(payload)) == before

    @pytest.mark.parametrize("vector", LEADING_ZERO_VECTORS)
    @pytest.mark.parametrize("kind", ["solders", "own", "duck"])
    def test_signatures_with_leading_zeros(
        self, implementation: ModuleType, vector: dict[str, Any], kind: str
    ) -> None:
        seed = eval(vector["seed"], {})
        if kind == "solders":
            keypair = pytest.importorskip("solders.keypair").Keypair.from_seed(seed)
            assert str(keypair.pubkey()) == vector["pubkey"]
        else:
            keypair = Keypair.from_seed(seed) if kind == "own" else Duck(seed)
        message, signature = implementation.sign_message(vector["header"], vector["payload"], keypair)
        assert (message, signature) == (vector["message"], vector["signature"])
        raw = reference.b58decode(signature)
        assert raw.hex() == vector["signature_hex"]
        assert len(raw) - len(raw.lstrip(b"\0")) == vector["leading_zero_bytes"]
        verify(vector["pubkey"], message, signature)

    @pytest.mark.parametrize("answer", KNOWN_ANSWERS, ids=range(len(KNOWN_ANSWERS)))
    def test_known_answer(self, implementation: ModuleType, answer: dict[str, Any]) -> None:
        header = {field: answer[field] for field in ("type", "timestamp", "expiry_window")}
        message = implementation.prepare_message(header, answer["data"])
        assert message == answer["message"]
        assert len(answer["signature"]) == answer["sig_len"]
        assert reference.b58encode(reference.b58decode(answer["signature"])) == answer["signature"]
        verify(answer["account"], message, answer["signature"])

    @pytest.mark.parametrize("function", list(FACTS["signatures"]))
    def test_parameters(self, implementation: ModuleType, function: str) -> None:
        parameters = inspect.signature(getattr(implementation, function)).parameters.values()
        assert f"({', '.join(p.name for p in parameters)})" == FACTS["signatures"][function]["head"]
        assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)

    @pytest.mark.parametrize(
        ("fact", "positional", "keywords"),
        [
            ("call with no args", (), {}),
            ("call with two args", (HEADER, CANCEL), {}),
            ("call with four args", (HEADER, CANCEL, None, None), {}),
            ("call with unknown keyword", (HEADER, CANCEL, None), {"x": 1}),
        ],
    )
    def test_wrong_calls(
        self, implementation: ModuleType, fact: str, positional: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        got = outcome(lambda: implementation.sign_message(*positional, **keywords))
        assert f"{got.exception}: {got.text}" == FACTS[fact]

    def test_results(self, implementation: ModuleType, own: Keypair) -> None:
        got = implementation.sign_message(header=HEADER, payload=CANCEL, keypair=own)
        assert FACTS["keyword_call_works"] is True
        assert type(got).__name__ == FACTS["return_type"]
        assert [type(part).__name__ for part in got] == FACTS["element_types"]
        assert got[0].isascii() is FACTS["message_is_ascii"]
        prepared = implementation.prepare_message(header=HEADER, payload=CANCEL)
        assert type(prepared).__name__ == FACTS["prepare_message_return"]["head"]
        assert prepared == got[0]

    def test_sort_json_keys(self, implementation: ModuleType) -> None:
        class MyList(list[Any]):
            pass

        sort = implementation.sort_json_keys
        facts = FACTS["sort_json_keys_types"]
        assert type(sort(OrderedDict(b=1, a=2))).__name__ == facts["OrderedDict ->"]
        assert type(sort(MyList([1]))).__name__ == facts["list subclass ->"]
        pair = ({"b": 1, "a": 2}, 2)
        number = 10**30
        assert facts["tuple ->"] == facts["scalar ->"] == "same object: True"
        assert sort(pair) is pair
        assert list(pair[0]) == ["b", "a"]
        assert sort(number) is number
        assert repr(sort(None)) == FACTS["sort_json_keys(None)"]
        value = {"b": [{"z": 1, "y": 2}], "a": {}}
        result = sort(value)
        assert json.dumps(result) == '{"a": {}, "b": [{"y": 2, "z": 1}]}'
        assert list(value) == ["b", "a"]
        assert result["a"] is not value["a"]

    def test_without_the_solana_tool(
        self,
        implementation: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        got = outcome(implementation.sign_with_hardware_wallet, HEADER, CANCEL, "usb://ledger")
        assert f"{got.exception}: {got.text}" == FACTS["sign_with_hardware_wallet without the solana CLI"]
        assert capsys.readouterr().out == FACTS["...and it prints"]

    def test_hardware_wallet(
        self,
        implementation: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        """Arguments reach the tool one by one, whatever a shell would make of them."""
        tool(tmp_path, monkeypatch, "print('approve on device'); print(); print('SiGnAtUrE'); print()")
        payload = {"symbol": '$(id); `id` "quoted"'}
        path = "usb://ledger?key=0; echo 1"
        message, signature = implementation.sign_with_hardware_wallet(HEADER, payload, path)
        assert message == reference.prepare_message(HEADER, payload)
        assert signature == "SiGnAtUrE"
        assert json.loads((tmp_path / "argv").read_text()) == ["sign-offchain-message", "-k", path, message]
        assert capsys.readouterr().out == ""

    def test_hardware_wallet_that_says_no(
        self,
        implementation: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        tool(tmp_path, monkeypatch, "sys.exit('no device')")
        got = outcome(implementation.sign_with_hardware_wallet, HEADER, CANCEL, "usb://ledger")
        assert got == Outcome(None, "Exception", "builtins", "Ledger signing failed: no device\n")
        assert capsys.readouterr().out == f"Error signing with Ledger: {got.text}\n"

    def test_hardware_wallet_is_not_asked_about_a_bad_header(
        self, implementation: ModuleType, capsys: pytest.CaptureFixture[str]
    ) -> None:
        got = outcome(implementation.sign_with_hardware_wallet, {}, CANCEL, "usb://ledger")
        assert got.exception == "ValueError"
        assert capsys.readouterr().out == ""

    def test_closed_key(self, implementation: ModuleType, own: Keypair) -> None:
        own.close()
        with pytest.raises(KeyClosed) as by_hand:
            own.sign_message(b"")
        with pytest.raises(KeyClosed) as caught:
            implementation.sign_message(HEADER, CANCEL, own)
        assert str(caught.value) == str(by_hand.value)
        # The order of checks holds for it, too.
        assert outcome(implementation.sign_message, {}, CANCEL, own).exception == "ValueError"
        assert outcome(implementation.sign_message, HEADER, Decimal(1), own).exception == "TypeError"


def shape(value: Any, depth: int = 0) -> Any:
    """Content, order and types of a value, to tell whether it was changed."""
    if depth > 210:
        return id(value)
    if isinstance(value, dict):
        return type(value), [
            (key, shape(dict.__getitem__(value, key), depth + 1)) for key in dict.keys(value)
        ]
    if isinstance(value, list | tuple):
        return type(value), [shape(item, depth + 1) for item in value]
    return type(value), id(value) if type(value) is not str else value


def tool(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a ``solana`` into the path that notes its arguments and does ``body``."""
    script = directory / "solana"
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"json.dump(sys.argv[1:], open({str(directory / 'argv')!r}, 'w'))\n{body}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(directory))


class Color(Enum):
    RED = "red"


class Side(str, Enum):  # noqa: UP042 -- not StrEnum
    BID = "bid"


class Count(IntEnum):
    TWO = 2


class FilteredDict(dict[Any, Any]):
    def keys(self) -> Any:
        return [key for key in dict.keys(self) if key != "hidden"]


class UpperDict(dict[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        return f"got {key}"


class DoubledList(list[Any]):
    def __iter__(self) -> Any:
        for item in list.__iter__(self):
            yield item
            yield item


class LoudInt(int):
    def __repr__(self) -> str:
        return "loud"


class OtherStr(str):
    def __str__(self) -> str:
        return "other"


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
plain_keys = st.sampled_from(["symbol", "a", "b", "é", "\U0001f600", "\ue000", "\x7f", "", "B"]) | any_text
odd_keys = (
    st.integers(-(2**66), 2**66)
    | st.none()
    | st.booleans()
    | st.floats()
    | any_text.map(OtherStr)
    | st.sampled_from([Side.BID, Count.TWO, Color.RED, (1, 2), b"x"])
)
plain_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    | any_text
)
odd_leaves = (
    st.floats()
    | st.binary(max_size=3)
    | st.decimals()
    | st.integers().map(LoudInt)
    | any_text.map(OtherStr)
    | st.uuids()
    | st.datetimes()
    | st.sampled_from([Side.BID, Count.TWO, Color.RED, {1, 2}, range(3), object, ...])
    | st.sampled_from([4299, 4300]).map(lambda zeros: 10**zeros)  # 4300 digits are the limit
    | st.builds(object)
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.dictionaries(plain_keys, inner, max_size=4)
    return st.lists(inner, max_size=4) | pairs


def odd_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.dictionaries(plain_keys | odd_keys, inner, max_size=4)
    return (
        containers(inner)
        | pairs
        | st.lists(inner, max_size=3).map(tuple)
        | pairs.map(OrderedDict)
        | st.dictionaries(plain_keys | st.just("hidden"), inner, max_size=3).map(FilteredDict)
        | st.dictionaries(plain_keys, inner, max_size=3).map(UpperDict)
        | st.lists(inner, max_size=3).map(DoubledList)
        | pairs.map(UserDict)
        | pairs.map(MappingProxyType)
        | inner.map(lambda shared: [shared, {"again": shared}, shared])
    )


plain_values = st.recursive(plain_leaves, containers, max_leaves=15)
odd_values = st.recursive(plain_leaves | odd_leaves, odd_containers, max_leaves=15)

required = {
    "type": plain_leaves | odd_leaves,
    "timestamp": st.integers() | odd_leaves,
    "expiry_window": st.integers() | odd_leaves,
}
plain_headers = st.fixed_dictionaries(
    {"type": any_text, "timestamp": st.integers(0, 2**63), "expiry_window": st.integers(0, 2**32)},
    optional={"data": plain_leaves, "extra": plain_values, "zz": plain_leaves},
)
odd_headers = (
    st.fixed_dictionaries(required, optional={"data": odd_values, "extra": odd_values})
    | st.fixed_dictionaries({}, optional={**required, "other": plain_leaves})
    | plain_headers.map(OrderedDict)
    | plain_headers.map(UserDict)
    | plain_headers.map(MappingProxyType)
    | plain_headers.map(UpperDict)
    | plain_headers.map(lambda header: ChainMap({}, header))
    | plain_headers.map(lambda header: {OtherStr(key): value for key, value in header.items()})
    | plain_headers.map(lambda header: {**header, 1: 2})
    | plain_headers.map(list)
    | odd_values
)


def close_ring(value: Any, path: list[int]) -> Any:
    """Put ``value`` itself somewhere inside it, if there is a list or dict to take it."""
    spot, seen = value, 0
    while seen < 20:
        seen += 1
        children = list(spot.values()) if isinstance(spot, dict) else spot
        inner = [child for child in children if isinstance(child, dict | list | tuple) and child]
        if not inner or seen > len(path):
            break
        spot = inner[path[seen - 1] % len(inner)]
    if type(spot) is dict:
        spot["ring"] = value
    elif type(spot) is list:
        spot.append(value)
    return value


ring_skeletons = st.recursive(
    st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=2).map(tuple)
    ),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict | list | tuple))
rings = st.builds(close_ring, ring_skeletons, st.lists(st.integers(0, 5), max_size=5))


def keypairs() -> list[Any]:
    """One of each kind, all of the same seed."""
    pair: list[Any] = [Duck(), Keypair.from_seed(SEED)]
    try:
        from solders.keypair import Keypair as SoldersKeypair
    except ImportError:
        return pair
    return [*pair, SoldersKeypair.from_seed(SEED)]


KEYPAIRS = keypairs()


def assert_no_difference(header: Any, payload: Any) -> None:
    wanted = outcome(reference.prepare_message, header, payload)
    assert outcome(sdk.prepare_message, header, payload) == wanted
    for keypair in KEYPAIRS:
        by_reference = outcome(reference.sign_message, header, payload, keypair)
        assert outcome(sdk.sign_message, header, payload, keypair) == by_reference
        assert by_reference.exception or by_reference.result[0] == wanted.result


class TestNoDifference:
    """hypothesis finds no input on which the fast module and the reference differ."""

    @given(plain_headers, plain_values)
    @settings(max_examples=300)
    def test_plain(self, header: Any, payload: Any) -> None:
        assert_no_difference(header, payload)

    @given(plain_headers, odd_values)
    @settings(max_examples=400)
    def test_odd_payloads(self, header: Any, payload: Any) -> None:
        assert_no_difference(header, payload)

    @given(odd_headers, plain_values | odd_values)
    @settings(max_examples=300)
    def test_odd_headers(self, header: Any, payload: Any) -> None:
        assert_no_difference(header, payload)

    @given(rings, st.booleans())
    @settings(max_examples=100)
    def test_rings(self, payload: Any, in_header: bool) -> None:
        header = {**HEADER, "extra": payload} if in_header else HEADER
        assert_no_difference(header, payload)

    @pytest.mark.parametrize("levels", [*range(195, 206), 250, 256, 300, 5_000])
    @pytest.mark.parametrize("kind", ["list", "dict", "both"])
    def test_depths(self, levels: int, kind: str) -> None:
        value: Any = "core"
        for level in range(levels):
            as_list = kind == "list" or (kind == "both" and level % 2)
            value = [value] if as_list else {"a": value, "B": 1}
        assert_no_difference(HEADER, value)
        assert_no_difference({**HEADER, "extra": value}, {})

    def test_where_recursion_ends(self) -> None:
        """To the very level, though the two modules have different frames."""
        for module in (sdk, reference):
            deepest = 0
            value: Any = {}
            while not outcome(module.sign_message, HEADER, value, KEYPAIRS[0]).exception:
                deepest += 1
                value = {"a": value}
                if deepest > 20_000:
                    pytest.skip("recursion has no end here")
            if module is sdk:
                by_sdk = deepest
        assert by_sdk == deepest

    @pytest.mark.parametrize("size", [1_000, 1_024, 1_025, 5_000, 16_300, 16_400, 300_000])
    @pytest.mark.parametrize("character", ["x", "\x7f", "\x01", "é", "\uffff", "\U0001f600", '"'])
    def test_sizes(self, size: int, character: str) -> None:
        """Kept buffers, fresh ones, and the calls without the GIL."""
        assert_no_difference(HEADER, {"v": character * (size // len(character.encode()))})

    @pytest.mark.parametrize(
        "code",
        [*range(0x100), 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF],
    )
    def test_characters(self, code: int) -> None:
        assert_no_difference(HEADER, {chr(code): f"a{chr(code)}b", "k" + chr(code): [chr(code)]})

    def test_key_order_is_that_of_code_points(self) -> None:
        keys = ["\uffff", "\U00010000", "\ue000", "a", "B", "", "aa", "a\0", "é", "\x7f", "~"]
        assert_no_difference(HEADER, dict.fromkeys(keys, 1))
        message, _ = sdk.sign_message(HEADER, dict.fromkeys(keys, 1), KEYPAIRS[-1])
        assert list(json.loads(message)["data"]) == sorted(keys)


class TestFastPath:
    """Where it is taken, and where it must not be."""

    def test_taken_for_both_keypairs(
        self, own: Keypair, solders_keypair: Any, literal_calls: list[str]
    ) -> None:
        for keypair in (own, solders_keypair):
            for size in (0, 1_000, 10_000, 100_000):
                sdk.sign_message(HEADER, {"v": "x" * size}, keypair)
            sdk.sign_message(HEADER, {"v": "é" * 450}, keypair)  # three times the size when canonical
        sdk.prepare_message(HEADER, CANCEL)
        assert literal_calls == []

    @pytest.mark.core
    @pytest.mark.parametrize("more", [0, 1])
    def test_long_ones_are_signed_without_the_gil(
        self, own: Keypair, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch, more: int
    ) -> None:
        asked: list[str] = []

        class Watched:
            def __getattr__(self, name: str) -> Any:
                asked.append(name)
                return getattr(lib, name)

        monkeypatch.setattr(sdk, "lib", Watched())
        around = len(json.dumps({**HEADER, "data": {"v": ""}}, separators=(",", ":")))
        for keypair in (own, solders_keypair):
            asked.clear()
            sdk.sign_message(HEADER, {"v": "x" * (LONG_INPUT - around + more)}, keypair)
            assert [name.endswith("_detached") for name in asked] == [bool(more)] * 2

    @pytest.mark.parametrize(
        "payload", [{"price": 1.0}, {"a": (1,)}, {1: 2}, {"a": 2**64}, {"a": "\ud800"}, {"side": Side.BID}]
    )
    def test_not_taken_for_what_is_not_plain(
        self, own: Keypair, literal_calls: list[str], payload: Any
    ) -> None:
        sdk.sign_message(HEADER, payload, own)
        assert literal_calls == ["_prepare_literally", "b58encode"]
        sdk.prepare_message(HEADER, payload)
        assert literal_calls[2:] == ["merge"]

    def test_not_taken_for_other_keypairs(self, literal_calls: list[str]) -> None:
        duck = Duck()
        message, _ = sdk.sign_message(HEADER, CANCEL, duck)
        assert literal_calls == ["_prepare_literally", "b58encode"]
        assert duck.asked == [message.encode()]

    def test_subclass_of_our_keypair_signs_itself(self) -> None:
        class Mine(Keypair):
            def sign_message(self, message: bytes) -> bytes:
                return b"\1" * 64

        keypair = Mine.from_seed(SEED)
        assert type(keypair) is Mine
        assert sdk.sign_message(HEADER, CANCEL, keypair)[1] == reference.b58encode(b"\1" * 64)

    def test_subclass_of_solders_keypair_signs_itself(
        self, solders_keypair: Any, literal_calls: list[str]
    ) -> None:
        base = type(solders_keypair)

        class Mine(base):  # type: ignore[misc, valid-type]
            def sign_message(self, message: bytes) -> bytes:
                return b"\1" * 64

        class Plain(base):  # type: ignore[misc, valid-type]
            pass

        assert sdk.sign_message(HEADER, CANCEL, Mine())[1] == reference.b58encode(b"\1" * 64)
        assert literal_calls == ["_prepare_literally", "b58encode"]
        sdk.sign_message(HEADER, CANCEL, Plain())
        assert literal_calls[2:] == ["_prepare_literally", "b58encode"]

    @pytest.mark.parametrize("which", ["own", "solders_keypair"])
    def test_patched_sign_message_is_called(
        self, which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keypair = request.getfixturevalue(which)
        real = sdk.sign_message(HEADER, CANCEL, keypair)
        monkeypatch.setattr(type(keypair), "sign_message", lambda self, message: b"\1" * 64)
        assert sdk.sign_message(HEADER, CANCEL, keypair)[1] == reference.b58encode(b"\1" * 64)
        monkeypatch.undo()
        assert sdk.sign_message(HEADER, CANCEL, keypair) == real

    def test_patched_bytes_of_solders_changes_nothing(
        self, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = sdk.sign_message(HEADER, CANCEL, solders_keypair)
        other = bytes(type(solders_keypair).from_seed(bytes(32)))
        kept = other[:32] + other[32:]
        monkeypatch.setattr(type(solders_keypair), "__bytes__", lambda self: other)
        assert sdk.sign_message(HEADER, CANCEL, solders_keypair) == real
        assert other == kept

    @pytest.mark.parametrize("size", [1, 5_000, 50_000], ids=["kept buffer", "own buffer", "without the GIL"])
    def test_what_c_refuses_takes_the_literal_path(
        self, own: Keypair, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        payload = {"v": "x" * size}
        wanted = reference.sign_message(HEADER, payload, solders_keypair)
        for pair in (bytes(solders_keypair)[:32], bytes(64), bytes(solders_keypair) + b"x"):
            monkeypatch.setattr(sdk, "_solders_bytes", lambda _, pair=pair: bytes(bytearray(pair)))
            assert sdk.sign_message(HEADER, payload, solders_keypair) == wanted
        own.close()
        with pytest.raises(KeyClosed):
            sdk.sign_message(HEADER, payload, own)

    @pytest.mark.parametrize("code", [-1, -2, -3, -5, -7, -20, -99])
    def test_every_refusal_of_c_takes_the_literal_path(
        self, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch, literal_calls: list[str], code: int
    ) -> None:
        wanted = reference.sign_message(HEADER, CANCEL, solders_keypair)
        monkeypatch.setattr(sdk, "_sign_pair", lambda *_: code)
        assert sdk.sign_message(HEADER, CANCEL, solders_keypair) == wanted
        assert literal_calls == ["_prepare_literally", "b58encode"]

    def test_pair_whose_halves_do_not_match(
        self, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch, literal_calls: list[str]
    ) -> None:
        """C refuses to sign with a foreign public half; solders then signs on its own account."""
        wanted = sdk.sign_message(HEADER, CANCEL, solders_keypair)
        monkeypatch.setattr(sdk, "_solders_bytes", lambda keypair: bytes(keypair)[:32] + bytes(32))
        assert sdk.sign_message(HEADER, CANCEL, solders_keypair) == wanted
        assert literal_calls == ["_prepare_literally", "b58encode"]


class TestSignJson:
    """What integrations call: JSON that somebody else wrote."""

    def test_as_sign_message(self, own: Keypair, solders_keypair: Any) -> None:
        json_text = json.dumps({**HEADER, "data": CANCEL}).encode()
        for keypair in (own, solders_keypair):
            assert sdk.sign_json(json_text, keypair) == sdk.sign_message(HEADER, CANCEL, keypair)

    def test_none_for_what_c_does_not_know(self, solders_keypair: Any) -> None:
        assert sdk.sign_json(b"{}", solders_keypair) is not None
        assert sdk.sign_json(b"{}", Duck()) is None

    def test_none_for_a_keypair_that_signs_in_another_way(
        self, own: Keypair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Keypair, "sign_message", lambda self, message: bytes(64))
        assert sdk.sign_json(b"{}", own) is None

    def test_none_for_solders_that_signs_in_another_way(
        self, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert sdk.sign_json(b"{}", solders_keypair) is not None
        monkeypatch.setattr(type(solders_keypair), "sign_message", lambda self, message: bytes(64))
        assert sdk.sign_json(b"{}", solders_keypair) is None

    def test_none_for_what_is_no_json(self, own: Keypair) -> None:
        assert sdk.sign_json(b"{", own) is None


class TestSecrets:
    @pytest.mark.parametrize("size", [1, 5_000, 50_000], ids=["kept buffer", "own buffer", "without the GIL"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_pair_of_solders_is_wiped(
        self, solders_keypair: Any, monkeypatch: pytest.MonkeyPatch, size: int, fails: bool
    ) -> None:
        sdk.sign_message(HEADER, CANCEL, solders_keypair)
        pairs: list[bytes] = []
        addresses: list[int] = []

        def keep(keypair: Any) -> bytes:
            raw = bytes(keypair)
            pair = raw[:32] + (bytes(32) if fails else raw[32:])
            assert pair != bytes(64)
            pairs.append(pair)
            addresses.append(id(pair))
            return pair

        monkeypatch.setattr(sdk, "_solders_bytes", keep)
        sdk.sign_message(HEADER, {"v": "x" * size}, solders_keypair)
        assert pairs == [bytes(64)]
        assert ctypes.string_at(addresses[0] + bytes.__basicsize__ - 1, 64) == bytes(64)

    def test_what_solders_hands_out_is_a_fresh_object(self, solders_keypair: Any) -> None:
        """Wiping it in place is right only because nobody else can hold it."""
        one, other = bytes(solders_keypair), bytes(solders_keypair)
        assert one is not other
        assert type(one) is bytes
        assert len(one) == 64
        alone = bytes(bytearray(64))  # how many references that makes differs: CPython 3.14 borrows this one
        assert sys.getrefcount(one) == sys.getrefcount(alone)
        assert not gc.is_tracked(one)

    def test_key_is_unharmed_by_the_wipe(self, solders_keypair: Any) -> None:
        before = bytes(solders_keypair)
        for _ in range(3):
            sdk.sign_message(HEADER, CANCEL, solders_keypair)
        assert bytes(solders_keypair) == before != bytes(64)

    def test_kept_buffers_hold_no_secret(self, solders_keypair: Any, own: Keypair) -> None:
        for keypair in (solders_keypair, own):
            sdk.sign_message(HEADER, CANCEL, keypair)
        assert sdk._idle_buffers
        for _, view in sdk._idle_buffers:
            assert SEED not in view[:]


class TestSolders:
    """It is recognised, never imported."""

    @staticmethod
    def run(program: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run([sys.executable, "-c", program], check=True, env=environment)

    def test_never_imported(self) -> None:
        self.run(
            """
import sys
sys.modules["solders"] = None          # an attempt to import it would raise
from pacifica_fast import sdk, sdk_legacy
from pacifica_fast.keys import Keypair
header = {"type": "x", "timestamp": 1, "expiry_window": 2}
key = Keypair.from_seed(bytes(32))
for payload in ({"a": 1}, {"a": 1.0}):
    sdk.sign_message(header, payload, key)
    sdk_legacy.sign_message(header, payload, key)
    sdk.prepare_message(header, payload)
class Duck:
    def sign_message(self, message):
        return bytes(64)
sdk.sign_message(header, {}, Duck())
assert [name for name in sys.modules if name.startswith("solders")] == ["solders"]
assert sdk._solders_keypair is None
"""
        )

    def test_recognised_when_imported_later(self) -> None:
        pytest.importorskip("solders")
        self.run(
            """
import sys
from pacifica_fast import sdk
header = {"type": "x", "timestamp": 1, "expiry_window": 2}
class Keypair:
    def sign_message(self, message):
        return bytes(64)
assert sdk.sign_message(header, {}, Keypair())[1] == "1" * 64
assert sdk._solders_keypair is None
assert "solders" not in sys.modules
from solders.keypair import Keypair
key = Keypair.from_seed(bytes(32))
sdk._prepare_literally = None  # no literal path any more
signed = sdk.sign_message(header, {}, key)
assert sdk._solders_keypair is Keypair
from pacifica_fast import reference
assert signed == reference.sign_message(header, {}, key)
"""
        )

    def test_impostors(self) -> None:
        """A stub put in solders' place is called, like any keypair, and not believed."""
        self.run(
            """
import sys, types
from pacifica_fast import reference, sdk
header = {"type": "x", "timestamp": 1, "expiry_window": 2}
class Keypair:
    def sign_message(self, message):
        return b"\\1" * 64
    def __bytes__(self):
        raise AssertionError("asked for its secret")
Keypair.__module__, Keypair.__qualname__ = "solders.keypair", "Keypair"
stub = types.ModuleType("solders.keypair")
sys.modules["solders.keypair"] = stub
assert sdk.sign_message(header, {}, Keypair())[1] == reference.b58encode(b"\\1" * 64)  # no such attribute
for found in (Keypair, Keypair(), int, type, None, lambda: None):
    stub.Keypair = found
    assert sdk.sign_message(header, {}, Keypair())[1] == reference.b58encode(b"\\1" * 64)
native, ours = bytes.hex, Keypair.sign_message  # one native method is not enough
for sign, to_bytes in ((native, ours), (ours, native)):
    members = {"sign_message": sign, "__bytes__": to_bytes, "__module__": "solders.keypair"}
    stub.Keypair = type("Keypair", (), members)
    assert sdk._find_solders() is None
assert sdk._solders_keypair is None
"""
        )


class TestThreads:
    def test_answers_do_not_mix(self) -> None:
        """Many threads, many sizes, every answer that of its own call."""
        payloads = [{"order_id": number, "pad": "x" * (number * 37 % 3000)} for number in range(60)]
        wanted = [reference.sign_message(HEADER, payload, KEYPAIRS[0]) for payload in payloads]
        wrong: list[int] = []

        def work(start: int) -> None:
            keypair = KEYPAIRS[start % 2 + 1] if len(KEYPAIRS) > 2 else KEYPAIRS[1]
            for turn in range(600):
                number = (start * 7 + turn) % len(payloads)
                if sdk.sign_message(HEADER, payloads[number], keypair) != wanted[number]:
                    wrong.append(number)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert wrong == []
        assert len({id(out) for out, _ in sdk._idle_buffers}) == len(sdk._idle_buffers)

    def test_call_inside_a_call(self, own: Keypair) -> None:
        """A signal handler, finaliser or trace function that signs does not disturb the call it is in."""
        inner_payload = {"inner": "y" * 100}
        inner = reference.sign_message(HEADER, inner_payload, own)
        wanted = reference.sign_message(HEADER, CANCEL, own)
        depth = calls = 0

        def trace(frame: types.FrameType, event: str, _: Any) -> Any:
            nonlocal depth, calls
            if depth == 0 and frame.f_code.co_filename == sdk.__file__:
                depth += 1
                calls += 1
                assert sdk.sign_message(HEADER, inner_payload, own) == inner
                depth -= 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            got = sdk.sign_message(HEADER, CANCEL, own)
        finally:
            sys.settrace(before)
        assert got == wanted
        assert calls > 10


def test_deep_copy_of_inputs_is_equal_afterwards(own: Keypair) -> None:
    header: dict[str, Any] = {**HEADER, "data": {"z": 1, "a": [1]}}
    payload: dict[str, Any] = {"z": [{"b": 1, "a": 2}], "a": {}}
    before = copy.deepcopy((header, payload))
    message, _ = sdk.sign_message(header, payload, own)
    assert (header, payload) == before
    assert list(header) == list(before[0])
    assert list(payload["z"][0]) == ["b", "a"]
    assert json.loads(message)["data"] == payload
