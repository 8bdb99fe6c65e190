# SPDX-License-Identifier: MIT
"""One connection of the asyncio client: plain transport below, TLS and websocket on top."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

from websockets.exceptions import InvalidStatus

from pacifica_fast.errors import ConnectionFailed, NotSent
from pacifica_fast.tls import TLS
from pacifica_fast.websocket import WebSocket

__all__ = ["Link"]

logger = logging.getLogger("pacifica_fast.asyncio")


class Link(asyncio.Protocol):
    """Bytes of a plain asyncio transport on one side, text messages on the other.

    The transport is plain even for ``wss``: asyncio's TLS transport would not say how much
    it still has to write. With a write buffer limit of ``max_unsent`` bytes, 0 say,
    :attr:`ready` is exact: while it is true, a write goes to the kernel at once.
    """

    def __init__(
        self,
        websocket: WebSocket,
        tls: TLS | None,
        on_message: Callable[[bytes], None],
        on_lost: Callable[[str], None],
        max_unsent: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._websocket = websocket
        self._tls = tls
        self._on_message = on_message
        self._on_lost = on_lost
        self._max_unsent = max_unsent
        self._transport: asyncio.Transport | None = None
        self.encrypt = None if tls is None else tls.encrypt
        """Frames as bytes for the socket; raises ``ssl.SSLError``. None: they go as they are."""
        self._writable = True
        self._failure = ""
        # The transport's own methods from connection_made on: no call of ours lies between.
        self.write: Callable[[bytes], None] = _no_transport
        """Hand bytes to the kernel; what it does not take stays in the transport."""
        self.is_closing: Callable[[], bool] = _no_transport_is_closing
        """True once the transport will not take more, which asyncio may know before it tells."""
        self.ready = False
        """True while a message can be sent and will reach the kernel at once."""
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done when the upgrade is accepted; fails with :class:`ConnectionFailed`."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the transport is gone."""

    # Sending. encrypt and write are two steps so that the caller can register the request
    # between what may fail and what may not be taken back.

    def why_not_ready(self) -> str:
        """The reason why :attr:`ready` is false, for a person."""
        if self.closed.done():
            return self._failure or "the connection is closed"
        if not self.opened.done():
            return "the connection is not open yet"
        if not self._websocket.open or self.is_closing():
            return self._failure or "the connection is closing"
        return "earlier data is still waiting for the socket"

    def broken(self, error: ssl.SSLError) -> NotSent:
        """What becomes of a request that :attr:`encrypt` failed on; the connection is dropped."""
        self.abort(f"tls: {error}")
        return NotSent(f"tls: {error}")

    def unsent_from(self, plain_size: int, data: bytes) -> int | None:
        """What became of ``data``, just written, made of so many plain bytes.

        None if the kernel took all of it; else from where on the plain bytes are provably
        still here.
        """
        assert self._transport is not None  # noqa: S101  # it was written to
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            return None
        accepted = max(len(data) - unsent, 0)
        if self._tls is None:
            return accepted
        return self._tls.provably_unsent(plain_size, data, accepted)

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
        if self._transport is not None:
            self._transport.abort()
        self._update()

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but name.
        self._transport = transport = cast(asyncio.Transport, transport)
        self.write = transport.write
        self.is_closing = transport.is_closing
        transport.set_write_buffer_limits(high=self._max_unsent, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            transport.write(self._tls.start())
        else:
            self._send_protocol_bytes()

    def data_received(self, data: bytes) -> None:
        try:
            plain = data if self._tls is None else self._decrypted(data, self._tls)
        except ssl.SSLError as error:
            self._fail("tls", _tls_reason(error))
            return
        messages = self._websocket.receive(plain) if plain else []
        self._send_protocol_bytes()
        self._update()
        if not self.opened.done():
            self._check_upgrade()
        for message in messages:
            self._on_message(message)
        if self._tls is not None and self._tls.closed_by_peer:
            self.eof_received()

    def eof_received(self) -> bool:
        self._websocket.receive_eof()
        self._send_protocol_bytes()
        if not self.is_closing() and self._transport is not None:
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
        if exc is not None and not self._failure:
            self._failure = f"connection lost: {exc}"
        if not self._failure:
            self._websocket.receive_eof()
            self._failure = self._websocket.close_reason
        self._update()
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.opened.done():
            stage = "upgrade" if self._tls is None or self._tls.established else "tls"
            self.opened.set_exception(ConnectionFailed(stage, self._failure))
        self._on_lost(self._failure)

    # Inside.

    def _decrypted(self, data: bytes, tls: TLS) -> bytes:
        was_established = tls.established
        plain, reply = tls.receive(data)
        if reply:
            self.write(reply)
        if tls.established and not was_established:
            self._send_protocol_bytes()
        return plain

    def _send_protocol_bytes(self) -> None:
        if self._tls is not None and not self._tls.established:
            return
        data = self._websocket.to_send()
        if data and not self.is_closing():
            self.write(data if self._tls is None else self._tls.encrypt(data))

    def _check_upgrade(self) -> None:
        error = self._websocket.handshake_error
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            self._fail("upgrade", f"the exchange answered HTTP {status}", status)
        elif error is not None:
            self._fail("upgrade", str(error))
        elif self._websocket.open:
            self.opened.set_result(None)

    def _fail(self, stage: str, reason: str, status: int | None = None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionFailed(stage, reason, status))
        self.abort(f"{stage}: {reason}")

    def _update(self) -> None:
        self.ready = self._websocket.open and self._writable and not self.is_closing()


def _no_transport(data: bytes) -> None:
    raise RuntimeError("written before the connection was made")


def _no_transport_is_closing() -> bool:
    return True


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return error.reason or str(error)
