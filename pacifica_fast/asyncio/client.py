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
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, TypeVar
from uuid import UUID

from pacifica_fast import session
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
from pacifica_fast.errors import ConnectionFailed, NotSent, WrongThread
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.signer import OrderId, Signer

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]

logger = logging.getLogger("pacifica_fast.asyncio")

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


class Client:
    """A connection to the exchange, made by :class:`connect`. Belongs to one event loop.

    Every method raises, before anything is sent: :class:`InvalidRequest` for a wrong
    argument, :class:`NotSent` when the link cannot take the request now,
    :class:`KeyClosed`, and :class:`WrongThread` when called from another thread than the
    loop's. Awaited requests raise :class:`Rejected` or :class:`OutcomeUnknown`.
    """

    def __init__(self, signer: Signer, *, timeout: float, heartbeat: float) -> None:
        loop = asyncio.get_running_loop()
        self.signer = signer
        self._loop = loop
        self._thread = get_ident()
        self._time = loop.time
        self._session: session.Session[Pending[Any]] = session.Session(
            lambda number: Pending(number, loop), timeout=timeout, heartbeat=heartbeat, now=loop.time()
        )
        self._link: Link | None = None
        # One sweeper for all deadlines. It adds at most this to a timeout.
        self._tick_interval = min(timeout, heartbeat) / 20
        self._ticker: asyncio.TimerHandle | None = None

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
        link = self._ready_link()
        current = self._session
        pending = current.take()
        text = self.signer.cancel_order_text(
            symbol, order_id, client_order_id, timestamp, expiry_window, None, pending.number
        )
        self._send(link, pending, text, "cancel_order")
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
        self._send(link, pending, request.text, "cancel_all_orders")
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
        self._send(link, pending, request.text, "batch_orders", len(cancels))
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
        self._send(link, pending, request.text, operation)
        return await pending

    # The connection.

    @property
    def connected(self) -> bool:
        """True while a request can be sent and will reach the kernel at once."""
        return self._link is not None and self._link.ready and not self._link.is_closing()

    async def close(self) -> None:
        """Close the connection; requests in flight may still get their replies meanwhile.

        What has got none when the connection is gone ends as :class:`OutcomeUnknown`.
        """
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
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
        return f"<Client {self.signer.account} {state} in_flight={len(self._session.in_flight())}>"

    # Inside.

    def _ready_link(self) -> Link:
        if get_ident() != self._thread:
            raise WrongThread("the client belongs to the thread of its event loop (use call_soon_threadsafe)")
        link = self._link
        if link is None or not link.ready or link.is_closing():
            raise NotSent("not connected" if link is None else link.why_not_ready())
        return link

    def _send(self, link: Link, pending: Pending[Any], text: bytes, operation: str, actions: int = 0) -> None:
        data = self._encoded(link, text)
        current = self._session
        current.sent(pending, operation, self._time(), actions)
        link.write(data)
        current.refill()

    def _encoded(self, link: Link, text: bytes) -> bytes:
        try:
            return link.encode(text)
        except ssl_module.SSLError as error:
            link.abort(f"tls: {error}")
            raise NotSent(f"tls: {error}") from error

    def _message(self, text: bytes) -> None:
        message = self._session.receive(text, self._time())
        if message is not None:
            logger.debug("message of channel %r", message.get("channel"))

    def _lost(self, reason: str) -> None:
        self._session.lost(reason, self._time())

    def _tick(self) -> None:
        ping = self._session.tick(self._time())
        link = self._link
        if ping is not None and link is not None and link.ready and not link.is_closing():
            with contextlib.suppress(NotSent):  # the link is gone, and says so itself
                link.write(self._encoded(link, ping))
        self._ticker = self._loop.call_later(self._tick_interval, self._tick)

    async def _open(self, endpoint: Endpoint) -> None:
        uri, open_timeout = endpoint.uri, endpoint.open_timeout
        link = Link(endpoint.websocket(), endpoint.tls(), self._message, self._lost)
        try:
            async with asyncio.timeout(open_timeout):
                await self._loop.create_connection(
                    lambda: link, uri.host, uri.port, happy_eyeballs_delay=0.25
                )
                await link.opened
        except TimeoutError:
            raise ConnectionFailed("timeout", f"not open within {open_timeout:g} s") from None
        except OSError as error:
            raise ConnectionFailed("connect", str(error)) from error
        finally:
            if not link.ready:
                link.abort("the connection did not come about")
                if link.opened.done() and not link.opened.cancelled():
                    link.opened.exception()  # seen: it is raised already, or something earlier is
        self._link = link
        self._tick()


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
        )
        self._client: Client | None = None

    async def _connect(self) -> Client:
        endpoint = self._endpoint
        client = Client(self._signer, timeout=endpoint.timeout, heartbeat=endpoint.heartbeat)
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
