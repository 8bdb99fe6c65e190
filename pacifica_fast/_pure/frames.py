# SPDX-License-Identifier: MIT
"""Websocket frames, masked: see ``csrc/pf_frame.h``."""

from __future__ import annotations

import secrets
from typing import Any

from pacifica_fast._pure.memory import C, Code, coded, put, taken
from pacifica_fast._pure.requests import cancel, is_uuid, of_order, template_of

__all__ = [
    "framed",
    "pf_frame_again",
    "pf_frame_cancel_client_order_id",
    "pf_frame_cancel_order_id",
    "pf_frame_text",
]

FIN_TEXT, MASKED = 0x81, 0x80
MASK_SIZE = 4
ROOM = 8  # a header of the middle form, and the mask, in front of every request


def _masked(data: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(data) // MASK_SIZE + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")


def framed(payload: bytes) -> bytes:
    """A whole text frame, with a fresh mask."""
    size = len(payload)
    if size <= 125:
        header = bytes([FIN_TEXT, MASKED | size])
    elif size <= 0xFFFF:
        header = bytes([FIN_TEXT, MASKED | 126]) + size.to_bytes(2, "big")
    else:
        header = bytes([FIN_TEXT, MASKED | 127]) + size.to_bytes(8, "big")
    mask = secrets.token_bytes(MASK_SIZE)
    return header + mask + _masked(payload, mask)


def _put_framed(out: Any, cap: int, payload: bytes) -> int:
    frame = framed(payload)
    if cap < max(len(frame), len(payload) + ROOM):
        raise Code(C.PF_ERR_CAPACITY)
    return put(out, cap, frame)


@coded
def pf_frame_text(out: Any, cap: int, text: Any, size: int) -> int:
    return _put_framed(out, cap, taken(text, size))


def _frames(data: bytes) -> list[tuple[int, int, int]]:
    """Where each whole masked frame starts, where its payload does, and where it ends."""
    found, at = [], 0
    while at < len(data):
        first, second = data[at : at + 2].ljust(2, b"\0")
        if first != FIN_TEXT or not second & MASKED:
            raise Code(C.PF_ERR_ARGUMENT)
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        payload = at + 2 + extended + MASK_SIZE
        size = int.from_bytes(data[at + 2 : at + 2 + extended], "big") if extended else second & 0x7F
        if payload + size > len(data):
            raise Code(C.PF_ERR_ARGUMENT)
        found.append((at, payload, payload + size))
        at = payload + size
    return found


@coded
def pf_frame_again(out: Any, cap: int, frames: Any, size: int) -> int:
    data = taken(frames, size)
    again = []
    for start, payload, end in _frames(data):
        change = secrets.token_bytes(MASK_SIZE)  # of a mask by random bits is a random mask
        again += [data[start : payload - MASK_SIZE], _masked(data[payload - MASK_SIZE : payload], change)]
        again.append(_masked(data[payload:end], change))
    return put(out, cap, b"".join(again))


def _frame_cancel(blank: Any, order: str, timestamp: int, number: int) -> int:
    if blank.cap < ROOM:
        raise Code(C.PF_ERR_CAPACITY)
    return _put_framed(blank.out, blank.cap, cancel(template_of(blank.t), order, timestamp, number))


@coded
def pf_frame_cancel_order_id(blank: Any, order_id: int, timestamp: int, number: int) -> int:
    return _frame_cancel(blank, of_order(order_id, b""), timestamp, number)


@coded
def pf_frame_cancel_client_order_id(
    blank: Any, client_order_id: Any, client_len: int, timestamp: int, number: int
) -> int:
    client = taken(client_order_id, client_len)
    if not is_uuid(client):
        return int(C.PF_ERR_ARGUMENT)
    return _frame_cancel(blank, of_order(0, client), timestamp, number)
