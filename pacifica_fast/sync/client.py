# SPDX-License-Identifier: MIT
"""The blocking client: cancels on the wire when the call returns, and a fate for each.

Threads build and sign at the same time, and take turns to encrypt and write. Everything
else is the reader's, see :mod:`pacifica_fast.sync.reader`.
"""

from __future__ import annotations

import ssl as ssl_module
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from threading import TIMEOUT_MAX, Event, Lock, get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, Unpack, overload
from uuid import UUID

from pacifica_fast import session
from pacifica_fast.armed import Armed
from pacifica_fast.endpoint import MAINNET_WS, TESTNET_WS, Endpoint, Settings, check_signer
from pacifica_fast.errors import ConnectionFailed, InvalidRequest, NotSent, OutcomeUnknown, PacificaError
from pacifica_fast.links import ConnectionEvent, Links, LinkState
from pacifica_fast.orders import TRACK_TIMEOUT, OrderTracker
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.sending import EVENTS_MAX, Sending
from pacifica_fast.session import Truth
from pacifica_fast.signer import OrderId, Signer
from pacifica_fast.switching import eager_switching
from pacifica_fast.sync.link import Link
from pacifica_fast.sync.reader import Reader
from pacifica_fast.sync.turn import Turn
from pacifica_fast.websocket import frame_of

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]

A = TypeVar("A", bound=Ack)

LateReply = Callable[["Pending[Any]", Ack | Exception], None]


class Pending(session.Pending, Generic[A]):
    """A request on the wire. Ask it, from any thread and any number of times, for its result."""

    __slots__ = ("_waiters",)

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._waiters: list[Lock] = []

    def result(self, timeout: float | None = None) -> A:
        """Wait for the acknowledgement; ``timeout`` is in seconds, None as long as it takes.

        Raises the error the request ended with: :class:`Rejected`, :class:`OutcomeUnknown`,
        or :class:`NotSent`. ``TimeoutError`` and ``KeyboardInterrupt`` end the waiting and do not
        touch the request: without ``timeout``, the client's own ends it as :class:`OutcomeUnknown`. Nor
        does the error of a cancel in a signal handler, for which :class:`OutcomeUnknown` is raised here.
        """
        if self._outcome is None:
            try:
                self._wait(timeout)
            except PacificaError as error:
                _raise_own(error, self)
        ack: A = self.outcome()
        return ack

    def _wait(self, timeout: float | None) -> None:
        waiter = Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            # Whoever settles sets the outcome first and wakes then: one of the two is seen.
            if self._outcome is None:
                waiter.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), TIMEOUT_MAX))
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        if self._outcome is None:
            raise TimeoutError(f"request {self.id}: no reply after {timeout:g} s of waiting")

    def _settle(self, outcome: Ack | Exception, now: float) -> None:
        super()._settle(outcome, now)
        waiters = self._waiters
        while waiters:
            with suppress(IndexError):  # it has gone by itself
                waiters.pop().release()


def _raise_own(error: PacificaError, pending: Pending[Any]) -> NoReturn:
    """Of a request that was sent: the error of another, of a signal handler's cancel, says nothing of it."""
    if error is pending._outcome or isinstance(error, OutcomeUnknown):
        raise error
    raise OutcomeUnknown("interrupted after it was sent", pending.id) from error


class Client(Sending[Pending[Any]]):
    """A connection to the exchange, or two, made by :func:`connect`. All of it is safe from any thread.

    Every method raises, before anything is sent: :class:`InvalidRequest` for a wrong
    argument, :class:`NotSent` when no link can take the request now, and
    :class:`KeyClosed`. Those that wait raise :class:`Rejected` or :class:`OutcomeUnknown`; cancels
    that waited for a connection may also end as :class:`NotSent`.

    A client that nobody has any more is closed, and so are all at the interpreter's exit.
    In a forked child nothing is sent: the connection is the parent's.
    """

    def __init__(self, signer: Signer, endpoint: Endpoint, on_late_reply: LateReply | None = None) -> None:
        super().__init__(signer, endpoint.arm_window)
        self._endpoint = endpoint
        self._session: session.Session[Pending[Any]] = endpoint.session(Pending)
        self._timed = endpoint.latency
        self._turn = Turn()
        self._reader = Reader(signer, endpoint, self._session, self._turn, on_late_reply)
        self._links = self._reader.links
        self._news = self._reader.news
        # Not at exit: the reader's own hook closes all connections at once.
        weakref.finalize(self, self._reader.stop).atexit = False
        self._reader.connect()

    # Cancels.

    @overload
    def cancel_order_nowait(
        self,
        symbol: str,
        *,
        order_id: int,
        client_order_id: None = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Pending[CancelAck]: ...

    @overload
    def cancel_order_nowait(
        self,
        symbol: str,
        *,
        order_id: None = None,
        client_order_id: str | UUID,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Pending[CancelAck]: ...

    def cancel_order_nowait(
        self,
        symbol: str,
        *,
        order_id: Any = None,
        client_order_id: Any = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Pending[CancelAck]:
        """Cancel one order; the request is with the kernel when this returns.

        Unless there is no connection and cancels are to wait for one (``on_disconnect="retry"``).
        Arguments as :meth:`Signer.cancel_order`.
        """
        timed = self._timed
        if timed:
            began = monotonic()
        try:
            link = self._links.use
            if link is None or not link.ready:
                raise NotSent(self._links.why_not_ready())
            pending = self._session.take()
            frame = self.signer.cancel_order_frame(
                symbol, order_id, client_order_id, timestamp, expiry_window, pending.number
            )
            if timed:
                pending.began, pending.built = began, monotonic()
            pending.order = order_id if client_order_id is None else str(client_order_id)
            self._send(pending, frame)
        except NotSent as error:
            return self._cancel_later(
                str(error),
                partial(
                    self.signer.cancel_order_frame,
                    symbol,
                    order_id,
                    client_order_id,
                    timestamp,
                    expiry_window,
                ),
                order=order_id if client_order_id is None else str(client_order_id),
            )
        return pending

    @overload
    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: int,
        client_order_id: None = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck: ...

    @overload
    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: None = None,
        client_order_id: str | UUID,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck: ...

    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: Any = None,
        client_order_id: Any = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck:
        """Cancel one order, and wait for the exchange's answer."""
        return self.cancel_order_nowait(
            symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            timestamp=timestamp,
            expiry_window=expiry_window,
        ).result()

    def cancel_all_orders(
        self,
        *,
        symbol: str | None = None,
        exclude_reduce_only: bool = False,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAllAck:
        """Cancel all orders of ``symbol``, or of every symbol."""
        frame = self._all_orders_frame(symbol, exclude_reduce_only, timestamp, expiry_window)
        pending: Pending[CancelAllAck] = self._cancel(frame, "cancel_all_orders")
        return pending.result()

    def batch_cancel(
        self,
        cancels: Sequence[tuple[str, OrderId]],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> BatchAck:
        """Cancel 1 to 10 orders, each ``(symbol, id)``, in one request.

        The acknowledgement is of the batch: look at the ``success`` of each result.
        """
        frame = self._batch_frame(cancels, timestamp, expiry_window)
        pending: Pending[BatchAck] = self._cancel(frame, "batch_orders", len(cancels))
        return pending.result()

    def request(
        self,
        operation: str,
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Ack:
        """Any operation of the websocket: ``create_order``, ``edit_order``, ...

        Never sent later than now, nor twice. What is no cancel raises :class:`CreditsReserved` if it would
        use the credits that are kept for cancels.
        """
        pending: Pending[Ack] = self._taken(operation)
        request = self.signer.request(
            operation, data, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        frame = frame_of(request.text)
        self._session.book(pending, monotonic())
        try:
            with self._turn():
                self._link_for(operation).put(frame, pending)
            return pending.result()
        except BaseException as error:
            if not pending.sent_at:
                self._session.unbook(pending)
            elif isinstance(error, PacificaError):
                _raise_own(error, pending)
            raise

    # The connection.

    def events(self) -> Iterator[ConnectionEvent]:
        """What happens to the links from now on, until the client is closed: iterate over it.

        Waits for the next one, so give it a thread of its own. One that is not read loses the
        oldest of more than 1 000.
        """
        waiting: deque[ConnectionEvent] = deque(maxlen=EVENTS_MAX)
        arrived = Event()
        links = self._links

        def listen(event: ConnectionEvent) -> None:
            waiting.append(event)
            arrived.set()

        links.listeners.append(listen)
        return _events(links, listen, waiting, arrived)

    # Tracking orders.

    def track(
        self, account: str | None = None, *, arm: bool = True, within: float = TRACK_TIMEOUT
    ) -> OrderTracker:
        """Follow the resting orders of ``account`` (the signer's own by default).

        Each of the signer's own is armed as it rests, unless ``arm`` is False, and disarmed when it
        ends; one signature each. From then on, what a cancel that ended as :class:`OutcomeUnknown` or with
        code 420 did becomes known: :attr:`Pending.settled`, :meth:`truth`.

        Raises :class:`ConnectionFailed`, stage ``subscribe``, if the exchange does not acknowledge
        within so many s: a bad subscription is answered with silence; and :class:`InvalidRequest` for a
        second account: a client tracks one.
        """
        self._check_open()
        tracker = self._reader.track(self._tracker(account, arm, self._news.truth_told))
        self._tracked = tracker
        if not self._until(lambda: tracker.live, within):
            raise ConnectionFailed("subscribe", f"not acknowledged within {within:g} s")
        return tracker

    def truth(self, pending: Pending[Any], within: float = TRACK_TIMEOUT) -> Truth:
        """Wait until a tracker knows what became of the order of a cancel.

        Raises ``TimeoutError`` if that is not known ``within`` so many s.
        """
        self._until(lambda: pending.settled is not None, within)
        truth = pending.settled
        if truth is None:
            raise TimeoutError(f"what became of the order is not known within {within:g} s")
        return truth

    def _until(self, there: Callable[[], bool], within: float) -> bool:
        changed, deadline = Event(), monotonic() + within
        listeners = self._news.changed
        listeners.append(changed.set)
        try:
            while not there() and monotonic() < deadline:
                changed.wait(max(0.0, deadline - monotonic()))
                changed.clear()
        finally:
            listeners.remove(changed.set)
        return there()

    # Closing.

    def close(self) -> None:
        """Close the connection; requests in flight may still get their replies meanwhile.

        What has got none when the connection is gone ends as :class:`OutcomeUnknown`. Takes
        2 s at most, and may be called again, from any thread and from a signal handler.
        """
        self._close_armed()
        self._reader.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Inside.

    def _taken(self, operation: str, actions: int = 0) -> Pending[Any]:
        self._ready_link()
        pending = self._session.take()
        pending.operation, pending.actions = operation, actions
        return pending

    def _cancel(
        self,
        frame: Callable[[int], bytes],
        operation: str,
        actions: int = 0,
        order: int | str | None = None,
    ) -> Pending[Any]:
        try:
            pending = self._taken(operation, actions)
            pending.order = order
            self._send(pending, frame(pending.number))
        except NotSent as error:
            return self._cancel_later(str(error), frame, operation, actions, order)
        return pending

    def _cancel_later(
        self,
        reason: str,
        frame: Callable[[int], bytes],
        operation: str = "cancel_order",
        actions: int = 0,
        order: int | str | None = None,
    ) -> Pending[Any]:
        if not self._endpoint.retry_within or self._links.closed or self._turn.owner == get_ident():
            raise NotSent(reason) from None
        pending = self._session.take()
        pending.operation, pending.actions, pending.order = operation, actions, order
        frame(pending.number)  # bad input is told now, and not when there is a connection
        deadline = monotonic() + self._endpoint.retry_within
        with self._turn():
            if self._links.closed:
                raise NotSent(reason) from None
            self._session.park(pending, frame, reason, deadline)
        self._reader.bell.ring()
        return pending

    def _send(
        self,
        pending: Pending[Any] | None,
        frame: bytes,
        armed: Armed[Pending[Any]] | None = None,
    ) -> Pending[Any] | None:
        """Send a request in one turn; with ``armed`` the one signed ahead, or None if that is spent.

        A turn as :class:`Turn` has it, written out: what lies between decision and wire.
        """
        turn, me = self._turn, get_ident()
        free = turn.free
        while True:
            try:
                del free[0]
                break
            except IndexError:
                turn.wait(me)
        try:
            try:
                turn.owner = me
                if turn.wanted:
                    turn.wanted = False
                link = self._links.use
                if link is None or not link.ready:
                    raise NotSent(self._links.why_not_ready())
                if armed is not None:
                    began = monotonic() if self._timed else 0.0
                    size = armed._take()
                    pending, armed._pending = armed._pending, None
                    if size >= 0:
                        frame = self._store.view[:size]
                    else:
                        pending = None
                    if began and pending is not None:
                        pending.began, pending.built = began, monotonic()
                if pending is None:
                    return None
                link.put(frame, pending)
                if armed is not None:
                    self._fired.append(armed)
            finally:
                turn.owner = 0
                free.append(None)
        except NotSent as error:  # a signal handler's can come out of the last lines, too
            if pending is not None and pending.sent_at:
                _raise_own(error, pending)
            raise
        return pending

    # Armed cancels; see Arming.

    def _check_open(self) -> None:
        if self._links.closed:
            raise NotSent(self._links.why_not_ready())

    def _fire(self, armed: Armed[Pending[Any]]) -> Pending[Any]:
        try:
            pending = self._send(None, b"", armed)
        except NotSent as error:
            if not armed.armed:  # what was signed ahead is spent all the same
                self._disarm(armed)
            return self._fire_later(str(error), [armed])[0]
        if pending is None:
            self._disarm(armed)
            pending = self._cancel(partial(self._frame_of, armed), "cancel_order", order=armed.order)
        return pending

    def _fire_many(self, cancels: list[Armed[Pending[Any]]]) -> list[Pending[Any]]:
        pendings: list[Pending[Any]] = []
        try:
            self._ready_link()
            with eager_switching():
                frames, pendings, starts = self._frames_of(cancels)
                with self._turn():
                    self._put_many(self._ready_link(), frames, pendings, starts)
        except NotSent as error:
            if pendings and pendings[0].sent_at:
                _raise_own(error, pendings[0])
            return self._fire_later(str(error), cancels)
        return pendings


def _events(
    links: Links[Link],
    listen: Callable[[ConnectionEvent], None],
    waiting: deque[ConnectionEvent],
    arrived: Event,
) -> Iterator[ConnectionEvent]:
    """Knows no client: one that nobody has but who waits here is collected, and closed."""
    try:
        while True:
            while waiting:
                yield waiting.popleft()
            if links.state is LinkState.CLOSED:
                return
            arrived.clear()
            if not waiting:
                arrived.wait()
    finally:
        links.listeners.remove(listen)


def connect(
    signer: Signer,
    *,
    url: str = MAINNET_WS,
    ssl: ssl_module.SSLContext | None = None,
    api_key: str | None = None,
    on_late_reply: LateReply | None = None,
    **settings: Unpack[Settings],
) -> Client:
    """Connect to the exchange: ``with connect(signer) as client``, or close it yourself.

    - ``signer``: who signs.
    - ``url``: ``wss://…``; ``ws://`` only to this machine.
    - ``ssl``: an ``ssl.SSLContext`` in place of the default one, which verifies.
    - ``api_key``: the ``PF-API-KEY`` header, an API config key for a larger rate limit; not a signing key.
    - ``on_late_reply``: called with the request and its outcome when a reply comes after the request
      ended as :class:`OutcomeUnknown`; in the client's own thread, which reads the replies: it may send,
      and must not wait for an outcome.
    - ``settings``: see :class:`~pacifica_fast.endpoint.Settings`.

    Raises :class:`ConnectionFailed`, which tells the stage, and :class:`InvalidRequest`.
    """
    check_signer(signer)
    if settings.get("keep_warm"):
        raise InvalidRequest("keep_warm: only the asyncio client has it")
    return Client(signer, Endpoint.checked(url, ssl=ssl, api_key=api_key, **settings), on_late_reply)
