# SPDX-License-Identifier: MIT
"""The protocol without I/O: requests, on one connection or several, and their fates.

A driver gives the session its clock (monotonic seconds), the texts that arrive, and the
news that a connection is gone; it gets back requests to send and pings to make. Whatever
happens, every request that was sent ends exactly once, at the latest when its time is up.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from math import inf
from time import time
from typing import Any, Generic, TypeVar

from pacifica_fast import _json, ids
from pacifica_fast.clock import ExchangeClock
from pacifica_fast.credits import Budget, cost_of, is_cancel
from pacifica_fast.errors import NotSent, OutcomeUnknown, Rejected
from pacifica_fast.latency import Latency
from pacifica_fast.logs import shown
from pacifica_fast.replies import (
    ENGINE_ERROR,
    RATE_LIMIT_CODE,
    Ack,
    CancelAck,
    error_text,
    is_about_signature,
    read_credits,
    read_reply,
)

__all__ = ["CLOSED", "PARTLY_SENT", "PING", "FateCounts", "Lane", "Pending", "Session", "Truth"]

logger: logging.Logger = logging.getLogger("pacifica_fast.session")

PING = b'{"method":"ping"}'
"""Keeps a connection open: the exchange closes it after 60 s without a message sent."""

CLOSED = "the client was closed"
PARTLY_SENT = "the kernel took only a part of what was sent together"

_RING_SIZE = 32
_SAMPLE_EVERY = 0.01  # s; of the exchange's clock: often enough to meet a quick reply
# Requests that have ended, whose further replies are still known for theirs: so many, for so many s.
_UNKNOWN_KEPT = 4096
_ANSWERED_KEPT = 1024
_KEPT_FOR = 60.0


class Truth(StrEnum):
    """What became of an order that was to be cancelled.

    ``OPEN`` is as of the last snapshot: the order may yet end. ``GONE``: it does not rest any more,
    and ended while no update arrived. ``NEVER_EXISTED``: no update and no snapshot since tracking
    began had it. The last two are inferred: if the order turns up after all, it is ``OPEN``.
    """

    CANCELLED = "cancelled"
    FILLED = "filled"
    OPEN = "still open"
    GONE = "gone"
    NEVER_EXISTED = "never existed"


class Pending:
    """A request that was sent, and in time its outcome. Made by a session, ahead of time.

    ``id`` is the request id, ``operation`` what was asked for, ``sent_at`` and
    ``settled_at`` are seconds of the driver's monotonic clock.
    """

    __slots__ = (
        "_booked",
        "_cost",
        "_held",
        "_lanes",
        "_outcome",
        "_since",
        "_truth",
        "actions",
        "began",
        "built",
        "id",
        "number",
        "operation",
        "order",
        "renew",
        "sent_at",
        "settled_at",
    )

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.id: str = ids.text_of(number)
        self.renew: Callable[[Any], bool] | None = None
        """What a driver does, once, if the exchange will not have a signature made ahead of time:
        sign afresh, send under another id, and say whether that was possible."""
        self.operation: str = "cancel_order"
        self.order: int | str | None = None
        """The order id or client order id, of a cancel of one order."""
        self.actions: int = 0
        self.began: float = 0.0
        """When it was decided, and built: kept if somebody asked for latencies, else 0."""
        self.built: float = 0.0
        self.sent_at: float = 0.0
        self.settled_at: float = 0.0
        self._outcome: Ack | Exception | None = None
        # The session's: when its time began, the lanes (bits) that may still bring a reply, and
        # the best of what the others brought.
        self._since = inf
        self._lanes = 0
        self._cost = self._booked = 0.0
        self._held: Exception | None = None
        self._truth: Truth | None = None

    @property
    def settled(self) -> Truth | None:
        """What is known of the order itself, acknowledged or not; None as long as nothing is.

        After :class:`OutcomeUnknown` or a code 420 a tracker finds it out (``client.track``).
        """
        return Truth.CANCELLED if isinstance(self._outcome, CancelAck) else self._truth

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


class Lane(Generic[P]):
    """One connection as the session sees it: what was sent on it, and whether it still answers.

    ``heartbeat`` and ``pong_timeout`` are in seconds: how long a lane may go without a message of
    ours, and without one of the exchange after it was asked for something.
    """

    __slots__ = (
        "_asked_at",
        "_pinged_at",
        "_session",
        "bit",
        "heartbeat",
        "just_sent",
        "last_sent",
        "pong_timeout",
    )

    def __init__(
        self, session: Session[P], bit: int, heartbeat: float, pong_timeout: float, now: float
    ) -> None:
        self._session = session
        self.bit: int = bit
        self.heartbeat: float = heartbeat
        self.pong_timeout: float = pong_timeout
        self.just_sent: deque[P] = deque()
        """What was sent and is not registered yet: that can wait until something happens."""
        self.last_sent: float = now
        self._asked_at = inf
        self._pinged_at = inf

    def sent(self, pending: P, now: float) -> None:
        """``pending`` was written to this connection."""
        pending.sent_at = now
        self.just_sent.append(pending)

    def unsent(self, pendings: Iterable[P], reason: str, now: float) -> None:
        """These were counted as sent, and provably never left."""
        self._session.unsent(self, pendings, reason, now)

    def asked(self, at: float) -> None:
        """Something that has an answer was sent."""
        self.last_sent = max(self.last_sent, at)
        self._asked_at = min(self._asked_at, at)

    def pinged(self, now: float) -> None:
        """A ping was sent."""
        self.asked(now)
        self._pinged_at = min(self._pinged_at, now)

    def heard(self) -> None:
        """The exchange said something: it is there."""
        self._asked_at = self._pinged_at = inf

    def wants_ping(self, now: float) -> bool:
        """True after a silence of ours, and when the exchange owes an answer: does it still live?"""
        overdue = now - self._asked_at >= self.pong_timeout and self._pinged_at == inf
        return overdue or now - self.last_sent >= self.heartbeat

    def is_dead(self, now: float) -> bool:
        """True if not even a ping was answered in time."""
        return now - self._pinged_at >= self.pong_timeout


@dataclass(slots=True)
class FateCounts:
    """How many requests ended how. ``late``: replies that came after :class:`OutcomeUnknown`."""

    acked: int = 0
    rejected: int = 0
    unknown: int = 0
    not_sent: int = 0
    late: int = 0

    def count(self, outcome: Ack | Exception) -> None:
        """One more."""
        if isinstance(outcome, Ack):
            self.acked += 1
        elif isinstance(outcome, Rejected):
            self.rejected += 1
        elif isinstance(outcome, NotSent):
            self.not_sent += 1
        else:
            self.unknown += 1


class _Remembered(Generic[P]):
    """The last of those that ended, by id; so many and no more, and for so long and no longer."""

    __slots__ = ("_by_id", "_most", "_order")

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_id: dict[str, P] = {}
        self._order: deque[tuple[float, str]] = deque()

    def add(self, pending: P, now: float) -> None:
        if len(self._order) >= self._most:
            self._by_id.pop(self._order.popleft()[1], None)
        self.forget(now)
        self._order.append((now, pending.id))
        self._by_id[pending.id] = pending

    def forget(self, now: float) -> None:
        """Those whose time is over."""
        order = self._order
        while order and now - order[0][0] > _KEPT_FOR:
            self._by_id.pop(order.popleft()[1], None)

    def get(self, request_id: str) -> P | None:
        return self._by_id.get(request_id)


@dataclass(slots=True)
class _Parked(Generic[P]):
    """A cancel that waits for a connection, and how to sign it then."""

    pending: P
    frame_of: Callable[[int], bytes]
    deadline: float
    reason: str


def _worth(outcome: Exception) -> int:
    """Of what the lanes brought a request is told the most that is certain.

    A refusal is about its own copy: another that was lost may have been carried out. But that there is no
    such order to cancel is true of it whichever copy was told so.
    """
    if isinstance(outcome, Rejected):
        return 3 if outcome.code == ENGINE_ERROR else 1
    return 2 if isinstance(outcome, OutcomeUnknown) else 0  # NotSent


def _better(one: Exception | None, other: Exception) -> Exception:
    return other if one is None else max(one, other, key=_worth)


class Session(Generic[P]):
    """The requests of one client, on however many lanes.

    ``make_pending`` makes a driver's kind of :class:`Pending` for a request number;
    ``timeout`` is how long a reply may take, in s.

    Sending is in three steps, so that little but the write lies between the decision and
    the wire: :meth:`take` (a request made beforehand; build its text with its number), write,
    :meth:`Lane.sent` for each lane that it was written to, or the same by hand. No message may
    be received in between. More requests are made when replies arrive and as time passes.
    :meth:`take` and :meth:`refill` are safe from any thread; everything else is the driver's to
    serialise.

    A request that went out on several lanes ends with the first acknowledgement; a rejection
    waits for the other lanes, because one copy of a cancel makes the exchange refuse the other.
    """

    def __init__(
        self,
        make_pending: Callable[[int], P],
        *,
        timeout: float,
        heartbeat: float = inf,
        pong_timeout: float = inf,
        clock: ExchangeClock | None = None,
        budget: Budget | None = None,
        latency: Latency | None = None,
    ) -> None:
        self.timeout = timeout
        self.budget: Budget = budget or Budget()
        self.latency = latency
        self.clock: ExchangeClock = clock or ExchangeClock()
        self.heartbeat = heartbeat
        self.pong_timeout = pong_timeout
        self.fates: FateCounts = FateCounts()
        self.late: deque[tuple[P, Ack | Exception]] = deque(maxlen=_UNKNOWN_KEPT)
        """Replies to requests that had ended as :class:`OutcomeUnknown`: for the driver to report."""
        self.keep_open = False
        self.open: deque[P] = deque(maxlen=_UNKNOWN_KEPT)
        """With ``keep_open``, what ended without an acknowledgement: for a tracker to find out."""
        self._make_pending = make_pending
        self._numbers: Iterator[int] = iter(())
        self._ring: deque[P] = deque()
        self._lanes: list[Lane[P]] = []
        self._in_flight: dict[str, P] = {}
        self._by_age: deque[P] = deque()  # the same, oldest first, and some that have ended
        self._parked: deque[_Parked[P]] = deque()
        self._unknown: _Remembered[P] = _Remembered(_UNKNOWN_KEPT)
        self._answered: _Remembered[P] = _Remembered(_ANSWERED_KEPT)
        self._next_sample = 0.0
        self._spent = 0.0
        # An error without id may explain a request that gets no reply.
        self._stray_error = ""
        self._stray_error_at = 0.0
        self.refill()

    # Lanes.

    def open_lane(self, now: float) -> Lane[P]:
        """A new connection."""
        taken = {lane.bit for lane in self._lanes}
        bit = next(bit for bit in (1 << n for n in count()) if bit not in taken)
        lane: Lane[P] = Lane(self, bit, self.heartbeat, self.pong_timeout, now)
        self._lanes.append(lane)
        return lane

    def lost(self, lane: Lane[P], reason: str, now: float) -> None:
        """A connection is gone: what it still had to bring is unknown."""
        self._register()
        if lane not in self._lanes:
            return
        self._lanes.remove(lane)
        for pending in self.in_flight(lane):
            self._give_up(pending, lane, OutcomeUnknown(reason, pending.id), now)

    # Sending.

    def take(self) -> P:
        """A request for the caller alone. If it comes to nothing, its id is never used."""
        try:
            return self._ring.popleft()
        except IndexError:
            return self._make_pending(self._number())

    def book(self, pending: P, now: float) -> None:
        """Before what is no cancel is sent: its credits. Raises :class:`CreditsReserved`.

        One that then comes to nothing gives them back by :meth:`unbook`.
        """
        if not is_cancel(pending.operation):
            cost = cost_of(pending.operation)  # it goes out once, however many lanes there are
            self.budget.book(cost, now)
            pending._booked = cost

    def unbook(self, pending: P) -> None:
        """What was booked and not needed may be spent by others."""
        if pending._booked:
            self.budget.unbook(pending._booked)
            pending._booked = 0.0

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
        sent: list[tuple[float, int, P]] = []
        for lane in self._lanes:
            while lane.just_sent:
                pending = lane.just_sent.popleft()
                lane.asked(pending.sent_at)
                sent.append((pending.sent_at, lane.bit, pending))
        if not sent:
            return
        if len(self._lanes) > 1:
            sent.sort(key=lambda entry: entry[0])
        for at, bit, pending in sent:
            if pending._outcome is None:
                pending._lanes |= bit
                cost = cost_of(pending.operation)
                pending._cost += cost
                if pending._booked:
                    pending._booked -= cost
                else:
                    self._spent += cost
                self._in_flight[pending.id] = pending
                if pending._since == inf:
                    pending._since = at
                    self._by_age.append(pending)
        spent, self._spent = self._spent, 0.0
        self.budget.spent(spent)

    def unsent(self, lane: Lane[P], pendings: Iterable[P], reason: str, now: float) -> None:
        """These were counted as sent on a lane, and provably never left by it."""
        self._register()
        for pending in pendings:
            self._give_up(pending, lane, NotSent(reason, pending.id), now)

    def _give_up(self, pending: P, lane: Lane[P], outcome: Exception, now: float) -> None:
        """Nothing more will come by this lane; the request ends if none is left."""
        if pending._outcome is not None:
            return
        pending._lanes &= ~lane.bit
        pending._held = outcome = _better(pending._held, outcome)
        if not pending._lanes and not self._renewed(pending, outcome):
            self.settle(pending, outcome, now)

    def settle(self, pending: P, outcome: Ack | Exception, now: float) -> bool:
        """End a request that was sent; False if it had ended before."""
        self._register()
        if self._in_flight.pop(pending.id, None) is None:
            return False
        (self._unknown if isinstance(outcome, OutcomeUnknown) else self._answered).add(pending, now)
        self._end(pending, outcome, now)
        return True

    def _end(self, pending: P, outcome: Ack | Exception, now: float) -> None:
        if pending._cost and isinstance(outcome, NotSent):
            self.budget.unbook(pending._cost)
        elif pending._cost:
            self.budget.settled(pending._cost, now)
        if self.latency is not None and pending.began:
            self._note_latency(self.latency, pending, outcome, now)
        self.fates.count(outcome)
        pending.renew = None  # it has the client
        pending._settle(outcome, now)
        by_age = self._by_age
        while by_age and by_age[0]._outcome is not None:
            by_age.popleft()
        if self.keep_open and not isinstance(outcome, Ack):
            self.open.append(pending)

    @staticmethod
    def _note_latency(latency: Latency, pending: P, outcome: Ack | Exception, now: float) -> None:
        latency.note((pending.began, pending.built, pending.sent_at))
        if isinstance(outcome, Ack | Rejected):
            latency.acked(now - pending.sent_at)

    # Cancels that wait for a connection.

    def park(self, pending: P, frame_of: Callable[[int], bytes], reason: str, deadline: float) -> None:
        """Keep a cancel until :meth:`unparked` asks for it, or ``deadline``: then it was not sent.

        ``frame_of`` makes its frame for a request number, signed anew.
        """
        self._parked.append(_Parked(pending, frame_of, deadline, reason))

    def unparked(self, send: Callable[[P, bytes], None], now: float) -> None:
        """There is a connection: ``send`` what waits. If that raises :class:`NotSent`, the rest waits on."""
        while self._parked:
            parked = self._parked.popleft()
            pending = parked.pending
            if now >= parked.deadline:
                self._end(pending, NotSent(parked.reason, pending.id), now)
                continue
            try:
                frame = parked.frame_of(pending.number)
            except Exception as error:  # the key was closed, say
                self._end(pending, NotSent(str(error), pending.id), now)
                continue
            except BaseException:  # a signal handler's: it waits on
                self._parked.appendleft(parked)
                raise
            try:
                send(pending, frame)
            except NotSent:
                self._parked.appendleft(parked)
                return
            except BaseException:  # a signal handler's: who knows whether it left
                self._end(pending, OutcomeUnknown("interrupted while sending", pending.id), now)
                raise

    # Receiving.

    def receive(self, lane: Lane[P], text: bytes, now: float) -> dict[str, Any] | None:
        """Take a message of the exchange; returned if it is for a channel and not a reply."""
        self._register()
        lane.heard()
        try:
            message = _json.loads(text)
        except _json.JSONDecodeError:
            logger.warning("message is not JSON: %s", shown(text))
            return None
        if type(message) is not dict:
            logger.warning("message is no object: %s", shown(text))
            return None
        if "id" in message or "code" in message:
            self._reply(lane, message, text, now)
            return None
        return message if message.get("channel") != "pong" else None

    def _reply(self, lane: Lane[P], reply: dict[str, Any], text: bytes, now: float) -> None:
        request_id = reply.get("id")
        pending = self._in_flight.get(request_id) if type(request_id) is str else None
        if pending is None:
            self._reply_to_none(lane, request_id, reply, text, now)
            return
        if now >= self._next_sample:
            self._next_sample = now + _SAMPLE_EVERY
            self.clock.sample(reply.get("t"), pending.sent_at, now, time() * 1000)
        self._count_credits(pending, reply, now)
        outcome = read_reply(reply, pending.id, pending.operation, pending.actions)
        if isinstance(outcome, Ack):
            pending._lanes &= ~lane.bit
            self.settle(pending, outcome, now)
        else:
            self._give_up(pending, lane, outcome, now)
        self.refill()

    def _count_credits(self, pending: P, reply: dict[str, Any], now: float) -> None:
        told = read_credits(reply)
        if told is not None:
            stamp = reply.get("t")
            self.budget.replied(told, now, stamp if type(stamp) is int else None, pending.operation)
        if reply.get("code") == RATE_LIMIT_CODE:
            self.budget.limited(None if told is None else told.refresh, now)

    def _reply_to_none(
        self, lane: Lane[P], request_id: Any, reply: dict[str, Any], text: bytes, now: float
    ) -> None:
        ended = None
        if type(request_id) is str:
            ended = self._unknown.get(request_id) or self._answered.get(request_id)
        if request_id is None:
            self._stray_error = shown(f"{reply.get('code')}: {error_text(reply)}")
            self._stray_error_at = now
            logger.warning("reply without an id, given to no request: %s", shown(text))
        elif ended is None:
            logger.warning("reply to no request in flight: %s", shown(text))
        elif not ended._lanes & lane.bit:
            logger.warning("another reply to a request that was answered: %s", shown(text))
        else:
            ended._lanes &= ~lane.bit
            self._late_reply(ended, read_reply(reply, ended.id, ended.operation, ended.actions))

    def _late_reply(self, pending: P, outcome: Ack | Exception) -> None:
        """News only if it says more than the end did: of two copies, one is refused because of the other."""
        known = pending._outcome
        if isinstance(known, Ack) or isinstance(outcome, OutcomeUnknown):
            return
        if isinstance(outcome, Ack) or isinstance(known, OutcomeUnknown):
            self.fates.late += 1
            self.late.append((pending, outcome))

    def _renewed(self, pending: P, outcome: Ack | Exception) -> bool:
        renew, pending.renew = pending.renew, None
        if renew is None or not is_about_signature(outcome):
            return False
        logger.warning(
            "a cancel signed ahead of time was refused (%s): signing it afresh", shown(str(outcome))
        )
        try:
            return renew(pending)
        finally:  # whatever happened, it has not ended, and is somebody's
            self._in_flight.setdefault(pending.id, pending)

    def renumber(self, pending: P) -> None:
        """Give a request another id, for it to be sent again. Its time does not begin anew."""
        self._in_flight.pop(pending.id, None)
        fresh = self.take()
        pending.number, pending.id = fresh.number, fresh.id
        pending._lanes, pending._held = 0, None

    # Time, and the end.

    def tick(self, now: float) -> None:
        """End what has waited too long. Call it often enough: :meth:`next_deadline`."""
        self._register()
        by_age = self._by_age
        while by_age and now - by_age[0]._since >= self.timeout:
            self._expire(by_age.popleft(), now)
        while self._parked and now >= self._parked[0].deadline:
            parked = self._parked.popleft()
            self._end(parked.pending, NotSent(parked.reason, parked.pending.id), now)
        self._unknown.forget(now)
        self._answered.forget(now)
        self.refill()

    def next_deadline(self) -> float:
        """When the next request's time is up; infinity if none waits. From any thread."""
        reply = parked = inf
        with suppress(IndexError):
            reply = self._by_age[0]._since + self.timeout
        with suppress(IndexError):
            parked = self._parked[0].deadline
        return min(reply, parked)

    def _expire(self, pending: P, now: float) -> None:
        reason = f"no reply within {self.timeout:g} s"
        if self._stray_error_at >= pending._since and self._stray_error:
            reason += f" (the exchange sent an error without id meanwhile: {self._stray_error})"
        self._end_without_reply(pending, reason, now)

    def _end_without_reply(self, pending: P, reason: str, now: float) -> None:
        """A copy that was not sent says nothing of another that was."""
        self.settle(pending, _better(pending._held, OutcomeUnknown(reason, pending.id)), now)

    def close(self, reason: str, now: float) -> None:
        """The end of everything: nothing is sent or received any more."""
        for pending in self.in_flight():
            self._end_without_reply(pending, reason, now)
        while self._parked:
            pending = self._parked.popleft().pending
            self._end(pending, NotSent(reason, pending.id), now)

    def in_flight(self, lane: Lane[P] | None = None) -> list[P]:
        """The requests that were sent, on that lane if one is given, and have not ended."""
        self._register()
        if lane is None:
            return list(self._in_flight.values())
        return [pending for pending in self._in_flight.values() if pending._lanes & lane.bit]

    @property
    def in_flight_count(self) -> int:
        """How many were sent or wait for a connection, and have not ended; from any thread."""
        just_sent = sum(len(lane.just_sent) for lane in self._lanes)
        return len(self._in_flight) + just_sent + len(self._parked)
