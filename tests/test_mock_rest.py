# SPDX-License-Identifier: MIT
"""The REST side of the mock exchange, over real sockets, by the standard library's client."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from nacl.signing import SigningKey

from pacifica_fast import reference
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

KEY = SigningKey(bytes(range(1, 33)))
ACCOUNT = reference.b58encode(bytes(KEY.verify_key))
CLOID = "79f948fd-7556-4066-a128-083f3ea49322"
ORDER = {
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.01",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}
PATIENCE = 20.0  # s


class Signature:
    """PyNaCl's key with the method that the reference calls."""

    @staticmethod
    def sign_message(message: bytes) -> bytes:
        return bytes(KEY.sign(message).signature)


def signed(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    header = {"type": operation, "timestamp": int(time.time() * 1000), "expiry_window": 5_000}
    signature = reference.sign_message(header, payload, Signature())[1]
    del header["type"]
    return {"account": ACCOUNT, "signature": signature, **header, **payload}


def ask(rest: MockRest, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    url = urlsplit(rest.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    try:
        text = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        connection.request(method, url.path + path, text, headers)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def post(
    rest: MockRest, path: str, operation: str, payload: dict[str, Any], **headers: str
) -> tuple[int, Any]:
    return ask(rest, "POST", path, signed(operation, payload), **headers)


@pytest.fixture
def exchange() -> Iterator[MockExchange]:
    with MockExchange(quota=None).in_thread() as running:
        yield running


@pytest.fixture
def rest(exchange: MockExchange) -> Iterator[MockRest]:
    with MockRest(exchange) as running:
        yield running


def success(data: Any, **more: Any) -> tuple[int, Any]:
    return 200, {"success": True, "data": data, "error": None, "code": None, **more}


def failure(status: int, code: int, text: str) -> tuple[int, Any]:
    return status, {"success": False, "data": None, "error": text, "code": code}


def test_an_order_is_placed_edited_and_cancelled(exchange: MockExchange, rest: MockRest) -> None:
    status, body = post(rest, "/orders/create", "create_order", {**ORDER, "client_order_id": CLOID})
    (order,) = exchange.orders(ACCOUNT)
    assert (status, body) == success({"order_id": order.order_id, "client_order_id": CLOID})
    (shown,) = ask(rest, "GET", f"/orders?account={ACCOUNT}")[1]["data"]
    assert (shown["order_id"], shown["initial_amount"]) == (order.order_id, "0.01")

    edit = {"symbol": "BTC", "order_id": order.order_id, "price": "50001", "amount": "0.02"}
    status, body = post(rest, "/orders/edit", "edit_order", edit)
    (edited,) = exchange.orders(ACCOUNT)
    assert body["data"]["order_id"] == edited.order_id != order.order_id

    cancel = {"symbol": "BTC", "order_id": edited.order_id}
    assert post(rest, "/orders/cancel", "cancel_order", cancel) == (200, {"success": True})
    assert exchange.orders(ACCOUNT) == []
    assert exchange.verified == 3


def test_market_orders_cancel_all_and_batches(exchange: MockExchange, rest: MockRest) -> None:
    market = {
        "symbol": "BTC",
        "amount": "0.1",
        "side": "ask",
        "slippage_percent": "0.5",
        "reduce_only": False,
    }
    assert post(rest, "/orders/create_market", "create_market_order", market)[0] == 200
    actions = [
        {"type": "Create", "data": signed("create_order", ORDER)},
        {"type": "Cancel", "data": signed("cancel_order", {"symbol": "BTC", "order_id": 1})},
    ]
    status, body = ask(rest, "POST", "/orders/batch", {"actions": actions})
    assert (status, [result["success"] for result in body["data"]["results"]]) == (200, [True, False])
    every = {"all_symbols": True, "exclude_reduce_only": False}
    assert post(rest, "/orders/cancel_all", "cancel_all_orders", every) == success({"cancelled_count": 1})
    operations = [received.operation for received in exchange.requests]
    assert operations == ["create_market_order", "batch_orders", "cancel_all_orders"]


def test_markets_settings_and_what_there_is_not(rest: MockRest) -> None:
    status, body = ask(rest, "GET", "/info")
    assert status == 200
    assert {market["symbol"]: market["tick_size"] for market in body["data"]}["BTC"] == "1"
    assert ask(rest, "GET", f"/account/settings?account={ACCOUNT}") == success([])
    assert ask(rest, "GET", "/orders") == success([], last_order_id=None)
    assert ask(rest, "GET", "/orders/cancel") == failure(404, 404, "Not found")
    assert post(rest, "/lake/create", "create_lake", {}) == failure(404, 404, "Not found")


def test_refusals(exchange: MockExchange, rest: MockRest) -> None:
    cancel = {"symbol": "BTC", "order_id": 1}
    gone = failure(422, 6, "Failed to cancel order")
    assert post(rest, "/orders/cancel", "cancel_order", cancel) == gone
    assert post(rest, "/orders/cancel", "edit_order", cancel) == failure(400, 400, "Verification failed")
    assert ask(rest, "POST", "/orders/cancel", "{")[1]["error"] == "Invalid request: not JSON"
    assert ask(rest, "POST", "/orders/cancel", b"\xff")[0] == 400
    assert ask(rest, "POST", "/orders/cancel", {"account": ACCOUNT})[1]["error"].startswith("Invalid request")
    twice = {**ORDER, "client_order_id": CLOID}
    post(rest, "/orders/create", "create_order", twice)
    assert post(rest, "/orders/create", "create_order", twice) == failure(422, 36, "Failed to create order")
    agent = {**signed("cancel_order", cancel), "agent_wallet": ACCOUNT}
    assert ask(rest, "POST", "/orders/cancel", agent)[0] == 403
    exchange.faults.reject_next(429, "Rate limit exceeded")
    assert post(rest, "/orders/cancel", "cancel_order", cancel) == failure(429, 429, "Rate limit exceeded")
    assert exchange.rejected == 8


def test_credits_are_of_the_key_or_the_address() -> None:
    with MockExchange(quota=10).in_thread() as exchange, MockRest(exchange) as rest:
        cancel = {"symbol": "BTC", "order_id": 1}
        statuses = [post(rest, "/orders/cancel", "cancel_order", cancel)[0] for _ in range(3)]
        assert statuses == [422, 422, 429]
        assert post(rest, "/orders/cancel", "cancel_order", cancel, **{"PF-API-KEY": "mine"})[0] == 422


def test_a_bug_of_ours_is_500_and_logged(
    exchange: MockExchange, rest: MockRest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "_trade", None)
    with caplog.at_level(logging.ERROR, "pacifica_fast.mock_exchange"):
        assert post(rest, "/orders/cancel", "cancel_order", {}) == failure(500, 500, "Unknown error")
    assert "a bug of the mock exchange" in caplog.text


@pytest.mark.parametrize("length", ["many", "65537", ""])
def test_bodies_without_a_length_or_of_too_much(rest: MockRest, length: str) -> None:
    url = urlsplit(rest.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE) as connection:
        head = f"POST {url.path}/orders/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413")


def test_one_connection_serves_many_requests_and_what_changes_is_published(
    exchange: MockExchange, rest: MockRest
) -> None:
    heard: list[str | None] = []
    exchange._on_message = lambda received: heard.append(received.operation)
    url = urlsplit(rest.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    for _ in range(3):
        connection.request("POST", f"{url.path}/orders/create", json.dumps(signed("create_order", ORDER)))
        assert json.loads(connection.getresponse().read())["success"]
    connection.close()
    assert heard == ["create_order"] * 3


def test_it_ends_with_its_block_even_if_a_client_stays(exchange: MockExchange) -> None:
    before = threading.active_count()
    with MockRest(exchange) as rest:
        url = urlsplit(rest.url)
        idle = socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE)
    idle.close()
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE)
