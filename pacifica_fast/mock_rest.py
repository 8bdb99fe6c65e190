# SPDX-License-Identifier: MIT
"""The REST side of a :class:`~pacifica_fast.mock_exchange.MockExchange`: plain HTTP on loopback.

.. code-block:: python

    with MockExchange().in_thread() as exchange, MockRest(exchange) as rest:
        requests.post(f"{rest.url}/orders/cancel", json=signed_request)

It offers what bots of other libraries need to start and to trade: the orders of the websocket under
their REST paths, ``/info``, ``/orders``, and ``/account/settings``, which are empty. Orders, agents and
credits are those of the exchange. Answers are ``{"success", "data", "error", "code"}``, as clients
parse them ([CCXT], [HB], [BC]: the tags are explained in :mod:`pacifica_fast._mock_rules`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from pacifica_fast.mock_exchange import MESSAGE_MAX, Market, MockExchange, Order

__all__ = ["MockRest"]

PREFIX: Final = "/api/v1"
PATIENCE: Final = 30.0  # seconds that a connection may say nothing

OPERATIONS: Final[Mapping[str, str]] = {  # [K]
    "/orders/create": "create_order",
    "/orders/create_market": "create_market_order",
    "/orders/edit": "edit_order",
    "/orders/cancel": "cancel_order",
    "/orders/cancel_all": "cancel_all_orders",
    "/orders/batch": "batch_orders",
}

# HTTP status and body code for each code of the websocket. 422 for what the engine refuses is [K];
# 6, ORDER_NOT_FOUND, and 36, DUPLICATE_CLIENT_ORDER_ID, are [D-new]; 400 for signatures is [BC].
_STATUS: Final = {400: 400, 401: 400, 402: 400, 403: 403, 420: 422, 429: 429, 500: 500}
_ENGINE: Final = {"create_order": 36, "create_market_order": 36}
_ORDER_NOT_FOUND: Final = 6


class MockRest:
    """Serves REST for a running ``exchange``, from entry to exit, in threads of its own.

    Where the exchange runs in an event loop, that loop must be free to run while a client waits.
    ``port`` 0 is any free one. ``owner`` of the credits is the ``PF-API-KEY`` of a request, or its
    address.
    """

    def __init__(self, exchange: MockExchange, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.exchange = exchange
        self._address = host, port
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What paths are appended to: ``http://127.0.0.1:PORT/api/v1``."""
        host, port = self._address
        return f"http://{host}:{port}{PREFIX}"

    def __enter__(self) -> Self:
        self._server = _Server(self._address, self)
        self._address = self._address[0], self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def get(self, path: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body for a GET; the path is without the prefix."""
        match path:
            case "/info":
                return _success([_info(symbol, market) for symbol, market in self.exchange.markets.items()])
            case "/orders":
                orders = self.exchange.orders(query.get("account", ""))
                return _success([_open_order(order) for order in orders], last_order_id=None)
            case "/account/settings":
                return _success([])
        return _failure(404, 404, "Not found")

    def post(self, path: str, text: str, owner: str) -> tuple[int, dict[str, Any]]:
        """Status and body for a POST of signed fields; the path is without the prefix."""
        operation = OPERATIONS.get(path)
        if operation is None:
            return _failure(404, 404, "Not found")
        answer = self.exchange.answer(operation, text, owner)
        code = answer["code"]
        if code != 200:
            engine = _ENGINE.get(operation, _ORDER_NOT_FOUND)
            return _failure(_STATUS[code], engine if code == 420 else _STATUS[code], answer["err"])
        if operation == "cancel_order":
            return 200, {"success": True}  # [K]; [CCXT] has seen "data": null beside it
        return _success(_rest_data(answer["data"]))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections open

    def __init__(self, address: tuple[str, int], rest: MockRest) -> None:
        super().__init__(address, _Handler)
        self.rest = rest


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self._answer(*self.server.rest.get(url.path.removeprefix(PREFIX), query))

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > MESSAGE_MAX:
            self.close_connection = True
            return self._answer(*_failure(413, 413, "Content-Length: expected, and at most 64 KiB"))
        body = self.rfile.read(int(size))
        path = urlsplit(self.path).path.removeprefix(PREFIX)
        payer = self.headers.get("PF-API-KEY") or f"address {self.client_address[0]}"
        return self._answer(*self.server.rest.post(path, body.decode(errors="replace"), payer))

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        text = json.dumps(body, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the standard library's
        """Nothing: the exchange keeps what it received."""


def _success(data: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"success": True, "data": data, "error": None, "code": None, **more}


def _failure(status: int, code: int, text: str) -> tuple[int, dict[str, Any]]:
    return status, {"success": False, "data": None, "error": text, "code": code}


def _rest_data(data: dict[str, Any]) -> dict[str, Any]:
    """The ``data`` of a REST answer, from that of a websocket reply."""
    if "i" in data:
        return {"order_id": data["i"], "client_order_id": data["I"]}
    return data


def _info(symbol: str, market: Market) -> dict[str, Any]:
    """One market, with the fields and the bounds of [K]'s sample."""
    return {
        "symbol": symbol,
        "tick_size": market.tick,
        "min_tick": "0",
        "max_tick": "1000000",
        "lot_size": market.lot,
        "max_leverage": 50,
        "isolated_only": False,
        "min_order_size": "10",
        "max_order_size": "5000000",
        "funding_rate": "0.0000125",
        "next_funding_rate": "0.0000125",
        "created_at": 1748881333944,
    }


def _open_order(order: Order) -> dict[str, Any]:
    """A resting order, with the fields of [CCXT]'s sample."""
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "price": order.price,
        "initial_amount": order.amount,
        "filled_amount": "0",
        "cancelled_amount": "0",
        "stop_price": None,
        "order_type": "limit",
        "stop_parent_order_id": None,
        "reduce_only": order.reduce_only,
        "created_at": order.created_at,
        "updated_at": order.created_at,
    }
