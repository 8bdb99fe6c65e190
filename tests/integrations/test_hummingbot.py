# SPDX-License-Identifier: MIT
"""The auth object of hummingbot's ``pacifica_perpetual`` connector, accelerated, beside itself as it comes.

The real one, from hummingbot's source distribution: the files that it needs of it are pure Python, and are
not built. ``make integrations`` fetches them.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import logging
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
from peer import peer
from trading import ACCOUNT, OTHER_ACCOUNT, OTHER_PRIVATE, body_verifies

from pacifica_fast import Keypair
from pacifica_fast.integrations import Unsupported, hummingbot
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

_factory, _class = logging.getLogRecordFactory(), logging.getLoggerClass()
auth_module = peer("hummingbot.connector.derivative.pacifica_perpetual.pacifica_perpetual_auth")
requests = peer("requests")  # which hummingbot needs, and we do not
data_types = peer("hummingbot.core.web_assistant.connections.data_types")
logging.setLogRecordFactory(_factory)  # hummingbot's import changes them for everybody
logging.setLoggerClass(_class)

ORIGINAL = auth_module.sign_message
NOW = 1_748_970_123.456  # s

ORDER = {
    "type": "create_order",
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.01",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}
CANCEL = {"type": "cancel_order", "symbol": "BTC", "order_id": 28_416_222_569}
ODD = {"type": "odd", "text": 'é\x7f"', "float": 1e-5, "nested": [{"b": 1, "a": None}]}


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    hummingbot.restore()
    assert auth_module.sign_message is ORIGINAL


def auth() -> Any:
    return auth_module.PacificaPerpetualAuth(OTHER_ACCOUNT, OTHER_PRIVATE, ACCOUNT)


def rest_request(method: str, data: Any) -> Any:
    return data_types.RESTRequest(
        method=data_types.RESTMethod[method], url="/x", data=json.dumps(data), is_auth_required=True
    )


def authenticated(signing: Any, data: Any, method: str = "POST") -> Any:
    return asyncio.run(signing.rest_authenticate(rest_request(method, data)))


@pytest.mark.parametrize("data", [ORDER, CANCEL, ODD], ids=["order", "cancel", "odd"])
def test_requests_are_those_of_hummingbot(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_module.time, "time", lambda: NOW)
    signing = auth()
    before = authenticated(signing, data)
    over_websocket = {"params": copy.deepcopy(data)}
    asyncio.run(signing.ws_authenticate(data_types.WSJSONRequest(payload=over_websocket)))

    hummingbot.accelerate()
    for fast in (signing, auth()):  # one that exists, and a new one
        assert authenticated(fast, data) == before
        payload = {"params": copy.deepcopy(data)}
        asyncio.run(fast.ws_authenticate(data_types.WSJSONRequest(payload=payload)))
        assert payload == over_websocket
    if data is not ODD:
        assert body_verifies(data["type"], json.loads(before.data))


def test_a_get_is_left_alone() -> None:
    hummingbot.accelerate()
    assert authenticated(auth(), CANCEL, "GET") == rest_request("GET", CANCEL)


def test_once_and_undone() -> None:
    hummingbot.restore()  # nothing to undo
    hummingbot.accelerate()
    ours = auth_module.sign_message
    assert ours is not ORIGINAL
    hummingbot.accelerate()
    assert auth_module.sign_message is ours


def test_a_hummingbot_that_is_not_as_we_know_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def sign_message(header: Any, payload: Any, keypair: Any) -> tuple[str, str]:
        return "message", "signature"

    theirs = FunctionType(sign_message.__code__, vars(auth_module))
    with monkeypatch.context() as patch:
        patch.setattr(auth_module, "sign_message", theirs)
        with pytest.raises(Unsupported, match=r"hummingbot .*: sign_message signs something else"):
            hummingbot.accelerate()
        assert auth_module.sign_message is theirs


@pytest.mark.parametrize("name", ["sign_message", "prepare_message", "sort_json_keys"])
def test_a_guard_of_the_users_is_not_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrapped, it says that it is hummingbot's."""
    original = getattr(auth_module, name)

    @functools.wraps(original)
    def guard(*arguments: Any) -> Any:
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(auth_module, name, guard)
        with pytest.raises(Unsupported, match=rf"hummingbot .*: {name} is not the package's own"):
            hummingbot.accelerate()
        assert getattr(auth_module, name) is guard


def test_our_keypair_in_the_place_of_solders() -> None:
    hummingbot.accelerate()
    with Keypair.from_base58_string(OTHER_PRIVATE) as keypair:
        signing = auth()
        signing._keypair = keypair
        assert body_verifies("cancel_order", json.loads(authenticated(signing, CANCEL).data))


def test_its_requests_are_accepted() -> None:
    with MockExchange(quota=None).in_thread() as exchange, MockRest(exchange) as rest:
        exchange.bind_agent(ACCOUNT, OTHER_ACCOUNT)
        hummingbot.accelerate()
        signing = auth()

        def post(path: str, data: Any) -> Any:
            request = authenticated(signing, data)
            return requests.post(
                rest.url + path, data=request.data, headers=request.headers, timeout=20
            ).json()

        order_id = post("/orders/create", ORDER)["data"]["order_id"]
        assert [order.order_id for order in exchange.orders(ACCOUNT)] == [order_id]
        assert post("/orders/cancel", {**CANCEL, "order_id": order_id}) == {"success": True}
        assert exchange.orders(ACCOUNT) == []
