# SPDX-License-Identifier: MIT
"""One connection of the blocking client: a socket below, TLS and websocket on top."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, RLock, get_ident
from time import sleep

from websockets.exceptions import InvalidStatus

from pacifica_fast.armed import PARTLY_SENT
from pacifica_fast.errors import NotSent
from pacifica_fast.session import Pending
from pacifica_fast.sync.dial import milliseconds_until
from pacifica_fast.tls import TLS
from pacifica_fast.websocket import WebSocket

__all__ = ["Bell", "Ended", "Link"]

RECEIVE_SIZE = 64 * 1024
UNSENT_MAX = 4 * 1024 * 1024  # bytes; a peer that asks for so many pongs and reads none is left

# How the reader stands back for senders that wait: at most so many times so many seconds.
_COURTESIES = 50
_COURTESY = 2e-5


class Ended(Exception):
    """The connection is gone. ``stage`` and ``status`` are those of :class:`ConnectionFailed`."""

    def __init__(self, reason: str, stage: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage
        self.status = status


class Bell:
    """Wakes the thread that polls :attr:`ear`.

    :meth:`ring` may be called from anywhere at any time: from other threads, from signal
    handlers, and from the garbage collector in the middle of another call.
    """

    __slots__ = ("_hand", "_lock", "ear")

    def __init__(self) -> None:
        self._lock = RLock()  # so that nobody rings a descriptor that is another's by then
        self.ear, self._hand = socket.socketpair()
        self.ear.setblocking(False)
        self._hand.setblocking(False)

    def ring(self) -> None:
        """Have :attr:`ear` become readable. Nothing happens once it is closed."""
        with self._lock, contextlib.suppress(OSError):  # full: it rings already
            self._hand.send(b"\0")

    def heard(self) -> None:
        """Silence it."""
        with contextlib.suppress(OSError):
            self.ear.recv(4096)

    def close(self) -> None:
        with self._lock:
            self._hand.close()
            self.ear.close()

    def abandon(self) -> None:
        """In a forked child, where the lock may be held by nobody: the bell is the parent's."""
        self._lock = RLock()
        self.close()


class Link:
    """Bytes of a non-blocking socket on one side, text messages on the other.

    Used by many senders and one reader. Whoever calls a method holds :attr:`lock`, and
    nobody waits while holding it: OpenSSL forbids two calls on one connection at a time,
    and records must reach the socket in the order in which they were encrypted. Without
    the lock: :attr:`ready` (look again inside), :meth:`why_not_ready`, and, for the reader
    alone, :meth:`receive_bytes`.

    ``owner`` is who holds the lock, as ``threading.get_ident`` has it, or 0: a signal
    handler that comes upon its own thread here must not wait for it. ``wanted`` is set by
    a sender that has to wait; the reader then stands back (:meth:`held`).
    """

    __slots__ = (
        "_encrypt",
        "_max_unsent",
        "_opened",
        "_send_bytes",
        "_socket",
        "_tls",
        "_unsent",
        "_websocket",
        "at_end",
        "bell",
        "failed",
        "failure",
        "lock",
        "owner",
        "ready",
        "untouched",
        "wanted",
    )

    def __init__(self, sock: socket.socket, websocket: WebSocket, tls: TLS | None, max_unsent: int) -> None:
        self.lock = Lock()
        self.owner = 0
        self.wanted = False
        self.ready = False
        """True while a message can be sent and nothing waits for the socket."""
        self.at_end = False
        """True once the peer has said that it sends no more."""
        self.untouched: Pending | None = None
        """The request of which the kernel has not taken a byte yet, if there is one."""
        self.bell = Bell()
        self._socket = sock
        self._websocket = websocket
        self._tls = tls
        self._encrypt = None if tls is None else tls.encrypt
        self._send_bytes: Callable[[bytes], int] = sock.send
        self._unsent = b""
        self._max_unsent = max_unsent
        self._opened = False
        self.failed = False
        """True once nothing more can be sent or received: the reader is to drop the link."""
        self.failure = ""
        """Why the connection ended, or is about to; the first reason there was."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for the reader: it lets senders who wait for it go first."""
        for _ in range(_COURTESIES):
            if not self.wanted:
                break
            sleep(_COURTESY)
        me = get_ident()
        with self.lock:
            self.owner = me
            self.wanted = False
            try:
                yield
            finally:
                self.owner = 0

    @contextmanager
    def held_to_send(self) -> Iterator[None]:
        """The lock, for a sender. Raises :class:`NotSent` if this thread has it already."""
        me = get_ident()
        if self.lock.locked():
            self.wait_in_line(me)
        with self.lock:
            self.owner = me
            self.wanted = False
            try:
                yield
            except NotSent:
                raise
            except BaseException:  # Ctrl-C: who knows how much of the message is on its way
                self.fail("interrupted while sending")
                raise
            finally:
                self.owner = 0

    # Opening, before there is a reader.

    def open(self, deadline: float) -> list[bytes]:
        """TLS and upgrade; returns the messages that came right behind.

        Raises ``TimeoutError`` at the deadline, and :class:`Ended`.
        """
        poller = select.poll()
        if self._tls is None:
            self._send_protocol_bytes()
        else:
            self._write(self._tls.start())
        while True:
            poller.register(self._socket, self.events())
            if not poller.poll(milliseconds_until(deadline)):
                raise TimeoutError("not open in time")
            if self._unsent:
                self.flush()
            messages = self.receive(self.decrypt(self.receive_bytes()))
            if self._opened:
                return messages
            if self.at_end:
                raise self.end()

    # For whoever sends.

    def wait_in_line(self, me: int) -> None:
        """Call it when the lock is taken, before waiting for it.

        Raises :class:`NotSent` if it is this very thread that has it, and would wait for ever.
        """
        if self.owner == me:
            raise NotSent("this thread is in the middle of another call (is this a signal handler?)")
        self.wanted = True

    def why_not_ready(self) -> str:
        """The reason why :attr:`ready` is false, for a person."""
        if self.failure or not self._websocket.open:
            return self.failure or "the connection is closing"
        return "earlier data is still waiting for the socket"

    def send(self, frame: bytes) -> int:
        """Send a websocket frame; returns how many of its bytes on the wire the kernel took.

        The rest goes when the socket takes it, and until then the link is not ready.
        Raises :class:`NotSent`, and then no byte of it has left or ever will.
        """
        if not self.ready:
            raise NotSent(self.why_not_ready())
        if self._unsent:  # max_unsent allows for it
            self._keep(frame if self._encrypt is None else self._encrypt(frame))
            return 0
        data, taken = self._sent(frame)
        if taken != len(data):
            self._keep(data[taken:])
        return taken

    def send_together(self, frames: bytes) -> int | None:
        """Send several, all or not at all if it can be: None if the kernel took every byte.

        Otherwise the connection is given up, and what is returned is from where on the bytes of
        ``frames`` provably never left. Raises :class:`NotSent` as :meth:`send` does.
        """
        if not self.ready or self._unsent:
            raise NotSent(self.why_not_ready())
        data, taken = self._sent(frames)
        if taken == len(data):
            return None
        self.fail(PARTLY_SENT)
        return taken if self._tls is None else self._tls.provably_unsent(len(frames), data, taken)

    def _sent(self, frames: bytes) -> tuple[bytes, int]:
        """The bytes for the wire, and how many of them the kernel took."""
        try:
            data = frames if self._encrypt is None else self._encrypt(frames)
            return data, self._send_bytes(data)
        except BlockingIOError:
            return data, 0
        except ssl.SSLError as error:
            raise self._broken(f"tls: {_tls_reason(error)}") from error
        except OSError as error:
            raise self._broken(f"connection lost: {error}") from error

    def fail(self, reason: str) -> None:
        """Give the connection up: the reader will drop it."""
        self.failure = self.failure or reason
        self.failed = True
        self.ready = False
        self.bell.ring()

    def fileno(self) -> int:
        """What to poll."""
        return self._socket.fileno()

    def events(self) -> int:
        """What to poll the socket for."""
        return select.POLLIN | select.POLLOUT if self._unsent else select.POLLIN

    def flush(self) -> None:
        """Send what the socket did not take before. Raises :class:`Ended`."""
        data, self._unsent = self._unsent, b""
        if self._write(data):
            self.untouched = None
        self._update()

    # Receiving.

    def receive_bytes(self) -> bytes:
        """What the socket has, without waiting; nothing if it has nothing. Raises :class:`Ended`."""
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Ended(f"connection lost: {error}", self._stage()) from error
        self.at_end = not data
        return data

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes of what came from the wire. Raises :class:`Ended`."""
        tls = self._tls
        if tls is None or not data:
            return data
        was_established = tls.established
        try:
            plain, reply = tls.receive(data)
        except ssl.SSLError as error:
            raise Ended(_tls_reason(error), "tls") from error
        if reply:
            self._write(reply)
        if tls.established and not was_established:
            self._send_protocol_bytes()
        self.at_end = tls.closed_by_peer
        return plain

    def receive(self, plain: bytes) -> list[bytes]:
        """The messages that are now complete. Raises :class:`Ended` if the upgrade is refused."""
        messages = self._websocket.receive(plain) if plain else []
        self._send_protocol_bytes()
        if not self._opened:
            self._check_upgrade()
        self._update()
        return messages

    # The end.

    def close(self) -> None:
        """Begin the closing handshake (RFC 6455, section 7)."""
        if self._websocket.open:
            self.failure = self.failure or "the client was closed"
        self._websocket.close()
        self._send_protocol_bytes()
        self._update()

    @property
    def closing(self) -> bool:
        """True once either side has begun the closing handshake."""
        return self._opened and not self._websocket.open

    def end(self) -> Ended:
        """Why there is nothing more to receive."""
        self._websocket.receive_eof()
        with contextlib.suppress(Ended):
            self._send_protocol_bytes()
        return Ended(self._websocket.close_reason, self._stage())

    def drop(self, reason: str) -> str:
        """Close the socket at once, and the bell; returns the reason, or an earlier one."""
        in_order = not self.failed and not self._unsent
        self.failure = self.failure or reason
        self.failed = True
        self._update()
        if in_order and self._tls is not None and self._tls.established:
            with contextlib.suppress(OSError):  # a courtesy: ssl.SSLError is one too
                self._socket.send(self._tls.close())
        self._socket.close()
        self.bell.close()
        return self.failure

    def abandon(self, reason: str) -> None:
        """In a forked child: let go of what belongs to the parent, without a byte to anybody.

        The lock may be held by a thread that does not exist here.
        """
        self.lock = Lock()
        self.owner = 0
        self.failure = reason
        self.failed = True
        self.ready = False
        self._socket.close()
        self.bell.abandon()

    # Inside.

    def _write(self, data: bytes) -> int:
        """Bytes of the protocols themselves; they wait behind whatever waits already."""
        taken = 0
        if not self._unsent:
            try:
                taken = self._send_bytes(data)
            except BlockingIOError:
                pass
            except OSError as error:
                raise Ended(f"connection lost: {error}", self._stage()) from error
        elif len(self._unsent) > UNSENT_MAX:
            raise Ended("the exchange does not read what it asks for", self._stage())
        if taken != len(data):
            self._keep(data[taken:])
        return taken

    def _keep(self, data: bytes) -> None:
        self._unsent += data
        self._update()
        self.bell.ring()

    def _send_protocol_bytes(self) -> None:
        if self._tls is not None and not self._tls.established:
            return
        data = self._websocket.to_send()
        if data:
            self._write(data if self._encrypt is None else self._encrypt(data))

    def _check_upgrade(self) -> None:
        error = self._websocket.handshake_error
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            raise Ended(f"the exchange answered HTTP {status}", "upgrade", status)
        if error is not None:
            raise Ended(str(error), "upgrade")
        self._opened = self._websocket.open

    def _stage(self) -> str:
        return "upgrade" if self._tls is None or self._tls.established else "tls"

    def _broken(self, reason: str) -> NotSent:
        self.fail(reason)
        return NotSent(self.failure)

    def _update(self) -> None:
        self.ready = self._websocket.open and len(self._unsent) <= self._max_unsent and not self.failed


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return error.reason or str(error)
