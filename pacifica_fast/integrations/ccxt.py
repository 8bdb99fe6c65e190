# SPDX-License-Identifier: MIT
"""ccxt's ``pacifica``, sync, async or pro, signing with our C core.

.. code-block:: python

    exchange = accelerate(ccxt.pro.pacifica({"walletAddress": ..., "privateKey": ...}))

Everything else stays ccxt's: its requests, its options (agent wallet, builder code, window), its
connections. What is signed is the same to the byte, and so is the signature, but where ccxt's is
wrong: its base58 loses leading zero bytes, which spoils one signature in 256, and every one of a
key whose seed begins with a zero byte.

The object gets a subclass of its class, with ``sign_message`` replaced, and keeps its parsed key.
A ``privateKey`` that is set later is parsed when it is first used.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from pacifica_fast import sdk
from pacifica_fast.base58 import b58encode
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.integrations import Unsupported
from pacifica_fast.integrations._signing import (
    TRIAL_HEADER,
    TRIAL_KEY,
    TRIAL_PAYLOAD,
    is_of_its_module,
    trial_keypair,
)
from pacifica_fast.keys import Keypair
from pacifica_fast.payload import is_plain
from pacifica_fast.signer import Signer, _checked_prepared

__all__ = ["accelerate", "restore"]

Exchange = TypeVar("Exchange")

_MODULES = ("ccxt.pacifica", "ccxt.async_support.pacifica")
_PARAMETERS = ["self", "header", "payload", "privateKey"]
_HEADER = frozenset({"type", "timestamp", "expiry_window"})
_STATE = "_pacifica_fast"  # attribute of an accelerated exchange


class _Key:
    """The key of one exchange object: parsed once, and anew when its text is another.

    A copy of the exchange, which finds the one of its ``owner``, makes its own.
    """

    __slots__ = ("_kept", "owner", "prepared")

    def __init__(self, prepared: int, owner: Any = None) -> None:
        self.prepared = prepared
        self.owner = None if owner is None else weakref.ref(owner)
        self._kept: tuple[str, Signer] | None = None

    def signer(self, text: str) -> Signer:
        """For the private key ``text``; raises :class:`~pacifica_fast.InvalidRequest` without it."""
        kept = self._kept
        try:
            # Closed: in a forked child, for which the key is parsed again.
            if kept is not None and kept[0] == text and not kept[1].keypair.closed:
                return kept[1]
            signer = Signer(Keypair.from_base58_string(text), prepared=self.prepared)
            self._kept = text, signer
            if kept is not None:
                kept[1].close()
            return signer
        finally:  # nor shall the traceback of an error have it
            del kept, text

    def belongs_to(self, exchange: object) -> bool:
        return self.owner is not None and self.owner() is exchange

    def close(self) -> None:
        """End what runs in the background for it."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def __reduce__(self) -> tuple[type[_Key], tuple[int]]:
        return _Key, (self.prepared,)


def accelerate(exchange: Exchange, *, prepared: int = 0) -> Exchange:
    """Have ``exchange``, a ``pacifica`` of ccxt, sign with C from now on; return it.

    ``prepared`` as for :class:`~pacifica_fast.Signer`: with it, signatures cost a few µs, are as
    valid, and different every time; without, they are the same as ever. Again with the same
    ``prepared`` nothing happens; with another, that holds from now on. The parsed key lives until
    another takes its place, or :func:`restore`.

    Raises :class:`Unsupported` for anything else than such an object, for one that signs in its own
    way, in anything that ccxt's signing calls, and for a ccxt that signs otherwise than those we
    know; :class:`~pacifica_fast.InvalidRequest` for a private key, or a ``prepared``, that is none.
    The object is then as before.
    """
    prepared = _checked_prepared(prepared)
    kind: Any = type(exchange)
    if _is_ours(kind):
        old = _state(exchange)
        if old is not None and old.prepared == prepared:
            return exchange
        accelerated = kind
    else:
        old = None
        accelerated = _accelerated(kind, _checked_sign_message(exchange))
    key = _Key(prepared, exchange)
    if getattr(exchange, "privateKey", None):  # or it is set later
        key.signer(exchange.privateKey)  # type: ignore[attr-defined]
    vars(exchange)[_STATE] = key
    exchange.__class__ = accelerated
    if old is not None:
        old.close()
    return exchange


def restore(exchange: Exchange) -> Exchange:
    """Undo :func:`accelerate`, and return the exchange; nothing to undo is no error."""
    kind: Any = type(exchange)
    if _is_ours(kind):
        key = _state(exchange)
        exchange.__class__ = kind.__base__
        vars(exchange).pop(_STATE, None)
        if key is not None:
            key.close()
    return exchange


def _is_ours(kind: type) -> bool:
    return "_signs_with_pacifica_fast" in vars(kind)


def _state(exchange: Any) -> _Key | None:
    """The key of an accelerated exchange; None for what :func:`accelerate` never saw, or did once."""
    key: _Key | None = vars(exchange).get(_STATE)
    if key is not None and not key.belongs_to(exchange):
        key = vars(exchange)[_STATE] = _Key(key.prepared, exchange)
    return key


def _again(kind: Any, *args: Any) -> Any:
    """A copy, or what is read from a pickle, before it has its attributes."""
    return object.__new__(_accelerated(kind, kind.sign_message), *args)


@lru_cache(maxsize=64)
def _accelerated(kind: type[Any], original: Any) -> type[Any]:
    """A subclass of an exchange's class, for :func:`accelerate`; ``original`` keeps the cache honest."""

    def sign_message(self: Any, header: Any, payload: Any, privateKey: str) -> str:  # noqa: N803  # ccxt's
        key = _state(self)
        try:
            if key is None:  # made with the class of an accelerated one, or restored by now
                ccxts: str = original(self, header, payload, privateKey)
                return ccxts
            if privateKey != self.privateKey:  # of a subaccount to be made: for once, and not kept
                key = _Key(prepared=0)
            signer = key.signer(privateKey)
        finally:
            del privateKey
        return _sign(self, header, payload, signer, key.prepared)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:  # noqa: N807
        """As ccxt's, but for the class, which has no place where it could be found."""
        reduce_as_ccxts: Any = kind.__reduce_ex__
        make, (made, *args), *rest = reduce_as_ccxts(self, max(protocol, 2))
        return (_again if made is accelerated else make), (kind, *args), *rest

    members = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce_ex__": __reduce_ex__,
        "_signs_with_pacifica_fast": True,
        "sign_message": sign_message,
        "signMessage": sign_message,  # ccxt makes an alias of every method, in the class
    }
    accelerated = type(kind.__name__, (kind,), members)
    return accelerated


def _sign(exchange: Any, header: Any, payload: Any, signer: Signer, prepared: int) -> str:
    """The signature of what ccxt would sign."""
    signed = _sign_plain(header, payload, signer, prepared)
    if signed is not None and "\\u" not in signed[0]:
        return signed[1]
    # Letters beyond ASCII and floats ccxt writes in a way of its own, and its errors are its own, too.
    message = exchange.prepare_message(header, payload)
    return b58encode(signer.keypair.sign_message(message.encode()))


def _sign_plain(header: Any, payload: Any, signer: Signer, prepared: int) -> tuple[str, str] | None:
    """Message and signature; None for what is no plain data."""
    if type(header) is not dict or header.keys() != _HEADER or None in header.values():
        return None
    if type(payload) is not dict or not is_plain(payload) or not is_plain(header):
        return None
    if not prepared:
        return sdk.sign_message(header, payload, signer.keypair)
    try:
        window = header["expiry_window"]
        return signer.sign(header["type"], payload, timestamp=header["timestamp"], expiry_window=window)[:2]
    except InvalidRequest:
        return None


def _checked_sign_message(exchange: Any) -> Any:
    """The ``sign_message`` of an exchange's class, if we know it and can take its place."""
    kind = type(exchange)
    if getattr(exchange, "id", None) != "pacifica" or not any(
        base.__module__ in _MODULES for base in kind.__mro__
    ):
        _refuse(f"expected a pacifica of ccxt, got {kind.__module__}.{kind.__name__}")
    for name in ("sign_message", "signMessage", *_reached(kind, "sign_message")):
        if name in vars(exchange):
            _refuse(f"this object signs in a way of its own ({name})")
    for name in ("post_action_request", *_reached(kind, "sign_message")):
        if not _is_ccxts(getattr(kind, name, None)):
            _refuse(f"{kind.__name__}.{name} is not ccxt's")
    sign_message, request = kind.sign_message, kind.post_action_request
    if list(inspect.signature(sign_message).parameters) != _PARAMETERS:
        _refuse("sign_message takes other arguments")
    if not {"sign_message", "privateKey"} <= set(request.__code__.co_names):
        _refuse("post_action_request signs without sign_message")
    try:
        theirs = sign_message(exchange, TRIAL_HEADER, TRIAL_PAYLOAD, TRIAL_KEY)
    except Exception as error:
        _refuse(f"its sign_message fails ({type(error).__name__})", error)
    with trial_keypair() as keypair:
        if theirs != sdk.sign_message(TRIAL_HEADER, TRIAL_PAYLOAD, keypair)[1]:
            _refuse("it signs something else")
    return sign_message


def _reached(kind: type, name: str) -> dict[str, None]:
    """A method of ``pacifica``, and what it calls of its class, and so on: none of it will be asked again.

    Whoever refuses withdrawals in ``prepare_message``, say, must not find that it does so no longer.
    """
    out: dict[str, None] = {}
    names = [name]
    while names:
        name = names.pop()
        function: Any = getattr(kind, name, None)
        if name not in out and callable(function):
            out[name] = None
            if getattr(function, "__module__", None) in _MODULES:
                names += function.__code__.co_names
    return out


def _is_ccxts(function: Any) -> bool:
    """Whether ccxt itself made it: a wrapper of somebody else's may say that it is of this module."""
    return (
        inspect.isfunction(function)
        and function.__module__.partition(".")[0] == "ccxt"
        and is_of_its_module(function)
    )


def _refuse(reason: str, cause: Exception | None = None) -> NoReturn:
    version = getattr(sys.modules.get("ccxt"), "__version__", "?")
    raise Unsupported(f"ccxt {version}: {reason}") from cause
