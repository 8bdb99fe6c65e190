# SPDX-License-Identifier: MIT
"""The mock exchange, over real sockets and real TLS, by a client that shares no code with it or with us.

Requests are signed here by PyNaCl, over messages written by :mod:`json`, in base58 by
the ``base58`` package. What answers to what is :class:`Condition`; every row of it has
a request below that provokes it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import logging
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import base58
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync

import pacifica_fast
from pacifica_fast import _mock_rules
from pacifica_fast._mock_rules import Condition, Refusal
from pacifica_fast.mock_exchange import MARKETS, Market, MockExchange, Received

PATIENCE = 20.0  # seconds that no answer takes, even on a slow machine
CLOID = "79f948fd-7556-4066-a128-083f3ea49322"
OTHER_CLOID = "57a5efb1-bb96-49a5-8bfd-f25d5f22bc7e"
AUTH = ("account", "agent_wallet", "signature", "timestamp", "expiry_window")

CREATE: dict[str, Any] = {
    "symbol": "BTC",
    "price": "87768",
    "amount": "0.002",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}
MARKET: dict[str, Any] = {
    "symbol": "BTC",
    "amount": "0.003",
    "side": "ask",
    "slippage_percent": "0.5",
    "reduce_only": False,
}


class Wallet:
    """A key that signs as the documentation says."""

    def __init__(self, seed: int) -> None:
        self.key = SigningKey(bytes([seed]) * 32)
        self.address = base58.b58encode(bytes(self.key.verify_key)).decode()

    def sign(
        self,
        operation: str,
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        window: int = 300_000,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Return the fields of a request; with ``account``, this wallet is its agent."""
        timestamp = time.time_ns() // 1_000_000 if timestamp is None else timestamp
        message = json.dumps(
            {"type": operation, "timestamp": timestamp, "expiry_window": window, "data": data},
            separators=(",", ":"),
            sort_keys=True,
        )
        fields = {
            "account": account or self.address,
            "signature": base58.b58encode(self.key.sign(message.encode()).signature).decode(),
            "timestamp": timestamp,
            "expiry_window": window,
            **data,
        }
        return fields if account is None else {**fields, "agent_wallet": self.address}


ALICE, BOB, EVE = Wallet(1), Wallet(2), Wallet(3)


def envelope(operation: str, body: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "params": {operation: body}}


async def ask(client: ClientConnection, message: Any) -> dict[str, Any]:
    """Send one message and return the next that arrives."""
    await client.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    return await hear(client)


async def hear(client: ClientConnection) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), PATIENCE))
    return reply


async def trade(client: ClientConnection, operation: str, data: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Sign as Alice, send, and return the answer, its envelope checked."""
    request = envelope(operation, ALICE.sign(operation, data, **how))
    reply = await ask(client, request)
    assert reply["id"] == request["id"]
    assert reply["type"] == operation
    assert abs(reply["t"] - time.time() * 1000) < PATIENCE * 1000
    assert ("data" in reply) == (reply["code"] == 200) == ("err" not in reply)
    return reply


async def silent(client: ClientConnection) -> bool:
    """Whether nothing is on its way: the answer to a ping is what comes next."""
    return await ask(client, {"method": "ping"}) == {"channel": "pong"}


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[MockExchange]:
    async with MockExchange(tls=True, quota=None) as exchange:
        yield exchange


@pytest_asyncio.fixture
async def client(exchange: MockExchange) -> AsyncIterator[ClientConnection]:
    async with connect(exchange.url, ssl=exchange.client_ssl_context(), compression=None) as client:
        yield client


@pytest.fixture
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client does is logged as a problem."""
    with caplog.at_level(logging.INFO):
        yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --------------------------------------------------------------------------- operations


@pytest.mark.parametrize("tif", ["ALO", "GTC", "TOB"])
@pytest.mark.parametrize("cloid", [None, CLOID])
async def test_create(exchange: MockExchange, client: ClientConnection, tif: str, cloid: str | None) -> None:
    data = {**CREATE, "tif": tif} | ({"client_order_id": cloid} if cloid else {})
    reply = await trade(client, "create_order", data)
    (order,) = exchange.orders(ALICE.address)
    assert reply["data"] == {"I": cloid, "i": order.order_id, "s": "BTC"}
    assert order.order_id > 2**32
    assert (order.symbol, order.side, order.price, order.amount) == ("BTC", "bid", "87768", "0.002")
    assert (order.tif, order.reduce_only, order.client_order_id) == (tif, False, cloid)
    assert exchange.orders(BOB.address) == []
    assert (exchange.verified, exchange.rejected) == (1, 0)


async def test_what_cannot_rest_ends_unfilled(exchange: MockExchange, client: ClientConnection) -> None:
    for operation, data in (("create_order", {**CREATE, "tif": "IOC"}), ("create_market_order", MARKET)):
        reply = await trade(client, operation, {**data, "client_order_id": CLOID})
        assert reply["data"].keys() == {"I", "i", "s"}
        assert reply["data"]["I"] == CLOID
        assert exchange.orders(ALICE.address) == []


async def test_orders_with_triggers_and_builder_codes() -> None:
    trigger = {"stop_price": "90000", "limit_price": "90100", "trigger_price_type": "mark_price"}
    async with (
        MockExchange(builder_codes=["friend"], quota=None) as exchange,
        connect(exchange.url) as client,
    ):
        for extra in (
            {"take_profit": trigger, "stop_loss": {"stop_price": "80000"}},
            {"take_profit": None, "builder_code": "friend"},
        ):
            assert (await trade(client, "create_order", CREATE | extra))["code"] == 200


@pytest.mark.parametrize("by", ["order_id", "client_order_id"])
async def test_cancel(exchange: MockExchange, client: ClientConnection, by: str) -> None:
    order = exchange.place(ALICE.address, client_order_id=CLOID)
    which = {by: getattr(order, by)}
    reply = await trade(client, "cancel_order", {"symbol": "BTC", **which})
    # The documented example: what was sent comes back, and the other id is null.
    assert reply["code"] == 200
    assert reply["data"] == {"I": which.get("client_order_id"), "i": which.get("order_id"), "s": "BTC"}
    assert reply.keys() == {"code", "data", "id", "t", "type"}
    assert exchange.orders(ALICE.address) == []
    # The observed failure.
    reply = await trade(client, "cancel_order", {"symbol": "BTC", **which})
    assert (reply["code"], reply["err"]) == (420, "Failed to cancel order")


async def test_cancel_needs_the_owner_and_the_symbol(
    exchange: MockExchange, client: ClientConnection
) -> None:
    theirs = exchange.place(BOB.address, client_order_id=CLOID)
    mine = exchange.place(ALICE.address, client_order_id=OTHER_CLOID)
    for which in (
        {"symbol": "BTC", "order_id": theirs.order_id},
        {"symbol": "BTC", "client_order_id": CLOID},
        {"symbol": "ETH", "order_id": mine.order_id},
        {"symbol": "ETH", "client_order_id": OTHER_CLOID},
        {"symbol": "BTC", "order_id": 0},
        {"symbol": "BTC", "order_id": 2**64 - 1},
    ):
        assert (await trade(client, "cancel_order", which))["code"] == 420
    assert exchange.orders(BOB.address) == [theirs]
    assert exchange.orders(ALICE.address) == [mine]


async def test_cancel_all(exchange: MockExchange, client: ClientConnection) -> None:
    async def cancel_all(**data: Any) -> tuple[int, list[str]]:
        reply = await trade(client, "cancel_all_orders", {"exclude_reduce_only": False, **data})
        left = [f"{o.symbol}{'-reduce' if o.reduce_only else ''}" for o in exchange.orders(ALICE.address)]
        return reply["data"]["cancelled_count"], left

    for symbol in ("BTC", "ETH", "SOL-USDC"):
        exchange.place(ALICE.address, symbol=symbol)
        exchange.place(ALICE.address, symbol=symbol, reduce_only=True)
    theirs = exchange.place(BOB.address)
    assert await cancel_all(all_symbols=False, symbol="ETH") == (
        2,
        ["BTC", "BTC-reduce", "SOL-USDC", "SOL-USDC-reduce"],
    )
    assert await cancel_all(all_symbols=False, symbol="BTC", exclude_reduce_only=True) == (
        1,
        ["BTC-reduce", "SOL-USDC", "SOL-USDC-reduce"],
    )
    assert await cancel_all(all_symbols=True, exclude_reduce_only=True) == (
        1,
        ["BTC-reduce", "SOL-USDC-reduce"],
    )
    # The REST sample sends a symbol along.
    assert await cancel_all(all_symbols=True, symbol="BTC") == (2, [])
    assert await cancel_all(all_symbols=True) == (0, [])
    assert exchange.orders(BOB.address) == [theirs]


@pytest.mark.parametrize("by", ["order_id", "client_order_id"])
async def test_edit(exchange: MockExchange, client: ClientConnection, by: str) -> None:
    old = exchange.place(ALICE.address, client_order_id=CLOID, side="ask", tif="GTC", reduce_only=True)
    data = {"symbol": "BTC", "price": "51000", "amount": "0.02", by: getattr(old, by)}
    reply = await trade(client, "edit_order", data)
    (new,) = exchange.orders(ALICE.address)
    assert reply["data"] == {"I": CLOID, "i": new.order_id, "s": "BTC"}
    assert new.order_id != old.order_id
    assert (new.side, new.reduce_only, new.client_order_id) == ("ask", True, CLOID)
    assert (new.price, new.amount, new.tif) == ("51000", "0.02", "ALO")
    # The old order id is gone; the client's id leads to the new order.
    gone = await trade(client, "cancel_order", {"symbol": "BTC", "order_id": old.order_id})
    assert gone["code"] == 420
    done = await trade(client, "cancel_order", {"symbol": "BTC", "client_order_id": CLOID})
    assert done["code"] == 200


async def test_a_failed_edit_changes_nothing(exchange: MockExchange, client: ClientConnection) -> None:
    order = exchange.place(ALICE.address)
    data = {"symbol": "BTC", "price": "51000.5", "amount": "0.02", "order_id": order.order_id}
    assert (await trade(client, "edit_order", data))["code"] == 500
    assert exchange.orders(ALICE.address) == [order]


async def test_a_client_order_id_may_be_used_again(exchange: MockExchange, client: ClientConnection) -> None:
    data = CREATE | {"client_order_id": CLOID}
    which = {"symbol": "BTC", "client_order_id": CLOID}
    for _ in range(2):
        assert (await trade(client, "create_order", data))["code"] == 200
        assert (await trade(client, "create_order", data))["code"] == 420
        exchange.place(BOB.address, client_order_id=CLOID)  # is another account's business
        exchange.fill(BOB.address, exchange.orders(BOB.address)[0].order_id)
        assert (await trade(client, "cancel_order", which))["code"] == 200


async def test_a_fill_beats_the_cancel(exchange: MockExchange, client: ClientConnection) -> None:
    order = exchange.place(ALICE.address)
    assert exchange.fill(ALICE.address, order.order_id) == order
    reply = await trade(client, "cancel_order", {"symbol": "BTC", "order_id": order.order_id})
    assert reply["code"] == 420
    with pytest.raises(KeyError):
        exchange.fill(ALICE.address, order.order_id)


# --------------------------------------------------------------------------- batches


def action(kind: str, data: dict[str, Any], wallet: Wallet = ALICE, **how: Any) -> dict[str, Any]:
    return {"type": kind, "data": wallet.sign(_mock_rules.ACTIONS[kind], data, **how)}


async def test_batch(exchange: MockExchange, client: ClientConnection) -> None:
    resting = exchange.place(ALICE.address)
    edited = exchange.place(ALICE.address, client_order_id=OTHER_CLOID)
    change = {"symbol": "BTC", "price": "50001", "amount": "0.01", "order_id": edited.order_id}
    actions = [
        action("Create", CREATE | {"client_order_id": CLOID}),
        action("Cancel", {"symbol": "BTC", "order_id": 1}),  # fails; what follows does not
        action("Cancel", {"symbol": "BTC", "client_order_id": CLOID}),  # sees what went before
        action("Cancel", {"symbol": "BTC", "order_id": resting.order_id}),
        action("Edit", change),
        action("CreateMarket", MARKET),
        action("Create", {**CREATE, "price": "0.5"}),
        action("Create", {**CREATE, "symbol": "Btc"}),
    ]
    request = envelope("batch_orders", {"actions": actions})
    reply = await ask(client, request)
    assert (reply["code"], reply["id"], reply["type"]) == (200, request["id"], "batch_orders")
    results = reply["data"]["results"]
    assert [result["success"] for result in results] == [True, False, True, True, True, True, False, False]
    assert [result["symbol"] for result in results] == ["BTC"] * 7 + ["Btc"]
    assert results[0] | {"order_id": 0} == {
        "success": True,
        "order_id": 0,
        "client_order_id": CLOID,
        "symbol": "BTC",
        "error": None,
    }
    assert results[1] == {"success": False, "order_id": 1, "symbol": "BTC", "error": "Failed to cancel order"}
    assert results[2]["client_order_id"] == CLOID
    assert results[3]["order_id"] == resting.order_id
    (left,) = exchange.orders(ALICE.address)
    assert results[4]["order_id"] == left.order_id != edited.order_id
    assert results[4]["client_order_id"] == OTHER_CLOID
    assert [results[6]["error"], results[7]["error"]] == [
        "Internal server error",
        "Invalid request: unknown symbol",
    ]
    assert exchange.verified == 8


async def test_batch_of_ten_and_of_eleven(exchange: MockExchange, client: ClientConnection) -> None:
    orders = [exchange.place(ALICE.address) for _ in range(11)]
    actions = [action("Cancel", {"symbol": "BTC", "order_id": order.order_id}) for order in orders]
    reply = await ask(client, envelope("batch_orders", {"actions": actions}))
    assert (reply["code"], reply["err"]) == (
        400,
        "Invalid batch operation parameters: expected 1 to 10 actions",
    )
    assert exchange.orders(ALICE.address) == orders
    reply = await ask(client, envelope("batch_orders", {"actions": actions[:10]}))
    assert [result["success"] for result in reply["data"]["results"]] == [True] * 10
    assert exchange.orders(ALICE.address) == orders[10:]


@pytest.mark.parametrize("position", [0, 4, 9])
async def test_one_bad_signature_stops_the_batch(
    exchange: MockExchange, client: ClientConnection, position: int
) -> None:
    orders = [exchange.place(ALICE.address) for _ in range(10)]
    actions = [action("Cancel", {"symbol": "BTC", "order_id": order.order_id}) for order in orders]
    actions[position]["data"]["signature"] = actions[position - 1]["data"]["signature"]
    reply = await ask(client, envelope("batch_orders", {"actions": actions}))
    assert (reply["code"], reply["err"]) == (401, "Verification failed")
    assert exchange.orders(ALICE.address) == orders


async def test_a_batch_may_serve_several_accounts(exchange: MockExchange, client: ClientConnection) -> None:
    exchange.bind_agent(BOB.address, EVE.address)
    mine, theirs = exchange.place(ALICE.address), exchange.place(BOB.address)
    actions = [
        action("Cancel", {"symbol": "BTC", "order_id": mine.order_id}),
        action("Cancel", {"symbol": "BTC", "order_id": theirs.order_id}, EVE, account=BOB.address),
    ]
    reply = await ask(client, envelope("batch_orders", {"actions": actions}))
    assert [result["success"] for result in reply["data"]["results"]] == [True, True]


# --------------------------------------------------------------------------- refusals

CANCEL: dict[str, Any] = {"symbol": "BTC", "order_id": 42069}


def cancel(data: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A cancel signed over ``data``, then changed by ``fields``."""
    return envelope("cancel_order", ALICE.sign("cancel_order", data or CANCEL) | fields)


def create(**data: Any) -> dict[str, Any]:
    return envelope("create_order", ALICE.sign("create_order", CREATE | data))


def without(name: str, operation: str, data: dict[str, Any]) -> dict[str, Any]:
    fields = ALICE.sign(operation, {key: value for key, value in data.items() if key != name})
    fields.pop(name, None)
    return envelope(operation, fields)


def now(offset: int = 0) -> int:
    return time.time_ns() // 1_000_000 + offset


def batch(*actions: Any, **others: Any) -> dict[str, Any]:
    return envelope("batch_orders", {"actions": list(actions), **others})


def values(*those: Any) -> tuple[Any, ...]:
    """Of all types, and of no common one."""
    return those


ZERO_POINT = base58.b58encode(bytes(32)).decode()  # of order 4: 32 bytes, and no public key

# By row of the table: requests that meet it. Made when they are needed, for the clock's sake.
PROVOKE: dict[Condition, Callable[[], list[Any]]] = {
    Condition.NOT_JSON: lambda: [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "\ufeff{}",
        "[" * 60_000,
        b"{}",
        json.dumps(cancel()).encode(),
        '{"id":1,"id":2}',
        json.dumps(cancel()).replace('"symbol"', '"symbol":"ETH","symbol"'),
        json.dumps(cancel(timestamp=float("nan"))),
        json.dumps(cancel(timestamp=float("inf"))),
        json.dumps(cancel(timestamp="X")).replace('"X"', "9" * 5000),
    ],
    Condition.BAD_ID: lambda: [
        {},
        {"params": cancel()["params"]},
        *(
            cancel() | {"id": bad}
            for bad in values(
                None,
                1,
                True,
                [],
                {},
                "",
                "1",
                "1" * 32,
                CLOID + "\n",
                CLOID.replace("-", ""),
                "{" + CLOID + "}",
                "g" + CLOID[1:],
                "٣" + CLOID[1:],
            )
        ),
    ],
    Condition.UNKNOWN_METHOD: lambda: [
        cancel() | {"method": "cancel_order"},
        {"id": CLOID, "method": None},
        {"id": CLOID, "method": ["ping"]},
        {"id": CLOID, "method": "PING"},
    ],
    Condition.BAD_PARAMS: lambda: [
        {"id": CLOID},
        *({"id": CLOID, "params": bad} for bad in values(None, [], {}, "cancel_order", 1)),
        {"id": CLOID, "params": cancel()["params"] | create()["params"]},
    ],
    Condition.UNKNOWN_OPERATION: lambda: [
        envelope("cancel_stop_order", ALICE.sign("cancel_stop_order", CANCEL)),
        envelope("Cancel", ALICE.sign("Cancel", CANCEL)),
        envelope("actions", []),
        envelope("", {}),
    ],
    Condition.BAD_FIELD: lambda: [
        *(envelope("cancel_order", bad) for bad in values(None, [], "x", 1, {})),
        # Required fields.
        *(without(name, "create_order", CREATE) for name in CREATE),
        *(without(name, "create_market_order", MARKET) for name in MARKET),
        *(without(name, "cancel_order", CANCEL) for name in CANCEL),
        *(without(name, "cancel_order", CANCEL) for name in ("account", "signature", "timestamp")),
        without("price", "edit_order", CANCEL | {"price": "1", "amount": "1"}),
        without("amount", "edit_order", CANCEL | {"price": "1", "amount": "1"}),
        # Exactly one id.
        cancel({"symbol": "BTC"}),
        cancel({"symbol": "BTC", "order_id": None}),
        cancel(CANCEL | {"client_order_id": CLOID}),
        envelope(
            "edit_order",
            ALICE.sign("edit_order", CANCEL | {"price": "1", "amount": "1", "client_order_id": CLOID}),
        ),
        # Types: a bool is no int, an int no string, a float nothing.
        *(
            cancel({"symbol": "BTC", "order_id": bad})
            for bad in values(True, False, "42069", 1.0, -1, 2**64, [], {})
        ),
        *(
            cancel({"symbol": "BTC", "client_order_id": bad})
            for bad in values(CLOID.upper(), CLOID.replace("-", ""), CLOID + " ", 1, True, [])
        ),
        *(cancel({**CANCEL, "symbol": bad}) for bad in values(None, 1, True, [], {"BTC": 1})),
        *(
            cancel(**{name: bad})
            for name in ("timestamp", "expiry_window")
            for bad in values(True, "5000", 5000.0, 0, -1, 2**64, [], {})
        ),
        cancel(timestamp=None),
        *(
            cancel(**{name: bad})
            for name in ("account", "agent_wallet", "signature")
            for bad in values(1, True, [], {"type": "hardware", "value": "x"})
        ),
        cancel(account=None),
        cancel(signature=None),
        *(
            create(**{name: bad})
            for name in ("price", "amount")
            for bad in values(
                87768,
                1.5,
                True,
                None,
                "",
                "0",
                "0.0",
                "-1",
                "+1",
                "1e5",
                ".5",
                "5.",
                "01",
                "NaN",
                "1 ",
                "1_0",
                "٣",
                "9" * 50,
            )
        ),
        *(create(side=bad) for bad in values("BID", "buy", "", None, 1, ["bid"])),
        *(create(tif=bad) for bad in values("gtc", "FOK", None, 1, {})),
        *(create(reduce_only=bad) for bad in values(0, 1, "false", None)),
        *(
            create(take_profit=bad)
            for bad in values("1", [], {}, {"stop_price": 1}, {"stop_price": "1", "x": 1})
        ),
        *(
            envelope("cancel_all_orders", ALICE.sign("cancel_all_orders", data))
            for data in (
                {"all_symbols": False, "exclude_reduce_only": False},
                {"all_symbols": False, "exclude_reduce_only": False, "symbol": None},
                {"all_symbols": 1, "exclude_reduce_only": False},
                {"all_symbols": True},
                {"exclude_reduce_only": False},
                {"all_symbols": True, "exclude_reduce_only": "false"},
            )
        ),
        # A field too many, signed or not.
        cancel(CANCEL | {"side": "bid"}),
        cancel(data={}),
        # In an action of a batch.
        batch({"type": "Cancel", "data": None}),
        batch(action("Cancel", {"symbol": "BTC"})),
        batch(action("Cancel", CANCEL), action("Cancel", CANCEL | {"order_id": "1"})),
    ],
    Condition.BAD_BATCH: lambda: [
        *(envelope("batch_orders", bad) for bad in values(None, [], {}, "x")),
        *(envelope("batch_orders", {"actions": bad}) for bad in values(None, {}, "x", [])),
        batch(*[action("Cancel", CANCEL)] * 11),
        batch(action("Cancel", CANCEL), account=ALICE.address),
        *(batch(action("Cancel", CANCEL), bad) for bad in values(None, [], {}, "Cancel")),
        *(
            batch(action("Cancel", CANCEL) | {"type": bad})
            for bad in values("cancel_order", "cancel", "CancelStopOrder", None, 1, [])
        ),
        batch(action("Cancel", CANCEL) | {"id": CLOID}),
    ],
    Condition.UNKNOWN_SYMBOL: lambda: [
        *(cancel({**CANCEL, "symbol": bad}) for bad in values("", "Btc", "KBONK", "BTC ", "x" * 999)),
        create(symbol="DOGE"),
        envelope("create_market_order", ALICE.sign("create_market_order", {**MARKET, "symbol": "x"})),
        envelope(
            "cancel_all_orders",
            ALICE.sign(
                "cancel_all_orders", {"all_symbols": False, "exclude_reduce_only": False, "symbol": "x"}
            ),
        ),
    ],
    Condition.BAD_PUBLIC_KEY: lambda: [
        *(
            cancel(**{name: bad})
            for name in ("account", "agent_wallet")
            for bad in values(
                "",
                "x",
                "0" * 44,
                "l" + ALICE.address[1:],
                ALICE.address + "1",
                "1" + ALICE.address,
                ALICE.address[:-1],
                ZERO_POINT,
                "z" * 44,
                "1" * 60_000,
            )
        ),
    ],
    Condition.BAD_SIGNATURE: lambda: [
        *(
            cancel(signature=bad)
            for bad in values(
                "",
                "0" * 88,
                "1" * 63,
                "z" * 88,
                "z" * 60_000,
                "é" * 88,
                base58.b58encode(bytes(range(63))).decode(),
                base58.b58encode(bytes(range(65))).decode(),
            )
        ),
    ],
    Condition.EXPIRED: lambda: [
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=now(-600_000))),
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=now(-10_000), window=1)),
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=1)),
        batch(action("Create", CREATE), action("Cancel", CANCEL, timestamp=now(-600_000))),
    ],
    Condition.IN_THE_FUTURE: lambda: [
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=now(60_000))),
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=2**64 - 1)),
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, timestamp=now() * 1000)),
    ],
    Condition.NOT_VERIFIED: lambda: [
        cancel(order_id=42070),
        cancel(symbol="ETH"),
        cancel(expiry_window=5001),
        cancel(timestamp=now(1)),
        cancel(account=BOB.address),
        cancel(agent_wallet=BOB.address),
        cancel(client_order_id=None),  # sent, but not signed
        envelope("cancel_order", ALICE.sign("cancel_all_orders", CANCEL)),
        cancel(signature=BOB.sign("cancel_order", CANCEL)["signature"]),
        batch(
            action("Create", CREATE),
            {"type": "Cancel", "data": ALICE.sign("cancel_order", CANCEL) | {"symbol": "ETH"}},
        ),
    ],
    Condition.NOT_AN_AGENT: lambda: [
        envelope("cancel_order", EVE.sign("cancel_order", CANCEL, account=ALICE.address)),
        envelope("cancel_order", ALICE.sign("cancel_order", CANCEL, account=ALICE.address)),
        batch(action("Create", CREATE), action("Cancel", CANCEL, EVE, account=ALICE.address)),
    ],
    Condition.UNKNOWN_BUILDER: lambda: [
        create(builder_code="nobody"),
        create(builder_code=""),
    ],
    Condition.CANCEL_FAILED: lambda: [
        cancel(),
        cancel({"symbol": "BTC", "client_order_id": CLOID}),
    ],
    Condition.EDIT_FAILED: lambda: [
        envelope("edit_order", ALICE.sign("edit_order", CANCEL | {"price": "1", "amount": "1"})),
    ],
    Condition.OFF_THE_GRID: lambda: [
        create(price="87768.5"),
        create(amount="0.000001"),
        create(price="9" * 20 + ".1", amount="9" * 20),
        envelope("create_market_order", ALICE.sign("create_market_order", MARKET | {"amount": "0.000001"})),
    ],
}
# These need an exchange of their own; each has a test below.
ELSEWHERE = {
    Condition.BROKEN,
    Condition.DUPLICATE_CLIENT_ORDER_ID,
    Condition.RATE_LIMITED,
    Condition.TOO_LARGE,
    Condition.UNKNOWN_ACCOUNT,
}


def test_every_condition_is_provoked() -> None:
    assert PROVOKE.keys() | ELSEWHERE == set(Condition)
    assert not PROVOKE.keys() & ELSEWHERE
    assert len(list(Condition)) == len(Condition.__members__)  # no row hides another


@pytest.mark.usefixtures("_no_complaints")
@pytest.mark.parametrize("condition", PROVOKE, ids=lambda condition: condition.name)
async def test_refusals(exchange: MockExchange, client: ClientConnection, condition: Condition) -> None:
    resting = exchange.place(ALICE.address, client_order_id=OTHER_CLOID)
    messages = PROVOKE[condition]()
    for number, message in enumerate(messages):
        reply = await ask(client, message)
        assert reply["code"] == condition.code, (number, reply)
        assert reply["err"].partition(": ")[0] == condition.text, (number, reply)
        assert "data" not in reply
        if condition.code != 400:
            assert reply["err"] == condition.text
        if condition in (Condition.NOT_JSON, Condition.BAD_ID):
            assert reply.keys() == {"code", "err", "t"}
        else:
            assert reply["id"] == message["id"]
        last = exchange.requests[-1]
        assert (last.code, last.error) == (reply["code"], reply["err"])
        assert last.text == (message if isinstance(message, (str, bytes)) else json.dumps(message))
    assert exchange.rejected == len(messages)
    assert exchange.orders(ALICE.address) == [resting]
    assert await silent(client)


async def test_errors_without_an_id(exchange: MockExchange, client: ClientConnection) -> None:
    exchange.errors_without_id = True
    reply = await ask(client, cancel())
    assert reply.keys() == {"code", "err", "t", "type"}
    assert reply["code"] == 420
    assert "id" in await ask(client, create())


async def test_too_large(exchange: MockExchange, client: ClientConnection) -> None:
    text = json.dumps(cancel())
    exchange.max_request_bytes = len(text)
    assert (await ask(client, text))["code"] == 420
    exchange.max_request_bytes = len(text) - 1
    reply = await ask(client, text)
    assert (reply["code"], reply["err"]) == (400, f"Invalid request: more than {len(text) - 1} bytes")
    exchange.max_request_bytes = 10
    assert (await ask(client, '"ééééé"'))["err"].endswith("more than 10 bytes")  # bytes, not characters


async def test_accounts() -> None:
    async with (
        MockExchange(accounts=[ALICE.address], quota=None) as exchange,
        connect(exchange.url) as client,
    ):
        assert (await ask(client, create()))["code"] == 200
        reply = await ask(client, envelope("create_order", BOB.sign("create_order", CREATE)))
        assert reply["code"] == Condition.UNKNOWN_ACCOUNT.code == 403
        assert reply["err"] == Condition.UNKNOWN_ACCOUNT.text
        # Whoever cannot sign does not learn who has an account.
        reply = await ask(client, cancel(account=BOB.address))
        assert reply["err"] == Condition.NOT_VERIFIED.text


async def test_a_bug_is_an_answer_and_a_log_entry(
    exchange: MockExchange,
    client: ClientConnection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(exchange._book, "cancel", lambda *_: 1 // 0)
    reply = await ask(client, cancel())
    assert (reply["code"], reply["err"]) == (500, "Unknown error")
    assert [record.message for record in caplog.records] == ["a bug of the mock exchange"]
    assert await silent(client)


# --------------------------------------------------------------------------- signatures


def load_known_answers() -> list[dict[str, Any]]:
    path = Path(__file__).parent / "vectors" / "ccxt_known_answers.json"
    answers: list[dict[str, Any]] = json.loads(path.read_text())
    return [answer for answer in answers if answer["type"] in _mock_rules.OPERATIONS]


async def test_signatures_made_by_others(exchange: MockExchange, client: ClientConnection) -> None:
    """Recorded requests of ccxt, at the time they were made."""
    answers = load_known_answers()
    assert len(answers) == 8
    for answer in answers:
        exchange.clock_offset = answer["timestamp"] - now()
        fields = {key: answer[key] for key in ("account", "signature", "timestamp", "expiry_window")}
        reply = await ask(client, envelope(answer["type"], fields | answer["data"]))
        assert reply["code"] in (200, 420), answer
        assert abs(reply["t"] - answer["timestamp"]) < PATIENCE * 1000
    assert exchange.verified == len(answers)


async def test_every_bit_of_the_signature(exchange: MockExchange, client: ClientConnection) -> None:
    order = exchange.place(ALICE.address)
    fields = ALICE.sign("cancel_order", {"symbol": "BTC", "order_id": order.order_id}, window=600_000)
    signature = int.from_bytes(base58.b58decode(fields["signature"]), "big")
    for bit in range(512):
        flipped = (signature ^ 1 << bit).to_bytes(64, "big")
        reply = await ask(
            client, envelope("cancel_order", fields | {"signature": base58.b58encode(flipped).decode()})
        )
        assert (reply["code"], reply["err"]) == (401, "Verification failed"), bit
    assert exchange.orders(ALICE.address) == [order]
    assert (await ask(client, envelope("cancel_order", fields)))["code"] == 200


async def test_every_bit_of_the_message(exchange: MockExchange, client: ClientConnection) -> None:
    order = exchange.place(ALICE.address)
    data = {"symbol": "BTC", "order_id": order.order_id}
    fields = ALICE.sign("cancel_order", data, window=600_000)
    header = {"type": "cancel_order", "timestamp": fields["timestamp"], "expiry_window": 600_000}
    message = json.dumps(header | {"data": data}, separators=(",", ":"), sort_keys=True).encode()
    assert base58.b58encode(ALICE.key.sign(message).signature).decode() == fields["signature"]
    for bit in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        signature = base58.b58encode(ALICE.key.sign(bytes(flipped)).signature).decode()
        reply = await ask(client, envelope("cancel_order", fields | {"signature": signature}))
        assert (reply["code"], reply["err"]) == (401, "Verification failed"), bit
    for other in (message + b" ", b" " + message, message.replace(b",", b", "), b""):
        signature = base58.b58encode(ALICE.key.sign(other).signature).decode()
        reply = await ask(client, envelope("cancel_order", fields | {"signature": signature}))
        assert (reply["code"], reply["err"]) == (401, "Verification failed")
    assert exchange.orders(ALICE.address) == [order]


FULL: dict[str, dict[str, Any]] = {
    "create_order": CREATE
    | {
        "client_order_id": CLOID,
        "take_profit": {"stop_price": "90000", "limit_price": "90100", "client_order_id": OTHER_CLOID},
        "stop_loss": {"stop_price": "80000"},
    },
    "create_market_order": MARKET | {"client_order_id": CLOID, "take_profit": {"stop_price": "90000"}},
    "edit_order": {"symbol": "BTC", "price": "1", "amount": "1", "order_id": 1},
    "cancel_order": {"symbol": "BTC", "client_order_id": CLOID},
    "cancel_all_orders": {"symbol": "BTC", "all_symbols": False, "exclude_reduce_only": False},
}
INSTEAD: dict[str, Any] = {
    "symbol": "ETH",
    "price": "2",
    "amount": "2",
    "side": "ask",
    "tif": "GTC",
    "reduce_only": True,
    "client_order_id": OTHER_CLOID,
    "take_profit": {"stop_price": "90001"},
    "stop_loss": {"stop_price": "80000", "limit_price": "1"},
    "slippage_percent": "50",
    "order_id": 2,
    "all_symbols": True,
    "exclude_reduce_only": True,
    "account": BOB.address,
    "agent_wallet": BOB.address,
    "expiry_window": 5_001,
}


@pytest.mark.parametrize("operation", FULL)
async def test_every_field_is_signed(
    exchange: MockExchange, client: ClientConnection, operation: str
) -> None:
    """Another value, or none, where the signature has one: for every field of every operation."""
    exchange.bind_agent(ALICE.address, BOB.address)
    data = {key: INSTEAD[key] if key == "side" else value for key, value in FULL[operation].items()}
    fields = ALICE.sign(operation, data)
    for name in [*fields, "agent_wallet"]:
        if name == "signature":
            continue
        instead = "bid" if name == "side" else INSTEAD.get(name, fields.get(name, 0))
        if name == "timestamp":
            instead = fields["timestamp"] - 1
        reply = await ask(client, envelope(operation, fields | {name: instead}))
        assert (reply["code"], reply["err"]) == (401, "Verification failed"), name
        if name in fields:
            left_out = {key: value for key, value in fields.items() if key != name}
            assert (await ask(client, envelope(operation, left_out)))["code"] in (400, 401), name
    assert (exchange.verified, exchange.orders(ALICE.address)) == (0, [])
    assert (await ask(client, envelope(operation, fields)))["code"] in (200, 420)
    assert exchange.verified == 1


async def test_the_wire_is_free(exchange: MockExchange, client: ClientConnection) -> None:
    """Order, spacing and escapes of what is sent are not signed; a null agent is none."""
    order = exchange.place(ALICE.address, symbol="SOL-USDC", price="140", amount="1")
    request = cancel({"symbol": "SOL-USDC", "order_id": order.order_id}, agent_wallet=None)
    fields = request["params"]["cancel_order"]
    request["params"]["cancel_order"] = {key: fields[key] for key in reversed(fields)}
    text = json.dumps(request, indent=3).replace("SOL-USDC", "\\u0053OL-USDC")
    assert (await ask(client, text))["code"] == 200


async def test_default_window(exchange: MockExchange, client: ClientConnection) -> None:
    for age, code in ((0, 420), (20_000, 420), (60_000, 401)):
        fields = ALICE.sign("cancel_order", CANCEL, timestamp=now(-age), window=30_000)
        del fields["expiry_window"]
        assert (await ask(client, envelope("cancel_order", fields)))["code"] == code


def test_the_moment_of_expiry() -> None:
    fields = ALICE.sign("cancel_order", CANCEL, timestamp=1_000_000, window=5_000)
    _mock_rules.verify("cancel_order", fields, now=1_005_000, future_tolerance=0)
    _mock_rules.verify("cancel_order", fields, now=1_000_000, future_tolerance=0)
    _mock_rules.verify("cancel_order", fields, now=999_900, future_tolerance=100)
    for moment, tolerance in ((1_005_001, 0), (999_999, 0), (999_899, 100)):
        with pytest.raises(Refusal, match="Invalid message"):
            _mock_rules.verify("cancel_order", fields, now=moment, future_tolerance=tolerance)


async def test_replays_are_as_good_as_the_original(exchange: MockExchange, client: ClientConnection) -> None:
    """No nonce is documented: within its window, a signed request may be sent again, by anybody."""
    exchange.place(ALICE.address, client_order_id=CLOID)
    request = cancel({"symbol": "BTC", "client_order_id": CLOID})
    assert (await ask(client, request))["code"] == 200
    exchange.place(ALICE.address, client_order_id=CLOID)
    async with connect(exchange.url, ssl=exchange.client_ssl_context()) as another:
        assert (await ask(another, request))["code"] == 200


async def test_agents(exchange: MockExchange, client: ClientConnection) -> None:
    def request(account: Wallet = ALICE) -> dict[str, Any]:
        order = exchange.place(account.address)
        data = {"symbol": "BTC", "order_id": order.order_id}
        return envelope("cancel_order", EVE.sign("cancel_order", data, account=account.address))

    refused = {"code": 403, "err": "Agent not authorized for account"}
    assert (await ask(client, request())).items() >= refused.items()
    exchange.bind_agent(ALICE.address, EVE.address)
    assert (await ask(client, request()))["code"] == 200
    assert (await ask(client, request(BOB))).items() >= refused.items()
    exchange.revoke_agent(ALICE.address, EVE.address)
    assert (await ask(client, request())).items() >= refused.items()
    exchange.revoke_agent(BOB.address, EVE.address)  # was none
    for pair in ((ALICE.address, "nobody"), ("nobody", ALICE.address), (ZERO_POINT, ALICE.address)):
        with pytest.raises(ValueError, match="public key"):
            exchange.bind_agent(*pair)


def test_it_shares_no_code_with_the_signer() -> None:
    package = Path(pacifica_fast.__file__).parent
    allowed = {"reference", "_certificate", "_mock_book", "_mock_rules", "mock_faults"}
    for name in ("mock_exchange", *allowed):
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                modules = [node.module or ""]
            for module in modules:
                if module.split(".")[0] == "pacifica_fast":
                    assert module.removeprefix("pacifica_fast.") in allowed, (name, module)


# --------------------------------------------------------------------------- credits


async def test_credits() -> None:
    async with MockExchange(quota=100, rate_window=1000) as exchange, connect(exchange.url) as client:
        exchange.place(ALICE.address)
        spent = 0
        for cost, request in (
            (5, cancel()),  # failed, and charged
            (5, cancel(signature="")),
            (5, envelope("cancel_all_orders", ALICE.sign("cancel_all_orders", FULL["cancel_all_orders"]))),
            (10, create()),
            (10, envelope("create_market_order", ALICE.sign("create_market_order", MARKET))),
            (10, envelope("edit_order", ALICE.sign("edit_order", FULL["edit_order"]))),
            (10, batch(*[action("Cancel", CANCEL)] * 10)),
            (0, {"id": CLOID}),
            (0, "not JSON"),
        ):
            spent += cost
            rl = (await ask(client, request))["rl"]
            assert rl.keys() == {"r", "q", "t"}
            assert (rl["r"], rl["q"]) == (100 - spent, 100)
            assert 1000 - PATIENCE < rl["t"] <= 1000
        assert await silent(client)  # and costs nothing


async def test_out_of_credits() -> None:
    async with MockExchange(quota=25, rate_window=1000) as exchange, connect(exchange.url) as client:
        assert [(await ask(client, create()))["code"] for _ in range(3)] == [200, 200, 429]
        reply = await ask(client, request := create())
        assert (reply["err"], reply["id"], reply["type"]) == (
            "Rate limit exceeded",
            request["id"],
            "create_order",
        )
        assert reply["rl"]["r"] == 5
        assert (await ask(client, cancel()))["code"] == 420  # half a credit was left
        reply = await ask(client, cancel())
        assert (reply["code"], reply["rl"]["r"]) == (429, 0)
        assert len(exchange.orders(ALICE.address)) == 2
        # An address has one allowance, each API key its own.
        async with connect(exchange.url) as another:
            assert (await ask(another, cancel()))["code"] == 429
        for key, code in (("abc_1", 420), ("abc_2", 420), ("abc_1", 420), ("abc_1", 200)):
            async with connect(exchange.url, additional_headers={"PF-API-KEY": key}) as another:
                assert (await ask(another, create() if code == 200 else cancel()))["code"] == code
        async with connect(exchange.url, additional_headers={"PF-API-KEY": "abc_1"}) as another:
            assert (await ask(another, create()))["code"] == 429


async def test_credits_come_back() -> None:
    async with MockExchange(quota=5, rate_window=0.2) as exchange, connect(exchange.url) as client:
        codes = set()
        deadline = time.monotonic() + PATIENCE
        recovered = False
        while not recovered and time.monotonic() < deadline:
            codes.add(code := (await ask(client, cancel()))["code"])
            recovered = code == 420 and 429 in codes
        assert recovered


async def test_no_quota_no_rl(client: ClientConnection) -> None:
    assert "rl" not in await ask(client, cancel())


# --------------------------------------------------------------------------- subscriptions


async def subscribe(client: ClientConnection, account: str, method: str = "subscribe") -> None:
    params = {"source": "account_order_updates", "account": account}
    assert await ask(client, {"method": method, "params": params}) == {"channel": method, "data": params}


async def updates(client: ClientConnection) -> list[dict[str, Any]]:
    message = await hear(client)
    assert message.keys() == {"channel", "data"}
    assert message["channel"] == "account_order_updates"
    return list(message["data"])


async def test_order_updates(exchange: MockExchange, client: ClientConnection) -> None:
    await subscribe(client, ALICE.address)
    before = now()
    reply = await ask(client, create(client_order_id=CLOID))
    (made,) = await updates(client)
    assert before <= made["ct"] == made["ut"] <= now()
    assert made == {
        "i": reply["data"]["i"],
        "I": CLOID,
        "u": ALICE.address,
        "s": "BTC",
        "d": "bid",
        "p": "0",
        "ip": "87768",
        "lp": "87768",
        "a": "0.002",
        "f": "0",
        "oe": "make",
        "os": "open",
        "ot": "limit",
        "sp": None,
        "si": None,
        "r": False,
        "ct": made["ct"],
        "ut": made["ct"],
        "li": made["li"],
    }
    exchange.place(BOB.address)  # nothing that Alice hears of
    await ask(
        client,
        envelope("edit_order", ALICE.sign("edit_order", FULL["edit_order"] | {"order_id": made["i"]})),
    )
    ended, remade = await updates(client)
    assert (ended["i"], ended["oe"], ended["os"]) == (made["i"], "cancel", "cancelled")
    assert (remade["oe"], remade["ip"], remade["a"], remade["I"]) == ("make", "1", "1", CLOID)
    await ask(client, cancel({"symbol": "BTC", "client_order_id": CLOID}))
    (cancelled,) = await updates(client)
    assert cancelled == remade | {key: cancelled[key] for key in ("oe", "os", "ut", "li")}
    assert (cancelled["oe"], cancelled["os"]) == ("cancel", "cancelled")

    order = exchange.place(ALICE.address, side="ask")
    (placed,) = await updates(client)
    exchange.fill(ALICE.address, order.order_id)
    (filled,) = await updates(client)
    assert (filled["oe"], filled["os"], filled["f"], filled["p"]) == (
        "fulfill_limit",
        "filled",
        "0.01",
        "50000",
    )
    assert made["li"] < ended["li"] < remade["li"] < cancelled["li"] < placed["li"] < filled["li"]

    for operation, data, kind in (
        ("create_order", {**CREATE, "tif": "IOC"}, "limit"),
        ("create_market_order", MARKET, "market"),
    ):
        await trade(client, operation, data)
        (unfilled,) = await updates(client)
        assert (unfilled["oe"], unfilled["os"], unfilled["ot"]) == ("cancel", "cancelled", kind)
    await ask(client, cancel())  # fails: nothing to report
    assert await silent(client)


async def test_cancel_all_is_one_message(exchange: MockExchange, client: ClientConnection) -> None:
    orders = [exchange.place(ALICE.address) for _ in range(5)]
    await subscribe(client, ALICE.address)
    data = {"all_symbols": True, "exclude_reduce_only": False}
    await ask(client, envelope("cancel_all_orders", ALICE.sign("cancel_all_orders", data)))
    assert [update["i"] for update in await updates(client)] == [order.order_id for order in orders]


async def test_subscriptions_are_of_one_connection(exchange: MockExchange, client: ClientConnection) -> None:
    async with connect(exchange.url, ssl=exchange.client_ssl_context()) as another:
        for _ in range(2):  # twice is once
            await subscribe(client, ALICE.address)
        await subscribe(client, BOB.address)
        exchange.place(ALICE.address)
        exchange.place(BOB.address)
        assert [(await updates(client))[0]["u"] for _ in range(2)] == [ALICE.address, BOB.address]
        assert await silent(client)
        assert await silent(another)
        await subscribe(client, ALICE.address, "unsubscribe")
        exchange.place(ALICE.address)
        assert await silent(client)


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        {},
        {"source": "account_order_updates"},
        {"source": "account_order_updates", "account": None},
        {"source": "account_order_updates", "account": "nobody"},
        {"source": "account_order_updates", "account": ["x"]},
        {"source": "no_such_channel", "account": ALICE.address},
        {"source": ["account_order_updates"], "account": ALICE.address},
    ],
)
@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
async def test_a_bad_subscription_is_met_with_silence(
    client: ClientConnection, method: str, params: Any
) -> None:
    await client.send(json.dumps({"method": method, "params": params}))
    assert await silent(client)


async def test_twenty_subscriptions(client: ClientConnection) -> None:
    accounts = [Wallet(seed).address for seed in range(21)]
    for account in accounts[:20]:
        await subscribe(client, account)
    params = {"source": "account_order_updates", "account": accounts[20]}
    await client.send(json.dumps({"method": "subscribe", "params": params}))
    assert await silent(client)
    params["account"] = accounts[0]
    await client.send(json.dumps({"method": "unsubscribe", "params": params | {"account": accounts[20]}}))
    assert await silent(client)  # was not subscribed
    await subscribe(client, accounts[0], "unsubscribe")
    await subscribe(client, accounts[20])


# --------------------------------------------------------------------------- connections


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait until the exchange has closed the connection; return why."""
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(client.recv(), PATIENCE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_ping(client: ClientConnection) -> None:
    assert await ask(client, '{"method":"ping"}') == {"channel": "pong"}
    assert await ask(client, {"method": "ping", "id": 1, "params": None}) == {"channel": "pong"}


async def test_idle_connections_are_closed() -> None:
    async with MockExchange(idle_timeout=0.3) as exchange, connect(exchange.url) as client:
        assert await closed(client) == (1001, "connection idle")
        # Pings of the websocket protocol do not count.
        async with connect(exchange.url, ping_interval=0.05) as another:
            assert await closed(another) == (1001, "connection idle")


async def test_messages_keep_a_connection_open() -> None:
    async with MockExchange(idle_timeout=1.0) as exchange, connect(exchange.url) as client:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert await silent(client)
            await asyncio.sleep(0.05)
        assert await closed(client) == (1001, "connection idle")


async def test_connections_do_not_live_for_ever() -> None:
    async with MockExchange(max_lifetime=0.5) as exchange, connect(exchange.url) as client:
        with contextlib.suppress(ConnectionClosed):
            while await silent(client):  # busy all its life
                pass
        assert await closed(client) == (1001, "connection too old")


async def test_tls_is_verified(exchange: MockExchange) -> None:
    assert exchange.url == f"wss://127.0.0.1:{exchange.port}/ws"
    trusting = exchange.client_ssl_context()
    for host in ("127.0.0.1", "localhost"):
        async with connect(f"wss://{host}:{exchange.port}/ws", ssl=trusting) as client:
            assert await silent(client)
    for context in (ssl.create_default_context(), MockExchange(tls=True).client_ssl_context()):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(exchange.url, ssl=context)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        await connect(exchange.url, ssl=trusting, server_hostname="ws.pacifica.fi")


async def test_plain_and_tls_of_your_own() -> None:
    plain = MockExchange()
    with pytest.raises(ValueError, match="tls=True"):
        plain.client_ssl_context()
    async with plain:
        assert plain.url == f"ws://127.0.0.1:{plain.port}/ws"
        async with connect(plain.url) as client:
            assert await silent(client)
    donor = MockExchange(tls=True)
    async with (
        MockExchange(ssl_context=donor._ssl) as own,
        connect(own.url, ssl=donor.client_ssl_context()) as client,
    ):
        assert await silent(client)


async def test_compression_is_never_negotiated(exchange: MockExchange) -> None:
    async with connect(exchange.url, ssl=exchange.client_ssl_context(), compression="deflate") as client:
        assert client.protocol.extensions == []


async def test_one_path_only(exchange: MockExchange) -> None:
    context = exchange.client_ssl_context()
    async with connect(exchange.url + "?a=b", ssl=context) as client:
        assert await silent(client)
    with pytest.raises(InvalidStatus, match="404"):
        await connect(exchange.url + "s", ssl=context)


@pytest.mark.usefixtures("_no_complaints")
async def test_messages_that_end_the_connection(exchange: MockExchange) -> None:
    context = exchange.client_ssl_context()
    async with connect(exchange.url, ssl=context) as client:
        assert (await ask(client, " " * 65536))["code"] == 400
        await client.send(" " * 65537)
        code, _ = await closed(client)
        assert code == 1009
    async with connect(exchange.url, ssl=context) as client:
        await client.send(b"\xff\xfe", text=True)  # not UTF-8
        code, _ = await closed(client)
        assert code == 1007


@pytest.mark.usefixtures("_no_complaints")
@pytest.mark.parametrize("tls", [False, True])
async def test_what_is_no_websocket(tls: bool) -> None:
    async with MockExchange(tls=tls) as exchange:
        for garbage in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 70_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
            with contextlib.suppress(ConnectionError):
                writer.write(garbage)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        context = exchange.client_ssl_context() if tls else None
        async with connect(exchange.url, ssl=context) as client:
            assert await silent(client)


async def test_who_does_not_read_is_cut_off() -> None:
    async with MockExchange() as exchange, connect(exchange.url, max_queue=1) as client:
        assert await silent(client)
        deadline = time.monotonic() + PATIENCE
        while exchange.connections and time.monotonic() < deadline:
            exchange.faults.send_raw("x" * 1_000_000)
            await asyncio.sleep(0)
        assert exchange.connections == 0


async def test_history_is_bounded(exchange: MockExchange) -> None:
    async with MockExchange(history=3) as exchange, connect(exchange.url) as client:
        for text in "12345":
            await ask(client, text)
        await silent(client)
        assert [received.text for received in exchange.requests] == ["4", "5", '{"method": "ping"}']
        assert [received.code for received in exchange.requests] == [400, 400, None]


async def test_it_comes_back_at_the_same_address() -> None:
    exchange = MockExchange()
    async with exchange:
        order = exchange.place(ALICE.address)
        url = exchange.url
        client = await connect(url)
        with pytest.raises(RuntimeError, match="running"):
            await exchange.__aenter__()
    assert (await closed(client))[0] == 1001
    assert exchange.orders(ALICE.address) == [order]
    async with exchange, connect(url) as client:
        assert await silent(client)


async def test_markets() -> None:
    assert MARKETS.keys() >= {"BTC", "ETH", "SOL", "kBONK", "SOL-USDC"}
    own = {"XYZ": Market(tick="0.5", lot="2")}
    async with MockExchange(markets=own, quota=None) as exchange, connect(exchange.url) as client:
        for symbol, price, amount, code in (
            ("XYZ", "1.5", "4", 200),
            ("XYZ", "1.2", "4", 500),
            ("XYZ", "1.5", "3", 500),
            ("BTC", "1", "1", 400),
        ):
            reply = await ask(client, create(symbol=symbol, price=price, amount=amount))
            assert reply["code"] == code
    async with MockExchange(markets=["ABC"]) as exchange, connect(exchange.url) as client:
        assert (await ask(client, create(symbol="ABC", price="0.123456789", amount="7")))["code"] == 200


def test_place_is_as_strict_as_a_request() -> None:
    exchange = MockExchange()
    exchange.place(ALICE.address, client_order_id=CLOID)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"symbol": "Btc"}, "unknown symbol"),
        ({"price": "0.5"}, "Internal server error"),
        ({"price": 50_000}, "price: expected"),
        ({"side": "buy"}, "side: expected"),
        ({"tif": "IOC"}, "does not rest"),
        ({"client_order_id": CLOID}, "Failed to create order"),
        ({"client_order_id": CLOID.upper()}, "client_order_id: expected"),
    ]
    for how, match in wrong:
        with pytest.raises(ValueError, match=match):
            exchange.place(ALICE.address, **how)
    with pytest.raises(ValueError, match="public key"):
        exchange.place("nobody")


# --------------------------------------------------------------------------- faults


async def test_faults(exchange: MockExchange, client: ClientConnection) -> None:
    faults = exchange.faults
    order = exchange.place(ALICE.address)
    which = {"symbol": "BTC", "order_id": order.order_id}

    faults.reject_next(503, "Try later", 2)
    for _ in range(2):
        reply = await trade(client, "cancel_order", which)
        assert (reply["code"], reply["err"]) == (503, "Try later")
    assert exchange.orders(ALICE.address) == [order]

    faults.drop_replies()
    await client.send(json.dumps(cancel(which)))
    assert await silent(client)  # not answered,
    assert exchange.orders(ALICE.address) == []  # but done
    assert exchange.requests[-2].code == 200

    faults.reply_twice()
    first = await ask(client, cancel())
    assert await hear(client) == first
    assert (await ask(client, cancel()))["code"] == 420

    for raw in ("not JSON", b"\0\1"):
        faults.send_raw(raw)
        assert await asyncio.wait_for(client.recv(), PATIENCE) == raw

    faults.drop_replies(5)
    faults.reject_next(500, "no", 5)
    faults.clear()
    assert (await ask(client, cancel()))["code"] == 420

    faults.disconnect()
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(client.recv(), PATIENCE)
    assert caught.value.rcvd is None  # no closing handshake


async def test_delayed_replies(exchange: MockExchange, client: ClientConnection) -> None:
    exchange.faults.delay_replies(0.3)
    start = time.monotonic()
    requests = [cancel() for _ in range(5)]
    for request in requests:
        await client.send(json.dumps(request))
    assert await silent(client)  # only replies are late
    assert [(await hear(client))["id"] for _ in requests] == [request["id"] for request in requests]
    assert time.monotonic() - start >= 0.3
    exchange.faults.delay_replies(1000)
    await client.send(json.dumps(cancel()))
    exchange.faults.delay_replies(0)
    assert (await ask(client, cancel()))["code"] == 420


async def test_a_late_reply_to_a_lost_client(exchange: MockExchange) -> None:
    async with connect(exchange.url, ssl=exchange.client_ssl_context()) as client:
        exchange.faults.delay_replies(0.1)
        await client.send(json.dumps(cancel()))
        assert await silent(client)
    await asyncio.sleep(0.2)
    assert exchange.connections == 0


# --------------------------------------------------------------------------- in a thread, and hostile


@pytest.fixture(scope="module")
def threaded() -> Iterator[MockExchange]:
    with MockExchange(quota=None).in_thread() as exchange:
        yield exchange


def test_in_a_thread() -> None:
    with MockExchange(tls=True).in_thread() as exchange:
        context = exchange.client_ssl_context()
        order = exchange.place(ALICE.address)
        exchange.bind_agent(ALICE.address, EVE.address)
        with connect_sync(exchange.url, ssl=context) as client:
            data = {"symbol": "BTC", "order_id": order.order_id}
            fields = EVE.sign("cancel_order", data, account=ALICE.address)
            client.send(json.dumps(envelope("cancel_order", fields)))
            assert json.loads(client.recv(PATIENCE))["code"] == 200
            assert exchange.orders(ALICE.address) == []
            assert exchange.requests[-1].operation == "cancel_order"
            assert exchange.connections == 1
            exchange.faults.send_raw("hello")
            assert client.recv(PATIENCE) == "hello"
            with pytest.raises(ValueError, match="unknown symbol"):
                exchange.place(ALICE.address, symbol="x")
    with pytest.raises(ConnectionRefusedError):
        connect_sync(exchange.url, ssl=context)
    assert exchange.orders(ALICE.address) == []  # still there to be asked


def test_a_thread_that_cannot_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), MockExchange(port=port).in_thread():
            pytest.fail("it listens on a port that is taken")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "params",
                    "method",
                    "source",
                    "actions",
                    "type",
                    "data",
                    *_mock_rules.OPERATIONS,
                    *INSTEAD,
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def replies(exchange: MockExchange, *messages: str | bytes) -> list[dict[str, Any]]:
    """What comes back before the pong to a ping that is sent last."""
    with connect_sync(exchange.url, compression=None) as client:
        for message in messages:
            client.send(message)
        client.send('{"method":"ping"}')
        heard = []
        while (reply := json.loads(client.recv(PATIENCE))) != {"channel": "pong"}:
            heard.append(reply)
        return heard


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=JSON)
@pytest.mark.usefixtures("_no_complaints")
def test_any_json(threaded: MockExchange, message: Any) -> None:
    if isinstance(message, dict) and message.get("method") == "ping":
        del message["method"]
    heard = replies(threaded, json.dumps(message))
    assert len(heard) <= 1
    for reply in heard:
        assert reply["code"] == 400 or reply["channel"] in ("subscribe", "unsubscribe")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operation=st.sampled_from([*FULL]),
    name=st.sampled_from([*INSTEAD, "signature", "timestamp"]),
    value=JSON,
    batched=st.booleans(),
)
@pytest.mark.usefixtures("_no_complaints")
def test_anything_in_any_field(
    threaded: MockExchange, operation: str, name: str, value: Any, batched: bool
) -> None:
    """One field of a good request is something else: refused with a documented code, or signed and fine."""
    kinds = {signed: kind for kind, signed in _mock_rules.ACTIONS.items()}
    data = FULL[operation]
    fields = ALICE.sign(operation, data if name in AUTH else data | {name: value}) | {name: value}
    request = envelope(operation, fields)
    if batched and operation in kinds:
        request = batch({"type": kinds[operation], "data": fields})
    (reply,) = replies(threaded, json.dumps(request))
    assert reply["code"] in (200, 400, 401, 402, 403, 420, 500)
    assert reply.get("err") != Condition.BROKEN.text
    assert reply.get("id") == request["id"] or reply["err"] == "Invalid request: not JSON"  # NaN
    if name in AUTH and value is not None:
        assert reply["code"] in (400, 401, 402)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text() | st.binary(max_size=300))
@pytest.mark.usefixtures("_no_complaints")
def test_any_message(threaded: MockExchange, message: str | bytes) -> None:
    (reply,) = replies(threaded, message)
    assert reply["code"] == 400
    assert "id" not in reply


async def test_on_message_hears_of_every_message(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Received] = []

    def listen(received: Received) -> None:
        heard.append(received)
        raise RuntimeError("the listener's own trouble")

    async with (
        MockExchange(tls=True, on_message=listen) as exchange,
        connect(exchange.url, ssl=exchange.client_ssl_context()) as connection,
    ):
        for text in ('{"method":"ping"}', "not json"):
            await connection.send(text)
            await connection.recv()
    assert [(received.text, received.code) for received in heard] == [
        ('{"method":"ping"}', None),
        ("not json", 400),
    ]
    assert "the listener's own trouble" in caplog.text
