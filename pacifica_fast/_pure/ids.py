# SPDX-License-Identifier: MIT
"""Request ids: see ``csrc/pf_random.h``. A forked child draws its own."""

from __future__ import annotations

import os
import secrets
import threading
from typing import Any

from pacifica_fast._pure.memory import C, Code, coded, put

__all__ = ["pf_id_take", "pf_id_text", "take", "text_of"]

_NUMBER_END = 1 << 48


class _Ids:
    """The random part of this process's ids, and its numbers."""

    def __init__(self) -> None:
        digits = secrets.token_hex(10)[:19]
        variant = secrets.choice("89ab")
        self.prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-"
        self.first = self.next = secrets.randbits(40) + 1  # 0 means "no number"
        self.lock = threading.Lock()


_ids = _Ids()


def _draw_anew() -> None:
    global _ids
    _ids = _Ids()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_draw_anew)


def take(count: int) -> int:
    """The first of ``count`` numbers for the caller alone."""
    with _ids.lock:
        first = _ids.next
        if not 1 <= count < _NUMBER_END - first:
            raise Code(C.PF_ERR_ARGUMENT)
        _ids.next += count
    return first


def text_of(number: int) -> str:
    """The UUID of a number that this process has taken."""
    if not _ids.first <= number < _ids.next:
        raise Code(C.PF_ERR_FORKED)
    return f"{_ids.prefix}{number:012x}"


@coded
def pf_id_take(count: int) -> int:
    return take(count)


@coded
def pf_id_text(out: Any, cap: int, number: int) -> int:
    return put(out, cap, text_of(number).encode())
