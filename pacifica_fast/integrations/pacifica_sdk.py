# SPDX-License-Identifier: MIT
"""The package ``pacifica-sdk`` from PyPI, signing with our C core.

.. code-block:: python

    from pacifica_fast.integrations import pacifica_sdk

    pacifica_sdk.accelerate()  # once, before or after the clients are made

Its clients call a function, which is replaced. Their keys stay solders' ``Keypair``, and the bytes
signed are those that the package would sign.
"""

from __future__ import annotations

from typing import Any

from pacifica_fast.integrations._replacing import Function, Replacement
from pacifica_fast.integrations._signing import TRIAL_HEADER, TRIAL_PAYLOAD, sign_exactly, trial_keypair

__all__ = ["accelerate", "restore"]


def _make(original: Function) -> Function:
    to_bytes = original.__globals__["_dumps_encode"]  # orjson, or json where there is none

    def sign_message(
        *, keypair: Any, timestamp: int, operation_type: Any, operation_data: Any, expiry_window: int
    ) -> str:
        """The base58 signature of one operation."""
        message = to_bytes(
            {
                "timestamp": timestamp,
                "expiry_window": expiry_window,
                "type": operation_type,
                "data": operation_data,
            }
        )
        return sign_exactly(message, keypair)

    return sign_message


def _try(sign_message: Function) -> Any:
    with trial_keypair() as keypair:
        return sign_message(
            keypair=keypair,
            timestamp=TRIAL_HEADER["timestamp"],
            operation_type=TRIAL_HEADER["type"],
            operation_data=TRIAL_PAYLOAD,
            expiry_window=TRIAL_HEADER["expiry_window"],
        )


_SIGN_MESSAGE = Replacement(
    "pacifica-sdk",
    modules=["pacifica_sdk.utils.signing", "pacifica_sdk.utils.tools", "pacifica_sdk.async_.exchange"],
    name="sign_message",
    parameters=["keypair", "timestamp", "operation_type", "operation_data", "expiry_window"],
    make=_make,
    trial=_try,
)


def accelerate() -> None:
    """Have every client of this process sign with C; idempotent.

    Raises ``ImportError`` without the package, and :class:`Unsupported` for one that signs otherwise
    than those we know, which is then as before.
    """
    _SIGN_MESSAGE.install()


def restore() -> None:
    """Undo :func:`accelerate`. Raises :class:`Unsupported` if somebody else replaced ours since."""
    _SIGN_MESSAGE.remove()
