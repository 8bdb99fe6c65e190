# SPDX-License-Identifier: MIT
"""Signed cancels for the Pacifica exchange in microseconds, and a fate for every one of them.

Three ways in: ``pacifica_fast.sdk`` replaces the official SDK's signer, :class:`Signer`
builds finished requests, ``pacifica_fast.asyncio.connect`` sends them and tells their fate.
"""

from __future__ import annotations

from pacifica_fast.base58 import b58decode, b58encode
from pacifica_fast.canonical import canonicalize
from pacifica_fast.errors import (
    ConnectionFailed,
    CreditsReserved,
    InvalidJSON,
    InvalidRequest,
    KeyClosed,
    NotSent,
    OutcomeUnknown,
    PacificaError,
    RateLimited,
    Rejected,
    SignatureRejected,
    WrongThread,
)
from pacifica_fast.keys import Keypair
from pacifica_fast.signer import Request, Signed, Signer

__all__ = [
    "ConnectionFailed",
    "CreditsReserved",
    "InvalidJSON",
    "InvalidRequest",
    "KeyClosed",
    "Keypair",
    "NotSent",
    "OutcomeUnknown",
    "PacificaError",
    "RateLimited",
    "Rejected",
    "Request",
    "SignatureRejected",
    "Signed",
    "Signer",
    "WrongThread",
    "b58decode",
    "b58encode",
    "canonicalize",
]
