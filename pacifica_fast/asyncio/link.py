# SPDX-License-Identifier: MIT
"""One connection of the asyncio client: plain transport below, TLS and websocket on top."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import weakref
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

from pacifica_fast._sodium import ffi, lib
from pacifica_fast.endpoint import CLOSE_TIMEOUT
from pacifica_fast.errors import ConnectionFailed, NotSent
from pacifica_fast.links import Unsent
from pacifica_fast.session import PARTLY_SENT, Lane, Pending
from pacifica_fast.tcp import BACKLOG_MAX, NOT_READ, RECEIVE_SIZE, tune
from pacifica_fast.tls import TLS, reason_of
from pacifica_fast.websocket import WebSocket, frame_of

__all__ = ["Link"]

logger: logging.Logger = logging.getLogger("pacifica_fast.asyncio")


class Link(asyncio.BufferedProtocol):
    """Bytes of a plain asyncio transport on one side, text messages on the other.

    The transport is plain even for ``wss``: asyncio's TLS transport would not say how much
    it still has to write. With a write buffer limit of ``max_unsent`` bytes, 0 say,
    :attr:`ready` is exact: while it is true, nothing waits in the transport, and :meth:`put`
    may hand its bytes to the socket itself.
    """

    def __init__(
        self,
        websocket: WebSocket,
        tls: TLS | None,
        lane: Lane[Any],
        on_message: Callable[[Link, bytes], None],
        on_lost: Callable[[Link, str], None],
        *,
        max_unsent: int = 0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.lane = lane
        self._just_sent = lane.just_sent
        self._websocket = websocket
        self._tls = tls
        self._on_message = on_message
        self._on_lost = on_lost
        self._max_unsent = max_unsent
        self._transport: asyncio.Transport | None = None
        self._encrypt = None if tls is None else tls.encrypt
        self._number: Any = None  # C's int: a descriptor of ours of the transport's socket
        self._descriptor: weakref.finalize[Any, Any] | None = None
        self._send: Callable[[bytes, int], int] = self._queue
        """As ``pf_send``: how many bytes were taken, or minus errno."""
        self._room = memoryview(bytearray(RECEIVE_SIZE))
        self._writable = True
        self._failure = ""
        self.received: int = 0
        """Bytes of the largest read since this was last set to 0."""
        self._hanging_up: asyncio.TimerHandle | None = None
        self.ready: bool = False
        """True while a message can be sent and will reach the kernel at once."""
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done when the upgrade is accepted; fails with :class:`ConnectionFailed`."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the transport is gone."""

    # Sending. Only when ready; raises NotSent, and then no byte has left or ever will.

    def put(self, frame: bytes, pending: Pending) -> None:
        """Send the finished websocket frame of ``pending``.

        What the kernel does not take goes when it does.
        """
        # _write, written out: nothing a cancel comes upon is in the caches.
        try:
            data = frame if self._encrypt is None else self._encrypt(frame)
            taken = self._send(data, len(data))
            if taken != len(data):
                self._not_all(data, taken)
            pending.sent_at = monotonic()
            self._just_sent.append(pending)
        except NotSent:
            raise
        except ssl.SSLError as error:
            raise self._broken(f"tls: {reason_of(error)}") from error
        except BaseException:  # a signal handler's: who knows how much of the frame is on its way
            self.abort("interrupted while sending")
            raise

    def put_many(self, frames: bytes, pendings: list[Any], starts: list[int]) -> Unsent[Any]:
        """Send frames that stand one behind the other, and start where ``starts`` says, in one write.

        If the kernel takes a part only, the connection is closed, and what provably did not leave
        was not sent: that is returned, and for the caller to say, who may have sent a copy elsewhere.
        """
        data = self._write(frames)
        now = monotonic()
        for pending in pendings:
            self.lane.sent(pending, now)
        unsent = self._unsent_from(len(frames), data)
        if unsent is not None:
            self._shut()  # uvloop goes on writing what it has, until it has closed the socket
            self.abort(PARTLY_SENT)
            here = [pending for pending, start in zip(pendings, starts, strict=True) if start >= unsent]
            return [(self.lane, here)]
        return []

    def say(self, text: bytes) -> None:
        """Send a message that is no request."""
        with contextlib.suppress(NotSent):  # the link is gone, and says so itself
            self._write(frame_of(text))

    def _write(self, frames: bytes) -> bytes:
        """Their bytes on the wire."""
        try:
            data = frames if self._encrypt is None else self._encrypt(frames)
            taken = self._send(data, len(data))
            if taken != len(data):
                self._not_all(data, taken)
        except NotSent:
            raise
        except ssl.SSLError as error:
            raise self._broken(f"tls: {reason_of(error)}") from error
        except BaseException:
            self.abort("interrupted while sending")
            raise
        return data

    def _not_all(self, data: bytes, taken: int) -> None:
        """The kernel took a part or nothing: because it is full, or for a reason."""
        if taken < 0:
            raise self._broken(self._websocket.why_over(os.strerror(-taken)))
        self._queue(data[taken:])

    def why_not_ready(self) -> str:
        """The reason why :attr:`ready` is false, for a person."""
        if self.closed.done():
            return self._failure or "the connection is closed"
        if not self.opened.done():
            return "the connection is not open yet"
        if not self._websocket.open or self._closing():
            return self._failure or "the connection is closing"
        return "earlier data is still waiting for the socket"

    def _unsent_from(self, plain_size: int, data: bytes) -> int | None:
        """What became of ``data``, just made of so many plain bytes and written.

        None if the kernel took all of it; else from where on the plain bytes are provably
        still here.
        """
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if not unsent:
            return None
        accepted = max(len(data) - unsent, 0)
        if self._tls is None:
            return accepted
        return self._tls.provably_unsent(plain_size, data, accepted)

    def _shut(self) -> None:
        """Nothing more is written on this connection, whoever tries to."""
        if self._number is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(self._number[0])) as sock:
                sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Begin the closing handshake (RFC 6455, section 7)."""
        if self._websocket.open:
            self._failure = self._failure or "the client was closed"
        self._websocket.close()
        self._send_protocol_bytes()
        self._update()

    def abort(self, reason: str) -> None:
        """Drop the connection at once."""
        self._failure = self._failure or reason
        self.ready = False
        if self._transport is not None:
            try:
                self._transport.abort()
            except RuntimeError:  # the loop is closed, and whoever has the client keeps the socket open
                self._shut()

    async def aborted(self, reason: str) -> None:
        """Drop the connection, and wait until its socket is closed."""
        self.abort(reason)
        if self._transport is not None:
            await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT)
        if self._transport is not None and not self.closed.done():
            # uvloop, cancelled after connection_made, closes its socket and never says so.
            self.connection_lost(None)

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but name.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._max_unsent, low=0)
        sock = transport.get_extra_info("socket")
        # The same connection by a descriptor of ours: pf_send costs less than the transport's
        # write(), keeps the GIL, and says what the kernel took, or why it did not.
        try:
            tune(sock, self.lane.pong_timeout)
            descriptor = self._number = ffi.new("int *", socket.dup(sock.fileno()))
        except OSError as error:
            self._fail("connect", str(error))
            return
        self._descriptor = weakref.finalize(self, _close, descriptor)
        if not self._max_unsent:  # else something may be waiting in the transport
            self._send = partial(lib.pf_send, descriptor)
        if self._tls is not None:
            transport.write(self._tls.start())
        else:
            self._send_protocol_bytes()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Always the same: a new one for each read, cut to size, would leave holes all over the heap."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        data = self._room[:nbytes]
        self.received = max(self.received, nbytes)
        try:
            plain = data if self._tls is None else self._decrypted(data, self._tls)
        except ssl.SSLError as error:
            self._fail("tls", reason_of(error))
            return
        messages = self._websocket.receive(plain) if plain else []
        self._send_protocol_bytes()
        self._update()
        if not self.opened.done():
            self._check_upgrade()
        for message in messages:
            self._on_message(self, message)
        if self._tls is not None and self._tls.closed_by_peer:
            self.eof_received()
        elif self._hanging_up is None and self._websocket.ending:
            self._hanging_up = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._hang_up)

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        self._send_protocol_bytes()
        if self._transport is not None and not self._closing():
            if self._tls is not None and self._tls.established:
                self._transport.write(self._tls.close())
            self._transport.close()
        self._update()
        return False

    def pause_writing(self) -> None:
        self._writable = False
        self.ready = False

    def resume_writing(self) -> None:
        self._writable = True
        self._update()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
        self._send = self._queue
        if self._descriptor is not None:
            self._descriptor()  # the peer sees the end when both are closed
        if not self._failure:
            self._websocket.receive_eof()
            self._failure = self._websocket.why_over(exc)
        self._update()
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.opened.done():
            stage = "upgrade" if self._tls is None or self._tls.established else "tls"
            reason, status = self._websocket.refusal or (self._failure, None)
            self.opened.set_exception(ConnectionFailed(stage, reason, status))
        self._on_lost(self, self._failure)

    # Inside.

    def _decrypted(self, data: memoryview, tls: TLS) -> bytes:
        was_established = tls.established
        plain, reply = tls.receive(data)
        if reply:
            self._answer(reply)
        if tls.established and not was_established:
            self._send_protocol_bytes()
        return plain

    def _send_protocol_bytes(self) -> None:
        if self._tls is not None and not self._tls.established:
            return
        data = self._websocket.to_send()
        if data:
            self._answer(data if self._tls is None else self._tls.encrypt(data))

    def _answer(self, data: bytes) -> None:
        """Bytes of the protocols themselves: the exchange decides how many, and whether it reads them."""
        self._queue(data)
        if self._transport is not None and self._transport.get_write_buffer_size() > BACKLOG_MAX:
            self.abort(NOT_READ)

    def _check_upgrade(self) -> None:
        refusal = self._websocket.refusal
        if refusal is not None:
            self._fail("upgrade", *refusal)
        elif self._websocket.open:
            self.opened.set_result(None)

    def _fail(self, stage: str, reason: str, status: int | None = None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionFailed(stage, reason, status))
        self.abort(f"{stage}: {reason}")

    def _hang_up(self) -> None:
        """It is the server that ends TCP (RFC 6455, section 7.1.1); this one does not."""
        self.abort(self._websocket.why_over())

    def _update(self) -> None:
        self.ready = self._websocket.open and self._writable and not self._closing()

    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _queue(self, data: bytes, _size: int = 0) -> int:
        """Leave it to the transport, behind what waits there."""
        if self._transport is None or self._transport.is_closing():
            return -errno.EPIPE
        self._transport.write(data)
        return len(data)

    def _broken(self, reason: str) -> NotSent:
        self.abort(reason)
        return NotSent(self._failure)


def _close(descriptor: Any) -> None:
    number, descriptor[0] = descriptor[0], -1
    socket.close(number)  # not os: on Windows a socket is no file
