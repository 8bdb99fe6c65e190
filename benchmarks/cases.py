# SPDX-License-Identifier: MIT
"""What is compared: one cancel, stage by stage, ours beside what others do for the same stage.

Every case can tell whether its output is right; a fast wrong answer is no result.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import base58
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey, VerifyKey
from solders.keypair import Keypair as SoldersKeypair

from pacifica_fast import Keypair, Signer, b58decode, b58encode, canonicalize, reference, sdk, sdk_legacy
from pacifica_fast._sodium import ffi, lib

SEED = bytes(range(32))
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


class NaClKeypair:
    """PyNaCl's key with the method that the SDK's algorithm calls."""

    def __init__(self) -> None:
        self._key = SigningKey(SEED)

    def sign_message(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return bytes(self._key.sign(message).signature)


OURS = Keypair.from_seed(SEED)
SOLDERS = SoldersKeypair.from_seed(SEED)
SOLDERS_TEXT = str(SOLDERS)
NACL = NaClKeypair()


def sdk_sign_message(header: dict[str, Any], payload: dict[str, Any], keypair: Any) -> tuple[str, str]:
    """The SDK's ``sign_message`` with the SDK's own ingredients, solders and base58."""
    message = reference.prepare_message(header, payload)
    signature = keypair.sign_message(message.encode())
    return message, base58.b58encode(bytes(signature)).decode("ascii")


def python_request() -> str:
    """A whole request in pure Python: :mod:`pacifica_fast.reference`, and PyNaCl to sign."""
    return sdk_request(reference.sign_message, NACL, ACCOUNT)


def sdk_example() -> str:
    """A whole request exactly as the SDK's websocket example makes it: from the key's text on."""
    return sdk_request(sdk_sign_message, SoldersKeypair.from_base58_string(SOLDERS_TEXT), None)


def sdk_request(
    sign: Callable[[dict[str, Any], dict[str, Any], Any], tuple[str, str]], keypair: Any, account: str | None
) -> str:
    """A whole request in the steps of the SDK's websocket example, by who keeps the key at least.

    That example writes ``str(keypair.pubkey())`` for the account; ``account`` is for who keeps that too.
    """
    timestamp = int(time.time() * 1_000)
    header = {"timestamp": timestamp, "expiry_window": 5_000, "type": "cancel_order"}
    payload = {"symbol": SYMBOL, "order_id": ORDER_ID}
    _, signature = sign(header, payload, keypair)
    request = {
        "account": str(keypair.pubkey()) if account is None else account,
        "signature": signature,
        "timestamp": timestamp,
        "expiry_window": 5_000,
        **payload,
    }
    return json.dumps({"id": str(uuid.uuid4()), "params": {"cancel_order": request}})


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
    return all(_verifies(dict(action)) for action in actions)


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


# The groups.


def canonical_json() -> list[Case]:
    """Header and payload, or their JSON, to the canonical message."""
    text = json.dumps({**HEADER, "data": PAYLOAD})
    value = {**HEADER, "data": PAYLOAD}
    return [
        Case(
            "SDK: sort_json_keys, json.dumps", lambda: reference.prepare_message(HEADER, PAYLOAD), is_message
        ),
        Case("pacifica_fast.sdk.prepare_message", lambda: sdk.prepare_message(HEADER, PAYLOAD), is_message),
        Case("pacifica_fast.canonicalize (from JSON)", lambda: canonicalize(text), is_message),
        Case(
            "orjson, OPT_SORT_KEYS (other escapes)",
            lambda: orjson.dumps(value, option=orjson.OPT_SORT_KEYS),
            is_message,
        ),
    ]


def base58_of_a_signature() -> list[Case]:
    """64 bytes to 87 or 88 characters."""

    def is_text(output: Any) -> bool:
        return bool(output == SIGNATURE_TEXT)

    return [
        Case("base58 package", lambda: base58.b58encode(SIGNATURE).decode("ascii"), is_text),
        Case("pacifica_fast.b58encode", lambda: b58encode(SIGNATURE), is_text),
        Case("pacifica_fast.reference.b58encode", lambda: reference.b58encode(SIGNATURE), is_text),
    ]


def signing() -> list[Case]:
    """64 bytes of signature over one cancel's message."""
    out = ffi.new("char[64]")
    view = ffi.buffer(out)
    nacl_key, openssl_key = SigningKey(SEED), Ed25519PrivateKey.from_private_bytes(SEED)

    def crypto_sign() -> bytes:
        lib.pf_key_sign_bytes(out, 64, OURS._key, MESSAGE_BYTES, len(MESSAGE_BYTES))
        return bytes(view)

    return [
        Case("libsodium crypto_sign, through our wrapper", crypto_sign, is_signature),
        Case("pacifica_fast Keypair.sign_message", lambda: OURS.sign_message(MESSAGE_BYTES), is_signature),
        Case("PyNaCl SigningKey.sign", lambda: nacl_key.sign(MESSAGE_BYTES).signature, is_signature),
        Case("solders Keypair.sign_message", lambda: SOLDERS.sign_message(MESSAGE_BYTES), is_signature),
        Case("cryptography (OpenSSL) sign", lambda: openssl_key.sign(MESSAGE_BYTES), is_signature),
    ]


def drop_in() -> list[Case]:
    """``sign_message(header, payload, keypair)``."""
    return [
        Case("SDK (solders, base58)", lambda: sdk_sign_message(HEADER, PAYLOAD, SOLDERS), is_signed),
        Case(
            "pacifica_fast.sdk, solders Keypair",
            lambda: sdk.sign_message(HEADER, PAYLOAD, SOLDERS),
            is_signed,
        ),
        Case("pacifica_fast.sdk, our Keypair", lambda: sdk.sign_message(HEADER, PAYLOAD, OURS), is_signed),
        Case(
            "pacifica_fast.sdk_legacy, solders Keypair",
            lambda: sdk_legacy.sign_message(HEADER, PAYLOAD, SOLDERS),
            is_signed,
        ),
        Case(
            "pacifica_fast.reference, PyNaCl",
            lambda: reference.sign_message(HEADER, PAYLOAD, NACL),
            is_signed,
        ),
    ]


def whole_request() -> list[Case]:
    """From arguments to the finished text of a cancel request."""
    signer, agent = Signer(OURS), Signer(Keypair.from_seed(bytes(32)[:-1] + b"\1"), account=ACCOUNT)
    ten = [(SYMBOL, ORDER_ID + n) for n in range(10)]
    return [
        Case("SDK, as its example", sdk_example, is_request),
        Case("SDK, key kept", lambda: sdk_request(sdk_sign_message, SOLDERS, None), is_request),
        Case(
            "SDK, key and account string kept",
            lambda: sdk_request(sdk_sign_message, SOLDERS, ACCOUNT),
            is_request,
        ),
        Case(
            "SDK with pacifica_fast.sdk, account kept",
            lambda: sdk_request(sdk.sign_message, SOLDERS, ACCOUNT),
            is_request,
        ),
        Case("pacifica_fast.reference, PyNaCl, account kept", python_request, is_request),
        Case("Signer.cancel_order", lambda: signer.cancel_order(SYMBOL, order_id=ORDER_ID), is_request),
        Case(
            "Signer.cancel_order, client order id",
            lambda: signer.cancel_order(SYMBOL, client_order_id=CLIENT_ORDER_ID),
            is_request,
        ),
        Case(
            "Signer.cancel_order, agent wallet",
            lambda: agent.cancel_order(SYMBOL, order_id=ORDER_ID),
            is_request,
        ),
        Case("Signer.batch_cancel, each of 10", lambda: signer.batch_cancel(ten), is_request, work=10),
    ]


GROUPS: dict[str, Callable[[], list[Case]]] = {
    "canonical JSON": canonical_json,
    "base58 of a signature": base58_of_a_signature,
    "signing": signing,
    "drop-in sign_message": drop_in,
    "whole cancel request": whole_request,
}
