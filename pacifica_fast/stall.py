# SPDX-License-Identifier: MIT
"""After this process stood still, what came meanwhile is read before anybody's time is declared over.

A garbage collection, a blocking call in the event loop, a busy machine, a suspended laptop: when it goes on,
deadlines have passed whose replies wait in the socket, and links look dead whose pongs do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pacifica_fast.tcp import RECEIVE_SIZE

__all__ = ["Reading", "Stall"]

STOOD_STILL = 0.1  # s behind time
CATCH_UP = 0.5  # s of reading after that, at most
QUIET = 0.02  # s in which little comes: what waited on the other side of a full window has come too
LITTLE = 4096  # bytes in one read
AGAIN = 8  # times it may stand still in one such spell
KEEP_UP = 0.02  # s, without having stood still: who is flooded must not put everything off


class Reading(Protocol):
    """A link, of which it is asked what the largest read brought (bytes) since it was last asked."""

    received: int


class Stall:
    """Asked before each look at the clock whether that has to wait for another round of reading."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._quiet_at: float | None = None
        """While catching up after a stall: when that has been enough."""
        self._again = AGAIN

    def goes_on(self, now: float, due: float, links: Iterable[Reading]) -> bool:
        """True if what was to be done at ``due`` is better put off until every link was read once more."""
        received = 0
        for link in links:
            received = max(received, link.received)
            link.received = 0
        if now - due > STOOD_STILL and self._again:
            self._again -= 1
            self._until, self._quiet_at = now + CATCH_UP, now + QUIET
        elif self._until is None:
            if received >= RECEIVE_SIZE:
                self._until = now + KEEP_UP
        elif self._quiet_at is not None and received >= LITTLE:
            self._quiet_at = now + QUIET
        if self._until is None or now >= self._until or not self._more(now, received):
            self._until = self._quiet_at = None
            self._again = AGAIN
        return self._until is not None

    def _more(self, now: float, received: int) -> bool:
        return received >= RECEIVE_SIZE if self._quiet_at is None else now < self._quiet_at
