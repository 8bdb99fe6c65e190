# SPDX-License-Identifier: MIT
"""``pacifica-sdk`` from PyPI, accelerated, beside itself as it comes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
from peer import peer
from trading import ACCOUNT, NOW, OTHER_ACCOUNT, OTHER_PRIVATE, PRIVATE, body_verifies

from pacifica_fast import KeyClosed, Keypair
from pacifica_fast.integrations import Unsupported, pacifica_sdk
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

signing = peer("pacifica_sdk.utils.signing")
tools = peer("pacifica_sdk.utils.tools")
exchange_module = peer("pacifica_sdk.async_.exchange")
enums = peer("pacifica_sdk.enums")
models = peer("pacifica_sdk.models.requests")
solders = peer("solders.keypair")

PLACES = (signing, tools, exchange_module)
ORIGINAL = signing.sign_message
KEYPAIR = solders.Keypair.from_base58_string(PRIVATE)

OPERATIONS: list[tuple[Any, Any]] = [
    (enums.OperationType.CANCEL_ORDER, {"symbol": "BTC", "order_id": 28_416_222_569}),
    (
        enums.OperationType.CREATE_ORDER,
        {"symbol": "BTC", "side": enums.Side.BID, "list": [{"b": 1, "a": None}]},
    ),
    ("odd", {"text": 'é\x7f"\\u0041\n', "float": 1e-5, "nan": float("nan"), "tuple": ({"b": 1, "a": 2},)}),
    ("list_api_keys", {}),
]


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    pacifica_sdk.restore()
    assert all(place.sign_message is ORIGINAL for place in PLACES)


def body(keypair: Any, operation: Any, data: Any) -> dict[str, Any]:
    built = tools.build_signer_request(keypair, operation, data, 5_000, ACCOUNT, None, NOW)
    assert isinstance(built, dict)
    return built


@pytest.mark.parametrize(("operation", "data"), OPERATIONS, ids=lambda value: str(value)[:20])
def test_bodies_are_those_of_the_package(operation: Any, data: Any) -> None:
    before = body(KEYPAIR, operation, data)
    pacifica_sdk.accelerate()
    assert repr(body(KEYPAIR, operation, data)) == repr(before)
    with Keypair.from_base58_string(PRIVATE) as ours:  # and with a key of ours
        assert repr(body(ours, operation, data)) == repr(before)


def test_every_place_at_once_and_back() -> None:
    pacifica_sdk.restore()  # nothing to undo
    pacifica_sdk.accelerate()
    ours = signing.sign_message
    assert ours is not ORIGINAL
    assert all(place.sign_message is ours for place in PLACES)
    pacifica_sdk.accelerate()
    assert all(place.sign_message is ours for place in PLACES)


def test_the_key_is_looked_at_for_each_signature() -> None:
    pacifica_sdk.accelerate()
    with Keypair.from_base58_string(PRIVATE) as ours:
        body(ours, *OPERATIONS[0])
    with pytest.raises(KeyClosed):
        body(ours, *OPERATIONS[0])


def test_a_keypair_of_somebody_elses() -> None:
    class Signing:
        def sign_message(self, message: bytes) -> list[int]:
            return list(bytes(KEYPAIR.sign_message(message)))

    before = body(KEYPAIR, *OPERATIONS[0])
    pacifica_sdk.accelerate()
    assert body(Signing(), *OPERATIONS[0]) == before


def test_a_package_changed_in_one_place_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tools, "sign_message", lambda **arguments: "signature")
        with pytest.raises(Unsupported, match=r"pacifica-sdk 0\..*: sign_message is not one function in"):
            pacifica_sdk.accelerate()
    assert all(place.sign_message is ORIGINAL for place in PLACES)


def patch_all(patch: pytest.MonkeyPatch, function: Any) -> None:
    for place in PLACES:
        patch.setattr(place, "sign_message", function)


def as_theirs(function: Any) -> Any:
    """What another version of the package might have."""
    theirs = FunctionType(function.__code__, vars(signing), function.__name__)
    theirs.__kwdefaults__ = function.__kwdefaults__
    return theirs


@as_theirs
def signs_otherwise(
    *, keypair: Any, timestamp: Any, operation_type: Any, operation_data: Any, expiry_window: Any
) -> str:
    return "signature"


@as_theirs
def fails(
    *, keypair: Any, timestamp: Any, operation_type: Any, operation_data: Any, expiry_window: Any
) -> str:
    raise OSError


without_its_module = FunctionType(ORIGINAL.__code__, {})
without_its_module.__module__ = "pacifica_sdk.utils.signing"


@functools.wraps(ORIGINAL)
def refuses_withdrawals(**arguments: Any) -> Any:
    raise PermissionError


@as_theirs
def takes_other_arguments(header: Any, payload: Any, keypair: Any) -> str:
    return "signature"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda **arguments: "signature", "was replaced by test_pacifica_sdk"),
        (signs_otherwise, "signs something else"),
        (fails, r"cannot be tried \(OSError\)"),
        (without_its_module, "sign_message is not the package's own"),
        (refuses_withdrawals, "sign_message is not the package's own"),
        (takes_other_arguments, "takes other arguments"),
        (None, "is not one function"),
    ],
    ids=[
        "replaced",
        "another signature",
        "a failure",
        "another module",
        "wrapped",
        "other arguments",
        "gone",
    ],
)
def test_a_package_that_is_not_as_we_know_it_is_left_alone(function: Any, reason: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch_all(patch, function)
        with pytest.raises(Unsupported, match=reason):
            pacifica_sdk.accelerate()
        assert all(place.sign_message is function for place in PLACES)


def test_what_somebody_replaced_since_is_not_undone() -> None:
    pacifica_sdk.accelerate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools, "sign_message", signs_otherwise)
        with pytest.raises(Unsupported, match=r"pacifica_sdk\.utils\.tools\.sign_message was replaced since"):
            pacifica_sdk.restore()
        with pytest.raises(Unsupported, match="not one function"):
            pacifica_sdk.accelerate()


def test_a_bot_trades_with_an_agent_wallet() -> None:
    async def bot(rest: MockRest) -> None:
        client = exchange_module.Exchange(OTHER_PRIVATE, ACCOUNT, OTHER_ACCOUNT, rest.url)
        try:
            order = models.CreateLimitOrder(
                symbol="BTC",
                price="50000",
                reduce_only=False,
                amount="0.01",
                side=enums.Side.BID,
                tif=enums.TIF.GTC,
            )
            placed = await client.create_order(order)
            order_id = placed.data.order_id
            assert [resting.order_id for resting in exchange.orders(ACCOUNT)] == [order_id]
            await client.cancel_order(models.CancelOrder(symbol="BTC", order_id=order_id))
            assert exchange.orders(ACCOUNT) == []
        finally:
            await client.close()

    with MockExchange(quota=None).in_thread() as exchange, MockRest(exchange) as rest:
        exchange.bind_agent(ACCOUNT, OTHER_ACCOUNT)
        pacifica_sdk.accelerate()
        asyncio.run(bot(rest))
        assert exchange.verified == 2


def test_a_body_verifies() -> None:
    pacifica_sdk.accelerate()
    assert body_verifies("cancel_order", body(KEYPAIR, *OPERATIONS[0]))
