# SPDX-License-Identifier: MIT
"""ccxt's ``pacifica``, accelerated, beside itself as it comes."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest
from nacl.signing import SigningKey
from peer import peer
from trading import ACCOUNT, NOW, OTHER_ACCOUNT, OTHER_PRIVATE, PRIVATE, pair, verifies

from pacifica_fast import InvalidRequest, b58decode, reference
from pacifica_fast.integrations import Unsupported
from pacifica_fast.integrations.ccxt import accelerate, restore
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

ccxt = peer("ccxt")
ccxt_async = peer("ccxt.async_support")
ccxt_pro = peer("ccxt.pro")

MARKET = "BTC/USDC:USDC"
CLASSES = [ccxt.pacifica, ccxt_async.pacifica, ccxt_pro.pacifica]
HEADER = {"timestamp": NOW, "expiry_window": 5_000, "type": "cancel_order"}

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("cancel_order", {"symbol": "BTC", "order_id": 28_416_222_569}),
    ("cancel_all_orders", {"all_symbols": True, "exclude_reduce_only": False}),
    (
        "create_order",
        {"symbol": "BTC", "price": "87768", "amount": "1", "take_profit": {"stop_price": "2"}},
    ),
    ("update_leverage", {"symbol": "BTC", "leverage": 10}),
    ("list_api_keys", {}),
    (
        "odd",
        {"z": [{"b": 1, "a": None}, []], "text": 'é\x7f"\\u0041\n', "float": 1e-5, "tuple": (2, 1)},
    ),
]


def make(kind: Any = ccxt.pacifica, private: str = PRIVATE, account: str = ACCOUNT, **options: Any) -> Any:
    return kind(
        {"privateKey": private, "walletAddress": account, "enableRateLimit": False, "options": options}
    )


def request(exchange: Any, operation: str, payload: dict[str, Any], **params: Any) -> dict[str, Any]:
    signed = exchange.post_action_request(operation, copy.deepcopy(payload), {"timestamp": NOW, **params})
    assert isinstance(signed, dict)
    return signed


# ------------------------------------------------------------------ the same requests


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__module__))
@pytest.mark.parametrize(("operation", "payload"), REQUESTS, ids=[operation for operation, _ in REQUESTS])
def test_requests_are_those_of_ccxt(kind: Any, operation: str, payload: dict[str, Any]) -> None:
    plain, fast = make(kind), accelerate(make(kind))
    assert request(fast, operation, payload) == request(plain, operation, payload)
    assert fast.json(request(fast, operation, payload)) == plain.json(request(plain, operation, payload))


def test_options_are_kept_agent_wallet_window_and_builder_code() -> None:
    options: dict[str, Any] = {"agentAddress": OTHER_ACCOUNT, "expiryWindow": 700, "builderCode": "XY"}
    plain = make(private=OTHER_PRIVATE, **options)
    fast = accelerate(make(private=OTHER_PRIVATE, **options))
    payload = {"symbol": "BTC", "amount": "0.1", "side": "bid"}
    signed = request(fast, "create_market_order", payload)
    assert signed == request(plain, "create_market_order", payload)
    assert (signed["account"], signed["agent_wallet"]) == (ACCOUNT, OTHER_ACCOUNT)
    assert (signed["expiry_window"], signed["builder_code"]) == (700, "XY")
    header = {"type": "create_market_order", "timestamp": NOW, "expiry_window": 700}
    assert verifies(signed["signature"], OTHER_ACCOUNT, header, {**payload, "builder_code": "XY"})


def test_errors_are_those_of_ccxt() -> None:
    def error_of(exchange: Any, header: dict[str, Any], payload: Any) -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # compared
            exchange.sign_message(header, payload, PRIVATE)
        return caught.type, str(caught.value)

    plain, fast = make(), accelerate(make())
    for header, payload in [
        ({**HEADER, "timestamp": None}, {}),
        ({"type": "x", "timestamp": 1}, {}),
        (HEADER, {"set": {1}}),
        (HEADER, {"surrogate": "\ud800"}),
        (HEADER, {1: 2, "x": 3}),
    ]:
        assert error_of(fast, header, payload) == error_of(plain, header, payload)
    with pytest.raises(ccxt.ArgumentsRequired):
        fast.sign_message({**HEADER, "type": None}, {}, PRIVATE)
    with pytest.raises(TypeError, match="64-bit"):  # when it is written
        fast.json(request(fast, "odd", {"big": 2**64}))


def test_missing_credentials_are_still_asked_for() -> None:
    exchange = accelerate(ccxt.pacifica({"walletAddress": ACCOUNT}))
    with pytest.raises(ccxt.AuthenticationError):
        request(exchange, *REQUESTS[0])


# ------------------------------------------------------------------ where ccxt is wrong


def test_a_signature_that_begins_with_a_zero_byte() -> None:
    """One in 256: ccxt's base58 loses the byte, and 63 are left."""
    key, payload = SigningKey(bytes(range(1, 33))), {"symbol": "BTC", "order_id": 1}

    def begins_with_zero(timestamp: int) -> bool:
        message = reference.prepare_message({**HEADER, "timestamp": timestamp}, payload).encode()
        return bytes(key.sign(message).signature[:1]) == b"\0"

    header = {**HEADER, "timestamp": next(filter(begins_with_zero, range(NOW, NOW + 20_000)))}
    wrong = make().sign_message(header, payload, PRIVATE)
    assert len(b58decode(wrong)) == 63
    assert not verifies(wrong, ACCOUNT, header, payload)

    right = accelerate(make()).sign_message(header, payload, PRIVATE)
    assert right == "1" + wrong
    assert verifies(right, ACCOUNT, header, payload)


def test_a_key_whose_seed_begins_with_a_zero_byte() -> None:
    """One in 256: ccxt loses the byte, takes one of the public half instead, and signs with another key."""
    private, account = pair(b"\0" + bytes(range(1, 32)))
    payload = {"symbol": "BTC", "order_id": 1}
    assert not verifies(make().sign_message(HEADER, payload, private), account, HEADER, payload)
    fast = accelerate(make(private=private, account=account))
    assert verifies(fast.sign_message(HEADER, payload, private), account, HEADER, payload)


# ------------------------------------------------------------------ keys


def test_another_key_signs_at_once() -> None:
    exchange = accelerate(make())
    for private, account in [(PRIVATE, ACCOUNT), (OTHER_PRIVATE, OTHER_ACCOUNT), (PRIVATE, ACCOUNT)]:
        exchange.privateKey, exchange.walletAddress = private, account
        assert verifies(request(exchange, *REQUESTS[0])["signature"], account, HEADER, REQUESTS[0][1])


def test_a_key_set_later() -> None:
    exchange = accelerate(ccxt.pacifica({"walletAddress": ACCOUNT}))
    exchange.privateKey = PRIVATE
    assert request(exchange, *REQUESTS[0]) == request(make(), *REQUESTS[0])


def test_the_key_of_a_subaccount_signs_what_it_is_given_for() -> None:
    exchange = accelerate(make())
    payload = {"account": ACCOUNT}
    assert verifies(exchange.sign_message(HEADER, payload, OTHER_PRIVATE), OTHER_ACCOUNT, HEADER, payload)
    assert verifies(exchange.sign_message(HEADER, payload, PRIVATE), ACCOUNT, HEADER, payload)


def test_a_bad_key_is_refused_without_being_shown_and_nothing_is_changed() -> None:
    bad = PRIVATE[:-1] + ("2" if PRIVATE[-1] != "2" else "3")
    exchange = make(private=bad)
    with pytest.raises(InvalidRequest, match="private key") as caught:
        accelerate(exchange)
    assert bad not in str(caught.value)
    assert type(exchange) is ccxt.pacifica
    with pytest.raises(InvalidRequest, match="prepared"):
        accelerate(make(), prepared=-1)

    exchange = accelerate(make())
    exchange.privateKey = bad
    with pytest.raises(InvalidRequest, match="private key") as later:
        request(exchange, *REQUESTS[0])

    for error in (caught, later):  # nor in the frames of ours, which some loggers print
        frames = [entry.frame for entry in error.traceback if "pacifica_fast" in str(entry.path)]
        local = [value for frame in frames for value in frame.f_locals.values()]
        assert len(frames) >= 2
        assert not any(bad in repr(value) or PRIVATE in repr(value) for value in local)


def test_a_deep_copy_signs_for_itself() -> None:
    exchange = accelerate(make())
    other = copy.deepcopy(exchange)
    other.privateKey = OTHER_PRIVATE
    assert verifies(request(other, *REQUESTS[0])["signature"], OTHER_ACCOUNT, HEADER, REQUESTS[0][1])
    assert verifies(request(exchange, *REQUESTS[0])["signature"], ACCOUNT, HEADER, REQUESTS[0][1])


def test_a_shallow_copy_has_a_key_of_its_own() -> None:
    before = threading.active_count()
    exchange = accelerate(make(), prepared=4)
    other = copy.copy(exchange)
    other.privateKey, other.walletAddress = OTHER_PRIVATE, OTHER_ACCOUNT
    for _ in range(3):  # by turns, and no key is parsed again
        for one, account in [(exchange, ACCOUNT), (other, OTHER_ACCOUNT)]:
            assert verifies(request(one, *REQUESTS[0])["signature"], account, HEADER, REQUESTS[0][1])
    assert vars(other)["_pacifica_fast"] is not vars(exchange)["_pacifica_fast"]
    assert vars(other)["_pacifica_fast"].prepared == 4
    assert threading.active_count() == before + 2
    restore(other)
    assert threading.active_count() == before + 1
    restore(exchange)
    assert threading.active_count() == before


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_signs_for_itself(protocol: int) -> None:
    """As ccxt's do: in another process, say."""
    exchange = accelerate(make(), prepared=4)
    other = pickle.loads(pickle.dumps(exchange, protocol))
    assert type(other) is type(exchange)
    assert vars(other)["_pacifica_fast"].prepared == 4
    assert verifies(request(other, *REQUESTS[0])["signature"], ACCOUNT, HEADER, REQUESTS[0][1])
    restore(other)
    assert request(other, *REQUESTS[0]) == request(make(), *REQUESTS[0])
    restore(exchange)


def test_another_one_of_its_class_is_as_ccxt_makes_it() -> None:
    """``type(exchange)(...)``: nobody accelerated that one."""
    exchange = accelerate(make())
    other = make(type(exchange), OTHER_PRIVATE, OTHER_ACCOUNT)
    assert request(other, *REQUESTS[0]) == request(
        make(private=OTHER_PRIVATE, account=OTHER_ACCOUNT), *REQUESTS[0]
    )
    accelerate(other, prepared=4)
    assert vars(other)["_pacifica_fast"].prepared == 4
    restore(other)
    assert type(other) is ccxt.pacifica
    fresh = make(type(exchange))
    assert type(restore(fresh)) is ccxt.pacifica


def test_a_method_that_was_taken_before_it_was_restored() -> None:
    exchange = accelerate(make())
    sign = exchange.sign_message
    restore(exchange)
    assert sign(HEADER, {}, PRIVATE) == make().sign_message(HEADER, {}, PRIVATE)
    assert "_pacifica_fast" not in vars(exchange)


def test_what_fails_the_second_time_leaves_the_first() -> None:
    exchange = accelerate(make(), prepared=4)
    exchange.privateKey = "no key"
    with pytest.raises(InvalidRequest, match="private key"):
        accelerate(exchange)
    exchange.privateKey = PRIVATE
    assert vars(exchange)["_pacifica_fast"].prepared == 4
    assert verifies(request(exchange, *REQUESTS[0])["signature"], ACCOUNT, HEADER, REQUESTS[0][1])
    restore(exchange)


def test_a_forked_child_signs_too() -> None:
    code = f"""
import os, warnings
warnings.simplefilter("ignore")
import ccxt
from pacifica_fast.integrations.ccxt import accelerate
exchange = accelerate(ccxt.pacifica({{"privateKey": {PRIVATE!r}, "walletAddress": {ACCOUNT!r}}}))
sign = lambda: exchange.post_action_request("cancel_order", {{"symbol": "BTC"}}, {{"timestamp": 1}})
before = sign()
child = os.fork()
if child == 0:
    os._exit(0 if sign() == before else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------ on and off


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__module__))
def test_in_place_once_and_undone(kind: Any) -> None:
    exchange = make(kind)
    assert accelerate(exchange) is exchange
    fast = type(exchange)
    assert isinstance(exchange, kind)
    assert fast is not kind
    assert type(accelerate(exchange)) is fast  # nothing more
    assert exchange.signMessage(HEADER, {}, PRIVATE) == exchange.sign_message(HEADER, {}, PRIVATE)
    assert PRIVATE not in repr(exchange)
    assert restore(exchange) is exchange
    assert type(exchange) is kind
    assert "_pacifica_fast" not in vars(exchange)
    restore(exchange)
    assert request(exchange, *REQUESTS[0]) == request(make(kind), *REQUESTS[0])
    assert type(accelerate(exchange)) is fast
    assert type(make(kind)) is kind  # others are left alone


def test_a_subclass_of_the_users_own() -> None:
    base: Any = ccxt.pacifica

    class Mine(base):  # type: ignore[misc]
        def describe(self) -> Any:
            return self.deep_extend(super().describe(), {"options": {"expiryWindow": 900}})

    exchange = accelerate(make(Mine))
    assert isinstance(exchange, Mine)
    assert request(exchange, *REQUESTS[0]) == request(make(Mine), *REQUESTS[0])
    assert request(exchange, *REQUESTS[0])["expiry_window"] == 900


def test_prepared_signatures_verify_and_end_with_restore() -> None:
    before = threading.active_count()
    exchange = accelerate(make(), prepared=64)
    assert threading.active_count() == before + 1
    while vars(exchange)["_pacifica_fast"].signer(PRIVATE).stats.ready < 5:
        time.sleep(0.001)
    signatures = {request(exchange, *REQUESTS[0])["signature"] for _ in range(5)}
    assert all(verifies(signature, ACCOUNT, HEADER, REQUESTS[0][1]) for signature in signatures)
    assert len(signatures) == 5
    plain = request(make(), *REQUESTS[-1])["signature"]  # what is not plain is signed as ccxt does
    assert request(exchange, *REQUESTS[-1])["signature"] == plain
    assert request(exchange, "NOT A NAME", {}) == request(make(), "NOT A NAME", {})
    accelerate(exchange)  # without
    assert threading.active_count() == before
    accelerate(exchange, prepared=16)
    assert threading.active_count() == before + 1
    restore(exchange)
    assert threading.active_count() == before


# ------------------------------------------------------------------ what we do not know is left alone


def other_sign_message(self: Any, header: Any, payload: Any, privateKey: Any) -> str:  # noqa: N803
    return "signature"


def foreign(change: Callable[[Any], None]) -> Any:
    """A class that says it is ccxt's, changed."""
    kind = type("pacifica", (ccxt.pacifica,), {"__module__": "ccxt.pacifica"})
    change(kind)
    return make(kind)


def as_if_ccxts(function: Any) -> Any:
    """What another version of ccxt might have."""
    return FunctionType(function.__code__, vars(sys.modules["ccxt.pacifica"]), function.__name__)


def guarding(name: str) -> Any:
    """A function of ccxt, wrapped by one that says it is ccxt's, too."""
    original = getattr(ccxt.pacifica, name)

    @functools.wraps(original)
    def guard(*arguments: Any) -> Any:
        return original(*arguments)

    is_static = isinstance(inspect.getattr_static(ccxt.pacifica, name), staticmethod)
    return staticmethod(guard) if is_static else guard


def take_more(self: Any, header: Any, payload: Any, privateKey: Any, salt: Any) -> str:  # noqa: N803
    return "signature"


def fail(self: Any, header: Any, payload: Any, privateKey: Any) -> str:  # noqa: N803
    raise RuntimeError(privateKey)


def sign_elsewhere(self: Any, operationType: Any, sigPayload: Any, params: Any) -> Any:  # noqa: N803
    return {"signature": self.other(self.privateKey)}


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "no exchange": (object, "expected a pacifica of ccxt, got builtins.object"),
    "another exchange": (lambda: ccxt.hyperliquid(), "expected a pacifica"),
    "a class that signs by itself": (
        lambda: make(type("Mine", (ccxt.pacifica,), {"sign_message": other_sign_message})),
        "Mine.sign_message is not ccxt's",
    ),
    "other arguments": (
        lambda: foreign(lambda kind: setattr(kind, "sign_message", as_if_ccxts(take_more))),
        "takes other arguments",
    ),
    "another signature": (
        lambda: foreign(lambda kind: setattr(kind, "sign_message", as_if_ccxts(other_sign_message))),
        "signs something else",
    ),
    "a failure": (
        lambda: foreign(lambda kind: setattr(kind, "sign_message", as_if_ccxts(fail))),
        r"fails \(RuntimeError\)",
    ),
    "another way to sign": (
        lambda: foreign(lambda kind: setattr(kind, "post_action_request", as_if_ccxts(sign_elsewhere))),
        "signs without sign_message",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_as_we_know_it_is_refused_and_unchanged(what: str) -> None:
    make_it, reason = UNKNOWN[what]
    exchange = make_it()
    kind = type(exchange)
    with pytest.raises(Unsupported, match=f"ccxt {ccxt.__version__}: .*{reason}"):
        accelerate(exchange)
    assert type(exchange) is kind
    restore(exchange)


REACHED = [
    "sign_message",
    "prepare_message",
    "sort_json_keys",
    "extend",
    "json",
    "encode",
    "base58_to_binary",
    "array_slice",
    "eddsa",
    "base64_to_binary",
    "binary_to_base58",
]


@pytest.mark.parametrize("name", REACHED)
@pytest.mark.parametrize("where", ["a class", "an object"])
def test_a_guard_of_the_users_is_not_passed_by(name: str, where: str) -> None:
    """It may refuse to sign a withdrawal, and would not be asked any more."""
    if where == "a class":
        exchange = make(type("Mine", (ccxt.pacifica,), {name: guarding(name)}))
        reason = f"Mine.{name} is not ccxt's"
    else:
        exchange = make()
        setattr(exchange, name, lambda *arguments: getattr(ccxt.pacifica, name)(exchange, *arguments))
        reason = rf"this object signs in a way of its own \({name}\)"
    with pytest.raises(Unsupported, match=reason):
        accelerate(exchange)


def test_what_has_nothing_to_do_with_signing_may_be_the_users() -> None:
    exchange = accelerate(make(type("Mine", (ccxt.pacifica,), {"sign": guarding("sign")})))
    assert request(exchange, *REQUESTS[0]) == request(make(), *REQUESTS[0])


# ------------------------------------------------------------------ against the exchange


@pytest.fixture
def gateway() -> Iterator[tuple[MockExchange, MockRest]]:
    with MockExchange(quota=None).in_thread() as exchange, MockRest(exchange) as rest:
        yield exchange, rest


def connected(kind: Any, gateway: tuple[MockExchange, MockRest], **options: Any) -> Any:
    exchange, rest = gateway
    client = make(kind, builderFee=False, **options)
    client.urls["api"]["public"] = client.urls["api"]["private"] = rest.url.removesuffix("/api/v1")
    if "ws" in client.urls["api"]:
        client.urls["api"]["ws"]["public"] = exchange.url
    return client


ORDER = (MARKET, "limit", "buy", 0.01, 50_000, {"timeInForce": "ALO"})


def test_a_sync_bot_trades(gateway: tuple[MockExchange, MockRest]) -> None:
    exchange, _ = gateway
    client = accelerate(connected(ccxt.pacifica, gateway))
    order = client.create_order(*ORDER)
    assert [str(resting.order_id) for resting in exchange.orders(ACCOUNT)] == [order["id"]]
    assert [resting["id"] for resting in client.fetch_open_orders()] == [order["id"]]
    assert client.cancel_order(order["id"], MARKET)["status"] == "canceled"
    assert exchange.orders(ACCOUNT) == []
    with pytest.raises(ccxt.ExchangeError, match="Failed to cancel order"):
        client.cancel_order(order["id"], MARKET)
    assert exchange.verified == 3
    client.session.close()


def test_an_async_bot_trades(gateway: tuple[MockExchange, MockRest]) -> None:
    exchange, _ = gateway

    async def bot() -> None:
        client = accelerate(connected(ccxt_async.pacifica, gateway))
        try:
            order = await client.create_order(*ORDER)
            await client.cancel_order(order["id"], MARKET)
            assert exchange.orders(ACCOUNT) == []
        finally:
            await client.close()

    asyncio.run(bot())
    assert exchange.verified == 2


def test_a_pro_bot_with_an_agent_wallet_trades_over_websocket(gateway: tuple[MockExchange, MockRest]) -> None:
    exchange, _ = gateway
    exchange.bind_agent(ACCOUNT, OTHER_ACCOUNT)

    async def bot() -> None:
        client = connected(ccxt_pro.pacifica, gateway, agentAddress=OTHER_ACCOUNT)
        client.privateKey = OTHER_PRIVATE
        accelerate(client, prepared=16)
        try:
            order = await client.create_order_ws(*ORDER)
            assert [str(resting.order_id) for resting in exchange.orders(ACCOUNT)] == [order["id"]]
            await client.cancel_order_ws(order["id"], MARKET)
            assert exchange.orders(ACCOUNT) == []
        finally:
            await client.close()
            restore(client)

    asyncio.run(bot())
    assert exchange.verified == 2
