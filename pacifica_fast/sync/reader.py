# SPDX-License-Identifier: MIT
"""The thread that reads: replies, deadlines, heartbeats, what the socket would not take, the end.

It waits in ``poll`` for all links of a client, takes its turn for a few messages at a time, and
has a thread of its own open each new link. It knows no client: one that nobody has any more is
collected, and closed.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, get_ident
from time import monotonic
from typing import Any

from pacifica_fast.endpoint import CLOSE_TIMEOUT, DID_NOT_COME, Endpoint
from pacifica_fast.errors import ConnectionFailed
from pacifica_fast.links import Links
from pacifica_fast.news import News
from pacifica_fast.orders import OrderTracker
from pacifica_fast.replies import Ack
from pacifica_fast.session import CLOSED, Lane, Session
from pacifica_fast.signer import Signer
from pacifica_fast.stall import Stall
from pacifica_fast.switching import SwitchAdvice
from pacifica_fast.sync.dial import dial, milliseconds_until
from pacifica_fast.sync.link import Bell, Ended, Link
from pacifica_fast.sync.turn import Turn
from pacifica_fast.tcp import tune

__all__ = ["FORKED", "Reader"]

logger: logging.Logger = logging.getLogger("pacifica_fast.sync")

FORKED = "this process was forked from the one that connected"

# Plain bytes that are parsed in one turn: about ten messages, 0.1 ms.
_SLICE = 2048

_running: set[Reader] = set()

Opened = tuple[int, Link, list[bytes]] | tuple[int, Lane[Any], ConnectionFailed]


class Reader:
    """Reads the links of one client into one session, from :meth:`connect` until :meth:`stop`.

    However it ends, every request has its fate then, and every socket is closed.
    """

    def __init__(
        self,
        signer: Signer,
        endpoint: Endpoint,
        session: Session[Any],
        turn: Turn,
        on_late_reply: Callable[[Any, Ack | Exception], None] | None = None,
    ) -> None:
        self.links: Links[Link] = Links(session, endpoint, self._begin_opening)
        self.bell: Bell = Bell()
        self._endpoint = endpoint
        self._session = session
        self._turn_of_all = turn
        self.news: News = News(signer, endpoint, session, self.links, turn, on_late_reply)
        # One sweeper for everything that is due.
        self._tick_interval = min(endpoint.timeout, endpoint.heartbeat, endpoint.pong_timeout) / 20
        self._next_tick = monotonic()
        self._stall = Stall()
        self._advice = SwitchAdvice()
        self._stopping = False
        self._close_at = inf
        self._closing: dict[Link, float] = {}  # those in the closing handshake, and until when
        self._opened: SimpleQueue[Opened] = SimpleQueue()
        self._openers: dict[Thread, Bell] = {}
        self._opening_here = True
        self._pid = os.getpid()
        self._thread = Thread(target=self._run, name="pacifica_fast reader", daemon=True)

    def connect(self) -> None:
        """Open the links, and read. Raises :class:`ConnectionFailed` if none comes about."""
        try:
            self.links.start(monotonic())
            failure = self._take_opened()
            self._opening_here = False
            if self.links.use is None and failure is not None:
                raise failure
            _running.add(self)
            self._thread.start()
        except BaseException:  # no connection, no thread to be had, Ctrl-C
            _running.discard(self)
            self.links.close(CLOSED, monotonic())
            self._take_opened()
            for link in self.links.all():
                link.drop(DID_NOT_COME)
            self.bell.close()
            raise

    def track(self, tracker: OrderTracker) -> OrderTracker:
        """As :meth:`News.track`, from any thread."""
        known = self.news.track(tracker)
        self.bell.ring()
        return known

    def stop(self) -> bool:
        """Have the connection closed, and do not wait for it. May be called from anywhere.

        False in a forked child, where there is nothing to stop: the connection is the parent's.
        """
        if os.getpid() != self._pid:
            return False
        self._stopping = True
        self.bell.ring()
        return True

    def close(self) -> None:
        """Have the connection closed, and wait for it, unless this thread is itself in the way."""
        if self.stop() and current_thread() is not self._thread and self._turn_of_all.owner != get_ident():
            self._thread.join(CLOSE_TIMEOUT + 1.0)

    def abandon(self) -> None:
        """In a forked child: what was in flight is the parent's to know."""
        self._turn_of_all.abandon()
        for link in self.links.all():
            link.abandon(FORKED)
        for bell in (self.bell, *self._openers.values()):
            bell.abandon()
        self.links.abandon(FORKED)
        self._session.close(FORKED, monotonic())

    # Inside the thread.

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._turn_of_all.stand_back()
        with self._turn_of_all():
            yield

    def _run(self) -> None:
        reason = CLOSED
        try:
            self._read()
        except BaseException:  # also a hook's sys.exit(): whoever waits for a fate waits for this thread
            logger.exception("a bug of the reader, or of a hook")
            reason = "internal error"
            for link in self.links.all():
                link.fail(reason)
        with self._turn():
            self.links.close(reason, monotonic())
            for link in self.links.all():
                self._drop(link, reason)
            self._session.close(reason, monotonic())
        for bell in list(self._openers.values()):
            bell.ring()
        for thread in list(self._openers):
            thread.join(CLOSE_TIMEOUT)
        self._take_opened()
        self.bell.close()
        _running.discard(self)

    def _read(self) -> None:
        ear = self.bell.ear.fileno()
        while True:
            now = monotonic()
            if now >= self._next_tick:
                if self._stall.goes_on(now, self._next_tick, self.links.all()):
                    self._next_tick = now + 0.001
                else:
                    self._next_tick = now + self._tick_interval
                    self._tick(now)
            if self._stopping and self._close_at == inf:
                self._close_at = now + CLOSE_TIMEOUT
                with self._turn():
                    self.links.close(CLOSED, monotonic())
            if self._close_at < inf and (now >= self._close_at or not self.links.all()):
                return
            self._take_opened()
            self.news.start()
            by_descriptor = self._look_at_links(now)
            poller = select.poll()
            poller.register(ear, select.POLLIN)
            for descriptor, link in by_descriptor.items():
                poller.register(descriptor, link.events())
            due = min(self._session.next_deadline(), self.links.next_event())
            self._next_tick = min(self._next_tick, max(due, now + 0.001))
            until = min(self._next_tick, self._close_at, *self._closing.values())
            for descriptor, event in poller.poll(milliseconds_until(until)):
                if descriptor == ear:
                    self.bell.heard()
                else:
                    self._serve(by_descriptor[descriptor], event)
            self._session.refill()

    def _look_at_links(self, now: float) -> dict[int, Link]:
        """Let go of those that have ended, or closed for long enough; those to poll."""
        for link in self.links.all():
            if link.closing and link not in self._closing:
                self._closing[link] = now + CLOSE_TIMEOUT
                with self._turn():
                    link.close()
            if link.failed:
                with self._turn():
                    self._drop(link, link.failure)
            elif now >= self._closing.get(link, inf):
                with self._turn():
                    self._drop(link, link.end().reason)
        return {link.fileno(): link for link in self.links.all()}

    def _serve(self, link: Link, event: int) -> None:
        try:
            if event & select.POLLOUT:
                with self._turn():
                    link.flush()
            if event & ~select.POLLOUT:
                self._receive(link)
        except Ended as end:
            with self._turn():
                self._drop(link, f"tls: {end.reason}" if end.stage == "tls" else end.reason)

    def _drop(self, link: Link, reason: str) -> None:
        now = monotonic()
        self._closing.pop(link, None)
        reason = link.drop(reason)
        link.lane.unsent(link.untouched(), reason, now)
        self.links.lost(link, reason, now)
        self._next_tick = now  # there may be more to be said of what has ended

    def _receive(self, link: Link) -> None:
        data = link.receive_bytes()
        with self._turn():
            plain = link.decrypt(data)
        for start in range(0, len(plain), _SLICE):
            with self._turn():
                messages = link.receive(plain[start : start + _SLICE])
            for message in messages:
                self._message(link, message)
        if link.at_end:
            with self._turn():
                raise link.end()

    def _message(self, link: Link, text: bytes) -> None:
        now = monotonic()
        with self._turn():
            message = self._session.receive(link.lane, text, now)
        if message is not None:
            self.news.channel(link.lane, message, now)
        elif self._session.late or self._session.open:
            self.news.replies()

    def _tick(self, now: float) -> None:
        self._advice.look()
        with self._turn():
            self._session.tick(now)
            self.links.tick(now)
            self._send_parked(now)
        self.news.tick(now)

    def _send_parked(self, now: float) -> None:
        link = self.links.use
        if link is not None and link.ready:
            put = link.put
            self._session.unparked(lambda pending, frame: put(frame, pending), now)

    # Opening.

    def _begin_opening(self, index: int) -> None:
        if self._opening_here:
            self._opened.put(self._outcome_of_opening(index, self.bell))
            return
        for thread in [thread for thread in self._openers if not thread.is_alive()]:
            del self._openers[thread]
        bell = Bell()
        thread = Thread(
            target=self._open_in_thread, args=(index, bell), name="pacifica_fast opener", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had just now
            bell.close()
            self.links.failed(index, ConnectionFailed("connect", str(error)), monotonic())
        else:
            self._openers[thread] = bell

    def _open_in_thread(self, index: int, bell: Bell) -> None:
        self._opened.put(self._outcome_of_opening(index, bell))
        bell.close()
        self.bell.ring()
        if self.links.closed:  # nobody else may take it any more
            self._take_opened()

    def _outcome_of_opening(self, index: int, bell: Bell) -> Opened:
        with self._turn_of_all():
            lane = self._session.open_lane(monotonic())
        try:
            link, messages = _open(self._endpoint, lane, self.bell, bell)
        except ConnectionFailed as error:
            return index, lane, error
        except BaseException as error:
            with self._turn_of_all():
                self._session.lost(lane, DID_NOT_COME, monotonic())
            if not isinstance(error, Exception):
                raise
            logger.exception("a bug of opening")
            return index, lane, ConnectionFailed("connect", "internal error")
        return index, link, messages

    def _take_opened(self) -> ConnectionFailed | None:
        """Links that are open now, and those that did not come about: the last one's error."""
        failure = None
        while True:
            try:
                index, what, more = self._opened.get_nowait()
            except Empty:
                return failure
            now = monotonic()
            with self._turn_of_all():
                if isinstance(more, ConnectionFailed):
                    failure = more
                    self._session.lost(what if isinstance(what, Lane) else what.lane, DID_NOT_COME, now)
                    self.links.failed(index, more, now)
                elif isinstance(what, Link):
                    if self.links.closed:
                        what.drop(CLOSED)
                    self.links.opened(index, what, now)
                    self._send_parked(now)
            if isinstance(what, Link) and not isinstance(more, ConnectionFailed):
                for message in more:
                    self._message(what, message)
                self.news.tick(now)


def _open(endpoint: Endpoint, lane: Lane[Any], bell: Bell, stop: Bell) -> tuple[Link, list[bytes]]:
    """An open link, and the messages that came right behind the upgrade."""
    deadline = monotonic() + endpoint.open_timeout
    websocket, tls = endpoint.websocket(), endpoint.tls()
    try:
        sock = dial(endpoint.uri.host, endpoint.uri.port, deadline, stop.ear)
        tune(sock, endpoint.pong_timeout)
        link = Link(sock, websocket, tls, lane, bell, max_unsent=endpoint.max_unsent)
        try:
            return link, link.open(deadline, stop)
        except BaseException:
            link.drop(DID_NOT_COME)
            raise
    except TimeoutError:
        raise ConnectionFailed("timeout", f"not open within {endpoint.open_timeout:g} s") from None
    except socket.gaierror as error:
        raise ConnectionFailed("dns", str(error)) from error
    except OSError as error:
        raise ConnectionFailed("connect", str(error)) from error
    except Ended as end:
        raise ConnectionFailed(end.stage, end.reason, end.status) from None


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
