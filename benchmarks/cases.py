# SPDX-License-Identifier: MIT
"""What is compared without a network: one cancel, stage by stage, ours beside what others do for it.

Every case can tell whether its output is right; a fast wrong answer is no result.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import base58
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey
from solders.keypair import Keypair as SoldersKeypair

from pacifica_fast import Keypair, Signer, b58encode, canonicalize, reference, sdk, sdk_legacy
from pacifica_fast._sodium import ffi, lib

from . import peers
from .sample import (
    ACCOUNT,
    CLIENT_ORDER_ID,
    HEADER,
    MESSAGE_BYTES,
    ORDER_ID,
    PAYLOAD,
    SEED,
    SIGNATURE,
    SIGNATURE_TEXT,
    SYMBOL,
    Case,
    is_message,
    is_request,
    is_signature,
    is_signed,
)

# Rows that other files name.
CRYPTO_SIGN = "libsodium crypto_sign, through our wrapper"
DROP_IN = "pacifica_fast.sdk, solders Keypair"
SDK_KEPT = "SDK, key and account kept"
PREPARED_REQUEST, DETERMINISTIC_REQUEST = "ours, prepared", "ours, deterministic"


class OtherKeypair:
    """Another library's key with the method that the SDK's algorithm calls."""

    def __init__(self, sign: Callable[[bytes], bytes]) -> None:
        self.sign_message = sign


PREPARED = 1_024  # nonces: far more than a block of calls uses


class PreparedSigner(Signer):
    """A Signer whose nonces are all there when a block begins."""

    def __init__(self, nonces: int = PREPARED) -> None:
        super().__init__(OURS, prepared=nonces)
        self._nonces = nonces

    def wait(self) -> None:
        """Until every nonce is ready."""
        while self.stats.ready < self._nonces:
            time.sleep(0.0005)


OURS = Keypair.from_seed(SEED)
SOLDERS = SoldersKeypair.from_seed(SEED)
SOLDERS_TEXT = str(SOLDERS)
NACL_KEY, OPENSSL_KEY = SigningKey(SEED), Ed25519PrivateKey.from_private_bytes(SEED)
NACL = OtherKeypair(lambda message: NACL_KEY.sign(message).signature)
OPENSSL = OtherKeypair(OPENSSL_KEY.sign)


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


def crypto_sign() -> Case:
    """What a deterministic signature costs at least."""
    out = ffi.new("char[64]")
    view = ffi.buffer(out)
    sign, key, size = lib.pf_key_sign_bytes, OURS._key, len(MESSAGE_BYTES)

    def run() -> bytes:
        sign(out, 64, key, MESSAGE_BYTES, size)
        return bytes(view)

    return Case(CRYPTO_SIGN, run, is_signature)


def signing() -> list[Case]:
    """64 bytes of signature over one cancel's message."""
    return [
        crypto_sign(),
        Case("pacifica_fast Keypair.sign_message", lambda: OURS.sign_message(MESSAGE_BYTES), is_signature),
        Case("PyNaCl SigningKey.sign", lambda: NACL_KEY.sign(MESSAGE_BYTES).signature, is_signature),
        Case("solders Keypair.sign_message", lambda: SOLDERS.sign_message(MESSAGE_BYTES), is_signature),
        Case("cryptography (OpenSSL) sign", lambda: OPENSSL_KEY.sign(MESSAGE_BYTES), is_signature),
    ]


def drop_in() -> list[Case]:
    """``sign_message(header, payload, keypair)``."""
    return [
        Case("SDK (solders, base58)", lambda: sdk_sign_message(HEADER, PAYLOAD, SOLDERS), is_signed),
        crypto_sign(),
        Case(
            DROP_IN,
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
    prepared = PreparedSigner()
    ten = [(SYMBOL, ORDER_ID + n) for n in range(10)]
    return [
        Case(
            SDK_KEPT,
            lambda: sdk_request(sdk_sign_message, SOLDERS, ACCOUNT),
            is_request,
        ),
        Case("SDK, key kept", lambda: sdk_request(sdk_sign_message, SOLDERS, None), is_request),
        Case("SDK, as its example", sdk_example, is_request),
        *peers.requests(),
        Case(
            "SDK with pacifica_fast.sdk", lambda: sdk_request(sdk.sign_message, SOLDERS, ACCOUNT), is_request
        ),
        Case("SDK with PyNaCl", lambda: sdk_request(sdk_sign_message, NACL, ACCOUNT), is_request),
        Case("SDK with cryptography", lambda: sdk_request(sdk_sign_message, OPENSSL, ACCOUNT), is_request),
        Case("pacifica_fast.reference, PyNaCl", python_request, is_request),
        crypto_sign(),
        Case(
            PREPARED_REQUEST,
            lambda: prepared.cancel_order(SYMBOL, order_id=ORDER_ID),
            is_request,
            ready=prepared.wait,
        ),
        Case(
            "ours, prepared, client order id",
            lambda: prepared.cancel_order(SYMBOL, client_order_id=CLIENT_ORDER_ID),
            is_request,
            ready=prepared.wait,
        ),
        Case(DETERMINISTIC_REQUEST, lambda: signer.cancel_order(SYMBOL, order_id=ORDER_ID), is_request),
        Case(
            "ours, deterministic, agent wallet",
            lambda: agent.cancel_order(SYMBOL, order_id=ORDER_ID),
            is_request,
        ),
        Case("ours, deterministic, batch: each of 10", lambda: signer.batch_cancel(ten), is_request, work=10),
    ]


GROUPS: dict[str, Callable[[], list[Case]]] = {
    "canonical JSON": canonical_json,
    "base58 of a signature": base58_of_a_signature,
    "signing": signing,
    "drop-in sign_message": drop_in,
    "whole cancel request": whole_request,
}
