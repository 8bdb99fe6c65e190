# SPDX-License-Identifier: MIT
"""``pacifica-python-sdk`` from PyPI, accelerated, beside itself as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from peer import peer
from trading import ACCOUNT, NOW, OTHER_ACCOUNT, OTHER_PRIVATE, PRIVATE, body_verifies

from pacifica_fast import InvalidRequest, KeyClosed, Keypair
from pacifica_fast.integrations import Unsupported, pacifica_python_sdk
from pacifica_fast.integrations.pacifica_python_sdk import KeypairSigner
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

pacifica = peer("pacifica")
signing = peer("pacifica.signing")
client_module = peer("pacifica.client")
solders = peer("solders.keypair")

ORIGINAL = signing.signed_request


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    pacifica_python_sdk.restore()
    assert signing.signed_request is ORIGINAL
    assert client_module.signed_request is ORIGINAL


def local() -> Any:
    return signing.LocalSigner(PRIVATE)


def outcome(**changes: Any) -> Any:
    """What the package's function gives or raises, as it is now."""
    arguments = {
        "operation": "cancel_order",
        "payload": {"symbol": "BTC", "order_id": 28_416_222_569},
        "account": ACCOUNT,
        "signer": local(),
        "agent_wallet": None,
        "timestamp": NOW,
        "expiry_window": 5_000,
        **changes,
    }
    operation, payload = arguments.pop("operation"), arguments.pop("payload")
    try:
        return asyncio.run(client_module.signed_request(operation, payload, **arguments))
    except Exception as error:
        return type(error), str(error)


class Signing:
    """A signer of the user's own, whose signature is checked by the package."""

    address = ACCOUNT

    async def sign_message(self, message: bytes) -> bytes:
        return bytes(64)


CASES: dict[str, dict[str, Any]] = {
    "cancel": {},
    "order": {
        "operation": "create_order",
        "payload": {"stop_loss": {"b": "1", "a": None}, "c": [{"z": 1, "y": 2}]},
    },
    "agent wallet": {"signer": signing.LocalSigner(OTHER_PRIVATE), "agent_wallet": OTHER_ACCOUNT},
    "letters": {"payload": {"text": 'é\x7f"\\u0041\n'}},
    "float": {"payload": {"float": 1e-5}},
    "nan": {"payload": {"float": float("nan")}},
    "tuple": {"payload": {"tuple": (2, {"b": 1, "a": 2})}},
    "no operation": {"operation": ""},
    "another's account": {"account": OTHER_ACCOUNT},
    "another's agent wallet": {"agent_wallet": OTHER_ACCOUNT},
    "no account": {
        "account": "abc",
        "signer": signing.LocalSigner(OTHER_PRIVATE),
        "agent_wallet": OTHER_ACCOUNT,
    },
    "no agent wallet": {"agent_wallet": "abc"},
    "a field of the signature's": {"payload": {"account": "x"}},
    "an agent wallet in the payload": {
        "payload": {"agent_wallet": "x"},
        "signer": signing.LocalSigner(OTHER_PRIVATE),
        "agent_wallet": OTHER_ACCOUNT,
    },
    "binding an agent": {"operation": "bind_agent_wallet", "payload": {"agent_wallet": OTHER_ACCOUNT}},
    "timestamp 0": {"timestamp": 0},
    "window of a bool": {"expiry_window": True},
    "a signer that lies": {"signer": Signing()},
    "set": {"payload": {"set": {1}}},
    "a list for an account": {
        "account": [],
        "signer": signing.LocalSigner(OTHER_PRIVATE),
        "agent_wallet": OTHER_ACCOUNT,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_requests_and_errors_are_those_of_the_package(case: str) -> None:
    before = outcome(**CASES[case])
    pacifica_python_sdk.accelerate()
    after = outcome(**CASES[case])
    assert after == before
    if isinstance(before, dict):
        assert list(after) == list(before)  # the bytes sent, too


def test_every_place_at_once_and_back() -> None:
    pacifica_python_sdk.accelerate()
    ours = signing.signed_request
    assert ours is not ORIGINAL
    assert client_module.signed_request is ours
    pacifica_python_sdk.accelerate()
    assert client_module.signed_request is ours


def test_accelerated_inside_an_event_loop() -> None:
    async def main() -> None:
        pacifica_python_sdk.accelerate()

    asyncio.run(main())
    assert client_module.signed_request is not ORIGINAL


def test_another_key_of_a_signer_signs_at_once() -> None:
    pacifica_python_sdk.accelerate()
    signer = local()
    assert body_verifies("cancel_order", outcome(signer=signer))
    signer._keypair = solders.Keypair.from_base58_string(OTHER_PRIVATE)
    assert outcome(signer=signer)[0] is pacifica.AuthenticationError
    body = outcome(signer=signer, account=OTHER_ACCOUNT)
    assert body["account"] == OTHER_ACCOUNT
    assert body_verifies("cancel_order", body)


@pytest.mark.parametrize("of_the_class", [True, False], ids=["class", "object"])
def test_a_signer_that_was_made_to_sign_otherwise_is_asked(
    of_the_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def sign_message(*arguments: Any) -> bytes:
        asked.append(arguments[-1])
        return bytes(solders.Keypair.from_base58_string(PRIVATE).sign_message(arguments[-1]))

    before = outcome()
    pacifica_python_sdk.accelerate()
    signer = local()
    monkeypatch.setattr(signing.LocalSigner if of_the_class else signer, "sign_message", sign_message)
    assert outcome(signer=signer) == before
    assert len(asked) == 1


def test_our_keypair_without_and_with_acceleration() -> None:
    before = outcome()
    with Keypair.from_base58_string(PRIVATE) as keypair:
        signer = KeypairSigner(keypair)
        assert PRIVATE not in repr(signer)
        assert outcome(signer=signer) == before
        pacifica_python_sdk.accelerate()
        assert outcome(signer=signer) == before
    assert outcome(signer=signer)[0] is KeyClosed


def test_a_package_that_is_not_as_we_know_it_is_left_alone() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "signed_request", lambda *arguments: None)
        with pytest.raises(
            Unsupported, match=r"pacifica-python-sdk 0\.1\..*: signed_request is not one function"
        ):
            pacifica_python_sdk.accelerate()
    assert signing.signed_request is ORIGINAL


@pytest.mark.parametrize("name", ["canonical_message", "address", "positive_int"])
def test_a_guard_of_the_users_is_not_passed_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(signing, name)
    monkeypatch.setattr(signing, name, lambda *arguments, **named: original(*arguments, **named))
    with pytest.raises(Unsupported, match=f"{name} is not the package's own"):
        pacifica_python_sdk.accelerate()


def test_our_signer_takes_our_keypair() -> None:
    wrong: Any
    for wrong in (PRIVATE, solders.Keypair.from_base58_string(PRIVATE), None):
        with pytest.raises(
            InvalidRequest, match=f"keypair: expected .*, got {type(wrong).__name__}"
        ) as caught:
            KeypairSigner(wrong)
        assert all("keypair" not in entry.frame.f_locals for entry in caught.traceback[1:])


def test_a_bot_trades() -> None:
    async def bot(url: str) -> None:
        config = pacifica.PacificaConfig(base_url=url)
        async with pacifica.PacificaClient(config, account=ACCOUNT, signer=local()) as client:
            placed = await client.place_order(
                pacifica.OrderRequest(
                    symbol="BTC",
                    side="bid",
                    order_type="limit",
                    quantity="0.01",
                    price="50000",
                    time_in_force="ALO",
                )
            )
            assert [resting.order_id for resting in exchange.orders(ACCOUNT)] == [placed.order_id]
            assert [resting.order_id for resting in await client.get_open_orders()] == [placed.order_id]
            await client.cancel_order(placed.order_id, symbol="BTC")
            assert exchange.orders(ACCOUNT) == []

    with MockExchange(quota=None).in_thread() as exchange, MockRest(exchange) as rest:
        pacifica_python_sdk.accelerate()
        asyncio.run(bot(rest.url))
        assert exchange.verified == 2
