# SPDX-License-Identifier: MIT
"""The drop-in for ``common.utils`` of Pacifica's official Python SDK.

Replace ``from common.utils import sign_message`` by
``from pacifica_fast.sdk import sign_message``: same arguments, same bytes out, same
exceptions. ``pacifica_fast.sdk_legacy`` is for the SDK as it was until 16 June 2025.

Two paths. Where the header is an exact ``dict``, header and payload are plain (see
:mod:`pacifica_fast.payload`) and the keypair is exactly solders' ``Keypair`` or
ours, the message is made canonical, signed and encoded by one call into C.
Everything else, and whatever that call refuses, is done by
:mod:`pacifica_fast.reference`, literally as the SDK does it, so that its exceptions
are right for free.

solders is never imported here, only recognised once somebody else did. The 64
secret bytes that its ``Keypair`` hands out for a signature are wiped, in place, by
the C call they are passed to, before it returns; the key itself stays where solders
keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from json import dumps
from types import MethodDescriptorType
from typing import Any, Final

from pacifica_fast._json import JSONEncodeError
from pacifica_fast._json import dumps as _to_json
from pacifica_fast._sodium import LONG_INPUT, ffi, lib
from pacifica_fast.canonical import canonicalize
from pacifica_fast.errors import InvalidJSON
from pacifica_fast.keys import Keypair
from pacifica_fast.payload import is_plain
from pacifica_fast.reference import (
    SupportsSignMessage,
    ask_ledger,
    b58encode,
    merge,
    sort_json_keys,
)
from pacifica_fast.reference import prepare_message as _prepare_literally

__all__ = ["prepare_message", "sign_message", "sign_with_hardware_wallet", "sort_json_keys"]

_PAIR_LEN: Final = 64  # seed, then public key
_SIGNATURE_LEN: Final = 88  # base58 of 64 bytes, at most
_SMALL: Final = 1_024  # bytes of JSON that a kept buffer is certain to suffice for
_KEPT_CAPACITY: Final = 6 * _SMALL + _SIGNATURE_LEN

_sign_key: Final = lib.pf_sdk_sign_key
_sign_pair: Final = lib.pf_sdk_sign_pair
_own_sign: Final = Keypair.sign_message
_new_memory: Final = ffi.new_allocator(should_clear_after_alloc=False)

# Buffers nobody uses. Whoever pops one owns it until it is appended again, so neither
# another thread nor a signal handler or finaliser that signs in the middle of a call
# can write into the answer of this one. What an exception in between keeps from being
# appended is garbage collected.
_idle_buffers: Final[list[tuple[Any, Any]]] = []

# solders' Keypair type, its sign_message and its __bytes__, once seen.
_solders_keypair: type | None = None
_solders_sign: object = None
_solders_bytes: Callable[[Any], bytes] = bytes


def _find_solders() -> type | None:
    """Recognise ``solders.keypair.Keypair`` if somebody imported it; return the type.

    A class of that name is not enough: both methods that matter must be native, as
    they are in solders and cannot be in a stub or a subclass written in Python.
    """
    global _solders_keypair, _solders_sign, _solders_bytes
    found = getattr(sys.modules.get("solders.keypair"), "Keypair", None)
    if type(found) is not type or (found.__module__, found.__qualname__) != ("solders.keypair", "Keypair"):
        return None
    sign = found.__dict__.get("sign_message")
    to_bytes = found.__dict__.get("__bytes__")
    if type(sign) is not MethodDescriptorType or type(to_bytes) is not MethodDescriptorType:
        return None
    _solders_sign, _solders_bytes, _solders_keypair = sign, to_bytes, found
    return found


def sign_json(json: bytes, keypair: SupportsSignMessage) -> tuple[str, str] | None:
    """Sign the canonical form of JSON, of any length; None if C refuses, or does not know the keypair.

    Returns that form and the signature in base58. From :data:`LONG_INPUT` on, C gives up the GIL.
    """
    return _sign_long(json, keypair) if _is_known(keypair) else None


def _is_known(keypair: SupportsSignMessage) -> bool:
    """Whether it is exactly our ``Keypair`` or solders', with the ``sign_message`` it came with."""
    kind = type(keypair)
    if kind is Keypair:
        return Keypair.sign_message is _own_sign
    return (
        kind is (_solders_keypair or _find_solders())
        and getattr(_solders_keypair, "sign_message", None) is _solders_sign
    )


def _sign_long(json: bytes, keypair: SupportsSignMessage) -> tuple[str, str] | None:
    """Sign what no kept buffer is certain to hold; ``None`` if C refuses.

    From :data:`LONG_INPUT` on, C gives up the GIL.
    """
    size = len(json)
    detached = "_detached" if size > LONG_INPUT else ""
    capacity = getattr(lib, "pf_canonical_bound" + detached)(json, size) + _SIGNATURE_LEN
    out, view = _make_buffer(capacity)
    if type(keypair) is Keypair:
        lengths = getattr(lib, "pf_sdk_sign_key" + detached)(out, capacity, json, size, keypair._key)
    else:
        pair = _solders_bytes(keypair)
        if len(pair) != _PAIR_LEN:
            return None
        lengths = getattr(lib, "pf_sdk_sign_pair" + detached)(out, capacity, json, size, pair)
    if lengths < 0:
        return None
    end = lengths >> 8
    return view[:end].decode(), view[end : end + (lengths & 255)].decode()


def _make_buffer(capacity: int) -> tuple[Any, Any]:
    """Return memory for C to write ``capacity`` bytes to, and a view to read them."""
    out = _new_memory("char[]", capacity)
    return out, ffi.buffer(out)


def _plain_json(header: Mapping[str, Any], payload: Any) -> bytes | None:
    """Return the object to be signed as JSON in any order, if the fast path may have it."""
    if (
        type(header) is dict
        and is_plain(header)
        and is_plain(payload)
        and "type" in header
        and "timestamp" in header
        and "expiry_window" in header
    ):
        try:
            return _to_json({**header, "data": payload})
        except JSONEncodeError:
            pass
    return None


def prepare_message(header: Mapping[str, Any], payload: Any) -> str:
    """Return the text that is signed: canonical, compact, ASCII JSON.

    ``header`` is any mapping that has ``type``, ``timestamp`` and ``expiry_window``
    (the latter two in milliseconds); other members are signed along, but a ``data`` of
    its own is replaced. ``payload`` is anything that :mod:`json` can write. Neither is
    changed.

    Raises, as the SDK does: :class:`ValueError` for a header that lacks one of the
    three, or an integer of over 4300 digits; :class:`TypeError` for a header that is no
    mapping, keys that cannot be compared, or a value JSON has no form for;
    :class:`RecursionError` for what is nested too deeply, or in itself.
    """
    json = _plain_json(header, payload)
    if json is not None:
        try:
            return str(canonicalize(json), "ascii")
        except InvalidJSON:
            pass
    # Written out here, not called: how deep a value may be depends on the frames.
    return dumps(sort_json_keys(merge(header, payload)), separators=(",", ":"))


def sign_message(header: Mapping[str, Any], payload: Any, keypair: SupportsSignMessage) -> tuple[str, str]:
    """Return the canonical message and its Ed25519 signature, in base58.

    ``header`` and ``payload`` as for :func:`prepare_message`. ``keypair`` is solders'
    ``Keypair``, ours, or anything with a ``sign_message`` that takes ``bytes`` and
    returns what ``bytes()`` accepts; it is not touched before the message exists.

    Raises what :func:`prepare_message` raises; :class:`AttributeError` for a keypair
    that cannot sign, :class:`TypeError` for an answer that ``bytes()`` refuses, and
    whatever the keypair raises: :class:`~pacifica_fast.errors.KeyClosed` if it is ours
    and closed.
    """
    # The fast path, in one piece: each call into another function costs 2 % of it.
    kind = type(keypair)
    if kind is Keypair:
        fast = Keypair.sign_message is _own_sign
    else:
        fast = (
            kind is (_solders_keypair or _find_solders())
            and getattr(_solders_keypair, "sign_message", None) is _solders_sign
        )
    if fast and (json := _plain_json(header, payload)) is not None:
        size = len(json)
        if size > _SMALL:
            if (signed := _sign_long(json, keypair)) is not None:
                return signed
        else:
            try:
                buffer = _idle_buffers.pop()
            except IndexError:
                buffer = _make_buffer(_KEPT_CAPACITY)
            out, view = buffer
            if type(keypair) is Keypair:
                lengths = _sign_key(out, _KEPT_CAPACITY, json, size, keypair._key)
            else:
                pair = _solders_bytes(keypair)
                # C reads 64 bytes and wipes them.
                lengths = _sign_pair(out, _KEPT_CAPACITY, json, size, pair) if len(pair) == _PAIR_LEN else -1
            if lengths >= 0:
                end = lengths >> 8
                text = view[: end + (lengths & 255)].decode()
                _idle_buffers.append(buffer)
                return text[:end], text[end:]
    # Written out here, not called: how deep a value may be depends on the frames.
    message = _prepare_literally(header, payload)
    signature = keypair.sign_message(message.encode())
    return message, b58encode(bytes(signature))


def sign_with_hardware_wallet(
    header: Mapping[str, Any], payload: Any, hardware_wallet_path: str
) -> tuple[str, str]:
    """Return the canonical message and the base58 signature that a Ledger gives it.

    Runs ``solana sign-offchain-message -k hardware_wallet_path MESSAGE``, without a
    shell; the last line it writes is the signature. Prints what went wrong and raises
    it: :class:`FileNotFoundError` without the tool, :class:`Exception` with its stderr
    when it fails. Raises what :func:`prepare_message` raises, too.
    """
    message = prepare_message(header, payload)
    return message, ask_ledger(message, hardware_wallet_path)
