# SPDX-License-Identifier: MIT
"""The official SDK's signing, step by step, in nothing but the standard library.

This module is three things: the *oracle* the tests compare everything else
with, the *fallback* :mod:`pacifica_fast.sdk` takes for every input that its
fast path does not know, and the *baseline* of the benchmarks. It imports
neither the C core nor any other part of this package, and signs nothing itself:
the ``keypair`` it is given does.

What it promises is the SDK's behaviour, its exceptions and their texts
included, on the Python that runs it. That is why it checks nothing the SDK does
not check, and why the frames and the calls it makes are the SDK's: with a value
nested too deeply, where Python gives up and what it says depend on them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any, Final, Protocol

__all__ = [
    "SupportsSignMessage",
    "b58decode",
    "b58encode",
    "prepare_message",
    "sign_message",
    "sign_with_hardware_wallet",
    "sort_json_keys",
]

HEADER_FIELDS: Final = ("type", "timestamp", "expiry_window")

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_GROUP_LEN: Final = 10  # 58**10 is the largest power of 58 that fits 64 bits
_GROUP: Final = 58**_GROUP_LEN


class SupportsSignMessage(Protocol):
    """Anything that signs: solders' ``Keypair``, ours, a hardware wallet's stand-in.

    ``sign_message`` gets the exact ``bytes`` to sign and returns the signature as
    anything that ``bytes()`` accepts.
    """

    def sign_message(self, message: bytes, /) -> Any: ...


def b58encode(data: bytes) -> str:
    """Return ``data`` (of any length) in base58, Bitcoin's alphabet.

    Each leading zero byte is one leading ``1``; empty in, empty out.
    """
    significant = data.lstrip(b"\0")
    number = int.from_bytes(significant, "big")
    pairs: list[str] = []
    while number:
        number, group = divmod(number, _GROUP)
        for _ in range(_GROUP_LEN // 2):
            group, pair = divmod(group, 58 * 58)
            pairs.append(_PAIRS[pair])
    pairs.reverse()
    return "1" * (len(data) - len(significant)) + "".join(pairs).lstrip("1")


def b58decode(text: str) -> bytes:
    """Return the bytes that ``text`` is the base58 of.

    Each leading ``1`` is one leading zero byte. Raises :class:`ValueError`, with
    the position and never the text (it may be a key), for any character outside
    the alphabet, white space included.
    """
    significant = text.lstrip("1")
    zeros = len(text) - len(significant)
    number = 0
    for start in range(0, len(significant), _GROUP_LEN):
        piece = significant[start : start + _GROUP_LEN]
        group = 0
        for offset, character in enumerate(piece):
            digit = _DIGITS.get(character)
            if digit is None:
                raise ValueError(f"not a base58 character (position {zeros + start + offset})")
            group = group * 58 + digit
        number = number * 58 ** len(piece) + group
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def sort_json_keys(value: Any) -> Any:
    """Return ``value`` with the keys of every dict in it in ascending order.

    Dicts and lists, their subclasses too, become new plain ones; everything else
    comes back as the same object, and nothing is looked for inside it (so a dict
    in a tuple keeps its order). Keys are compared as they are, not as the text
    that JSON makes of them.

    Raises :class:`TypeError` for keys that cannot be compared,
    :class:`RecursionError` for what is nested too deeply, or in itself.
    """
    if isinstance(value, dict):
        ordered: dict[Any, Any] = {}
        for key in sorted(value.keys()):
            ordered[key] = sort_json_keys(value[key])
        return ordered
    if isinstance(value, list):
        return [sort_json_keys(element) for element in value]
    return value


def merge(header: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """Return the object to be signed: the header's members, and ``payload`` as ``data``.

    A ``data`` of the header's own is replaced. Raises :class:`ValueError` when the
    header lacks one of :data:`HEADER_FIELDS`, :class:`TypeError` when it is no mapping.
    """
    for field in HEADER_FIELDS:
        if field not in header:
            raise ValueError("Header must have type, timestamp, and expiry_window")
    return {**header, "data": payload}


def prepare_message(header: Mapping[str, Any], payload: Any) -> str:
    """Return the text that is signed: canonical, compact, ASCII JSON.

    ``header`` is any mapping that has ``type``, ``timestamp`` and ``expiry_window``
    (the latter two in milliseconds); other members are signed along. ``payload`` is
    anything that :mod:`json` can write. Neither is changed.

    Raises what :func:`merge`, :func:`sort_json_keys` and :func:`json.dumps` raise.
    """
    return json.dumps(sort_json_keys(merge(header, payload)), separators=(",", ":"))


def sign_message(header: Mapping[str, Any], payload: Any, keypair: SupportsSignMessage) -> tuple[str, str]:
    """Return the canonical message and its signature in base58.

    ``header`` and ``payload`` as for :func:`prepare_message`. ``keypair`` is not
    touched before the message exists; what it raises passes through, and so do
    :class:`AttributeError` where it cannot sign and :class:`TypeError` where
    ``bytes()`` refuses its answer.
    """
    message = prepare_message(header, payload)
    signature = keypair.sign_message(message.encode())
    return message, b58encode(bytes(signature))


def ask_ledger(message: str, hardware_wallet_path: str) -> str:
    """Have the ``solana`` command line tool sign ``message``; return the signature.

    ``hardware_wallet_path`` is what its ``-k`` takes, for instance ``usb://ledger?key=0``.
    No shell is involved. Prints what went wrong and raises it: :class:`FileNotFoundError`
    without the tool, :class:`Exception` with its stderr when it fails.
    """
    command = ["solana", "sign-offchain-message", "-k", hardware_wallet_path, message]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- no shell
        if done.returncode != 0:
            raise Exception(f"Ledger signing failed: {done.stderr}")
    except Exception as error:
        print(f"Error signing with Ledger: {error}")
        raise
    # The request for approval comes first, the signature last.
    return done.stdout.strip().rpartition("\n")[2]


def sign_with_hardware_wallet(
    header: Mapping[str, Any], payload: Any, hardware_wallet_path: str
) -> tuple[str, str]:
    """Return the canonical message and the base58 signature that a Ledger gives it.

    Raises as :func:`prepare_message` and :func:`ask_ledger` do.
    """
    message = prepare_message(header, payload)
    return message, ask_ledger(message, hardware_wallet_path)
