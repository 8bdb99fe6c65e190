# SPDX-License-Identifier: MIT
"""What the mock exchange demands of a request before anything is done with it.

Three steps: strict JSON, fields of the documented types, a valid signature. Each
failure is one row of :class:`Condition`. No state, no I/O.

The signed message is rebuilt by :mod:`pacifica_fast.reference` from what arrived,
and the signature checked by libsodium through PyNaCl's public API. Nothing here may
import the signer, the keys or the C core: agreement must not come from shared code.

Sources are cited by the tags of the protocol notes: [K] is the exchange's own
documentation as of December 2025, [D-new] as of 2026; [CCXT], [HB] and [BC] are what
those clients have seen on the wire; INFERRED is our reading, documented nowhere.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, NoReturn

import nacl.bindings
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from pacifica_fast.reference import b58decode, prepare_message

__all__ = [
    "ACTIONS",
    "BATCH_MAX",
    "Condition",
    "Fields",
    "Refusal",
    "check_actions",
    "check_fields",
    "check_public_key",
    "parse_json",
    "read_id",
    "read_operation",
    "verify",
]

Fields = Mapping[str, Any]  # the fields of one operation, as they arrived

BATCH_MAX: Final = 10  # actions; [K], and ccxt's batchOrdersMax
EXPIRY_WINDOW_DEFAULT: Final = 30_000  # ms; [K], [D-new]
U64_MAX: Final = 2**64 - 1


class Refusal(Exception):
    """A request, or one action of a batch, gets this ``code`` and ``text`` instead of its result."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Condition(Enum):
    """What can be wrong: code and text of the answer, and where that answer is known from.

    Codes by their documented names [K]: 400 INVALID_REQUEST, 401 INVALID_SIGNATURE,
    402 INVALID_SIGNER, 403 UNAUTHORIZED_REQUEST, 420 ENGINE_ERROR, 429
    RATE_LIMIT_EXCEEDED, 500 UNKNOWN_ERROR. The texts of 400 are ours, and say after a
    colon what is wrong where.
    """

    # Not a request at all: no id to answer to.
    NOT_JSON = 400, "Invalid request", "INFERRED: binary, not JSON, or JSON that readers disagree about"
    TOO_LARGE = 400, "Invalid request", "INFERRED from the 4 KB of the Rust SDK's notes; off by default"
    BAD_ID = 400, "Invalid request", "'Full UUID string, required' [K]; what its absence does INFERRED"
    UNKNOWN_METHOD = 400, "Invalid request", "INFERRED: a method other than those for subscriptions and pings"
    # A request of the wrong form.
    BAD_PARAMS = 400, "Invalid request", "INFERRED: no params, or not exactly one operation in it"
    UNKNOWN_OPERATION = 400, "Invalid request", "INFERRED; [D-new] documents six websocket operations"
    BAD_FIELD = 400, "Invalid request", "INFERRED: missing, of the wrong type, or unheard of"
    BAD_BATCH = 400, "Invalid batch operation parameters", "[K] batch-order: over 10 actions, or malformed"
    UNKNOWN_SYMBOL = 400, "Invalid request", "INFERRED; REST has BOOK_NOT_FOUND for it. [K]: case-sensitive"
    # Who signed, and what.
    BAD_PUBLIC_KEY = 402, "Invalid public key", "[K] error-handling: account not a valid Ed25519 key"
    BAD_SIGNATURE = 401, "Invalid signature", "[K] error-handling: not base58, or not 64 bytes"
    EXPIRED = 401, "Invalid message", "[K] error-handling: timestamp + expiry_window < now; the code INFERRED"
    IN_THE_FUTURE = 401, "Invalid message", "INFERRED: no rule is documented; see future_tolerance"
    NOT_VERIFIED = 401, "Verification failed", "[K] error-handling: wrong key, or content altered"
    UNKNOWN_ACCOUNT = (
        403,
        "Beta access required. Signer must redeem a valid beta code.",
        "[CCXT]; with accounts= only",
    )
    NOT_AN_AGENT = 403, "Agent not authorized for account", "text [CCXT], with REST's 400; code INFERRED"
    UNKNOWN_BUILDER = 403, "Builder code not approved", "403 [HB] #8355; text INFERRED"
    # The engine. One text for every reason is what clients have seen.
    CANCEL_FAILED = 420, "Failed to cancel order", "[CCXT]: unknown, filled or already cancelled"
    EDIT_FAILED = 420, "Failed to edit order", "INFERRED from the text for cancels"
    DUPLICATE_CLIENT_ORDER_ID = 420, "Failed to create order", "REST has code 36; here INFERRED"
    RATE_LIMITED = 429, "Rate limit exceeded", "code [K]; text INFERRED"
    OFF_THE_GRID = 500, "Internal server error", "[K] tick-and-lot-size: not a multiple of tick or lot"
    BROKEN = 500, "Unknown error", "code [K]: a bug of the mock exchange, also in its log"

    def __init__(self, code: int, text: str, source: str) -> None:
        self.code = code
        self.text = text
        self.source = source

    def refusal(self, detail: str = "") -> Refusal:
        """Return the answer to raise; ``detail`` never quotes what the client sent."""
        return Refusal(self.code, f"{self.text}: {detail}" if detail else self.text)


# --------------------------------------------------------------------------- fields


class Kind(NamedTuple):
    """A type of field: its name for humans, and whether a parsed JSON value is of it."""

    name: str
    accepts: Callable[[Any], bool]
    required: bool = True

    def optional(self) -> Kind:
        """The same, but the field may be absent or null ([K]'s example sends agent_wallet: null)."""
        return self._replace(required=False)


_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,19})(\.[0-9]{1,19})?")


def _is_integer(value: Any) -> bool:
    return type(value) is int and 0 <= value <= U64_MAX  # a bool is not an int


def _is_positive(value: Any) -> bool:
    return _is_integer(value) and value > 0


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and _DECIMAL.fullmatch(value) is not None and value.strip("0.") != ""


def _is_trigger(value: Any) -> bool:
    """A take-profit or stop-loss: checked, signed over, and not acted upon."""
    return isinstance(value, dict) and _complaint(value, _TRIGGER) == ""


_STRING: Final = Kind("a string", lambda value: isinstance(value, str))
_FLAG: Final = Kind("a boolean", lambda value: isinstance(value, bool))
_INTEGER: Final = Kind("an integer from 0 to 2**64 - 1", _is_integer)
_POSITIVE: Final = Kind("a positive integer below 2**64", _is_positive)
_CLOID: Final = Kind("a hyphenated lower-case UUID string", _is_uuid)
_AMOUNT: Final = Kind("a positive decimal string", _is_decimal)
_SIDE: Final = Kind("bid or ask", lambda value: value in ("bid", "ask"))
_TIF: Final = Kind("GTC, IOC, ALO or TOB", lambda value: value in ("GTC", "IOC", "ALO", "TOB"))

_TRIGGER: Final = {
    "stop_price": _AMOUNT,
    "limit_price": _AMOUNT.optional(),
    "client_order_id": _CLOID.optional(),
    "trigger_price_type": _STRING.optional(),
}
_ENTRY: Final = {
    "symbol": _STRING,
    "amount": _AMOUNT,
    "side": _SIDE,
    "reduce_only": _FLAG,
    "client_order_id": _CLOID.optional(),
    "take_profit": Kind("an object with stop_price", _is_trigger, required=False),
    "stop_loss": Kind("an object with stop_price", _is_trigger, required=False),
    "builder_code": _STRING.optional(),
}
_WHICH: Final = {
    "symbol": _STRING,
    "order_id": _INTEGER.optional(),
    "client_order_id": _CLOID.optional(),
}
_SIGNED_BY: Final = {
    "account": _STRING,
    "agent_wallet": _STRING.optional(),
    "signature": _STRING,  # the object form, for hardware wallets, is no bot's
    "timestamp": _POSITIVE,
    "expiry_window": _POSITIVE.optional(),
}

OPERATIONS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "create_order": {**_SIGNED_BY, **_ENTRY, "price": _AMOUNT, "tif": _TIF},
    "create_market_order": {**_SIGNED_BY, **_ENTRY, "slippage_percent": _AMOUNT},
    "edit_order": {**_SIGNED_BY, **_WHICH, "price": _AMOUNT, "amount": _AMOUNT},
    "cancel_order": {**_SIGNED_BY, **_WHICH},
    "cancel_all_orders": {
        **_SIGNED_BY,
        "all_symbols": _FLAG,
        "exclude_reduce_only": _FLAG,
        "symbol": _STRING.optional(),
    },
}
ACTIONS: Final[Mapping[str, str]] = {  # of a batch, and what each is signed as
    "Create": "create_order",
    "CreateMarket": "create_market_order",
    "Edit": "edit_order",
    "Cancel": "cancel_order",
}


# --------------------------------------------------------------------------- from text to fields


def parse_json(data: str | bytes) -> Any:
    """Return what a message says, if every JSON reader would agree on it.

    Refused besides invalid JSON: binary messages, duplicate keys, ``NaN`` and
    ``Infinity``, integers of more digits than Python converts, nesting past its limit.
    """
    if not isinstance(data, str):
        raise Condition.NOT_JSON.refusal("not a text message")
    try:
        return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except RecursionError:
        raise Condition.NOT_JSON.refusal("nested too deeply") from None
    except ValueError:
        raise Condition.NOT_JSON.refusal("not JSON") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Condition.NOT_JSON.refusal("a key occurs twice")
    return members


def _no_constants(name: str) -> NoReturn:
    raise ValueError(name)


def read_id(message: Any) -> str:
    """Return the ``id`` of a request: a UUID of any version, in either case, with hyphens."""
    if not isinstance(message, dict):
        raise Condition.NOT_JSON.refusal("not an object")
    request_id = message.get("id")
    if not isinstance(request_id, str) or _UUID.fullmatch(request_id.lower()) is None:
        raise Condition.BAD_ID.refusal("id: expected a UUID string")
    return request_id


def read_operation(message: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the one operation of a request, and what is to be its fields."""
    params = message.get("params")
    if not isinstance(params, dict) or len(params) != 1:
        raise Condition.BAD_PARAMS.refusal("params: expected an object with one operation")
    ((operation, body),) = params.items()
    if operation != "batch_orders" and operation not in OPERATIONS:
        raise Condition.UNKNOWN_OPERATION.refusal("unknown operation")
    return operation, body


def check_actions(body: Any) -> list[tuple[str, Fields]]:
    """Return what the actions of a batch are signed as, and their fields, checked."""
    if not isinstance(body, dict) or set(body) != {"actions"} or not isinstance(body["actions"], list):
        raise Condition.BAD_BATCH.refusal("expected an array of actions and nothing else")
    actions = body["actions"]
    if not 1 <= len(actions) <= BATCH_MAX:
        raise Condition.BAD_BATCH.refusal(f"expected 1 to {BATCH_MAX} actions")
    checked = []
    for index, action in enumerate(actions):
        where = f"actions[{index}]"
        if not isinstance(action, dict) or set(action) != {"type", "data"}:
            raise Condition.BAD_BATCH.refusal(f"{where}: expected an object with type and data")
        kind = action["type"]
        if not isinstance(kind, str) or kind not in ACTIONS:
            raise Condition.BAD_BATCH.refusal(f"{where}.type: expected one of {', '.join(ACTIONS)}")
        checked.append((ACTIONS[kind], check_fields(ACTIONS[kind], action["data"], f"{where}.data.")))
    return checked


def check_fields(operation: str, body: Any, where: str = "") -> Fields:
    """Return ``body`` if it is what ``operation`` documents: every field, its type, no other field.

    ``where`` goes before field names in the refusal.
    """
    if not isinstance(body, dict):
        raise Condition.BAD_FIELD.refusal(f"{where or operation}: expected an object")
    if complaint := _complaint(body, OPERATIONS[operation]):
        raise Condition.BAD_FIELD.refusal(where + complaint)
    if "order_id" in OPERATIONS[operation]:
        if (body.get("order_id") is None) == (body.get("client_order_id") is None):
            raise Condition.BAD_FIELD.refusal(f"{where}expected either order_id or client_order_id")
    elif operation == "cancel_all_orders" and not body["all_symbols"] and body.get("symbol") is None:
        raise Condition.BAD_FIELD.refusal(f"{where}symbol: required unless all_symbols")
    return body


def _complaint(body: Mapping[str, Any], kinds: Mapping[str, Kind]) -> str:
    """What is wrong with the types of ``body``; the empty string if nothing is."""
    for name, kind in kinds.items():
        value = body.get(name)
        if value is None and not kind.required:
            continue
        if name not in body:
            return f"{name}: required"
        if not kind.accepts(value):
            return f"{name}: expected {kind.name}"
    return "" if body.keys() <= kinds.keys() else "a field that the operation does not have"


# --------------------------------------------------------------------------- signatures


@functools.lru_cache(maxsize=4096)
def check_public_key(text: str) -> bytes:
    """Return the 32 bytes of a base58 Ed25519 public key: a point of the curve's prime-order group."""
    key = _decode(text, 32)
    if key is None or not _is_point(key):
        raise Condition.BAD_PUBLIC_KEY.refusal()
    return key


def _is_point(key: bytes) -> bool:
    """True where PyNaCl's libsodium is a minimal one that cannot tell: then verification will fail."""
    if not nacl.bindings.has_crypto_core_ed25519:
        return True
    return nacl.bindings.crypto_core_ed25519_is_valid_point(key)


def _decode(text: str, size: int) -> bytes | None:
    """Base58 of exactly ``size`` bytes, 32 or 64; None for anything else."""
    if not size <= len(text) <= (size * 11 + 7) // 8:  # 44 and 88 characters at most
        return None
    try:
        data = b58decode(text)
    except ValueError:
        return None
    return data if len(data) == size else None


def verify(operation: str, fields: Fields, now: int, future_tolerance: int) -> None:
    """Refuse ``fields`` unless the account, or the agent it names, has just signed them as ``operation``.

    ``fields`` must have passed :func:`check_fields`. ``now`` is the exchange's clock, in
    Unix milliseconds; ``future_tolerance``, in milliseconds, how far ahead of it a
    timestamp may be.

    Signed is every field but those about the signature itself ([K] implementation;
    the recorded signatures of [CCXT] verify so). Where ``expiry_window`` is not sent,
    its default stands in the message: INFERRED, and the reason to always send it.
    """
    signer = check_public_key(fields["account"])
    if fields.get("agent_wallet") is not None:
        signer = check_public_key(fields["agent_wallet"])
    signature = _decode(fields["signature"], 64)
    if signature is None:
        raise Condition.BAD_SIGNATURE.refusal()

    timestamp = fields["timestamp"]
    window = fields.get("expiry_window")
    if window is None:
        window = EXPIRY_WINDOW_DEFAULT
    if timestamp + window < now:
        raise Condition.EXPIRED.refusal()
    if timestamp > now + future_tolerance:
        raise Condition.IN_THE_FUTURE.refusal()

    header = {"type": operation, "timestamp": timestamp, "expiry_window": window}
    payload = {name: value for name, value in fields.items() if name not in _SIGNED_BY}
    message = prepare_message(header, payload).encode()
    try:
        VerifyKey(signer).verify(message, signature)
    except BadSignatureError:
        raise Condition.NOT_VERIFIED.refusal() from None
