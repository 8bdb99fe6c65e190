# SPDX-License-Identifier: MIT
"""The asyncio client: cancels on the wire when the call returns, and a fate for each.

The work between decision and wire is: is the link ready, take a request registered
beforehand, one C call, one write. Everything else happens before or after.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as ssl_module
from asyncio import _get_running_loop  # the one that does not raise
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from functools import partial
from importlib import import_module
from math import inf
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar, Unpack, overload
from uuid import UUID

from pacifica_fast import session
from pacifica_fast.armed import Armed
from pacifica_fast.asyncio.link import Link
from pacifica_fast.endpoint import (
    CLOSE_TIMEOUT,
    DID_NOT_COME,
    MAINNET_WS,
    TESTNET_WS,
    Endpoint,
    Settings,
    check_signer,
    is_address,
)
from pacifica_fast.errors import ConnectionFailed, InvalidRequest, NotSent, PacificaError, WrongThread
from pacifica_fast.links import ConnectionEvent, Links, LinkState
from pacifica_fast.news import News
from pacifica_fast.orders import TRACK_TIMEOUT, OrderTracker
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.sending import EVENTS_MAX, Sending
from pacifica_fast.session import CLOSED, Truth
from pacifica_fast.signer import OrderId, Signer
from pacifica_fast.stall import Stall
from pacifica_fast.switching import SwitchAdvice, eager_switching
from pacifica_fast.websocket import frame_of

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]

UVLOOP_MIN = (0, 23)

_MOMENT = 0.001  # s; the least pause between two looks at the clock

A = TypeVar("A", bound=Ack)

LateReply = Callable[["Pending[Any]", Ack | Exception], None]


class Pending(session.Pending, Generic[A]):
    """A request on the wire. Await it, any number of times, for its acknowledgement.

    Awaiting raises the error it ended with: :class:`Rejected` or :class:`OutcomeUnknown`.
    Cancelling the task that awaits does not touch the request.
    """

    __slots__ = ("_loop", "_waiters")

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(number)
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] | None = None

    def __await__(self) -> Generator[Any, None, A]:
        if self._outcome is None:
            if asyncio.get_running_loop() is not self._loop:
                raise WrongThread("await a request in the event loop of its client")
            waiter: asyncio.Future[None] = self._loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                yield from waiter
            finally:
                if self._waiters is not None:
                    self._waiters.remove(waiter)
        ack: A = self.outcome()
        return ack

    def _settle(self, outcome: Ack | Exception, now: float) -> None:
        super()._settle(outcome, now)
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    waiter.set_result(None)


class Client(Sending[Pending[Any]]):
    """A connection to the exchange, or two, made by :class:`connect`. Belongs to one event loop.

    Not for handlers of ``signal.signal``, which come in the middle of anything, a cancel's own
    sending too: ``loop.add_signal_handler`` is.

    Every method raises, before anything is sent: :class:`InvalidRequest` for a wrong
    argument, :class:`NotSent` when no link can take the request now,
    :class:`KeyClosed`, and :class:`WrongThread` when called from another thread, or another
    event loop. Awaited requests raise :class:`Rejected` or :class:`OutcomeUnknown`; cancels that
    waited for a connection may also end as :class:`NotSent`.
    """

    def __init__(self, signer: Signer, endpoint: Endpoint, on_late_reply: LateReply | None = None) -> None:
        super().__init__(signer, endpoint.arm_window)
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._thread = get_ident()
        self._endpoint = endpoint
        self._session: session.Session[Pending[Any]] = endpoint.session(lambda number: Pending(number, loop))
        self._links: Links[Link] = Links(self._session, endpoint, self._begin_opening)
        self._news = News(signer, endpoint, self._session, self._links, contextlib.nullcontext, on_late_reply)
        self._openings: set[asyncio.Task[ConnectionFailed | None]] = set()
        # One sweeper for everything that is due.
        self._tick_interval = min(endpoint.timeout, endpoint.heartbeat, endpoint.pong_timeout) / 20
        self._ticker: asyncio.TimerHandle | None = None
        self._stopped = False
        self._tick_due = inf
        self._stall = Stall()
        self._timed = endpoint.latency
        self._advice = SwitchAdvice()
        self._keep_warm = endpoint.keep_warm
        self._warmer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None

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
        # _send, written out: nothing a cancel comes upon is in the caches.
        link = self._links.use
        timed = self._timed
        if timed:
            began = monotonic()
        if _get_running_loop() is not self._loop:
            self._check_thread()
        if link is not None and link.ready:
            pending = self._session.take()
            frame = self.signer.cancel_order_frame(
                symbol, order_id, client_order_id, timestamp, expiry_window, pending.number
            )
            if timed:
                pending.began, pending.built = began, monotonic()
            try:
                link.put(frame, pending)
            except NotSent as error:
                reason = str(error)
            else:
                pending.order = order_id if client_order_id is None else str(client_order_id)
                return pending
        else:
            reason = self._links.why_not_ready()
        return self._cancel_later(
            reason,
            partial(
                self.signer.cancel_order_frame, symbol, order_id, client_order_id, timestamp, expiry_window
            ),
            order=order_id if client_order_id is None else str(client_order_id),
        )

    @overload
    async def cancel_order(
        self,
        symbol: str,
        *,
        order_id: int,
        client_order_id: None = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck: ...

    @overload
    async def cancel_order(
        self,
        symbol: str,
        *,
        order_id: None = None,
        client_order_id: str | UUID,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck: ...

    async def cancel_order(
        self,
        symbol: str,
        *,
        order_id: Any = None,
        client_order_id: Any = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> CancelAck:
        """Cancel one order, and wait for the exchange's answer."""
        return await self.cancel_order_nowait(
            symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            timestamp=timestamp,
            expiry_window=expiry_window,
        )

    async def cancel_all_orders(
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
        return await pending

    async def batch_cancel(
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
        return await pending

    async def request(
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
        self._check_thread()
        link = self._link_for(operation)
        pending: Pending[Ack] = self._session.take()
        pending.operation = operation
        request = self.signer.request(
            operation, data, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        frame = frame_of(request.text)
        self._session.book(pending, monotonic())
        try:
            link.put(frame, pending)
        except BaseException:
            self._session.unbook(pending)
            raise
        return await pending

    # The connection.

    def events(self) -> AsyncIterator[ConnectionEvent]:
        """What happens to the links from now on, until the client is closed: iterate over it.

        One that is not read loses the oldest of more than 1 000.
        """
        self._check_thread()
        waiting: deque[ConnectionEvent] = deque(maxlen=EVENTS_MAX)
        arrived = asyncio.Event()

        def listen(event: ConnectionEvent) -> None:
            waiting.append(event)
            arrived.set()

        self._links.listeners.append(listen)
        return _events(self._links, listen, waiting, arrived)

    # Tracking orders.

    async def track(
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
        tracker = self._news.track(self._tracker(account, arm, self._news.truth_told))
        self._tracked = tracker
        self._news.start()
        try:
            await self._until(lambda: tracker.live, within)
        except TimeoutError:
            raise ConnectionFailed("subscribe", f"not acknowledged within {within:g} s") from None
        return tracker

    async def truth(self, pending: Pending[Any], within: float = TRACK_TIMEOUT) -> Truth:
        """Wait until a tracker knows what became of the order of a cancel.

        Raises ``TimeoutError`` if that is not known ``within`` so many s.
        """
        self._check_thread()
        await self._until(lambda: pending.settled is not None, within)
        truth = pending.settled
        if truth is None:  # a waiter's own error, never seen
            raise TimeoutError
        return truth

    async def _until(self, there: Callable[[], bool], within: float) -> None:
        changed = asyncio.Event()
        self._news.changed.append(changed.set)
        try:
            async with asyncio.timeout(within):
                while not there():
                    changed.clear()
                    await changed.wait()
        finally:
            self._news.changed.remove(changed.set)

    # Closing.

    async def close(self) -> None:
        """Close the connection; requests in flight may still get their replies meanwhile.

        What has got none when the connection is gone ends as :class:`OutcomeUnknown`.
        """
        self._stop()
        closed = [link.closed for link in self._links.all()]
        try:
            if closed:
                await asyncio.wait(closed, timeout=CLOSE_TIMEOUT)
        finally:
            self._abort(CLOSED)
        for gone in closed:
            await gone
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
        tasks = [task for task in (keeper, *self._openings) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Inside: sending.

    def _check_thread(self) -> None:
        if get_ident() != self._thread:
            raise WrongThread("the client belongs to the thread of its event loop (use call_soon_threadsafe)")
        if _get_running_loop() not in (self._loop, None):
            raise WrongThread("the client belongs to another event loop than the one that runs")
        if self._loop.is_closed():  # no reply would be read
            raise NotSent("the event loop was closed")

    def _cancel(
        self,
        frame: Callable[[int], bytes],
        operation: str,
        actions: int = 0,
        order: int | str | None = None,
    ) -> Pending[Any]:
        self._check_thread()
        try:
            link = self._ready_link()
            pending = self._session.take()
            pending.operation, pending.actions, pending.order = operation, actions, order
            link.put(frame(pending.number), pending)
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
        if not self._endpoint.retry_within or self._links.closed:
            raise NotSent(reason) from None
        pending = self._session.take()
        pending.operation, pending.actions, pending.order = operation, actions, order
        frame(pending.number)  # bad input is told now, and not when there is a connection
        deadline = monotonic() + self._endpoint.retry_within
        self._session.park(pending, frame, reason, deadline)
        self._schedule_tick()
        return pending

    # Armed cancels; see Arming.

    def _check_open(self) -> None:
        self._check_thread()
        if self._links.closed:
            raise NotSent(self._links.why_not_ready())

    def _fire(self, armed: Armed[Pending[Any]]) -> Pending[Any]:
        # As in cancel_order_nowait.
        link = self._links.use
        if _get_running_loop() is not self._loop:
            self._check_thread()
        if link is None or not link.ready:
            return self._cancel(partial(self._frame_of, armed), "cancel_order", order=armed.order)
        began = monotonic() if self._timed else 0.0
        size = armed._take()
        pending = armed._pending
        if size < 0 or pending is None:
            self._disarm(armed)
            return self._cancel(partial(self._frame_of, armed), "cancel_order", order=armed.order)
        if began:
            pending.began, pending.built = began, monotonic()
        try:
            link.put(self._store.view[:size], pending)
        except NotSent as error:  # what was signed ahead is spent all the same
            self._disarm(armed)
            return self._fire_later(str(error), [armed])[0]
        armed._pending = None
        self._fired.append(armed)
        return pending

    def _fire_many(self, cancels: list[Armed[Pending[Any]]]) -> list[Pending[Any]]:
        self._check_thread()
        try:
            link = self._ready_link()
            with eager_switching():
                frames, pendings, starts = self._frames_of(cancels)
                self._put_many(link, frames, pendings, starts)
        except NotSent as error:
            return self._fire_later(str(error), cancels)
        return pendings

    # Inside: what arrives, and what is due.

    def _message(self, link: Link, text: bytes) -> None:
        now = monotonic()
        message = self._session.receive(link.lane, text, now)
        if message is not None:
            self._news.channel(link.lane, message, now)
        elif self._session.late or self._session.open:
            self._news.replies()

    def _lost(self, link: Link, reason: str) -> None:
        self._links.lost(link, reason, monotonic())
        self._news.replies()
        if self._keeper is not None:
            self._schedule_tick()

    def _tick(self) -> None:
        now = monotonic()
        if self._stall.goes_on(now, self._tick_due, self._links.all()):
            self._tick_in(_MOMENT)
            return
        try:
            self._advice.look()
            self._session.tick(now)
            self._links.tick(now)
            self._news.tick(now)
            self._send_parked()
        finally:  # a logging handler may raise
            self._schedule_tick()

    def _schedule_tick(self) -> None:
        """The next tick, not later than whatever is due first."""
        due = min(self._session.next_deadline(), self._links.next_event()) - monotonic()
        self._tick_in(max(_MOMENT, min(self._tick_interval, due)))

    def _tick_in(self, seconds: float) -> None:
        if self._stopped:  # a link that is lost while closing would begin it again, for ever
            return
        if self._ticker is not None:
            self._ticker.cancel()
        self._tick_due = monotonic() + seconds
        self._ticker = self._loop.call_later(seconds, self._tick)

    def _send_parked(self) -> None:
        link = self._links.use
        if link is not None and link.ready:
            self._session.unparked(lambda pending, frame: link.put(frame, pending), monotonic())

    def _warm(self) -> None:
        """What a cancel does before its write. No market is called that: nobody could use it."""
        with contextlib.suppress(PacificaError):  # a closed key is for the next cancel to tell
            self.signer.cancel_order_frame("WARM", 0, None, None, None, self._session.take().number)
        self._session.refill()
        self._warmer = self._loop.call_later(self._keep_warm, self._warm)

    # Inside: opening and closing.

    async def _open(self) -> None:
        """Open the links; raises :class:`ConnectionFailed` if none comes about."""
        self._links.start(monotonic())
        try:
            failures = await asyncio.gather(*self._openings)
        except BaseException:
            await self.close()
            raise
        if self._links.use is None:
            lost = ConnectionFailed("upgrade", self._links.why_not_ready())  # as soon as it was open
            await self.close()
            raise next((failure for failure in failures if failure is not None), lost)
        self._keeper = self._loop.create_task(self._keep())
        self._tick()
        if self._keep_warm:
            self._warm()

    def _begin_opening(self, index: int) -> None:
        task = self._loop.create_task(self._open_link(index))
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    async def _open_link(self, index: int) -> ConnectionFailed | None:
        endpoint = self._endpoint
        lane = self._session.open_lane(monotonic())
        link = Link(
            endpoint.websocket(),
            endpoint.tls(),
            lane,
            self._message,
            self._lost,
            max_unsent=endpoint.max_unsent,
        )
        failure: ConnectionFailed | None = ConnectionFailed("connect", "cancelled")
        try:
            await self._dial(link)
            failure = ConnectionFailed("upgrade", link.why_not_ready()) if link.closed.done() else None
        except ConnectionFailed as error:
            failure = error
        finally:
            if failure is not None:
                self._session.lost(lane, DID_NOT_COME, monotonic())
                self._links.failed(index, failure, monotonic())
                await link.aborted(DID_NOT_COME)
        if failure is None:
            now = monotonic()
            self._links.opened(index, link, now)
            self._send_parked()
            self._news.tick(now)
        if self._keeper is not None:
            self._schedule_tick()
        return failure

    async def _dial(self, link: Link) -> None:
        uri, open_timeout = self._endpoint.uri, self._endpoint.open_timeout
        # RFC 8305; uvloop knows no such option. CPython's race, cancelled, leaves a socket to the garbage
        # collector: a single address needs none.
        options: dict[str, Any] = {}
        if isinstance(self._loop, asyncio.BaseEventLoop) and not is_address(uri.host):
            options["happy_eyeballs_delay"] = 0.25
        try:
            async with asyncio.timeout(open_timeout):
                await self._loop.create_connection(lambda: link, uri.host, uri.port, **options)
                await link.opened
        except TimeoutError:
            raise ConnectionFailed("timeout", f"not open within {open_timeout:g} s") from None
        except socket.gaierror as error:
            raise ConnectionFailed("dns", str(error)) from error
        except OSError as error:
            raise ConnectionFailed("connect", str(error)) from error
        finally:
            if not link.opened.done():
                link.opened.cancel()
            elif not link.opened.cancelled():
                link.opened.exception()  # seen: it is raised already, or something earlier is

    async def _keep(self) -> None:
        """Nothing, until the event loop ends under an open client: then every request has its fate."""
        try:
            await self._loop.create_future()
        finally:
            if self._keeper is not None:  # it was not close()
                self._stop("the event loop was closed")
                self._abort("the event loop was closed")

    def _stop(self, reason: str = CLOSED) -> None:
        self._stopped = True
        for timer in (self._ticker, self._warmer):
            if timer is not None:
                timer.cancel()
        self._close_armed()
        for task in self._openings:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                task.cancel()
        self._links.close(reason, monotonic())

    def _abort(self, reason: str) -> None:
        for link in self._links.all():
            link.abort(reason)
        self._session.close(reason, monotonic())


async def _events(
    links: Links[Link],
    listen: Callable[[ConnectionEvent], None],
    waiting: deque[ConnectionEvent],
    arrived: asyncio.Event,
) -> AsyncIterator[ConnectionEvent]:
    try:
        while True:
            while waiting:
                yield waiting.popleft()
            if links.state is LinkState.CLOSED:
                return
            arrived.clear()
            await arrived.wait()
    finally:
        links.listeners.remove(listen)


def check_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse a loop whose transports do not write in ``write``."""
    if type(loop).__module__.partition(".")[0] != "uvloop":
        return
    version = import_module("uvloop").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < UVLOOP_MIN:
        raise InvalidRequest(
            f"uvloop {version}: only from 0.23 on does it write to the socket at once; "
            "pip install -U 'pacifica-fast[uvloop]'"
        )


class connect(Awaitable[Client]):  # noqa: N801  # used like a function
    """Connect to the exchange: ``async with connect(signer) as client``, or ``await connect(signer)``.

    - ``signer``: who signs.
    - ``url``: ``wss://…``; ``ws://`` only to this machine.
    - ``ssl``: an ``ssl.SSLContext`` in place of the default one, which verifies.
    - ``api_key``: the ``PF-API-KEY`` header, an API config key for a larger rate limit; not a signing key.
    - ``on_late_reply``: called with the request and its outcome when a reply comes after the request
      ended as :class:`OutcomeUnknown`; it may send.
    - ``settings``: see :class:`~pacifica_fast.endpoint.Settings`.

    Raises :class:`ConnectionFailed`, which tells the stage, and :class:`InvalidRequest`.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        url: str = MAINNET_WS,
        ssl: ssl_module.SSLContext | None = None,
        api_key: str | None = None,
        on_late_reply: LateReply | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        check_signer(signer)
        self._signer = signer
        self._on_late_reply = on_late_reply
        self._endpoint = Endpoint.checked(url, ssl=ssl, api_key=api_key, **settings)
        self._client: Client | None = None

    async def _connect(self) -> Client:
        endpoint = self._endpoint
        check_event_loop(asyncio.get_running_loop())
        client = Client(self._signer, endpoint, self._on_late_reply)
        await client._open()
        return client

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._connect()
        return self._client

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()
