# SPDX-License-Identifier: MIT
from __future__ import annotations

import gc
import json
import re
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from pacifica_fast import InvalidRequest, KeyClosed, Keypair, Request, Signer, reference
from pacifica_fast._sodium import LONG_INPUT, ffi, lib

SEED = bytes(range(1, 33))
U64_MAX = 2**64 - 1
I64_MAX = 2**63 - 1
CLIENT_ID = "79f948fd-7556-4066-a128-083f3ea49322"
REQUEST_ID = "1bb2b72f-f545-4938-8a38-c5cda8823675"
OTHER_ACCOUNT = reference.b58encode(b"\xff" * 32)

keypair = Keypair.from_seed(SEED)
signer = Signer(keypair)
agent = Signer(keypair, account=OTHER_ACCOUNT, expiry_window=30_000)


# An independent verifier: rebuilds what must have been signed with json, and asks cryptography.

SIGNED_ALONG = ("account", "agent_wallet", "signature", "timestamp", "expiry_window")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def verify_bytes(public_key: str, signature: str, message: bytes) -> None:
    key = Ed25519PublicKey.from_public_bytes(reference.b58decode(public_key))
    key.verify(reference.b58decode(signature), message)


def verify_fields(operation: str, fields: dict[str, Any]) -> None:
    message = canonical(
        {
            "type": operation,
            "timestamp": fields["timestamp"],
            "expiry_window": fields["expiry_window"],
            "data": {name: value for name, value in fields.items() if name not in SIGNED_ALONG},
        }
    )
    who = fields.get("agent_wallet", fields["account"])
    verify_bytes(who, fields["signature"], message)
    for at in (0, len(message) // 2, len(message) - 1):
        with pytest.raises(InvalidSignature):
            verify_bytes(
                who, fields["signature"], message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
            )


def verify(request: Request) -> dict[str, Any]:
    """Check id, form and every signature of a request; return its operation's fields."""
    decoded: dict[str, Any] = json.loads(request.text)
    assert list(decoded) == ["id", "params"]
    assert json.dumps(decoded, separators=(",", ":")).encode() == request.text  # compact, ASCII
    assert decoded["id"] == request.id
    assert str(uuid.UUID(request.id)) == request.id
    [(operation, fields)] = decoded["params"].items()
    assert request.operation == operation
    if operation == "batch_orders":
        for action in fields["actions"]:
            assert action["type"] == "Cancel"
            verify_fields("cancel_order", action["data"])
    else:
        verify_fields(operation, fields)
    result: dict[str, Any] = fields
    return result


def without_signature(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "signature"}


# The documented examples.


def test_documented_cancel_example() -> None:
    """protocol.md, 2.4, but for the account and signature, which it abridges."""
    request = signer.cancel_order(
        "BTC", client_order_id=CLIENT_ID, timestamp=1749223343149, expiry_window=5000, request_id=REQUEST_ID
    )
    fields = verify(request)
    expected = (
        f'{{"id":"{REQUEST_ID}","params":{{"cancel_order":{{"account":"{keypair.pubkey()}","signature":"'
        f'{fields["signature"]}","timestamp":1749223343149,"expiry_window":5000,"symbol":"BTC",'
        f'"client_order_id":"{CLIENT_ID}"}}}}}}'
    )
    assert request.text == expected.encode()


def test_signature_is_that_of_the_documented_message() -> None:
    request = signer.cancel_order("BTC", order_id=42069, timestamp=1749223343149)
    message = (
        b'{"data":{"order_id":42069,"symbol":"BTC"},"expiry_window":5000,'
        b'"timestamp":1749223343149,"type":"cancel_order"}'
    )
    assert verify(request)["signature"] == reference.b58encode(keypair.sign_message(message))


# Every type of request.


@pytest.mark.parametrize("who", [signer, agent], ids=["account", "agent"])
class TestRequests:
    def start(self, who: Signer) -> dict[str, Any]:
        """What every signed object starts with, the signature left out."""
        start: dict[str, Any] = {"account": who.account}
        if who.agent_wallet:
            start["agent_wallet"] = who.agent_wallet
        return start | {"timestamp": 7, "expiry_window": who.expiry_window}

    def check(self, request: Request, who: Signer, **data: Any) -> None:
        fields = verify(request)
        expected = self.start(who) | data
        assert list(without_signature(fields).items()) == list(expected.items())  # the order too
        assert list(fields)[2 if who.agent_wallet else 1] == "signature"
        assert request.timestamp == 7
        assert request.expiry_window == fields["expiry_window"]

    @pytest.mark.parametrize("order_id", [0, 1, 42069, 2**53 + 1, 2**63, U64_MAX])
    def test_cancel_by_order_id(self, who: Signer, order_id: int) -> None:
        request = who.cancel_order("BTC", order_id=order_id, timestamp=7)
        self.check(request, who, symbol="BTC", order_id=order_id)

    @pytest.mark.parametrize("client_order_id", [CLIENT_ID, uuid.UUID(CLIENT_ID)])
    def test_cancel_by_client_order_id(self, who: Signer, client_order_id: Any) -> None:
        request = who.cancel_order("BTC", client_order_id=client_order_id, timestamp=7)
        self.check(request, who, symbol="BTC", client_order_id=CLIENT_ID)

    @pytest.mark.parametrize("exclude", [False, True])
    def test_cancel_all(self, who: Signer, exclude: bool) -> None:
        request = who.cancel_all_orders(exclude_reduce_only=exclude, timestamp=7)
        self.check(request, who, all_symbols=True, exclude_reduce_only=exclude)
        request = who.cancel_all_orders(symbol="ETH", exclude_reduce_only=exclude, timestamp=7)
        self.check(request, who, all_symbols=False, exclude_reduce_only=exclude, symbol="ETH")

    @pytest.mark.parametrize("count", range(1, 11))
    def test_batch(self, who: Signer, count: int) -> None:
        orders: list[Any] = [1, CLIENT_ID, uuid.UUID(CLIENT_ID), U64_MAX, 0]
        cancels = [(f"SYM{index}", orders[index % 5]) for index in range(count)]
        request = who.batch_cancel(cancels, timestamp=7)
        actions = verify(request)["actions"]
        for (symbol, order), action in zip(cancels, actions, strict=True):
            assert list(action) == ["type", "data"]
            which = {"order_id": order} if isinstance(order, int) else {"client_order_id": str(order)}
            expected = self.start(who) | {"symbol": symbol} | which
            assert list(without_signature(action["data"]).items()) == list(expected.items())
        assert (request.timestamp, request.expiry_window) == (7, who.expiry_window)
        assert len(request.text) < 4096 or count == 10  # a limit that one source reports

    def test_any_operation(self, who: Signer) -> None:
        data = {
            "symbol": "BTC",
            "stop_order": {"stop_price": "1", "amount": "2"},
            "reduce_only": False,
            "none": None,
            "list": [1, {"b": 1, "a": 2}, "x"],
            "é": "\x7f\u2028😀",
        }
        request = who.request("create_stop_order", data, timestamp=7)
        fields = verify(request)
        assert without_signature(fields) == self.start(who) | data
        assert list(fields)[-len(data) :] == sorted(data)

    def test_empty_payload(self, who: Signer) -> None:
        request = who.request("list_subaccounts", {}, timestamp=7)
        assert without_signature(verify(request)) == self.start(who)

    def test_sign(self, who: Signer) -> None:
        data = {"b": [1, {"d": None, "c": True}], "a": "é"}
        signed = who.sign("create_order", data, timestamp=7)
        header = {"type": "create_order", "timestamp": 7, "expiry_window": who.expiry_window}
        assert signed.message.encode() == canonical(header | {"data": data})
        assert (signed.timestamp, signed.expiry_window) == (7, who.expiry_window)
        verify_bytes(keypair.pubkey(), signed.signature, signed.message.encode())

    def test_own_window_for_one_request(self, who: Signer) -> None:
        requests = [
            who.cancel_order("BTC", order_id=1, expiry_window=123),
            who.cancel_all_orders(expiry_window=123),
            who.batch_cancel([("BTC", 1), ("ETH", 2)], expiry_window=123),
            who.request("x", {}, expiry_window=123),
        ]
        for request in requests:
            verify(request)
            assert request.expiry_window == 123
        assert who.sign("x", {}, expiry_window=123).expiry_window == 123
        assert who.cancel_order("BTC", order_id=1).expiry_window == who.expiry_window

    def test_the_clock(self, who: Signer) -> None:
        before = time.time_ns() // 1_000_000
        requests = [
            who.cancel_order("BTC", order_id=1),
            who.cancel_all_orders(),
            who.batch_cancel([("BTC", 1)]),
            who.request("x", {}),
        ]
        stamps = [*(request.timestamp for request in requests), who.sign("x", {}).timestamp]
        after = time.time_ns() // 1_000_000
        assert all(before <= stamp <= after for stamp in stamps)

    @pytest.mark.parametrize("request_id", [REQUEST_ID, uuid.UUID(REQUEST_ID)])
    def test_own_request_id(self, who: Signer, request_id: Any) -> None:
        requests = [
            who.cancel_order("BTC", order_id=1, request_id=request_id),
            who.cancel_all_orders(request_id=request_id),
            who.batch_cancel([("BTC", 1)], request_id=request_id),
            who.request("x", {}, request_id=request_id),
        ]
        for request in requests:
            verify(request)
            assert request.id == REQUEST_ID


# Properties.

plain_symbols = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=32
)
milliseconds = st.integers(1, I64_MAX)
order_ids = st.integers(0, U64_MAX)
uuids = st.uuids()
scalars = st.none() | st.booleans() | st.integers() | st.text()
payloads = st.dictionaries(
    st.text().filter(lambda name: name not in SIGNED_ALONG),
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10),
)


def decoded(text: bytes) -> Any:
    """By orjson, except for integers of more than 64 bits, which are floats to it."""
    return orjson.loads(text)


@given(plain_symbols, order_ids, milliseconds, milliseconds, uuids)
@example("X" * 32, U64_MAX, I64_MAX, I64_MAX, uuid.UUID(int=2**128 - 1))
@example(" ", 0, 1, 1, uuid.UUID(int=0))
def test_cancel_order_is_what_json_would_write(
    symbol: str, order_id: int, timestamp: int, window: int, request_id: uuid.UUID
) -> None:
    for who in (signer, agent):
        request = who.cancel_order(
            symbol, order_id=order_id, timestamp=timestamp, expiry_window=window, request_id=request_id
        )
        fields = verify(request)
        expected: dict[str, Any] = {"account": who.account}
        if who.agent_wallet:
            expected["agent_wallet"] = who.agent_wallet
        expected["signature"] = fields["signature"]
        expected |= {"timestamp": timestamp, "expiry_window": window, "symbol": symbol, "order_id": order_id}
        whole = {"id": str(request_id), "params": {"cancel_order": expected}}
        assert decoded(request.text) == whole
        assert request.text == json.dumps(whole, separators=(",", ":")).encode()


@given(plain_symbols, uuids, milliseconds)
def test_cancel_by_client_id_is_what_json_would_write(symbol: str, order: uuid.UUID, timestamp: int) -> None:
    request = signer.cancel_order(symbol, client_order_id=order, timestamp=timestamp)
    fields = verify(request)
    assert (fields["symbol"], fields["client_order_id"]) == (symbol, str(order))
    assert list(fields) == ["account", "signature", "timestamp", "expiry_window", "symbol", "client_order_id"]


@given(st.lists(st.tuples(plain_symbols, order_ids | uuids), min_size=1, max_size=10))
def test_any_batch_verifies(cancels: list[Any]) -> None:
    actions = verify(agent.batch_cancel(cancels))["actions"]
    for (symbol, order), action in zip(cancels, actions, strict=True):
        data = action["data"]
        assert data["symbol"] == symbol
        assert data.get("order_id", data.get("client_order_id")) == (
            order if isinstance(order, int) else str(order)
        )


@given(payloads)
def test_any_payload_verifies(data: dict[str, Any]) -> None:
    request = signer.request("some_operation", data, timestamp=1)
    fields = verify(request)
    assert {name: value for name, value in fields.items() if name not in SIGNED_ALONG} == data
    signed = signer.sign("some_operation", data, timestamp=1)
    assert signed.signature == fields["signature"]


@pytest.mark.parametrize(
    "data",
    [{"memo": "\ud800"}, {"memo": 2**64}, {"memo": -(2**63) - 1}, {"memo": 10**400}, {"memo": 10**4000}],
    ids=["lone surrogate", "2^64", "-2^63-1", "401 digits", "4001 digits"],
)
def test_what_orjson_cannot_read(data: dict[str, Any]) -> None:
    """Lone surrogates and long integers: signed, and their requests can be asked."""
    signed = signer.sign("x", data, timestamp=7)
    header = {"type": "x", "timestamp": 7, "expiry_window": 5000}
    assert signed.message.encode() == canonical(header | {"data": data})
    assert (signed.timestamp, signed.expiry_window) == (7, 5000)
    request = signer.request("x", data, timestamp=7)
    assert verify(request)["memo"] == data["memo"]
    assert (request.operation, request.timestamp, request.expiry_window) == ("x", 7, 5000)
    assert repr(request) == f"<Request x {request.id}>"


@pytest.mark.parametrize("size", [1000, 2000, 16_000, 17_000, 64 << 10, 1 << 20])
def test_payloads_of_any_size(size: int) -> None:
    data = {"text": "x" * size, "é": "é" * (size // 10), "list": list(range(size // 100))}
    for who in (signer, agent):
        assert verify(who.request("x", data))["text"] == data["text"]
        signed = who.sign("x", data)
        verify_bytes(keypair.pubkey(), signed.signature, signed.message.encode())


@pytest.mark.core
@pytest.mark.parametrize("more", [0, 1])
def test_long_payloads_are_signed_without_the_gil(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    asked: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(lib, name)

    monkeypatch.setattr("pacifica_fast.signer.lib", Watched())
    data = {"v": "x" * (LONG_INPUT - len('{"v":""}') + more)}
    signer.request("x", data)
    signer.sign("x", data)
    calls = ["pf_request", "pf_sign_data"]
    assert [name in asked for name in calls] == [not more] * 2
    assert [f"{name}_detached" in asked for name in calls] == [bool(more)] * 2


# Refusals: an error that names the field, and no signature.


class MyStr(str):
    pass


class MyInt(int):
    pass


BAD: dict[str, list[Any]] = {
    "symbol": [
        "",
        "X" * 33,
        'B"TC',
        "B\\TC",
        "B\nTC",
        "B\x7fTC",
        "BTC\0",
        "é",
        "\ud800",
        b"BTC",
        7,
        MyStr("BTC"),
    ],
    "order_id": [-1, U64_MAX + 1, 10**30, 1.0, "1", True, b"1", MyInt(1), [1]],
    "client_order_id": [
        "",
        CLIENT_ID.upper(),
        CLIENT_ID.replace("-", ""),
        "{" + CLIENT_ID + "}",
        CLIENT_ID + "0",
        CLIENT_ID[:-1],
        CLIENT_ID[:-1] + "g",
        CLIENT_ID[:-1] + '"',
        CLIENT_ID[:-1] + "é",
        CLIENT_ID[:-1] + "\ud800",
        CLIENT_ID.encode(),
        7,
        True,
        MyStr(CLIENT_ID),
    ],
    "timestamp": [0, -1, 2**63, 10**30, 1.0, "1", True, MyInt(1)],
    "expiry_window": [0, -1, 2**63, 10**30, 1.0, "1", True, MyInt(1)],
    "request_id": ["", "x", REQUEST_ID.upper(), REQUEST_ID + " ", REQUEST_ID.encode(), 7, MyStr(REQUEST_ID)],
    "exclude_reduce_only": [None, 0, 1, "true"],
}

Call = Callable[..., Any]


def frame_of_cancel(
    symbol: Any,
    order_id: Any = None,
    client_order_id: Any = None,
    timestamp: Any = None,
    expiry_window: Any = None,
) -> bytes:
    return signer.cancel_order_frame(symbol, order_id, client_order_id, timestamp, expiry_window, 0)


CALLS: dict[str, tuple[Call, dict[str, Any], list[str]]] = {
    "cancel_order": (
        signer.cancel_order,
        {"symbol": "BTC", "order_id": 1},
        ["symbol", "order_id", "timestamp", "expiry_window", "request_id"],
    ),
    "cancel_order by client id": (
        signer.cancel_order,
        {"symbol": "BTC", "client_order_id": CLIENT_ID},
        ["symbol", "client_order_id", "timestamp", "expiry_window", "request_id"],
    ),
    "cancel_order_frame": (
        frame_of_cancel,
        {"symbol": "BTC", "order_id": 1},
        ["symbol", "order_id", "timestamp", "expiry_window"],
    ),
    "cancel_order_frame by client id": (
        frame_of_cancel,
        {"symbol": "BTC", "client_order_id": CLIENT_ID},
        ["symbol", "client_order_id", "timestamp", "expiry_window"],
    ),
    "cancel_all_orders": (
        signer.cancel_all_orders,
        {"symbol": "BTC"},
        ["symbol", "exclude_reduce_only", "timestamp", "expiry_window", "request_id"],
    ),
    "batch_cancel": (
        signer.batch_cancel,
        {"cancels": [("BTC", 1)]},
        ["timestamp", "expiry_window", "request_id"],
    ),
    "request": (
        signer.request,
        {"operation": "x", "data": {}},
        ["timestamp", "expiry_window", "request_id"],
    ),
    "sign": (signer.sign, {"type": "x", "data": {}}, ["timestamp", "expiry_window"]),
}


def bad_values() -> Iterator[Any]:
    for name, (_, _, fields) in CALLS.items():
        for field in fields:
            for value in BAD[field]:
                yield pytest.param(name, field, value, id=f"{name}-{field}-{value!a}"[:80])


@pytest.fixture
def nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls in C that sign must not be reached."""

    class Watched:
        def __getattr__(self, name: str) -> Any:
            if re.match(r"pf_(cancel_|batch_|request|sign_)", name):
                raise AssertionError(f"{name} was called")
            return getattr(lib, name)

    monkeypatch.setattr("pacifica_fast.signer.lib", Watched())

    def refuse(*arguments: object) -> None:
        raise AssertionError("it was called")

    for name in (
        "blank_order_id",
        "cancel_order_id",
        "cancel_client_order_id",
        "frame_order_id",
        "frame_client_order_id",
    ):
        monkeypatch.setattr(f"pacifica_fast.signer._{name}", refuse)


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize(("name", "field", "value"), list(bad_values()))
def test_bad_value_is_refused_by_name(name: str, field: str, value: Any) -> None:
    call, arguments, _ = CALLS[name]
    with pytest.raises(InvalidRequest) as caught:
        call(**(arguments | {field: value}))
    assert str(caught.value).removeprefix("cancels[0]: ").startswith(f"{field}: expected ")
    assert isinstance(caught.value, ValueError)


def test_the_watch_works(nothing_is_signed: None) -> None:
    for call, arguments, _ in CALLS.values():
        with pytest.raises(AssertionError, match="was called"):
            call(**arguments)


@pytest.mark.parametrize("symbol", [MyStr("BTC"), ["BTC"]])
def test_no_symbol_is_known_by_what_it_equals(symbol: Any) -> None:
    signer.cancel_order("BTC", order_id=1)
    for call in (signer.cancel_order, frame_of_cancel):
        with pytest.raises(InvalidRequest, match=r"^symbol: expected str"):
            call(symbol, order_id=1)


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize("ids", [{}, {"order_id": 1, "client_order_id": CLIENT_ID}])
def test_exactly_one_id(ids: dict[str, Any]) -> None:
    orders: list[Call] = [
        partial(signer.cancel_order, "BTC", **ids),
        partial(frame_of_cancel, "BTC", **ids),
        partial(signer.order_reference, ids.get("order_id"), ids.get("client_order_id")),
    ]
    for order in orders:
        with pytest.raises(InvalidRequest, match="order_id and client_order_id: give exactly one"):
            order()


@pytest.mark.parametrize("order_id", [0, 1, U64_MAX])
def test_what_an_order_is_addressed_by(order_id: int) -> None:
    assert signer.order_reference(order_id, None) == (order_id, b"")
    assert signer.order_reference(None, CLIENT_ID) == (0, CLIENT_ID.encode())
    assert signer.order_reference(None, uuid.UUID(CLIENT_ID)) == (0, CLIENT_ID.encode())


@pytest.mark.parametrize(
    "reference",
    [(value, None) for value in BAD["order_id"]] + [(None, value) for value in BAD["client_order_id"]],
)
def test_bad_references(reference: tuple[Any, Any]) -> None:
    field = "order_id" if reference[1] is None else "client_order_id"
    with pytest.raises(InvalidRequest, match=f"^{field}: expected "):
        signer.order_reference(*reference)


@pytest.mark.parametrize("symbol", BAD["symbol"])
def test_bad_symbols_of_armed_cancels(symbol: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^symbol: expected "):
        signer.armed_template(symbol, 5_000)


def test_what_c_refuses_of_a_payload() -> None:
    """Python may be told to write integers of any length; the core is not."""
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        for call in (signer.request, signer.sign):
            with pytest.raises(InvalidRequest, match=r"^data: integer of more than 4300 digits$"):
                call("x", {"a": 10**5000})
    finally:
        sys.set_int_max_str_digits(digits)


def test_a_template_that_cannot_be_made_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: lib.PF_ERR_CLOSED) if name == "pf_template_make" else getattr(lib, name)

    monkeypatch.setattr("pacifica_fast.signer.lib", Refusing())
    with pytest.raises(KeyClosed):
        Signer(keypair).cancel_order("BTC", order_id=1)


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize(
    ("cancels", "says"),
    [
        ([], "cancels: expected 1 to 10, got 0"),
        ([("BTC", 1)] * 11, "cancels: expected 1 to 10, got 11"),
        ("BTC", "cancels: expected a sequence of pairs, got str"),
        (b"BTC", "cancels: expected a sequence of pairs, got bytes"),
        ({("BTC", 1)}, "cancels: expected a sequence of pairs, got set"),
        (None, "cancels: expected a sequence of pairs, got NoneType"),
        ([("BTC", 1), "BT"], r"cancels\[1\]: expected a pair \(symbol, order id\), got str"),
        ([("BTC", 1), ("BTC",)], r"cancels\[1\]: expected a pair"),
        ([("BTC", 1), ("BTC", 1, 2)], r"cancels\[1\]: expected a pair"),
        ([("BTC", 1), ("", 1)], r"cancels\[1\]: symbol: expected"),
        ([("BTC", 1), (7, 1)], r"cancels\[1\]: symbol: expected str, got int"),
        ([("BTC", 1), ("BTC", -1)], r"cancels\[1\]: order_id: expected 0 to"),
        ([("BTC", 1), ("BTC", U64_MAX + 1)], r"cancels\[1\]: order_id: expected 0 to"),
        ([("BTC", 1), ("BTC", True)], r"cancels\[1\]: order_id: expected int, str or UUID, got bool"),
        ([("BTC", 1), ("BTC", 1.0)], r"cancels\[1\]: order_id: expected int, str or UUID, got float"),
        ([("BTC", 1), ("BTC", None)], r"cancels\[1\]: order_id: expected int, str or UUID, got NoneType"),
        ([("BTC", 1), ("BTC", "x")], r"cancels\[1\]: client_order_id: expected"),
    ],
)
def test_bad_batches(cancels: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        signer.batch_cancel(cancels)


def test_a_batch_that_grows_under_us() -> None:
    """C gets as many items as were checked: it would read past the end of them."""
    cancels = [("BTC", 1)]

    class Growing(uuid.UUID):
        def __str__(self) -> str:
            cancels.append(("ETH", 2))
            return super().__str__()

    request = signer.batch_cancel(cancels, request_id=Growing(REQUEST_ID))
    assert len(cancels) == 2
    assert len(json.loads(request.text)["params"]["batch_orders"]["actions"]) == 1


def test_a_uuid_that_says_what_it_likes() -> None:
    """C is told of 36 bytes: so many there must be."""

    class Text(str):
        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return b"short"

    class Telling(uuid.UUID):
        def __str__(self) -> str:
            return Text(REQUEST_ID)

    request = signer.cancel_order("BTC", order_id=1, request_id=Telling(REQUEST_ID))
    assert request.id == REQUEST_ID


class Sub(dict[str, Any]):
    pass


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"price": 1.5}, r"data\.price: float \(pass decimals as strings\)"),
        ({"a": [0, {"b": 0.0}]}, r"data\.a\[1\]\.b: float"),
        ({"a": (1, 2)}, r"data\.a: tuple \(pass a list\)"),
        ({"a": b"x"}, r"data\.a: bytes"),
        ({"a": {1, 2}}, r"data\.a: set"),
        ({"a": uuid.UUID(int=0)}, r"data\.a: UUID"),
        ({"a": MyStr("x")}, r"data\.a: MyStr"),
        ({"a": Sub()}, r"data\.a: Sub"),
        ({1: "x"}, "data: a key of type int"),
        ({"a": 10**5000}, "data: "),
        (Sub(), "data: expected dict, got Sub"),
        ([], "data: expected dict, got list"),
        ("{}", "data: expected dict, got str"),
        (None, "data: expected dict, got NoneType"),
    ],
)
def test_bad_payloads(data: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        signer.request("x", data)
    with pytest.raises(InvalidRequest, match=says):
        signer.sign("x", data)


@pytest.mark.usefixtures("nothing_is_signed")
def test_payload_that_contains_itself() -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(InvalidRequest, match="data"):
        signer.request("x", data)


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize(
    "name", ["", "x" * 65, "Create", "a-b", "a b", 'a"', "é", "٣", "\ud800", 7, None, b"x", MyStr("x")]
)
def test_bad_operations(name: Any) -> None:
    with pytest.raises(InvalidRequest, match="operation: expected "):
        signer.request(name, {})
    with pytest.raises(InvalidRequest, match="type: expected "):
        signer.sign(name, {})


@pytest.mark.usefixtures("nothing_is_signed")
@pytest.mark.parametrize("field", ["account", "signature", "timestamp", "expiry_window", "agent_wallet"])
def test_fields_that_the_request_has_already(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"data.{field}: the request has a field of that name"):
        agent.request("x", {field: "1"})


def test_agent_wallet_in_the_payload_of_an_account() -> None:
    fields = json.loads(signer.request("bind_agent_wallet", {"agent_wallet": OTHER_ACCOUNT}).text)["params"]
    assert fields["bind_agent_wallet"]["agent_wallet"] == OTHER_ACCOUNT


def test_sign_allows_fields_of_any_name() -> None:
    """As the exchange's own ``subaccount_initiate`` needs it: ``account`` in the payload."""
    for field in ("account", "signature", "timestamp", "agent_wallet"):
        signed = agent.sign("subaccount_initiate", {field: "x"})
        assert json.loads(signed.message)["data"] == {field: "x"}


def test_inputs_are_not_changed() -> None:
    data: dict[str, Any] = {"b": [1, {"d": 1, "c": 2}], "a": 1}
    signer.request("x", data)
    signer.sign("x", data)
    assert json.dumps(data) == '{"b": [1, {"d": 1, "c": 2}], "a": 1}'


# Signers.


@pytest.mark.parametrize(
    "account",
    ["", "x", OTHER_ACCOUNT + "1", OTHER_ACCOUNT[:-3], "0" * 44, "z" * 44, "é" * 44, "\ud800" * 44, b"x", 7],
)
def test_bad_accounts(account: Any) -> None:
    with pytest.raises(InvalidRequest, match="account: expected "):
        Signer(keypair, account=account)


@pytest.mark.parametrize("window", BAD["expiry_window"])
def test_bad_windows(window: Any) -> None:
    with pytest.raises(InvalidRequest, match="expiry_window: expected "):
        Signer(keypair, expiry_window=window)


@pytest.mark.parametrize("value", [None, "key", b"key", SEED])
def test_keypairs_are_ours(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"keypair: expected pacifica_fast\.Keypair") as caught:
        Signer(value)
    assert "key" not in str(caught.value).replace("keypair", "").replace("Keypair", "")


def test_own_account_is_no_agent() -> None:
    who = Signer(keypair, account=keypair.pubkey())
    assert who.agent_wallet is None
    assert "agent_wallet" not in verify(who.cancel_order("BTC", order_id=1))


def test_what_a_signer_says_of_itself() -> None:
    assert (signer.account, signer.agent_wallet, signer.expiry_window) == (keypair.pubkey(), None, 5000)
    assert (agent.account, agent.agent_wallet) == (OTHER_ACCOUNT, keypair.pubkey())
    assert repr(signer) == f"<Signer {keypair.pubkey()} expiry_window=5000>"
    assert repr(agent) == f"<Signer {OTHER_ACCOUNT} agent_wallet={keypair.pubkey()} expiry_window=30000>"


@pytest.mark.core
def test_armed_cancels_are_signed_without_what_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return make if name == "pf_template_make" else getattr(lib, name)

    def make(*arguments: Any) -> Any:
        pools.append(arguments[3])
        return lib.pf_template_make(*arguments)

    monkeypatch.setattr("pacifica_fast.signer.lib", Watched())
    with Signer(keypair, prepared=1) as who:
        who.armed_template("BTC", 5_000)
        who.cancel_order("BTC", order_id=1)
        assert who._pool is not None
        assert pools == [ffi.NULL, who._pool.handle]


def test_leaving_a_signer_ends_what_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    pool = SimpleNamespace(close=lambda: closed.append(True))
    monkeypatch.setattr("pacifica_fast.signer.NoncePool", lambda *_: pool)
    with Signer(keypair, prepared=1):
        assert closed == []
    assert closed == [True]


def test_one_thread_signs_many_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacifica_fast.signer.sign_many", lambda *arguments: arguments)
    assert signer.sign_many([b"m"]) == (keypair, [b"m"], 1)  # type: ignore[comparison-overlap]
    assert signer.sign_many([b"m"], threads=3) == (keypair, [b"m"], 3)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (lib.PF_ERR_JSON_END, InvalidRequest, "^data: text ends inside a value$"),
        (lib.PF_ERR_JSON_OBJECT, InvalidRequest, "^data: expected an object$"),
        (lib.PF_ERR_MEMORY, MemoryError, "no memory to sign"),
    ],
)
def test_failures_of_the_core_are_told(code: int, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        signer.fail(code, "data")


def test_what_is_prepared_and_how_long_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr("pacifica_fast.signer.NoncePool", lambda *arguments: made.append(arguments))
    Signer(keypair)
    Signer(keypair, prepared=7)
    Signer(keypair, prepared=65_536, prepared_max_age=0.001)
    Signer(keypair, prepared=1, prepared_max_age=86_400)
    assert made == [(keypair, 7, 60_000), (keypair, 65_536, 1), (keypair, 1, 86_400_000)]


def test_what_a_request_says_of_itself() -> None:
    request = signer.cancel_order("BTC", order_id=1, request_id=REQUEST_ID)
    assert repr(request) == f"<Request cancel_order {REQUEST_ID}>"


def test_closed_key() -> None:
    own = Keypair.from_seed(SEED)
    who = Signer(own)
    who.cancel_order("BTC", order_id=1)
    own.close()
    calls: list[Callable[[], Any]] = [
        lambda: who.cancel_order("BTC", order_id=1),
        lambda: who.cancel_order("ETH", order_id=1),
        lambda: who.cancel_order("BTC", client_order_id=CLIENT_ID),
        who.cancel_all_orders,
        lambda: who.batch_cancel([("BTC", 1)]),
        lambda: who.request("x", {}),
        lambda: who.request("x", {"a": "x" * 20_000}),
        lambda: who.sign("x", {}),
    ]
    for call in calls:
        with pytest.raises(KeyClosed, match="is closed"):
            call()
    Signer(own)  # harmless


def test_a_signer_keeps_its_key_alive() -> None:
    who = Signer(Keypair.from_seed(SEED))
    gc.collect()
    verify(who.cancel_order("BTC", order_id=1))


def test_templates_do_not_grow_for_ever() -> None:
    who = Signer(keypair)
    for number in range(5000):
        symbol = f"S{number}"
        assert (
            orjson.loads(who.cancel_order(symbol, order_id=1).text)["params"]["cancel_order"]["symbol"]
            == symbol
        )
        who.cancel_all_orders(expiry_window=number + 1)
        who.sign("x" * 64, {}, expiry_window=number + 1)
    for templates in (who._order_templates, who._cancel_all_templates, who._operation_templates):
        assert len(templates) == 5000 - 4096  # it started over once


@pytest.mark.parametrize("order", [{"order_id": 1}, {"client_order_id": CLIENT_ID}])
@pytest.mark.parametrize("framed", [False, True])
def test_room_for_a_request_is_used_again(order: dict[str, Any], framed: bool) -> None:
    who = Signer(keypair)
    ids: dict[str, Any] = {"order_id": None, "client_order_id": None} | order
    for _ in range(3):
        if framed:
            who.cancel_order_frame("BTC", **ids, timestamp=None, expiry_window=None, number=0)
        else:
            who.cancel_order("BTC", **order)
    assert [len(blanks) for blanks in who._blanks.values()] == [1]


def test_a_failed_call_leaves_no_trace() -> None:
    """Buffers are used again: what failed before must not show."""
    who = Signer(keypair)
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            who.cancel_order("BTC", order_id=-1)
        long = who.cancel_order("X" * 32, client_order_id=CLIENT_ID, timestamp=I64_MAX)
        short = who.cancel_order("B", order_id=0, timestamp=1)
        verify(long)
        verify(short)


# Ids and threads.


def test_ids_are_uuid4_and_differ() -> None:
    ids = [signer.cancel_order("BTC", order_id=1).id for _ in range(2000)]
    ids += [signer.cancel_all_orders().id, signer.batch_cancel([("BTC", 1)]).id, signer.request("x", {}).id]
    assert len(set(ids)) == len(ids)
    for request_id in ids:
        parsed = uuid.UUID(request_id)
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
        assert str(parsed) == request_id


def framed(frame: bytes) -> Request:
    """The request in a websocket frame, as a server reads it."""
    server = ServerProtocol(state=State.OPEN)
    server.receive_data(frame)
    (received,) = server.events_received()
    assert isinstance(received, Frame)
    assert received.opcode is Opcode.TEXT
    assert received.fin
    return Request(bytes(received.data))


@pytest.mark.parametrize("window", [None, 1, 30_000])
@pytest.mark.parametrize("order", [0, 1, U64_MAX, CLIENT_ID])
def test_frames_hold_the_request(order: Any, window: int | None) -> None:
    field = "client_order_id" if order == CLIENT_ID else "order_id"
    ids: dict[str, Any] = {"order_id": None, "client_order_id": None} | {field: order}
    signer.cancel_order("BTC", order_id=1)  # of another window
    number = lib.pf_id_take(1)
    request = framed(
        signer.cancel_order_frame("BTC", **ids, timestamp=5, expiry_window=window, number=number)
    )
    same = signer.cancel_order("BTC", **ids, timestamp=5, expiry_window=window, request_id=request.id)
    assert request.text == same.text


def test_reserved_numbers() -> None:
    first = lib.pf_id_take(3)
    text = ffi.new("char[36]")
    for number in range(first, first + 3):
        assert lib.pf_id_text(text, 36, number) == 36
        request_id = ffi.buffer(text)[:].decode()
        assert framed(signer.cancel_order_frame("BTC", 1, None, None, None, number)).id == request_id
        assert signer.cancel_all_orders(number=number).id == request_id
        assert signer.batch_cancel([("BTC", 1)], number=number).id == request_id
        assert signer.request("x", {}, number=number).id == request_id
    with pytest.raises(RuntimeError, match="another process"):
        signer.cancel_order_frame("BTC", 1, None, None, None, first + 10**9)


THREADS = 8
PER_THREAD = 5000


def test_threads() -> None:
    """Unique ids, and no request with another's order or signature."""
    who = Signer(keypair)
    texts: list[list[bytes]] = [[] for _ in range(THREADS)]
    start = threading.Barrier(THREADS)

    def build(thread: int) -> None:
        start.wait()
        out = texts[thread]
        for number in range(PER_THREAD):
            order_id = thread * PER_THREAD + number
            out.append(who.cancel_order(f"S{number % 7}", order_id=order_id, timestamp=1 + order_id).text)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=build, args=(thread,)) for thread in range(THREADS)]
        for running in threads:
            running.start()
        for running in threads:
            running.join()
    finally:
        sys.setswitchinterval(before)

    ids = set()
    for thread, built in enumerate(texts):
        assert len(built) == PER_THREAD
        for number, text in enumerate(built):
            whole = orjson.loads(text)
            fields = whole["params"]["cancel_order"]
            order_id = thread * PER_THREAD + number
            assert (fields["order_id"], fields["timestamp"]) == (order_id, order_id + 1)
            assert fields["symbol"] == f"S{number % 7}"
            ids.add(whole["id"])
            # Deterministic signatures: the right one is what signing the same once more gives.
            message = (
                f'{{"data":{{"order_id":{order_id},"symbol":"S{number % 7}"}},"expiry_window":5000,'
                f'"timestamp":{order_id + 1},"type":"cancel_order"}}'
            )
            assert fields["signature"] == reference.b58encode(keypair.sign_message(message.encode()))
    assert len(ids) == THREADS * PER_THREAD


def test_threads_of_other_requests() -> None:
    who = Signer(keypair)
    built: list[Request] = []

    def build(thread: int) -> None:
        for number in range(100):
            built.append(who.cancel_all_orders(symbol=f"S{number % 5}", timestamp=1 + thread))
            built.append(who.batch_cancel([(f"S{number % 5}", thread), ("X", CLIENT_ID)]))
            built.append(who.request("x", {"n": number, "text": "x" * (20_000 if number % 25 == 0 else 5)}))

    threads = [threading.Thread(target=build, args=(thread,)) for thread in range(THREADS)]
    for running in threads:
        running.start()
    for running in threads:
        running.join()
    assert len({request.id for request in built}) == len(built) == THREADS * 300
    for request in built[::7]:
        verify(request)


# The correction of the clock.

DAY = 86_400_000  # ms


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def signed_by_everything(by: Signer, timestamp: int | None) -> list[tuple[str, dict[str, Any], Any]]:
    """One of each kind of request: its type, its data, and what carries timestamp and signature."""
    order: dict[str, Any] = {"order_id": 7, "symbol": "BTC"}
    named: dict[str, Any] = {"client_order_id": CLIENT_ID, "symbol": "BTC"}
    everything: dict[str, Any] = {"all_symbols": True, "exclude_reduce_only": False}
    batch = by.batch_cancel([("BTC", 7), ("BTC", CLIENT_ID)], timestamp=timestamp)
    actions = [action["data"] for action in json.loads(batch.text)["params"]["batch_orders"]["actions"]]
    requests: list[tuple[str, dict[str, Any], Request]] = [
        ("cancel_order", order, by.cancel_order("BTC", order_id=7, timestamp=timestamp)),
        ("cancel_order", order, by.cancel_order("BTC", order_id=7, timestamp=timestamp, expiry_window=9)),
        ("cancel_order", named, by.cancel_order("BTC", client_order_id=CLIENT_ID, timestamp=timestamp)),
        ("cancel_all_orders", everything, by.cancel_all_orders(timestamp=timestamp)),
        ("create_order", order, by.request("create_order", order, timestamp=timestamp)),
    ]
    signed = by.sign("create_order", order, timestamp=timestamp)
    return [
        *((kind, data, json.loads(request.text)["params"][kind]) for kind, data, request in requests),
        ("cancel_order", order, actions[0]),
        ("cancel_order", named, actions[1]),
        ("create_order", order, signed._asdict()),
    ]


@given(correction=st.one_of(st.integers(-DAY, DAY), st.integers(-50, 50)))
@example(DAY)
@example(-DAY)
def test_corrected_clock(correction: int) -> None:
    """Of every kind of request, and signed as the reference signs it at that time."""
    corrected = Signer(keypair)
    signed_by_everything(corrected, None)  # templates and blanks that are there already follow
    corrected.clock_correction = correction
    assert corrected.clock_correction == correction
    before = now_ms()
    signed = signed_by_everything(corrected, None)
    after = now_ms()
    for kind, data, fields in signed:
        assert before <= fields["timestamp"] - correction <= after
        header = {"type": kind, "timestamp": fields["timestamp"], "expiry_window": fields["expiry_window"]}
        assert reference.sign_message(header, data, keypair)[1] == fields["signature"]
    assert {fields["timestamp"] for *_, fields in signed_by_everything(corrected, 1234)} == {1234}


def test_frames_are_corrected_too() -> None:
    corrected, plain = Signer(keypair), Signer(keypair)
    corrected.clock_correction = -DAY
    orders: list[tuple[Any, Any]] = [(7, None), (None, CLIENT_ID)]
    for order_id, client_id in orders:
        before = now_ms()
        timestamps = []
        for by in (corrected, plain):
            protocol = ServerProtocol(state=State.OPEN)
            number = lib.pf_id_take(1)
            protocol.receive_data(by.cancel_order_frame("BTC", order_id, client_id, None, None, number))
            (frame,) = protocol.events_received()
            assert isinstance(frame, Frame)
            timestamps.append(Request(bytes(frame.data)).timestamp)
        after = now_ms()
        assert before <= timestamps[0] + DAY <= timestamps[1] <= after


def test_no_correction_until_it_is_set_and_none_of_another_signer() -> None:
    one, other = Signer(keypair), Signer(keypair)
    one.clock_correction = DAY
    assert (one.clock_correction, other.clock_correction) == (DAY, 0)
    assert other.cancel_order("BTC", order_id=1).timestamp <= now_ms()
    one.clock_correction = 0
    assert one.cancel_order("BTC", order_id=1).timestamp <= now_ms()


@pytest.mark.parametrize("wrong", [True, 1.0, "1", None, DAY + 1, -DAY - 1, 2**63, 2**64, -(2**80)])
def test_wrong_correction_changes_nothing(wrong: Any) -> None:
    corrected = Signer(keypair)
    corrected.clock_correction = 5
    with pytest.raises(InvalidRequest, match=r"^clock_correction:"):
        corrected.clock_correction = wrong
    assert corrected.clock_correction == 5


def test_correction_set_while_others_sign() -> None:
    """From another thread: a timestamp has one of the two corrections, never a mixture."""
    corrections = (-DAY, DAY)
    corrected = Signer(keypair)
    corrected.clock_correction = DAY
    done = threading.Event()

    def set_it() -> None:
        while not done.is_set():
            for correction in corrections:
                corrected.clock_correction = correction

    thread = threading.Thread(target=set_it)
    thread.start()
    try:
        started = now_ms()
        for _ in range(2_000):
            timestamp = corrected.cancel_order("BTC", order_id=1).timestamp
            elapsed = now_ms() - started
            assert any(0 <= timestamp - started - correction <= elapsed for correction in corrections)
    finally:
        done.set()
        thread.join()


def test_a_batch_is_not_signed_as_a_whole() -> None:
    with pytest.raises(InvalidRequest, match=r"operation: .*batch_cancel"):
        Signer(Keypair.generate()).request("batch_orders", {"actions": []})


def test_the_clock_lives_as_long_as_a_template_that_points_to_it() -> None:
    """An armed cancel may be fired when its signer is gone, and C reads the clock then."""
    own = Signer(Keypair.generate())
    template = own._order_template("BTC", None)
    clock = weakref.ref(own._clock)
    del own
    gc.collect()
    assert clock() is not None
    del template
    gc.collect()
    assert clock() is None
