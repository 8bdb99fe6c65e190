# SPDX-License-Identifier: MIT
"""The thread that reads: replies, deadlines, heartbeats, what the socket would not take, the end.

It waits in ``poll``, takes its turn at the link for a few messages at a time, and knows no
client: one that nobody has any more is collected, and closed.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from threading import Thread, current_thread, get_ident
from time import monotonic
from typing import Any

from pacifica_fast.endpoint import CLOSE_TIMEOUT
from pacifica_fast.errors import NotSent
from pacifica_fast.session import Session
from pacifica_fast.switching import SwitchAdvice
from pacifica_fast.sync.dial import milliseconds_until
from pacifica_fast.sync.link import Ended, Link
from pacifica_fast.websocket import frame_of

__all__ = ["FORKED", "Reader"]

logger = logging.getLogger("pacifica_fast.sync")

FORKED = "this process was forked from the one that connected"

# Plain bytes that are parsed in one turn: about ten messages, 0.1 ms.
_SLICE = 2048

_running: set[Reader] = set()


class Reader:
    """Reads one link into one session, from :meth:`start` until the connection is gone.

    However it ends, every request in flight gets its fate, and the socket is closed.
    """

    def __init__(self, link: Link, session: Session[Any], tick_interval: float) -> None:
        self._link = link
        self._session = session
        # One sweeper for all deadlines. It adds at most this to a timeout.
        self._tick_interval = tick_interval
        self._advice = SwitchAdvice()
        self._stopping = False
        self._pid = os.getpid()
        self._thread = Thread(target=self._run, name="pacifica_fast reader", daemon=True)

    def start(self, messages: list[bytes]) -> None:
        """``messages`` are those that came already, with the upgrade."""
        for message in messages:
            self._message(message)
        _running.add(self)
        try:
            self._thread.start()
        except BaseException:  # no thread to be had
            _running.discard(self)
            self._link.drop("the connection did not come about")
            raise

    def stop(self) -> bool:
        """Have the connection closed, and do not wait for it. May be called from anywhere.

        False in a forked child, where there is nothing to stop: the connection is the parent's.
        """
        if os.getpid() != self._pid:
            return False
        self._stopping = True
        self._link.bell.ring()
        return True

    def close(self) -> None:
        """Have the connection closed, and wait for it, unless this thread is itself in the way."""
        if self.stop() and current_thread() is not self._thread and self._link.owner != get_ident():
            self._thread.join(CLOSE_TIMEOUT + 1.0)

    def abandon(self) -> None:
        """In a forked child: what was in flight is the parent's to know."""
        self._link.abandon(FORKED)
        self._session.lost(FORKED, monotonic())

    # Inside the thread.

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._link.stand_back()
        with self._link.turn():
            yield

    def _run(self) -> None:
        try:
            self._read()
        except Ended as end:
            reason = f"tls: {end.reason}" if end.stage == "tls" else end.reason
        except Exception:
            logger.exception("a bug of the reader")
            reason = "internal error"
        with self._turn():
            reason = self._link.drop(reason)
            for pending in self._link.untouched():
                self._session.settle(pending, NotSent(reason, pending.id), monotonic())
            self._session.lost(reason, monotonic())
        _running.discard(self)

    def _read(self) -> None:
        link = self._link
        ear, sock = link.bell.ear.fileno(), link.fileno()
        poller = select.poll()
        poller.register(ear, select.POLLIN)
        next_tick, close_at = 0.0, inf
        while True:
            now = monotonic()
            if now >= next_tick:
                next_tick = now + self._tick_interval
                self._tick(now)
            if close_at == inf and (self._stopping or link.closing):
                close_at = now + CLOSE_TIMEOUT
                with self._turn():
                    link.close()
            if link.failed:
                raise Ended(link.failure, "")
            if now >= close_at:
                with self._turn():
                    raise link.end()
            poller.register(sock, link.events())
            for descriptor, event in poller.poll(milliseconds_until(min(next_tick, close_at))):
                if descriptor == ear:
                    link.bell.heard()
                    continue
                if event & select.POLLOUT:
                    with self._turn():
                        link.flush()
                if event & ~select.POLLOUT:
                    self._receive(link)
            self._session.refill()

    def _receive(self, link: Link) -> None:
        data = link.receive_bytes()
        with self._turn():
            plain = link.decrypt(data)
        for start in range(0, len(plain), _SLICE):
            with self._turn():
                messages = link.receive(plain[start : start + _SLICE])
            for message in messages:
                with self._turn():
                    self._message(message)
        if link.at_end:
            with self._turn():
                raise link.end()

    def _message(self, text: bytes) -> None:
        message = self._session.receive(text, monotonic())
        if message is not None:
            logger.debug("message of channel %r", message.get("channel"))

    def _tick(self, now: float) -> None:
        self._advice.look()
        with self._turn():
            ping = self._session.tick(now)
            if ping is not None:
                self._link.ping(frame_of(ping))


# Nobody may have called close(): at exit, connections are closed all the same, and all at once.


def _close_all() -> None:
    readers = [reader for reader in list(_running) if reader.stop()]
    for reader in readers:
        reader.close()


def _abandon_all() -> None:
    for reader in list(_running):
        reader.abandon()
    _running.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
