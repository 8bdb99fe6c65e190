# SPDX-License-Identifier: MIT
"""What the exchange answers, as values: acknowledgements, rejections, and what is neither.

Envelopes: docs.pacifica.fi, websocket trading operations and API error codes. Success is
``{"code":200,"data":{…},"id":…,"t":…,"type":…}``, an error ``{"code":…,"err":…,…}``;
both may carry ``rl``, the credits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pacifica_fast.errors import OutcomeUnknown, RateLimited, Rejected, SignatureRejected

__all__ = [
    "ENGINE_ERROR",
    "RATE_LIMIT_CODE",
    "Ack",
    "ActionResult",
    "BatchAck",
    "CancelAck",
    "CancelAllAck",
    "Credits",
    "read_credits",
    "read_reply",
]

SUCCESS = 200
_SIGNATURE_CODES = (401, 402)
ENGINE_ERROR = 420  # of a cancel: filled, cancelled, or never there
RATE_LIMIT_CODE = 429


@dataclass(frozen=True, slots=True)
class Credits:
    """The rate limit as a reply told it, in credits (the wire has ten times as much).

    ``refresh`` is in seconds.
    """

    remaining: float
    quota: float
    refresh: float


@dataclass(frozen=True, slots=True)
class Ack:
    """The exchange said yes. ``timestamp`` is its clock in ms, ``data`` its reply as it came."""

    request_id: str
    operation: str
    timestamp: int | None
    data: Any
    credits: Credits | None


@dataclass(frozen=True, slots=True)
class CancelAck(Ack):
    """An order was cancelled. The id that was not asked for may be None."""

    symbol: str | None
    order_id: int | None
    client_order_id: str | None


@dataclass(frozen=True, slots=True)
class CancelAllAck(Ack):
    """Orders were cancelled; ``cancelled_count`` may be 0, and None if the reply did not say."""

    cancelled_count: int | None


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of one action of a batch; ``error`` is set if it failed."""

    success: bool
    symbol: str | None
    order_id: int | None
    client_order_id: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class BatchAck(Ack):
    """A batch was processed: one result for each action, in their order. Not all need be successes."""

    results: tuple[ActionResult, ...]


def read_reply(reply: dict[str, Any], request_id: str, operation: str, actions: int = 0) -> Ack | Exception:
    """The outcome of a request, read from the reply that carries its id.

    ``operation`` is what was asked for, ``actions`` the number of actions of a batch.
    Nothing is invented: a reply that does not say yes or no is an :class:`OutcomeUnknown`.
    """
    code = reply.get("code")
    if type(code) is not int:
        return OutcomeUnknown("the reply has no code", request_id)
    if code != SUCCESS:
        return _rejection(code, reply, request_id)
    kind = reply.get("type")
    if kind is not None and kind != operation:
        return OutcomeUnknown(f"the reply to {operation} is of another type", request_id)
    data = reply.get("data")
    fields: dict[str, Any] = data if type(data) is dict else {}
    common = (request_id, operation, _typed(reply.get("t"), int), data, read_credits(reply))
    if operation == "cancel_order":
        return CancelAck(
            *common, _typed(fields.get("s"), str), _typed(fields.get("i"), int), _typed(fields.get("I"), str)
        )
    if operation == "cancel_all_orders":
        return CancelAllAck(*common, _typed(fields.get("cancelled_count"), int))
    if operation == "batch_orders":
        results = fields.get("results")
        if type(results) is not list or len(results) != actions:
            return OutcomeUnknown("the reply does not have one result for each action", request_id)
        if not all(type(result) is dict and type(result.get("success")) is bool for result in results):
            return OutcomeUnknown("the reply has a result that is neither success nor failure", request_id)
        return BatchAck(*common, tuple(_action_result(result) for result in results))
    return Ack(*common)


def read_credits(reply: dict[str, Any]) -> Credits | None:
    """The ``rl`` of a reply, or None: ``{"r":1200,"q":1250,"t":32}``, tenths of credits and seconds."""
    rl = reply.get("rl")
    if type(rl) is not dict:
        return None
    remaining, quota, refresh = (_number(rl.get(name)) for name in ("r", "q", "t"))
    if remaining is None or quota is None or refresh is None:
        return None
    return Credits(remaining / 10, quota / 10, refresh)


def error_text(reply: dict[str, Any]) -> str:
    """The exchange's words: ``err`` on the websocket, ``error`` over REST."""
    for field in ("err", "error"):
        text = reply.get(field)
        if type(text) is str:
            return text
    return "no reason given"


def is_about_signature(outcome: Ack | Exception) -> bool:
    """True if the exchange refused the signature or its time, and so did nothing.

    An expired message is "Invalid message" (docs.pacifica.fi, signing, error handling); with
    which code is not documented.
    """
    if not isinstance(outcome, Rejected):
        return False
    text = outcome.message.lower()
    return isinstance(outcome, SignatureRejected) or "invalid message" in text or "expired" in text


def _rejection(code: int, reply: dict[str, Any], request_id: str) -> Rejected:
    message = error_text(reply)
    if code in _SIGNATURE_CODES:
        return SignatureRejected(code, message, request_id)
    if code == RATE_LIMIT_CODE:
        limit = read_credits(reply)
        return RateLimited(code, message, request_id, limit.refresh if limit else None)
    return Rejected(code, message, request_id)


def _action_result(result: dict[str, Any]) -> ActionResult:
    return ActionResult(
        result["success"],
        _typed(result.get("symbol"), str),
        _typed(result.get("order_id"), int),
        _typed(result.get("client_order_id"), str),
        None if result["success"] else error_text(result),
    )


def _typed(value: Any, kind: type) -> Any:
    return value if type(value) is kind else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:  # the standard library's JSON has integers of any size
        return None
