# SPDX-License-Identifier: MIT
"""Armed cancels: see ``csrc/pf_armed.h``. One lock for each store does here what words do there."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from pacifica_fast._pure.clock import now
from pacifica_fast._pure.frames import framed
from pacifica_fast._pure.memory import C, Code, coded, ffi, put, taken
from pacifica_fast._pure.requests import Template, cancel, is_uuid, of_order, template_of

__all__ = [
    "pf_armed_add",
    "pf_armed_close_detached",
    "pf_armed_counts",
    "pf_armed_drop",
    "pf_armed_fire",
    "pf_armed_fire_many",
    "pf_armed_keep_detached",
    "pf_armed_open",
]

PAUSE_MAX = 50  # ms


class _Moment(NamedTuple):
    """In ms."""

    monotonic: int = 0
    realtime: int = 0
    correction: int = 0


_NEVER = _Moment()


def _moment(clock: Any) -> _Moment:
    return _Moment(time.monotonic_ns() // 1_000_000, now(), clock.correction if clock else 0)


@dataclass(slots=True)
class _Entry:
    template: Template
    order: str
    number: int
    frame: bytes = b""
    signed_at: _Moment = _NEVER
    given_up: bool = False

    def sign(self) -> None:
        moment = _moment(self.template.clock)
        stamped = moment.realtime + moment.correction
        if stamped < 0:
            raise Code(C.PF_ERR_CLOCK)
        self.frame = framed(cancel(self.template, self.order, stamped, self.number))
        self.signed_at = moment

    def is_older(self, limit: int) -> bool:
        """By either clock, or the exchange's as corrected; the future is older than any limit."""
        moment = _moment(self.template.clock)
        age = moment.realtime - self.signed_at.realtime
        ages = (
            moment.monotonic - self.signed_at.monotonic,
            age,
            age + moment.correction - self.signed_at.correction,
        )
        return not all(0 <= age <= limit for age in ages)


class _Store:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: dict[int, _Entry] = {}
        self.clock: int | None = None
        self.resigned = 0
        self.closing, self.kept = threading.Event(), threading.Event()
        self.kept.set()

    @property
    def now(self) -> dict[int, _Entry]:
        """The entries at this moment. Making a list of items may run finalizers, which drop entries."""
        return self.entries.copy()

    def resign(self) -> None:
        """Sign anew what is a third of its window old."""
        for handle, entry in self.now.items():
            if self.closing.is_set():
                return
            if entry.given_up or not entry.is_older(entry.template.window // 3):
                continue
            fresh = _Entry(entry.template, entry.order, entry.number)
            try:
                fresh.sign()
            except Code:  # the key is closed: it becomes stale
                entry.given_up = True
                continue
            with self.lock:
                if handle in self.entries:  # else it was fired meanwhile
                    self.entries[handle] = fresh
                    self.resigned += 1

    def pause(self) -> float:
        """In s: less than the sixth of a window between due and stale."""
        windows = [entry.template.window for entry in self.now.values()]
        return min([PAUSE_MAX, *(max(window // 8, 1) for window in windows)]) / 1000


_stores: dict[int, _Store] = {}
_generations, _handles = count(1), count(1)

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_stores.clear)


def _store_of(store: Any) -> _Store:
    found = _stores.get(store.generation)
    if found is None:
        raise Code(C.PF_ERR_CLOSED)
    return found


def pf_armed_open(store: Any) -> int:
    store.generation = next(_generations)
    _stores[store.generation] = _Store()
    return 0


@coded
def pf_armed_add(
    store: Any, t: Any, order_id: int, client_order_id: Any, client_len: int, number: int
) -> int:
    template, client = template_of(t), taken(client_order_id, client_len)
    if not number or template.pool or (client and not is_uuid(client)):
        return int(C.PF_ERR_ARGUMENT)
    found = _store_of(store)
    clock = int(ffi.cast("uintptr_t", template.clock)) if template.clock else 0
    with found.lock:
        if found.clock not in (None, clock):
            return int(C.PF_ERR_ARGUMENT)
        found.clock = clock
    entry = _Entry(template, of_order(order_id, client), number)
    entry.sign()
    handle = next(_handles)
    with found.lock:
        if found.closing.is_set():
            return int(C.PF_ERR_CLOSED)
        found.entries[handle] = entry
    return handle


def _claim(store: _Store, handle: int) -> _Entry | None:
    """The entry, which is spent then."""
    with store.lock:
        return store.entries.pop(handle, None)


def _fire(store: _Store, handle: int) -> bytes | int:
    entry = _claim(store, handle)
    if entry is None:
        return int(C.PF_ERR_SPENT)
    return int(C.PF_ERR_STALE) if entry.is_older(entry.template.window // 2) else entry.frame


@coded
def pf_armed_fire_many(out: Any, cap: int, store: Any, handles: Any, count: int, ends: Any) -> int:
    if cap // C.PF_FRAME_MAX < count:
        return int(C.PF_ERR_CAPACITY)
    found, at = _store_of(store), 0
    for index in range(count):
        frame = _fire(found, handles[index])
        if isinstance(frame, bytes):
            at += put(out + at, cap - at, frame)
            ends[index] = at
        else:
            ends[index] = frame
    return at


def pf_armed_fire(shot: Any) -> int:
    end = ffi.new("int64_t *")
    code = pf_armed_fire_many(shot.out, shot.cap, shot.store, [shot.handle], 1, end)
    return code if code < 0 else int(end[0])


@coded
def pf_armed_drop(store: Any, handle: int) -> int:
    return 0 if _claim(_store_of(store), handle) else int(C.PF_ERR_SPENT)


@coded
def pf_armed_counts(store: Any, armed: Any, resigned: Any) -> int:
    found = _store_of(store)
    armed[0], resigned[0] = len(found.entries), found.resigned
    return 0


@coded
def pf_armed_keep_detached(store: Any) -> int:
    found = _store_of(store)
    with found.lock:
        if not found.kept.is_set():
            return int(C.PF_ERR_ARGUMENT)
        found.kept.clear()
    try:
        while not found.closing.wait(found.pause()):
            found.resign()
    finally:
        found.kept.set()
    return 0


def pf_armed_close_detached(store: Any) -> int:
    found = _stores.pop(store.generation, None)
    if found is None:
        return int(C.PF_ERR_CLOSED)
    with found.lock:
        found.closing.set()
    found.kept.wait()
    found.entries.clear()
    return 0
