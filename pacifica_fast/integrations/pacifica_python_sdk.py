# SPDX-License-Identifier: MIT
"""The package ``pacifica-python-sdk`` from PyPI (``import pacifica``), signing with our C core.

.. code-block:: python

    from pacifica_fast.integrations import pacifica_python_sdk

    pacifica_python_sdk.accelerate()  # once, before or after the clients are made

Its clients call a function, which is replaced: for its ``LocalSigner``, whose solders ``Keypair`` is
kept, and for :class:`KeypairSigner`, whose key is ours. Any other signer is left to the package.

The package verifies each signature it has made, which guards against a signer that is not what it
says. Ours is derived from the key it signs with, and is not verified again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from pacifica_fast import sdk
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.integrations._replacing import Function, Replacement
from pacifica_fast.integrations._signing import TRIAL_HEADER, TRIAL_PAYLOAD, trial_keypair
from pacifica_fast.keys import Keypair
from pacifica_fast.payload import is_plain

__all__ = ["KeypairSigner", "accelerate", "restore"]

_RESERVED = frozenset({"account", "signature", "timestamp", "expiry_window", "type", "data"})

_ATTRIBUTES = {"_keypair"}  # of a signer


class KeypairSigner:
    """The package's ``Signer`` with our :class:`~pacifica_fast.Keypair`: no solders, locked memory.

    ``PacificaClient(account=..., signer=KeypairSigner(Keypair.from_file(path)))``; it works without
    :func:`accelerate` too. It does not own the keypair. Raises :class:`~pacifica_fast.InvalidRequest`
    for anything else than that.
    """

    def __init__(self, keypair: Keypair) -> None:
        if not isinstance(keypair, Keypair):
            got = type(keypair).__name__
            del keypair  # it may be the key's text, by mistake
            raise InvalidRequest(f"keypair: expected a Keypair of pacifica_fast, got {got}")
        self._keypair = keypair

    @property
    def address(self) -> str:
        """The public key, base58."""
        return self._keypair.pubkey()

    async def sign_message(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return self._keypair.sign_message(message)

    def __repr__(self) -> str:
        return f"<KeypairSigner {self.address}>"


def _make(original: Function) -> Function:
    local_signer = original.__globals__["LocalSigner"]
    signs = {local_signer: local_signer.sign_message, KeypairSigner: KeypairSigner.sign_message}
    check_address = lru_cache(maxsize=256)(original.__globals__["address"])
    addresses: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()

    def address_of(signer: Any) -> str:
        """Worked out once for each key of a signer: it takes solders 40 µs."""
        keypair, address = addresses.get(signer, (None, ""))
        if keypair is not signer._keypair:
            keypair, address = signer._keypair, signer.address
            addresses[signer] = keypair, address
        return address

    def is_known(signer: Any) -> bool:
        """A signer of the two kinds, which nobody made sign in another way."""
        kind: Any = type(signer)
        return kind in signs and kind.sign_message is signs[kind] and vars(signer).keys() == _ATTRIBUTES

    def is_in_order(
        payload: Any, account: str, signer: Any, agent_wallet: str | None, timestamp: int, window: int
    ) -> bool:
        """What the original checks; where it would raise, it is asked to."""
        return (
            is_known(signer)
            and type(payload) is dict
            and is_plain(payload)
            and _RESERVED.isdisjoint(payload)
            and not (agent_wallet and "agent_wallet" in payload)
            and address_of(signer) == (agent_wallet or account)
            and type(account) is str
            and check_address(account) == account
            and type(timestamp) is int
            and timestamp > 0
            and type(window) is int
            and window > 0
        )

    async def signed_request(
        operation: str,
        payload: dict[str, Any],
        *,
        account: str,
        signer: Any,
        agent_wallet: str | None,
        timestamp: int,
        expiry_window: int,
    ) -> dict[str, Any]:
        """The body of one signed REST request."""
        if (
            type(operation) is not str
            or not operation
            or not is_in_order(payload, account, signer, agent_wallet, timestamp, expiry_window)
        ):
            answer: dict[str, Any] = await original(
                operation,
                payload,
                account=account,
                signer=signer,
                agent_wallet=agent_wallet,
                timestamp=timestamp,
                expiry_window=expiry_window,
            )
            return answer
        header = {"type": operation, "timestamp": timestamp, "expiry_window": expiry_window}
        request = {
            "account": account,
            "signature": sdk.sign_message(header, payload, signer._keypair)[1],
            "timestamp": timestamp,
            "expiry_window": expiry_window,
            **payload,
        }
        if agent_wallet:
            request["agent_wallet"] = agent_wallet
        return request

    return signed_request


def _try(signed_request: Function) -> Any:
    with trial_keypair() as keypair:
        call: Coroutine[Any, Any, Any] = signed_request(
            TRIAL_HEADER["type"],
            TRIAL_PAYLOAD,
            account=keypair.pubkey(),
            signer=KeypairSigner(keypair),
            agent_wallet=None,
            timestamp=TRIAL_HEADER["timestamp"],
            expiry_window=TRIAL_HEADER["expiry_window"],
        )
        return _result_of(call)


def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing; there may be an event loop running already."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise asyncio.InvalidStateError("it waited for something")


_SIGNED_REQUEST = Replacement(
    "pacifica-python-sdk",
    modules=["pacifica.signing", "pacifica.client"],
    name="signed_request",
    parameters=[
        "operation",
        "payload",
        "account",
        "signer",
        "agent_wallet",
        "timestamp",
        "expiry_window",
    ],
    make=_make,
    trial=_try,
)


def accelerate() -> None:
    """Have every ``PacificaClient`` of this process sign with C; idempotent.

    Raises ``ImportError`` without the package, and :class:`Unsupported` for one that signs otherwise
    than those we know, which is then as before.
    """
    _SIGNED_REQUEST.install()


def restore() -> None:
    """Undo :func:`accelerate`. Raises :class:`Unsupported` if somebody else replaced ours since."""
    _SIGNED_REQUEST.remove()
