# SPDX-License-Identifier: MIT
"""The protocol without I/O: requests in flight, their fates, and the heartbeat.

A driver gives the session its clock (monotonic seconds), the texts that arrive, and the
news that the connection is gone; it gets back requests to register and texts to send.
Whatever happens, every request that was sent ends exactly once.

Reconnecting, the exchange's clock and the credits will live here too: what they need from
the wire passes through :meth:`Session.receive` and :meth:`Session.tick`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import orjson

from pacifica_fast import ids
from pacifica_fast.errors import OutcomeUnknown
from pacifica_fast.replies import Ack, error_text, is_about_signature, read_reply

__all__ = ["PING", "Pending", "Session"]

logger = logging.getLogger("pacifica_fast.session")

PING = b'{"method":"ping"}'
"""Keeps the connection open: the exchange closes it after 60 s without a message sent."""

_RING_SIZE = 32
_SHOWN = 200  # bytes of a strange message that go to the log


class Pending:
    """A request that was sent, and in time its outcome. Made by a session, ahead of time.

    ``id`` is the request id, ``operation`` what was asked for, ``sent_at`` and
    ``settled_at`` are seconds of the driver's monotonic clock.
    """

    __slots__ = ("_outcome", "actions", "id", "number", "operation", "renew", "sent_at", "settled_at")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ids.text_of(number)
        self.renew: Callable[[Any], bool] | None = None
        """What a driver does, once, if the exchange will not have a signature made ahead of time:
        sign afresh, send under another id, and say whether that was possible."""
        self.operation = "cancel_order"
        self.actions = 0
        self.sent_at = 0.0
        self.settled_at = 0.0
        self._outcome: Ack | Exception | None = None

    @property
    def done(self) -> bool:
        """True once the outcome is known, or known to stay unknown."""
        return self._outcome is not None

    def outcome(self) -> Any:
        """The acknowledgement; raises the error it ended with instead. Only when done."""
        if self._outcome is None:
            raise RuntimeError(f"{self.operation} {self.id} has not ended yet")
        if isinstance(self._outcome, Exception):
            raise self._outcome.with_traceback(None)
        return self._outcome

    def _settle(self, outcome: Ack | Exception, now: float) -> None:
        """Take the outcome; drivers add whatever wakes those who wait."""
        self._outcome = outcome
        self.settled_at = now

    def __repr__(self) -> str:
        state = "in flight" if self._outcome is None else type(self._outcome).__name__
        return f"<Pending {self.operation} {self.id} {state}>"


P = TypeVar("P", bound=Pending)


class Session(Generic[P]):
    """The requests of one connection.

    ``make_pending`` makes a driver's kind of :class:`Pending` for a request number.
    ``timeout`` and ``heartbeat`` are in seconds: how long a reply may take, and how long
    the session lets the line be silent before it wants to ping.

    Sending is in three steps, so that little but the write lies between the decision and
    the wire: :meth:`take` (a request made beforehand; build its text with its number), write,
    :meth:`sent`, or the same by hand: set ``sent_at``, append to :attr:`just_sent`. No message may
    be received in between. More requests are made when replies arrive and as time passes.
    :meth:`take` and :meth:`refill` are safe from any thread; everything else is the driver's to
    serialise.
    """

    def __init__(
        self, make_pending: Callable[[int], P], *, timeout: float, heartbeat: float, now: float
    ) -> None:
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.last_sent = now
        self._make_pending = make_pending
        self._numbers: Iterator[int] = iter(())
        self._ring: deque[P] = deque()
        self.just_sent: deque[P] = deque()
        """What was sent and is not registered yet: that can wait until something happens."""
        # By request id, in the order in which they were sent.
        self._in_flight: dict[str, P] = {}
        # An error without id may explain a request that gets no reply.
        self._stray_error = ""
        self._stray_error_at = 0.0
        self.refill()

    # Sending.

    def take(self) -> P:
        """A request for the caller alone. If it comes to nothing, its id is never used."""
        try:
            return self._ring.popleft()
        except IndexError:
            return self._make_pending(self._number())

    def sent(self, pending: P, operation: str, now: float, actions: int = 0) -> None:
        """``pending`` was written."""
        pending.operation = operation
        pending.actions = actions
        pending.sent_at = now
        self.just_sent.append(pending)

    def sent_many(self, pendings: Iterable[P], operation: str, now: float) -> None:
        """All of them were written, in one piece."""
        for pending in pendings:
            self.sent(pending, operation, now)

    def refill(self) -> None:
        """Make requests ahead, so that :meth:`take` need not."""
        while len(self._ring) < _RING_SIZE:
            self._ring.append(self._make_pending(self._number()))

    def _number(self) -> int:
        """A request number for nobody else: taking the next of an iterator is one step."""
        number = next(self._numbers, None)
        while number is None:
            self._numbers = iter(ids.reserve(_RING_SIZE * 8))
            number = next(self._numbers, None)
        return number

    def _register(self) -> None:
        just_sent = self.just_sent
        while just_sent:
            pending = just_sent.popleft()
            self.last_sent = pending.sent_at
            self._in_flight[pending.id] = pending

    def settle(self, pending: P, outcome: Ack | Exception, now: float) -> bool:
        """End a request that was sent; False if it had ended before."""
        self._register()
        if self._in_flight.pop(pending.id, None) is None:
            return False
        pending._settle(outcome, now)
        return True

    # Receiving.

    def receive(self, text: bytes, now: float) -> dict[str, Any] | None:
        """Take a message of the exchange; returned if it is for a channel and not a reply."""
        self._register()
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            logger.warning("message is not JSON: %r", text[:_SHOWN])
            return None
        if type(message) is not dict:
            logger.warning("message is no object: %r", text[:_SHOWN])
            return None
        if "id" in message or "code" in message:
            self._reply(message, text, now)
            return None
        return message if message.get("channel") != "pong" else None

    def _reply(self, reply: dict[str, Any], text: bytes, now: float) -> None:
        request_id = reply.get("id")
        pending = self._in_flight.get(request_id) if type(request_id) is str else None
        if pending is None:
            if request_id is None:
                self._stray_error = f"{reply.get('code')}: {error_text(reply)}"
                self._stray_error_at = now
                logger.warning("reply without an id, given to no request: %r", text[:_SHOWN])
            else:
                logger.warning("reply to no request in flight: %r", text[:_SHOWN])
        else:
            outcome = read_reply(reply, pending.id, pending.operation, pending.actions)
            if not self._renewed(pending, outcome):
                self.settle(pending, outcome, now)
            self.refill()

    def _renewed(self, pending: P, outcome: Ack | Exception) -> bool:
        renew, pending.renew = pending.renew, None
        if renew is None or not is_about_signature(outcome):
            return False
        logger.warning("a cancel signed ahead of time was refused (%s): signing it afresh", outcome)
        try:
            return renew(pending)
        finally:  # whatever happened, it has not ended, and is somebody's
            self._in_flight.setdefault(pending.id, pending)

    def renumber(self, pending: P) -> None:
        """Give a request another id, for it to be sent again."""
        self._register()
        self._in_flight.pop(pending.id, None)
        fresh = self.take()
        pending.number, pending.id = fresh.number, fresh.id

    # Time, and the end.

    def tick(self, now: float) -> bytes | None:
        """End what has waited too long; return the ping if one is due. Call it often enough."""
        self._register()
        self._expire(now)
        self.refill()
        if now - self.last_sent >= self.heartbeat:
            self.last_sent = now
            return PING
        return None

    def _expire(self, now: float) -> None:
        expired = []
        for pending in self._in_flight.values():
            if now - pending.sent_at < self.timeout:
                break
            expired.append(pending)
        for pending in expired:
            reason = f"no reply within {self.timeout:g} s"
            if self._stray_error_at >= pending.sent_at and self._stray_error:
                reason += f" (the exchange sent an error without id meanwhile: {self._stray_error})"
            self.settle(pending, OutcomeUnknown(reason, pending.id), now)

    def lost(self, reason: str, now: float) -> None:
        """The connection is gone: the outcome of everything in flight is unknown."""
        for pending in self.in_flight():
            self.settle(pending, OutcomeUnknown(reason, pending.id), now)

    def in_flight(self) -> list[P]:
        """The requests that were sent and have not ended, oldest first."""
        self._register()
        return list(self._in_flight.values())

    @property
    def in_flight_count(self) -> int:
        """How many those are; from any thread."""
        return len(self._in_flight) + len(self.just_sent)
