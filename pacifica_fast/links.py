# SPDX-License-Identifier: MIT
"""The connections of one client, without I/O: which is in use, which comes, which goes.

A client has one or two places for a link. A link that is lost is opened anew, at once if it
had held, else after a pause with full jitter (the exchange's 429 means a long one); a link that
grows old is replaced before the exchange ends it: its successor is opened first, and requests
in flight on the old one still get their replies. Both drivers run this, and tests with a clock
turned by hand.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from pacifica_fast.endpoint import CLOSE_TIMEOUT, Endpoint
from pacifica_fast.errors import ConnectionFailed, NotSent
from pacifica_fast.session import PING, Lane, Pending, Session
from pacifica_fast.websocket import masked_anew

__all__ = ["ConnectionEvent", "LinkState", "Links"]

logger: logging.Logger = logging.getLogger("pacifica_fast")

STEADY = 1.0  # s; a link that lived for less counts as an attempt that failed
TOO_MANY = 429  # HTTP: too many connections, or requests (docs.pacifica.fi, rate limits)

P = TypeVar("P", bound=Pending)


class LinkState(StrEnum):
    """Where a link is. A client is in the first of these that any of its links is in."""

    OPEN = "open"
    CONNECTING = "connecting"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """What happened to one link, 0 or 1, of a client.

    ``at`` is in seconds of ``time.monotonic``. ``reason`` says why a link was lost or did not come
    about; ``stage`` and ``status`` are those of :class:`ConnectionFailed`; ``retry_in`` is in seconds.
    """

    link: int
    state: LinkState
    at: float
    reason: str = ""
    stage: str = ""
    status: int | None = None
    retry_in: float | None = None


Unsent = list[tuple[Lane[P], list[P]]]
"""Requests that were counted as sent on a lane, and provably never left by it."""


class Link(Protocol[P]):
    """What a driver's link offers."""

    lane: Lane[P]

    @property
    def ready(self) -> bool: ...
    def why_not_ready(self) -> str: ...
    def put(self, frame: bytes, pending: P) -> None: ...
    def put_many(self, frames: bytes, pendings: list[P], starts: list[int]) -> Unsent[P]: ...
    def say(self, text: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self, reason: str) -> None: ...


class Pair(Generic[P]):
    """Two links as one: what is put on it goes out on both, each time under another mask."""

    __slots__ = ("links",)

    def __init__(self, first: Link[P], second: Link[P]) -> None:
        self.links: tuple[Link[P], Link[P]] = (first, second)

    @property
    def ready(self) -> bool:
        first, second = self.links
        return first.ready or second.ready

    @property
    def one(self) -> Link[P]:
        """For what must not be done twice."""
        first, second = self.links
        return first if first.ready else second

    def why_not_ready(self) -> str:
        return self.links[0].why_not_ready()

    def put(self, frame: bytes, pending: P) -> None:
        first, second = self.links
        if first.ready:
            try:
                first.put(frame, pending)
            except NotSent:
                if not second.ready:
                    raise
                second.put(masked_anew(frame), pending)
            else:
                if second.ready:
                    try:
                        second.put(masked_anew(frame), pending)
                    except NotSent:
                        logger.debug("sent on one link only")
        else:
            second.put(frame, pending)

    def put_many(self, frames: bytes, pendings: list[P], starts: list[int]) -> Unsent[P]:
        tried = sent = False
        unsent: Unsent[P] = []
        refusal = NotSent("no link is ready")
        for link in self.links:
            if link.ready:
                if tried:
                    frames = masked_anew(frames)
                tried = True
                try:
                    unsent += link.put_many(frames, pendings, starts)
                    sent = True
                except NotSent as error:
                    refusal = error
        if not sent:
            raise refusal
        return unsent


L = TypeVar("L", bound=Link)  # type: ignore[type-arg]


class _Place(Generic[L]):
    """Where one of the links is, or will be."""

    __slots__ = ("changed_at", "due", "failures", "given_up", "link", "opened_at", "opening", "rotate_at")

    def __init__(self) -> None:
        self.link: L | None = None
        self.opening = False
        self.given_up = False  # nothing is opened here any more
        self.due = inf  # when to open the next one
        self.failures = 0  # in a row
        self.changed_at = 0.0
        self.opened_at: float | None = None
        self.rotate_at = inf

    @property
    def state(self) -> LinkState:
        """Other threads look at any time: CLOSED only if it stays so, and never in passing."""
        if self.link is not None:
            return LinkState.OPEN
        if self.opening:
            return LinkState.CONNECTING
        return LinkState.CLOSED if self.given_up else LinkState.WAITING


@dataclass(slots=True)
class _Leaving(Generic[L]):
    """A link that was replaced: nothing is sent on it any more, but replies may still come."""

    link: L
    close_at: float
    abort_at: float = inf


class Links(Generic[L]):
    """The links of one client. ``open_link`` begins to open one for a place; its outcome is told
    to :meth:`opened` or :meth:`failed`. Everything here is the driver's to serialise.
    """

    def __init__(
        self,
        session: Session[Any],
        endpoint: Endpoint,
        open_link: Callable[[int], None],
        rng: random.Random | None = None,
    ) -> None:
        self.use: L | Pair[Any] | None = None
        """What a request is put on."""
        self.listeners: list[Callable[[ConnectionEvent], None]] = []
        self.on_lane: list[Callable[[Lane[Any], bool, float], None]] = []
        """Called with each lane that opens (True), or is gone (False)."""
        self.reconnects: int = 0
        self._session = session
        self._endpoint = endpoint
        self._open_link = open_link
        self._random = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret
        self._places: list[_Place[L]] = [_Place() for _ in range(endpoint.links)]
        self._leaving: list[_Leaving[L]] = []
        self._closed = ""
        self._last_reason = ""

    # What happened.

    def start(self, now: float) -> None:
        """Open all of them."""
        for index in range(len(self._places)):
            self._begin(index, now)

    def opened(self, index: int, link: L, now: float) -> None:
        """A link is open."""
        place = self._places[index]
        place.opening = False
        if self._closed:
            link.abort(self._closed)
            self._tell(index, LinkState.CLOSED, now, self._closed)
            return
        if place.link is not None:
            self._leaving.append(_Leaving(place.link, now + self._session.timeout))
        elif place.opened_at is not None:
            self.reconnects += 1
        place.link, place.opened_at, place.due = link, now, inf
        place.rotate_at = now + self._endpoint.rotate_after * self._random.uniform(0.9, 1.0)
        self._choose()
        for listener in self.on_lane:
            listener(link.lane, True, now)
        self._tell(index, LinkState.OPEN, now)

    def failed(self, index: int, error: ConnectionFailed, now: float) -> None:
        """A link did not come about."""
        place = self._places[index]
        place.opening = False
        if self._closed:
            self._tell(index, LinkState.CLOSED, now, self._closed)
            return
        place.failures += 1
        pause = self._pause(place.failures, error.status == TOO_MANY)
        self._retry(index, pause, now, str(error), error.stage, error.status)

    def lost(self, link: L, reason: str, now: float) -> None:
        """A link is gone."""
        self._session.lost(link.lane, reason, now)
        self._leaving = [leaving for leaving in self._leaving if leaving.link is not link]
        for listener in self.on_lane:
            listener(link.lane, False, now)
        for index, place in enumerate(self._places):
            if place.link is link:
                place.link, place.rotate_at = None, inf
                self._choose()
                held = place.opened_at is not None and now - place.opened_at >= STEADY
                place.failures = 0 if held else place.failures + 1
                if not self._closed and not place.opening:
                    self._retry(index, self._pause(place.failures, False), now, reason)
                elif self._closed:
                    self._tell(index, LinkState.CLOSED, now, reason)

    def tick(self, now: float) -> None:
        """Do what is due. Call it often enough: :meth:`next_event`."""
        for index, place in enumerate(self._places):
            if place.link is not None:
                self._look_after(place.link, now)
            if not place.opening and now >= min(place.due, place.rotate_at):
                self._begin(index, now)
        for leaving in list(self._leaving):
            self._see_off(leaving, now)

    def next_event(self) -> float:
        """When :meth:`tick` has something to do that it should not be late for."""
        return min(
            (min(place.due, place.rotate_at) for place in self._places if not place.opening), default=inf
        )

    def close(self, reason: str, now: float) -> None:
        """Open nothing any more, and begin to close what is open."""
        self._closed = self._closed or reason
        self.use = None
        for link in self.all():
            link.close()
        for index, place in enumerate(self._places):
            was_waiting = place.state is LinkState.WAITING
            place.due = place.rotate_at = inf
            place.given_up = True
            if was_waiting:
                self._tell(index, LinkState.CLOSED, now, reason)

    def abandon(self, reason: str) -> None:
        """In a forked child: there are no links here."""
        self._closed = reason
        self.use = None
        self._leaving.clear()
        for place in self._places:
            place.link, place.due, place.rotate_at, place.given_up = None, inf, inf, True

    def all(self) -> list[L]:
        """The links that there are, in use or leaving."""
        links = [place.link for place in self._places if place.link is not None]
        return links + [leaving.link for leaving in self._leaving]

    # What there is.

    @property
    def states(self) -> list[LinkState]:
        """One for each link."""
        return [place.state for place in self._places]

    @property
    def since(self) -> list[float]:
        """Since when each of them is in that."""
        return [place.changed_at for place in self._places]

    @property
    def leaving(self) -> int:
        """How many were replaced, and may still bring replies."""
        return len(self._leaving)

    @property
    def state(self) -> LinkState:
        """The best of them."""
        states = self.states
        return next(state for state in LinkState if state in states)

    @property
    def closed(self) -> bool:
        """True if nothing is open, and nothing ever will be."""
        return bool(self._closed) or self.state is LinkState.CLOSED

    def why_not_ready(self) -> str:
        """Why nothing can be sent, for a person."""
        if self._closed:
            return self._closed
        if self.use is not None:
            return self.use.why_not_ready()
        return f"not connected: {self._last_reason}" if self._last_reason else "not connected"

    # Inside.

    def _begin(self, index: int, now: float) -> None:
        place = self._places[index]
        place.opening, place.due = True, inf
        if place.link is None:
            self._tell(index, LinkState.CONNECTING, now)
        self._open_link(index)

    def _retry(
        self, index: int, pause: float, now: float, reason: str, stage: str = "", status: int | None = None
    ) -> None:
        place, limit = self._places[index], self._endpoint.reconnect_attempts
        self._last_reason = reason
        if place.link is not None:  # only its successor failed
            place.rotate_at = now + max(pause, 1.0)
            return
        # What never was open, connect() is about to raise.
        level = logging.INFO if place.opened_at is None else logging.WARNING
        # When it is due is set first: a logging handler or a listener may raise.
        if limit is not None and place.failures >= limit:
            place.due, place.given_up = inf, True
            logger.log(level, "link %d: %s; not opened again", index, reason)
            self._tell(index, LinkState.CLOSED, now, reason, stage, status)
            return
        place.due = now + pause
        logger.log(level, "link %d: %s; opening it again in %.2f s", index, reason, pause)
        self._tell(index, LinkState.WAITING, now, reason, stage, status, pause)
        if pause == 0:
            self._begin(index, now)

    def _pause(self, failures: int, too_many: bool) -> float:
        """Full jitter: anything up to a limit that doubles each time.

        aws.amazon.com, "Exponential Backoff And Jitter".
        """
        most = self._endpoint.backoff_max
        if too_many:  # asking at once makes it worse, for everybody behind this address
            return self._random.uniform(most / 2, most)
        if not failures:
            return 0.0
        return self._random.uniform(0.0, min(most, self._endpoint.backoff * 2.0 ** min(failures - 1, 60)))

    def _choose(self) -> None:
        links = [place.link for place in self._places if place.link is not None]
        self.use = None if not links else links[0] if len(links) == 1 else Pair(links[0], links[1])

    def _look_after(self, link: L, now: float) -> None:
        lane = link.lane
        if lane.is_dead(now):
            link.abort(f"no answer to a ping within {lane.pong_timeout:g} s")
        elif lane.wants_ping(now) and link.ready:
            lane.pinged(now)
            link.say(PING)

    def _see_off(self, leaving: _Leaving[L], now: float) -> None:
        if leaving.abort_at < inf:
            if now >= leaving.abort_at:
                leaving.link.abort("replaced by a new connection")
        elif now >= leaving.close_at or not self._session.in_flight(leaving.link.lane):
            leaving.abort_at = now + CLOSE_TIMEOUT
            leaving.link.close()

    def _tell(
        self,
        index: int,
        state: LinkState,
        now: float,
        reason: str = "",
        stage: str = "",
        status: int | None = None,
        retry_in: float | None = None,
    ) -> None:
        self._places[index].changed_at = now
        event = ConnectionEvent(index, state, now, reason, stage, status, retry_in)
        for listener in list(self.listeners):
            listener(event)
