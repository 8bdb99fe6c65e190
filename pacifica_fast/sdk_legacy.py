# SPDX-License-Identifier: MIT
"""The drop-in for the official Python SDK as it was until 16 June 2025.

That is commit ``f2385d42``, the one the exchange's own documentation links to. It
signs the same bytes as the SDK of today (:mod:`pacifica_fast.sdk`), but returns the
sorted dict in front of the signature, and has no ``prepare_message``.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any

from pacifica_fast import sdk
from pacifica_fast.payload import is_plain
from pacifica_fast.reference import SupportsSignMessage, b58encode, merge, sort_json_keys

__all__ = ["sign_message", "sort_json_keys"]


def sign_message(
    header: Mapping[str, Any], payload: Any, keypair: SupportsSignMessage
) -> tuple[dict[str, Any], str]:
    """Return the signed object, its keys sorted, and its Ed25519 signature in base58.

    Arguments and exceptions are those of :func:`pacifica_fast.sdk.sign_message`.
    Neither ``header`` nor ``payload`` is changed, and what is returned shares no dict
    or list with them, except inside tuples.
    """
    ordered: dict[str, Any] = sort_json_keys(merge(header, payload))
    # Plain data sorts twice to the same, without any code of its own; other data may not.
    if type(header) is dict and is_plain(header) and is_plain(payload):
        return ordered, sdk.sign_message(ordered, ordered["data"], keypair)[1]
    message = dumps(ordered, separators=(",", ":"))
    signature = keypair.sign_message(message.encode())
    return ordered, b58encode(bytes(signature))
