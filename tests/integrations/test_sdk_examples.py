# SPDX-License-Identifier: MIT
"""Programs of the shape of the official SDK's examples, with the one line changed.

The SDK is not on the index, and its files are not ours to keep: ``python tests/sdk_examples.py CHECKOUT``
runs the real ones in the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peer import peer
from sdk_examples import run_examples

peer("requests")
peer("solders.keypair")
peer("base58")

CONSTANTS = """
REST_URL = "https://exchange.invalid/api/v1"
WS_URL = "wss://exchange.invalid/ws"
"""
# Stands for the SDK's own, which needs no pacifica_fast.
UTILS = """
import json
import base58

def sign_message(header, payload, keypair):
    text = json.dumps({**header, "data": payload}, sort_keys=True, separators=(",", ":"))
    return text, base58.b58encode(bytes(keypair.sign_message(text.encode()))).decode()
"""
HEAD = """
import os, sys, time
from solders.keypair import Keypair
from common.constants import REST_URL, WS_URL
from common.utils import sign_message

PRIVATE_KEY = ""
AGENT_PRIVATE_KEY = os.getenv("AGENT_PRIVATE_KEY")

def signed(operation, payload, keypair, **more):
    header = {"type": operation, "timestamp": int(time.time() * 1_000), "expiry_window": 5_000}
    _, signature = sign_message(header, payload, keypair)
    account = str(Keypair.from_base58_string(PRIVATE_KEY).pubkey())
    del header["type"]
    return {"account": account, "signature": signature, **more, **header, **payload}
"""
REST = (
    HEAD
    + """
import requests

keypair = Keypair.from_base58_string(PRIVATE_KEY)
cancel = signed("cancel_order", {"symbol": "BTC", "order_id": 42069}, keypair, agent_wallet=None)
print(requests.post(REST_URL + "/orders/cancel", json=cancel).text)
leverage = signed("update_leverage", {"symbol": "BTC", "leverage": 10}, keypair)
print(requests.post(REST_URL + "/account/leverage", json=leverage).text)
agent = Keypair()
bind = signed("bind_agent_wallet", {"agent_wallet": str(agent.pubkey())}, keypair)
print(requests.post(REST_URL + "/agent/bind", json=bind).text)
every = signed(
    "cancel_all_orders",
    {"all_symbols": True, "exclude_reduce_only": False},
    agent,
    agent_wallet=str(agent.pubkey()),
)
print(requests.post(REST_URL + "/orders/cancel_all", json=every).text)
"""
)
WS = (
    HEAD
    + """
import asyncio, json, uuid
import websockets

async def main():
    agent = Keypair.from_base58_string(AGENT_PRIVATE_KEY)
    order = {
        "symbol": "BTC", "price": "50000", "amount": "0.1", "side": "bid", "tif": "GTC", "reduce_only": False,
        "client_order_id": str(uuid.uuid4()),
    }
    order = signed("create_order", order, agent, agent_wallet=str(agent.pubkey()))
    async with websockets.connect(WS_URL, ping_interval=30) as websocket:
        await websocket.send(json.dumps({"id": str(uuid.uuid4()), "params": {"create_order": order}}))
        print(await websocket.recv())

asyncio.run(main())
"""
)
ACCEPTED = {
    "rest.many": [
        ("update_leverage", 200),
        ("bind_agent_wallet", 200),
        ("cancel_order", 200),
        ("cancel_all_orders", 200),
    ],
    "ws.order": [("create_order", 200)],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "common/constants.py": CONSTANTS,
        "common/utils.py": UTILS,
        "common/helper.py": "# no example: it does not sign\n",
        "rest/many.py": REST,
        "ws/order.py": WS,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "how",
    [{"changed": False}, {}, {"solders": False}],
    ids=["as it comes", "one line changed", "without solders"],
)
def test_examples_are_accepted(checkout: Path, how: dict[str, Any]) -> None:
    outcomes = list(run_examples(checkout, **how))
    assert {outcome.name: outcome.error for outcome in outcomes} == dict.fromkeys(ACCEPTED, "")
    assert {outcome.name: outcome.answers for outcome in outcomes} == ACCEPTED
    assert all(outcome.accepted for outcome in outcomes)


def test_what_is_signed_wrongly_is_not_accepted(checkout: Path) -> None:
    utils = checkout / "common" / "utils.py"
    utils.write_text(utils.read_text().replace("sort_keys=True", "sort_keys=False"))
    outcomes = list(run_examples(checkout, changed=False))
    assert not any(outcome.accepted for outcome in outcomes)
    assert all(outcome.accepted for outcome in run_examples(checkout))


def test_what_cannot_run_says_why(checkout: Path) -> None:
    program = checkout / "ws" / "order.py"
    program.write_text(program.read_text().replace("asyncio.run(main())", "raise SystemExit('no luck')"))
    outcome = {outcome.name: outcome for outcome in run_examples(checkout)}["ws.order"]
    assert (outcome.accepted, outcome.error, outcome.answers) == (False, "no luck", [])
