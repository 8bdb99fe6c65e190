# SPDX-License-Identifier: MIT
"""The blocking client: cancels on the wire when the call returns, and a fate for each.

Threads build and sign at the same time, and take turns to encrypt and write. Everything
else is the reader's, see :mod:`pacifica_fast.sync.reader`.
"""

from __future__ import annotations

import logging
import ssl as ssl_module
import weakref
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar
from uuid import UUID

from pacifica_fast import session
from pacifica_fast.armed import PARTLY_SENT, Armed, Arming
from pacifica_fast.endpoint import (
    HEARTBEAT,
    MAINNET_WS,
    MAX_MESSAGE,
    OPEN_TIMEOUT,
    TESTNET_WS,
    TIMEOUT,
    Endpoint,
    check_signer,
)
from pacifica_fast.errors import ConnectionFailed, NotSent, PacificaError
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.signer import OrderId, Signer
from pacifica_fast.switching import eager_switching
from pacifica_fast.sync.dial import dial
from pacifica_fast.sync.link import Ended, Link
from pacifica_fast.sync.reader import Reader
from pacifica_fast.websocket import frame_of

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]

logger = logging.getLogger("pacifica_fast.sync")

A = TypeVar("A", bound=Ack)


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
        touch the request: without ``timeout``, the client's own ends it as :class:`OutcomeUnknown`.
        """
        if self._outcome is None:
            self._wait(timeout)
        ack: A = self.outcome()
        return ack

    def _wait(self, timeout: float | None) -> None:
        waiter = Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            # Whoever settles sets the outcome first and wakes then: one of the two is seen.
            if self._outcome is None:
                waiter.acquire(timeout=-1 if timeout is None else max(timeout, 0))
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


class Client(Arming[Pending[Any]]):
    """A connection to the exchange, made by :func:`connect`. All of it is safe from any thread.

    Every method raises, before anything is sent: :class:`InvalidRequest` for a wrong
    argument, :class:`NotSent` when the link cannot take the request now, and
    :class:`KeyClosed`. Those that wait raise :class:`Rejected` or :class:`OutcomeUnknown`.

    A client that nobody has any more is closed, and so are all at the interpreter's exit.
    In a forked child nothing is sent: the connection is the parent's.
    """

    def __init__(self, signer: Signer, endpoint: Endpoint) -> None:
        super().__init__(signer, endpoint.arm_window)
        self._session: session.Session[Pending[Any]] = session.Session(
            Pending, timeout=endpoint.timeout, heartbeat=endpoint.heartbeat, now=monotonic()
        )
        self._link, messages = _open(endpoint)
        self._reader = Reader(self._link, self._session, min(endpoint.timeout, endpoint.heartbeat) / 20)
        # Not at exit: the reader's own hook closes all connections at once.
        weakref.finalize(self, self._reader.stop).atexit = False
        self._reader.start(messages)

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
        link = self._link
        if not link.ready:
            raise NotSent(link.why_not_ready())
        pending = self._session.take()
        frame = self.signer.cancel_order_frame(
            symbol, order_id, client_order_id, timestamp, expiry_window, pending.number
        )
        self._send(pending, frame)
        return pending

    def cancel_order(
        self,
        symbol: str,
        *,
        order_id: int | None = None,
        client_order_id: str | UUID | None = None,
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
        pending: Pending[CancelAllAck] = self._taken("cancel_all_orders")
        request = self.signer.cancel_all_orders(
            symbol=symbol,
            exclude_reduce_only=exclude_reduce_only,
            timestamp=timestamp,
            expiry_window=expiry_window,
            number=pending.number,
        )
        self._send(pending, frame_of(request.text))
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
        pending: Pending[BatchAck] = self._taken("batch_orders")
        request = self.signer.batch_cancel(
            cancels, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        pending.actions = len(cancels)
        self._send(pending, frame_of(request.text))
        return pending.result()

    def request(
        self,
        operation: str,
        data: dict[str, Any],
        *,
        timestamp: int | None = None,
        expiry_window: int | None = None,
    ) -> Ack:
        """Any operation of the websocket: ``create_order``, ``edit_order``, ..."""
        pending: Pending[Ack] = self._taken(operation)
        request = self.signer.request(
            operation, data, timestamp=timestamp, expiry_window=expiry_window, number=pending.number
        )
        self._send(pending, frame_of(request.text))
        return pending.result()

    # The connection.

    @property
    def connected(self) -> bool:
        """True while a request can be sent and will reach the kernel at once."""
        return self._link.ready

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

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<Client {self.signer.account} {state} in_flight={self._session.in_flight_count}>"

    # Inside.

    def _taken(self, operation: str) -> Pending[Any]:
        if not self._link.ready:
            raise NotSent(self._link.why_not_ready())
        pending = self._session.take()
        pending.operation = operation
        return pending

    def _send(
        self,
        pending: Pending[Any] | None,
        frame: bytes,
        armed: Armed[Pending[Any]] | None = None,
    ) -> Pending[Any] | None:
        """Send a request in one turn; with ``armed`` the one signed ahead, or None if that is spent.

        A turn as :meth:`Link.turn` has it, written out: what lies between decision and wire.
        """
        link, me = self._link, get_ident()
        free, writing = link.free, False
        while True:
            try:
                del free[0]
                break
            except IndexError:
                link.wait_for_turn(me)
        try:
            link.owner = me
            if link.wanted:
                link.wanted = False
            if not link.ready:
                raise NotSent(link.why_not_ready())
            if armed is not None:
                size = armed._take()
                pending, armed._pending = armed._pending, None
                if size >= 0:
                    frame = self._store.view[:size]
                else:
                    pending = None
            if pending is None:
                return None
            writing = True
            link.put(frame, pending)
            pending.sent_at = monotonic()
            self._session.just_sent.append(pending)
            if armed is not None:
                self._fired.append(armed)
        except BaseException as error:
            if writing:
                link.interrupted(error)
            raise
        finally:
            link.owner = 0
            free.append(None)
        return pending

    # Armed cancels; see Arming.

    def _check_open(self) -> None:
        if self._link.failed or self._link.closing:
            raise NotSent(self._link.why_not_ready())

    def _fire(self, armed: Armed[Pending[Any]]) -> Pending[Any]:
        pending = self._send(None, b"", armed)
        if pending is None:
            self._disarm(armed)
            pending = self._taken("cancel_order")
            self._send(pending, self._frame_of(armed, pending.number))
        return pending

    def _fire_many(self, cancels: list[Armed[Pending[Any]]]) -> list[Pending[Any]]:
        link = self._link
        if not link.ready:
            raise NotSent(link.why_not_ready())
        with eager_switching():
            frames, pendings, starts = self._frames_of(cancels)
            with link.turn():
                if not link.ready:
                    raise NotSent(link.why_not_ready())
                try:
                    data = link.put(frames, None)
                    self._session.sent_many(pendings, "cancel_order", monotonic())
                    unsent = link.unsent_from(len(frames), data)
                except BaseException as error:
                    link.interrupted(error)
                    raise
                if unsent is not None:
                    link.fail(PARTLY_SENT)
                    self._settle_unsent(pendings, starts, unsent)
        return pendings

    def _resend(self, armed: Armed[Pending[Any]], pending: Pending[Any]) -> bool:
        """Called by the session, hence in the reader's turn."""
        link = self._link
        try:
            if not link.ready:
                raise NotSent(link.why_not_ready())
            self._session.renumber(pending)
            link.put(self._frame_of(armed, pending.number), pending)
        except PacificaError as error:
            logger.warning("could not sign afresh: %s", error)
            return False
        self._session.sent(pending, "cancel_order", monotonic())
        return True


def connect(
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
) -> Client:
    """Connect to the exchange: ``with connect(signer) as client``, or close it yourself.

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

    Raises :class:`ConnectionFailed`, which tells the stage, and :class:`InvalidRequest`.
    """
    check_signer(signer)
    endpoint = Endpoint.checked(
        url,
        timeout=timeout,
        ssl=ssl,
        api_key=api_key,
        heartbeat=heartbeat,
        open_timeout=open_timeout,
        max_size=max_size,
        max_unsent=max_unsent,
        arm_window=arm_window,
    )
    return Client(signer, endpoint)


def _open(endpoint: Endpoint) -> tuple[Link, list[bytes]]:
    """An open link, and the messages that came right behind the upgrade."""
    deadline = monotonic() + endpoint.open_timeout
    websocket, tls = endpoint.websocket(), endpoint.tls()
    try:
        sock = dial(endpoint.uri.host, endpoint.uri.port, deadline)
        link = Link(sock, websocket, tls, endpoint.max_unsent)
        try:
            return link, link.open(deadline)
        except BaseException:
            link.drop("the connection did not come about")
            raise
    except TimeoutError:
        raise ConnectionFailed("timeout", f"not open within {endpoint.open_timeout:g} s") from None
    except OSError as error:
        raise ConnectionFailed("connect", str(error)) from error
    except Ended as end:
        raise ConnectionFailed(end.stage, end.reason, end.status) from None
