# SPDX-License-Identifier: MIT
"""The asyncio client: cancels on the wire when the call returns, and a fate for each.

The work between decision and wire is: is the link ready, take a request registered
beforehand, one C call, one write. Everything else happens before or after.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl as ssl_module
from collections.abc import Awaitable, Generator, Sequence
from importlib import import_module
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar
from uuid import UUID

from pacifica_fast import session
from pacifica_fast.armed import PARTLY_SENT, Armed, Arming
from pacifica_fast.asyncio.link import Link
from pacifica_fast.endpoint import (
    CLOSE_TIMEOUT,
    HEARTBEAT,
    MAINNET_WS,
    MAX_MESSAGE,
    OPEN_TIMEOUT,
    TESTNET_WS,
    TIMEOUT,
    Endpoint,
    check_signer,
)
from pacifica_fast.errors import ConnectionFailed, InvalidRequest, NotSent, PacificaError, WrongThread
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.signer import OrderId, Signer
from pacifica_fast.switching import SwitchAdvice, eager_switching
from pacifica_fast.websocket import frame_of

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]

logger = logging.getLogger("pacifica_fast.asyncio")

UVLOOP_MIN = (0, 23)

A = TypeVar("A", bound=Ack)


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
                waiter.set_result(None)


class Client(Arming[Pending[Any]]):
    """A connection to the exchange, made by :class:`connect`. Belongs to one event loop.

    Not for handlers of ``signal.signal``, which come in the middle of anything, a cancel's own
    sending too: ``loop.add_signal_handler`` is.

    Every method raises, before anything is sent: :class:`InvalidRequest` for a wrong
    argument, :class:`NotSent` when the link cannot take the request now,
    :class:`KeyClosed`, and :class:`WrongThread` when called from another thread than the
    loop's. Awaited requests raise :class:`Rejected` or :class:`OutcomeUnknown`.
    """

    def __init__(self, signer: Signer, endpoint: Endpoint) -> None:
        super().__init__(signer, endpoint.arm_window)
        loop = asyncio.get_running_loop()
        timeout, heartbeat = endpoint.timeout, endpoint.heartbeat
        self._loop = loop
        self._thread = get_ident()
        self._session: session.Session[Pending[Any]] = session.Session(
            lambda number: Pending(number, loop), timeout=timeout, heartbeat=heartbeat, now=monotonic()
        )
        self._link: Link | None = None
        # One sweeper for all deadlines. It adds at most this to a timeout.
        self._tick_interval = min(timeout, heartbeat) / 20
        self._ticker: asyncio.TimerHandle | None = None
        self._advice = SwitchAdvice()
        self._keep_warm = endpoint.keep_warm
        self._warmer: asyncio.TimerHandle | None = None

    # Cancels.

    def cancel_order_nowait(
        self,
        symbol: str,
        *,
        order_id: int | None = None,
        client_order_id: str | UUID | None = None,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Pending[CancelAck]:
        """Cancel one order; the request is with the kernel when this returns.

        Arguments as :meth:`Signer.cancel_order`.
        """
        # _ready_link and _send, written out: nothing a cancel comes upon is in the caches.
        link = self._link
        if get_ident() != self._thread or link is None or not link.ready:
            link = self._ready_link()
        session = self._session
        pending = session.take()
        link.put(
            self.signer.cancel_order_frame(
                symbol, order_id, client_order_id, timestamp, expiry_window, pending.number
            )
        )
        pending.sent_at = monotonic()
        session.just_sent.append(pending)
        return pending

    async def cancel_order(
        self,
        symbol: str,
        *,
        order_id: int | None = None,
        client_order_id: str | UUID | None = None,
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
        link = self._ready_link()
        pending: Pending[CancelAllAck] = self._session.take()
        request = self.signer.cancel_all_orders(
            symbol=symbol,
            exclude_reduce_only=exclude_reduce_only,
            timestamp=timestamp,
            expiry_window=expiry_window,
            number=pending.number,
        )
        self._send(link, pending, frame_of(request.text), "cancel_all_orders")
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
        link = self._ready_link()
        pending: Pending[BatchAck] = self._session.take()
        request = self.signer.batch_cancel(
            cancels, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        self._send(link, pending, frame_of(request.text), "batch_orders", len(cancels))
        return await pending

    async def request(
        self,
        operation: str,
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Ack:
        """Any operation of the websocket: ``create_order``, ``edit_order``, ..."""
        link = self._ready_link()
        pending: Pending[Ack] = self._session.take()
        request = self.signer.request(
            operation, data, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        self._send(link, pending, frame_of(request.text), operation)
        return await pending

    # The connection.

    @property
    def connected(self) -> bool:
        """True while a request can be sent and will reach the kernel at once."""
        return self._link is not None and self._link.ready

    async def close(self) -> None:
        """Close the connection; requests in flight may still get their replies meanwhile.

        What has got none when the connection is gone ends as :class:`OutcomeUnknown`.
        """
        for timer in (self._ticker, self._warmer):
            if timer is not None:
                timer.cancel()
        self._close_armed()
        link = self._link
        if link is None:
            return
        try:
            link.close()
            await asyncio.wait_for(asyncio.shield(link.closed), CLOSE_TIMEOUT)
        except TimeoutError:
            pass
        finally:
            link.abort("the client was closed")
        await link.closed

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<Client {self.signer.account} {state} in_flight={self._session.in_flight_count}>"

    # Inside.

    def _check_thread(self) -> None:
        if get_ident() != self._thread:
            raise WrongThread("the client belongs to the thread of its event loop (use call_soon_threadsafe)")

    def _ready_link(self) -> Link:
        if get_ident() != self._thread:
            self._check_thread()
        link = self._link
        if link is None or not link.ready:
            raise NotSent("not connected" if link is None else link.why_not_ready())
        return link

    def _send(
        self, link: Link, pending: Pending[Any], frame: bytes, operation: str, actions: int = 0
    ) -> None:
        # Registered behind the write: no reply is read before this returns to the loop.
        link.put(frame)
        self._session.sent(pending, operation, monotonic(), actions)

    # Armed cancels; see Arming.

    def _check_open(self) -> None:
        self._check_thread()
        if self._link is None or self._link.closed.done():
            raise NotSent("not connected" if self._link is None else self._link.why_not_ready())

    def _fire(self, armed: Armed[Pending[Any]]) -> Pending[Any]:
        # As in cancel_order_nowait.
        link = self._link
        if get_ident() != self._thread or link is None or not link.ready:
            link = self._ready_link()
        size = armed._take()
        pending = armed._pending
        if size < 0 or pending is None:
            return self._fire_afresh(link, armed)
        link.put(self._store.view[:size])
        armed._pending = None
        pending.sent_at = monotonic()
        self._session.just_sent.append(pending)
        self._fired.append(armed)
        return pending

    def _fire_afresh(self, link: Link, armed: Armed[Pending[Any]]) -> Pending[Any]:
        self._disarm(armed)
        pending = self._session.take()
        self._send(link, pending, self._frame_of(armed, pending.number), "cancel_order")
        return pending

    def _fire_many(self, cancels: list[Armed[Pending[Any]]]) -> list[Pending[Any]]:
        link = self._ready_link()
        with eager_switching():
            frames, pendings, starts = self._frames_of(cancels)
            data = link.put(frames)
            self._session.sent_many(pendings, "cancel_order", monotonic())
        unsent = link.unsent_from(len(frames), data)
        if unsent is not None:
            self._settle_unsent(pendings, starts, unsent)
            link.abort(PARTLY_SENT)
        return pendings

    def _resend(self, armed: Armed[Pending[Any]], pending: Pending[Any]) -> bool:
        try:
            link = self._ready_link()
            self._session.renumber(pending)
            self._send(link, pending, self._frame_of(armed, pending.number), "cancel_order")
        except PacificaError as error:
            logger.warning("could not sign afresh: %s", error)
            return False
        return True

    def _message(self, text: bytes) -> None:
        message = self._session.receive(text, monotonic())
        if message is not None:
            logger.debug("message of channel %r", message.get("channel"))

    def _lost(self, reason: str) -> None:
        self._session.lost(reason, monotonic())

    def _tick(self) -> None:
        self._advice.look()
        ping = self._session.tick(monotonic())
        link = self._link
        if ping is not None and link is not None and link.ready:
            with contextlib.suppress(NotSent):  # the link is gone, and says so itself
                link.put(frame_of(ping))
        self._ticker = self._loop.call_later(self._tick_interval, self._tick)

    def _warm(self) -> None:
        """What a cancel does before its write. No market is called that: nobody could use it."""
        with contextlib.suppress(PacificaError):  # a closed key is for the next cancel to tell
            self.signer.cancel_order_frame("WARM", 0, None, None, None, self._session.take().number)
        self._session.refill()
        self._warmer = self._loop.call_later(self._keep_warm, self._warm)

    async def _open(self, endpoint: Endpoint) -> None:
        uri, open_timeout = endpoint.uri, endpoint.open_timeout
        # RFC 8305; uvloop knows no such option.
        options: dict[str, Any] = {"happy_eyeballs_delay": 0.25}
        if not isinstance(self._loop, asyncio.BaseEventLoop):
            options = {}
        link = Link(endpoint.websocket(), endpoint.tls(), self._message, self._lost, endpoint.max_unsent)
        try:
            async with asyncio.timeout(open_timeout):
                await self._loop.create_connection(lambda: link, uri.host, uri.port, **options)
                await link.opened
            self._link = link
        except TimeoutError:
            raise ConnectionFailed("timeout", f"not open within {open_timeout:g} s") from None
        except OSError as error:
            raise ConnectionFailed("connect", str(error)) from error
        finally:
            if self._link is not link:
                link.abort("the connection did not come about")
                if not link.opened.cancel() and not link.opened.cancelled():
                    link.opened.exception()  # seen: it is raised already, or something earlier is
        self._tick()
        if self._keep_warm:
            self._warm()


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
    - ``timeout``: how long a request waits for its reply, in s; then it is :class:`OutcomeUnknown`.
    - ``ssl``: an ``ssl.SSLContext`` in place of the default one, which verifies.
    - ``api_key``: the ``PF-API-KEY`` header, an API config key for a larger rate limit; not a signing key.
    - ``heartbeat``: ping after this many s without a request; the exchange closes after 60.
    - ``open_timeout``: for name resolution, TCP, TLS and upgrade together, in s.
    - ``max_size``: the largest message accepted from the exchange, in bytes.
    - ``max_unsent``: how many bytes may be waiting for the socket when a request is sent; with
      more, it is :class:`NotSent`. 0: a request goes to the kernel at once or not at all.
    - ``arm_window``: how long an armed cancel stays valid, in ms; see :meth:`Client.arm`.
    - ``keep_warm``: build a request and throw it away every so many s, so that code and data are in
      the processor's caches when a cancel is due; 0.01 costs 0.3 % of a core. 0: do not.

    Raises :class:`ConnectionFailed`, which tells the stage, and :class:`InvalidRequest`.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        url: str = MAINNET_WS,
        timeout: float = TIMEOUT,
        ssl: ssl_module.SSLContext | None = None,
        api_key: str | None = None,
        heartbeat: float = HEARTBEAT,
        open_timeout: float = OPEN_TIMEOUT,
        max_size: int = MAX_MESSAGE,
        max_unsent: int = 0,
        arm_window: int | None = None,
        keep_warm: float = 0.0,
    ) -> None:
        check_signer(signer)
        self._signer = signer
        self._endpoint = Endpoint.checked(
            url,
            timeout=timeout,
            ssl=ssl,
            api_key=api_key,
            heartbeat=heartbeat,
            open_timeout=open_timeout,
            max_size=max_size,
            max_unsent=max_unsent,
            arm_window=arm_window,
            keep_warm=keep_warm,
        )
        self._client: Client | None = None

    async def _connect(self) -> Client:
        endpoint = self._endpoint
        check_event_loop(asyncio.get_running_loop())
        client = Client(self._signer, endpoint)
        await client._open(endpoint)
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
