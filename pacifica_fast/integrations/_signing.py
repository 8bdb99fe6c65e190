# SPDX-License-Identifier: MIT
"""What the integrations share: exactly these bytes signed, and something to sign on trial."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any, Final

from pacifica_fast import sdk
from pacifica_fast.base58 import b58encode
from pacifica_fast.keys import Keypair
from pacifica_fast.reference import SupportsSignMessage

__all__ = ["TRIAL_HEADER", "TRIAL_KEY", "TRIAL_PAYLOAD", "is_of_its_module", "sign_exactly", "trial_keypair"]

# RFC 8032, section 7.1, TEST 1: known to everybody, and never anybody's account.
_SEED: Final = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
_PUBLIC: Final = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")

TRIAL_KEY: Final = b58encode(_SEED + _PUBLIC)
TRIAL_HEADER: Final = {"type": "create_order", "timestamp": 1_748_970_123_456, "expiry_window": 5_000}
TRIAL_PAYLOAD: Final[dict[str, Any]] = {
    "symbol": "BTC",
    "price": "100000",
    "reduce_only": False,
    "order_id": 28_416_222_569,
    "stop_loss": {"stop_price": "99", "client_order_id": None, "list": [{"b": 1, "a": 2}]},
}


def is_of_its_module(function: FunctionType) -> bool:
    """Whether a function is from where it says: ``functools.wraps`` has a wrapper say what it wraps.

    A wrapper may refuse things, and that must not end because it is replaced.
    """
    return function.__globals__ is vars(sys.modules.get(function.__module__, sys)) and not hasattr(
        function, "__wrapped__"
    )


def trial_keypair() -> Keypair:
    """The key of :data:`TRIAL_KEY`."""
    return Keypair.from_seed(_SEED)


def sign_exactly(message: bytes, keypair: SupportsSignMessage) -> str:
    """The base58 signature of ``message`` as it stands, in one call into C where it can be.

    ``keypair`` is solders', ours, or anything else with ``sign_message``. Raises what that raises.
    """
    signed = sdk.sign_json(message, keypair)
    if signed is not None and signed[0].encode() == message:
        return signed[1]
    # Not the canonical JSON that C signs (a letter beyond ASCII, a float), or somebody else's key.
    return b58encode(bytes(keypair.sign_message(message)))
