# SPDX-License-Identifier: MIT
"""The one cancel that everything here signs, and how to tell whether an output is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pacifica_fast import b58decode, reference

SEED = bytes(range(1, 33))  # ccxt cuts keys that begin with a zero byte wrongly
SYMBOL, ORDER_ID = "BTC", 28_416_222_569
CLIENT_ORDER_ID = "79f948fd-7556-4066-a128-083f3ea49322"
HEADER = {"timestamp": 1_748_970_123_456, "expiry_window": 5_000, "type": "cancel_order"}
PAYLOAD = {"symbol": SYMBOL, "order_id": ORDER_ID}
MESSAGE = reference.prepare_message(HEADER, PAYLOAD)
MESSAGE_BYTES = MESSAGE.encode()
SIGNATURE = bytes(SigningKey(SEED).sign(MESSAGE_BYTES).signature)
SIGNATURE_TEXT = reference.b58encode(SIGNATURE)
PUBKEY = bytes(SigningKey(SEED).verify_key)
ACCOUNT = reference.b58encode(PUBKEY)


@dataclass(frozen=True)
class Case:
    """One way to do a stage. The first case of a group is what the others are measured against."""

    name: str
    run: Callable[[], Any]
    is_right: Callable[[Any], bool]
    work: int = 1
    """How many of the stage's units one run does: 10 for a batch of 10."""
    ready: Callable[[], None] | None = None
    """Called before every block, untimed: waits until there is what the block uses up."""


# What is right.


def is_message(output: Any) -> bool:
    """The canonical message, as text or bytes."""
    return output in (MESSAGE, MESSAGE_BYTES)


def is_signature(output: Any) -> bool:
    """The one signature that RFC 8032 allows."""
    return bytes(output) == SIGNATURE


def is_signed(output: Any) -> bool:
    """Message, or the sorted dict of the legacy SDK, and signature."""
    message, signature = output
    return bool(signature == SIGNATURE_TEXT and message in (MESSAGE, json.loads(MESSAGE)))


def is_request(output: Any) -> bool:
    """A request whose every signature verifies over the message rebuilt from its fields."""
    params = json.loads(getattr(output, "text", output))["params"]
    operation, fields = next(iter(params.items()))
    actions = [action["data"] for action in fields["actions"]] if operation == "batch_orders" else [fields]
    return all(is_body(action) for action in actions)


def is_body(fields: dict[str, Any]) -> bool:
    """The same of one operation's fields: the body of a REST request."""
    try:
        return _verifies(dict(fields))
    except (BadSignatureError, ValueError):
        return False


def _verifies(fields: dict[str, Any]) -> bool:
    signer = fields.pop("agent_wallet", fields["account"])
    del fields["account"]
    signature = b58decode(fields.pop("signature"))
    header = {
        "timestamp": fields.pop("timestamp"),
        "expiry_window": fields.pop("expiry_window"),
        "type": "cancel_order",
    }
    message = reference.prepare_message(header, fields).encode()
    return VerifyKey(b58decode(signer)).verify(message, signature) == message
