# SPDX-License-Identifier: MIT
"""hummingbot's ``pacifica_perpetual`` connector, signing with our C core.

.. code-block:: python

    from pacifica_fast.integrations import hummingbot

    hummingbot.accelerate()  # at the top of the script or controller

Its auth objects call a function of their module, which is replaced: for those that exist, and those
to come. Their key stays solders' ``Keypair``, and everything else is hummingbot's.
"""

from __future__ import annotations

from typing import Any

from pacifica_fast import sdk
from pacifica_fast.integrations._replacing import Function, Replacement
from pacifica_fast.integrations._signing import TRIAL_HEADER, TRIAL_PAYLOAD, trial_keypair

__all__ = ["accelerate", "restore"]


def _try(sign_message: Function) -> Any:
    with trial_keypair() as keypair:
        return sign_message(TRIAL_HEADER, TRIAL_PAYLOAD, keypair)


_SIGN_MESSAGE = Replacement(
    "hummingbot",
    modules=["hummingbot.connector.derivative.pacifica_perpetual.pacifica_perpetual_auth"],
    name="sign_message",
    parameters=["header", "payload", "keypair"],
    make=lambda original: sdk.sign_message,  # theirs is the official SDK's
    trial=_try,
)


def accelerate() -> None:
    """Have every ``PacificaPerpetualAuth`` of this process sign with C; idempotent.

    Raises ``ImportError`` without hummingbot, and :class:`Unsupported` for one that signs otherwise
    than those we know, which is then as before.
    """
    _SIGN_MESSAGE.install()


def restore() -> None:
    """Undo :func:`accelerate`. Raises :class:`Unsupported` if somebody else replaced ours since."""
    _SIGN_MESSAGE.remove()
