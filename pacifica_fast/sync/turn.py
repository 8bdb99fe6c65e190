# SPDX-License-Identifier: MIT
"""Turns: what the senders and the reader of a blocking client do, they do one at a time.

OpenSSL forbids two calls on one connection at once, records must reach the socket in the
order in which they were encrypted, and the session is nobody's lock. Nobody waits for
anything while it is his turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic, sleep

from pacifica_fast.errors import NotSent

__all__ = ["Turn"]

_A_MOMENT = 2e-5  # s; the kernel makes it about 70 µs, and nobody's turn is much longer
_COURTESY = 1e-3  # s; that the reader waits at most for a sender to take its turn


class Turn:
    """The turn of one client's threads: ``with turn():``.

    It is the one element of the list :attr:`free`. Deleting it takes the turn, in one
    step; an empty list says that somebody has it. A ``threading.Lock`` is the same, and costs
    4 µs more where it counts: in a bot that sends once in a while, whose caches are cold.
    """

    __slots__ = ("free", "owner", "wanted")

    def __init__(self) -> None:
        self.free: list[None] = [None]
        self.owner: int = 0
        """The thread whose turn it is, as ``threading.get_ident`` has it, or 0."""
        self.wanted: bool = False
        """Set by a sender that has to wait: the reader stands back."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        free, me = self.free, get_ident()
        while True:
            try:
                del free[0]
                break
            except IndexError:
                self.wait(me)
        try:
            self.owner = me
            self.wanted = False
            yield
        finally:
            self.owner = 0
            free.append(None)

    def wait(self, me: int) -> None:
        """Wait a little; it is for the caller to look at :attr:`free` again.

        Raises :class:`NotSent` if the turn is this very thread's: a signal handler may come in
        the middle of sending, a logging handler in the middle of receiving, and either would
        wait for itself, for ever.
        """
        if self.owner == me:
            raise NotSent("this thread is in the middle of another call (is this a signal handler?)")
        self.wanted = True
        sleep(_A_MOMENT)

    def stand_back(self) -> None:
        """Before the reader's turn: senders who wait for theirs go first.

        Beside busy threads a moment is the switch interval, so it is the time that is bounded.
        """
        until = monotonic() + _COURTESY
        while self.wanted and monotonic() < until:
            sleep(_A_MOMENT)

    def abandon(self) -> None:
        """In a forked child: it may be the turn of a thread that does not exist here."""
        self.free = [None]
        self.owner = 0
