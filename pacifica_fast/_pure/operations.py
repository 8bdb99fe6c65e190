# SPDX-License-Identifier: MIT
"""Any other operation, and the drop-in: see ``csrc/pf_operation.h``."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pacifica_fast import reference
from pacifica_fast._pure import keys
from pacifica_fast._pure.canonical import Trouble, bound, canonical
from pacifica_fast._pure.clock import stamp
from pacifica_fast._pure.memory import C, Code, coded, ffi, put, taken
from pacifica_fast._pure.requests import Template, envelope, template_of

__all__ = ["pf_operation_bound", "pf_request", "pf_sdk_sign_key", "pf_sdk_sign_pair", "pf_sign_data"]

AROUND = 1024  # bytes; what surrounds the payload is shorter
NAME_MAX = 64
_NAME = re.compile(rb"[a-z0-9_]+")
_FIRST = re.compile(rb"[ \t\n\r]*")


def _put_message(out: Any, cap: int, message: bytes, signature: str) -> int:
    """Both, one behind the other; their lengths as ``pf_sdk_sign_key`` returns them."""
    put(out, cap, message + signature.encode())
    return len(message) << 8 | len(signature)


@coded
def pf_sdk_sign_key(out: Any, cap: int, json: Any, size: int, key: Any) -> int:
    message = canonical(taken(json, size))
    return _put_message(out, cap, message, reference.b58encode(keys.sign(key.generation, message)))


@coded
def pf_sdk_sign_pair(out: Any, cap: int, json: Any, size: int, pair: Any) -> int:
    secret = taken(pair, keys.PAIR_SIZE)
    # The very memory, as in C: nobody else has it, not even if it is that of a Python object.
    where = ffi.from_buffer(pair) if isinstance(pair, bytes) else pair
    try:
        message = canonical(taken(json, size))
        return _put_message(out, cap, message, reference.b58encode(keys.pair_sign(secret, message)))
    finally:
        ffi.memmove(ffi.cast("char *", where), bytes(keys.PAIR_SIZE), keys.PAIR_SIZE)


def pf_operation_bound(json: Any, size: int) -> int:
    return bound(taken(json, size)) + AROUND


class _Signed(NamedTuple):
    template: Template
    name: str
    payload: bytes
    message: bytes
    signature: str
    timestamp: int


def _signed(
    t: Any, operation: Any, operation_len: int, json: Any, size: int, timestamp: int, position: Any
) -> _Signed:
    position[0] = 0
    template = template_of(t)
    timestamp = stamp(template.clock, timestamp)
    name = taken(operation, operation_len)
    if template.kind != C.PF_OPERATION or len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise Code(C.PF_ERR_ARGUMENT)
    text = taken(json, size)
    try:
        payload = canonical(text)
    except Trouble as trouble:
        position[0] = trouble.position
        raise
    if not payload.startswith(b"{"):
        position[0] = len(text) - len(text.lstrip(b" \t\n\r"))
        raise Code(C.PF_ERR_JSON_OBJECT)
    message = b'{"data":%s,"expiry_window":%d,"timestamp":%d,"type":"%s"}' % (
        payload,
        template.window,
        timestamp,
        name,
    )
    signature = reference.b58encode(keys.sign(template.key, message, template.pool))
    return _Signed(template, name.decode(), payload, message, signature, timestamp)


@coded
def pf_sign_data(
    out: Any,
    cap: int,
    t: Any,
    operation: Any,
    operation_len: int,
    json: Any,
    size: int,
    timestamp: int,
    position: Any,
) -> int:
    signed = _signed(t, operation, operation_len, json, size, timestamp, position)
    return _put_message(out, cap, signed.message, signed.signature)


@coded
def pf_request(
    out: Any,
    cap: int,
    t: Any,
    operation: Any,
    operation_len: int,
    json: Any,
    size: int,
    timestamp: int,
    number: int,
    request_id: Any,
    id_len: int,
    position: Any,
) -> int:
    signed = _signed(t, operation, operation_len, json, size, timestamp, position)
    head = f'{envelope(number, request_id, id_len)}{signed.name}":'
    head += signed.template.head(signed.signature, signed.timestamp)
    members = signed.payload[1:-1]
    return put(out, cap, head.encode() + (b"," + members if members else b"") + b"}}}")
