# SPDX-License-Identifier: MIT
"""After this process stood still, what came meanwhile is read before anybody's time is declared over.

A garbage collection, a blocking call in the event loop, a busy machine, a suspended laptop: when it goes on,
deadlines have passed whose replies wait in the socket, and links look dead whose pongs do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Reading", "Stall"]

STOOD_STILL = 0.1  # s behind time
CATCH_UP = 0.2  # s of reading after that, at most
KEEP_UP = 0.02  # s, without that: who is flooded must not put everything off


class Reading(Protocol):
    """A link, of which it is asked whether there may be more to read; reading sets it, asking clears it."""

    behind: bool


class Stall:
    """Asked before each look at the clock whether that has to wait for another round of reading."""

    def __init__(self) -> None:
        self._until: float | None = None

    def goes_on(self, now: float, due: float, links: Iterable[Reading]) -> bool:
        """True if what was to be done at ``due`` is better put off until every link was read once more."""
        behind = False
        for link in links:
            behind |= link.behind
            link.behind = False
        if self._until is None:
            stood_still = now - due > STOOD_STILL
            if stood_still or behind:
                self._until = now + (CATCH_UP if stood_still else KEEP_UP)
                return True
        elif behind and now < self._until:
            return True
        self._until = None
        return False
