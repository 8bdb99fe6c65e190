# SPDX-License-Identifier: MIT
"""What the tests of the integrations share: keys, one instant, and whether a signed body is right."""

from __future__ import annotations

import json
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pacifica_fast import b58decode, b58encode, reference

__all__ = ["ACCOUNT", "NOW", "OTHER_ACCOUNT", "OTHER_PRIVATE", "PRIVATE", "body_verifies", "pair", "verifies"]

NOW = 1_748_970_123_456


def pair(seed: bytes) -> tuple[str, str]:
    """Private key, and public key, in base58."""
    public = bytes(SigningKey(seed).verify_key)
    return b58encode(seed + public), b58encode(public)


PRIVATE, ACCOUNT = pair(bytes(range(1, 33)))
OTHER_PRIVATE, OTHER_ACCOUNT = pair(bytes(range(2, 34)))


def verifies(signature: str, account: str, header: dict[str, Any], payload: dict[str, Any]) -> bool:
    """Whether libsodium accepts it, over the message as the exchange rebuilds it."""
    try:
        message = reference.prepare_message(header, payload).encode()
        VerifyKey(b58decode(account)).verify(message, b58decode(signature))
    except (BadSignatureError, ValueError):
        return False
    return True


def body_verifies(operation: str, body: dict[str, Any]) -> bool:
    """The same for the body of a REST request."""
    fields = json.loads(json.dumps(body))
    signer = fields.pop("agent_wallet", None) or fields["account"]
    del fields["account"]
    signature = fields.pop("signature")
    header = {name: fields.pop(name) for name in ("timestamp", "expiry_window")}
    return verifies(signature, signer, {"type": operation, **header}, fields)
