# SPDX-License-Identifier: MIT
"""The part of a client that says how it is: what is the same for both clients."""

from __future__ import annotations

from time import monotonic
from typing import Any

from pacifica_fast.clock import ExchangeClock
from pacifica_fast.credits import Budget, CreditState
from pacifica_fast.links import Links, LinkState
from pacifica_fast.news import News
from pacifica_fast.session import FateCounts, Session
from pacifica_fast.status import Status

__all__ = ["Reporting"]


class Reporting:
    """May be asked from any thread."""

    _session: Session[Any]
    _links: Links[Any]
    _news: News
    _armed: dict[Any, Any]

    @property
    def connected(self) -> bool:
        """True while a request can be sent and will reach the kernel at once."""
        link = self._links.use
        return link is not None and link.ready

    @property
    def state(self) -> LinkState:
        """Where the connection is; with two links, where the better of them is."""
        return self._links.state

    @property
    def budget(self) -> Budget:
        """Where the credits are counted; clients of one account share it."""
        return self._session.budget

    @property
    def credits(self) -> CreditState:
        """The rate limit, as far as replies have told."""
        return self._session.budget.state(monotonic())

    @property
    def fates(self) -> FateCounts:
        """How many requests ended how."""
        return self._session.fates

    @property
    def clock(self) -> ExchangeClock:
        """How far the exchange's clock is from ours, from its replies."""
        return self._session.clock

    def status(self) -> Status:
        """All of it at once, for exporters and monitors."""
        return self._news.status(len(self._armed))
