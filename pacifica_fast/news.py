# SPDX-License-Identifier: MIT
"""What a client learns beside the outcome of each request, for both drivers: late replies, the
exchange's clock, and the orders of the account it tracks.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock
from time import monotonic, time
from typing import Any

from pacifica_fast.clock import ExchangeClock
from pacifica_fast.endpoint import Endpoint
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.links import Links
from pacifica_fast.orders import OrderTracker
from pacifica_fast.replies import Ack
from pacifica_fast.session import Lane, Pending, Session
from pacifica_fast.signer import Signer
from pacifica_fast.status import ClockStatus, CreditStatus, Fates, LinkStatus, OrderStatus, Status

__all__ = ["News"]

logger: logging.Logger = logging.getLogger("pacifica_fast")


class News:
    """Told by a driver what happens, outside of its turns; ``turn`` is one, for sending."""

    def __init__(
        self,
        signer: Signer,
        endpoint: Endpoint,
        session: Session[Any],
        links: Links[Any],
        turn: Callable[[], AbstractContextManager[None]],
        on_late_reply: Callable[[Any, Ack | Exception], None] | None,
    ) -> None:
        # It has what it armed, and that has the client: it is the client that keeps it.
        self._tracker: Callable[[], OrderTracker | None] = lambda: None
        self._lock = Lock()
        self._opened = time()
        self._new: deque[OrderTracker] = deque()
        self.changed: list[Callable[[], None]] = []
        """Called whenever a tracker has news."""
        self._signer = signer
        self._session = session
        self._links = links
        self._turn = turn
        self._correct_clock = endpoint.correct_clock
        self._on_late_reply = on_late_reply
        links.on_lane.append(self._lane)

    def track(self, tracker: OrderTracker) -> OrderTracker:
        """Keep it up to date from :meth:`start` on; the one that there is already, of the same account.

        From any thread. Raises :class:`InvalidRequest` for another account: a snapshot does not say whose
        it is.
        """
        with self._lock:
            known = self._tracker()
            if known is None:
                known, self._tracker = tracker, weakref.ref(tracker)
                # What becomes of orders is known of the signer's own.
                self._session.keep_open = tracker.account == self._signer.account
                self._new.append(tracker)
        if known.account != tracker.account:
            raise InvalidRequest(f"account: this client tracks {known.account}; another needs another client")
        return known

    def start(self) -> None:
        """Subscribe for one that is new."""
        while self._new:
            tracker = self._new.popleft()
            for link in self._links.all():
                tracker.opened(link.lane, monotonic())
        self._send()

    def channel(self, lane: Lane[Any], message: dict[str, Any], now: float) -> None:
        """A message that is no reply."""
        tracker = self._tracker()
        if tracker is not None:
            tracker.message(lane, message, now)
            self._send()
            self._tell()
        else:
            logger.debug("message of channel %r", message.get("channel"))

    def replies(self) -> None:
        """Requests have ended: is there more to be said of any?"""
        session = self._session
        while session.late:
            pending, outcome = session.late.popleft()
            logger.info("a late reply to %s %s: %r", pending.operation, pending.id, outcome)
            if self._on_late_reply is not None:
                try:
                    self._on_late_reply(pending, outcome)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException:  # asyncio.CancelledError is no Exception
                    logger.exception("on_late_reply")
        while session.open:
            pending = session.open.popleft()
            if (tracker := self._tracker()) is not None:
                tracker.outcome(pending)
            self._tell()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.replies()
        if (tracker := self._tracker()) is not None:
            tracker.tick(now)
        self._send()
        if self._session.latency is not None:
            self._session.latency.drain()
        clock = self._session.clock
        clock.tick(now, time() * 1000)
        if clock.offset is not None:
            clock.check(self._signer.expiry_window, now)
            if self._correct_clock:
                self._signer.clock_correction = clock.correction(now)

    def status(self, armed: int) -> Status:
        """How the client is, with so many armed cancels. From any thread."""
        now, session, links = monotonic(), self._session, self._links
        unix = time() - now
        fates, clock, left = session.fates, session.clock, session.budget.state(now)
        states = [
            LinkStatus(str(index), str(state), unix + since)
            for index, (state, since) in enumerate(zip(links.states, links.since, strict=True))
        ]
        states += [LinkStatus(f"old {n}", "draining", unix + now) for n in range(links.leaving)]
        tracker = self._tracker()
        return Status(
            account=self._signer.account,
            opened=self._opened,
            links=tuple(states),
            in_flight=session.in_flight_count,
            fates=Fates(fates.acked, fates.rejected, fates.unknown, fates.not_sent, fates.late),
            reconnects=links.reconnects,
            credits=None
            if left.remaining is None or left.quota is None or left.refresh is None
            else CreditStatus(left.remaining, left.quota, left.refresh, left.per_cancel),
            clock=_clock_status(clock),
            latency=None if session.latency is None else session.latency.summary(),
            orders=None if tracker is None else OrderStatus(len(tracker.orders), armed),
        )

    def _lane(self, lane: Lane[Any], is_open: bool, now: float) -> None:
        tracker = self._tracker()
        if tracker is not None and is_open:
            tracker.opened(lane, now)
        elif tracker is not None:
            tracker.lost(lane)

    def _send(self) -> None:
        tracker = self._tracker()
        while tracker is not None and tracker.outbox:
            lane, text = tracker.outbox.pop(0)
            with self._turn():
                for link in self._links.all():
                    if link.lane is lane and link.ready:
                        link.say(text)

    def _tell(self) -> None:
        for listener in list(self.changed):
            listener()

    def truth_told(self, pending: Pending) -> None:
        """A tracker found out what became of an order."""
        logger.info("%s %s: the order is %s", pending.operation, pending.id, pending.settled)


def _clock_status(clock: ExchangeClock) -> ClockStatus | None:
    offset, error, round_trip = clock.offset, clock.error, clock.round_trip
    if offset is None or error is None or round_trip is None:
        return None
    return ClockStatus(offset, error, round_trip)
