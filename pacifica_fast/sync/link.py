# SPDX-License-Identifier: MIT
"""One connection of the blocking client: a socket below, TLS and websocket on top."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import RLock
from time import monotonic
from typing import Any

from pacifica_fast._sodium import ffi, lib
from pacifica_fast.errors import NotSent, OutcomeUnknown
from pacifica_fast.links import Unsent
from pacifica_fast.session import CLOSED, PARTLY_SENT, Lane, Pending
from pacifica_fast.sync.dial import milliseconds_until
from pacifica_fast.tcp import BACKLOG_MAX, NOT_READ, RECEIVE_SIZE
from pacifica_fast.tls import TLS, reason_of
from pacifica_fast.websocket import WebSocket, frame_of

__all__ = ["Bell", "Ended", "Link"]


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
        ear, self._hand = socket.socketpair()
        self.ear: socket.socket = ear
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

    Used by many senders and one reader, in turns (:class:`~pacifica_fast.sync.turn.Turn`).

    Without a turn: :attr:`ready` (look again in your turn), :meth:`why_not_ready` and, for the
    reader alone, :meth:`events` and :meth:`receive_bytes`.
    """

    __slots__ = (
        "_backlog",
        "_descriptor",
        "_encrypt",
        "_flushed",
        "_just_sent",
        "_max_unsent",
        "_opened",
        "_room",
        "_send",
        "_socket",
        "_tls",
        "_untouched",
        "_websocket",
        "at_end",
        "bell",
        "failed",
        "failure",
        "lane",
        "ready",
        "received",
    )

    def __init__(
        self,
        sock: socket.socket,
        websocket: WebSocket,
        tls: TLS | None,
        lane: Lane[Any],
        bell: Bell,
        *,
        max_unsent: int = 0,
    ) -> None:
        self.lane: Lane[Any] = lane
        self._just_sent = lane.just_sent
        self.bell: Bell = bell
        """Rung when the reader has something to do."""
        self.ready: bool = False
        """True while a message can be sent and will reach the kernel at once."""
        self.at_end: bool = False
        """True once the peer has said that it sends no more."""
        self.failed: bool = False
        """True once nothing more can be sent or received: the reader is to drop the link."""
        self.failure: str = ""
        """Why the connection ended, or is about to; the first reason there was."""
        self._socket = sock
        self._websocket = websocket
        self._tls = tls
        self._encrypt = None if tls is None else tls.encrypt
        self._descriptor = ffi.new("int *", sock.fileno())
        self._send: Callable[[bytes, int], int] = partial(lib.pf_send, self._descriptor)
        """How many bytes the kernel took, or minus errno."""
        self._max_unsent = max_unsent
        self._opened = False
        self.received: int = 0
        """Bytes of the largest read since this was last set to 0."""
        # Always the same: a new one for each read, cut to size, would leave holes all over the heap.
        self._room = memoryview(bytearray(RECEIVE_SIZE))
        # What the kernel did not take; how much of it did go since; and the requests of which
        # not a byte has gone, with where they start.
        self._backlog = b""
        self._flushed = 0
        self._untouched: deque[tuple[int, Pending]] = deque()

    # Opening, before there is a reader.

    def open(self, deadline: float, stop: Bell) -> list[bytes]:
        """TLS and upgrade; returns the messages that came right behind.

        Raises ``TimeoutError`` at the deadline, and :class:`Ended`, when ``stop`` rings too.
        """
        poller = select.poll()
        poller.register(stop.ear, select.POLLIN)
        if self._tls is None:
            self._send_protocol_bytes()
        else:
            self._write(self._tls.start())
        while True:
            poller.register(self._socket, self.events())
            events = poller.poll(milliseconds_until(deadline))
            if not events:
                raise TimeoutError("not open in time")
            if any(descriptor == stop.ear.fileno() for descriptor, _ in events):
                raise Ended(CLOSED, self._stage())
            if self._backlog:
                self.flush()
            messages = self.receive(self.decrypt(self.receive_bytes()))
            if self._opened:
                return messages
            if self.at_end:
                raise self.end()

    # Sending. Only when ready; raises NotSent, and then no byte has left or ever will.

    def why_not_ready(self) -> str:
        """The reason why :attr:`ready` is false, for a person."""
        if self.failure or not self._websocket.open:
            return self.failure or "the connection is closing"
        return "earlier data is still waiting for the socket"

    def put(self, frame: bytes, pending: Pending) -> None:
        """Send the finished websocket frame of ``pending``.

        What the kernel does not take goes when it does.
        """
        try:
            data = frame if self._encrypt is None else self._encrypt(frame)
            taken = 0 if self._backlog else self._send(data, len(data))
            if taken != len(data):
                self._not_all(data, taken, pending)
            pending.sent_at = monotonic()
            self._just_sent.append(pending)
        except BaseException as error:
            self._interrupted(error)
            raise

    def put_many(self, frames: bytes, pendings: list[Any], starts: list[int]) -> Unsent[Any]:
        """Send frames that stand one behind the other, and start where ``starts`` says, in one write.

        If the kernel takes a part only, the connection is given up, and what provably did not leave
        was not sent: that is returned, and for the caller to say, who may have sent a copy elsewhere.
        """
        try:
            data = frames if self._encrypt is None else self._encrypt(frames)
            taken = 0 if self._backlog else self._send(data, len(data))
            if taken != len(data):
                self._not_all(data, taken, None)
            now = monotonic()
            for pending in pendings:
                self.lane.sent(pending, now)
        except BaseException as error:
            self._interrupted(error)
            raise
        unsent = self._unsent_from(len(frames), data)
        if unsent is not None:
            self.fail(PARTLY_SENT)
            here = [pending for pending, start in zip(pendings, starts, strict=True) if start >= unsent]
            return [(self.lane, here)]
        return []

    def _not_all(self, data: bytes, taken: int, pending: Pending | None) -> None:
        """The kernel took a part or nothing: because it is full, or for a reason."""
        if taken < 0:
            raise self._broken(self._websocket.why_over(os.strerror(-taken)))
        if pending is not None and not taken:
            self._untouched.append((self._flushed + len(self._backlog), pending))
        self._keep(data[taken:])

    def _unsent_from(self, plain_size: int, data: bytes) -> int | None:
        """What became of ``data``, just made of so many plain bytes and written.

        None if the kernel took all of it; else from where on the plain bytes are provably
        still here.
        """
        if not self._backlog:
            return None
        accepted = max(len(data) - len(self._backlog), 0)
        return accepted if self._tls is None else self._tls.provably_unsent(plain_size, data, accepted)

    def _interrupted(self, error: BaseException) -> None:
        """For an error that came out of sending.

        If it is not our own, it came from a signal handler, Ctrl-C say, or a cancel that
        one made: who knows how much of the frame is on its way. The link fails; what is not to be
        taken for :class:`NotSent` is raised as :class:`OutcomeUnknown`.
        """
        if isinstance(error, ssl.SSLError):
            raise self._broken(f"tls: {reason_of(error)}") from error
        if isinstance(error, NotSent) and self.failed:
            return
        self.fail("interrupted while sending")
        if isinstance(error, NotSent):
            raise OutcomeUnknown("interrupted while sending") from error

    def abort(self, reason: str) -> None:
        """As :meth:`fail`."""
        self.fail(reason)

    def fail(self, reason: str) -> None:
        """Give the connection up: not a byte more leaves, and the reader will drop it."""
        self.failure = self.failure or reason
        self.failed = True
        self.ready = False
        self.bell.ring()

    # For the reader.

    def fileno(self) -> int:
        """What to poll."""
        return self._socket.fileno()

    def events(self) -> int:
        """What to poll it for."""
        return select.POLLIN | select.POLLOUT if self._backlog else select.POLLIN

    def flush(self) -> None:
        """Send what the socket did not take before. Raises :class:`Ended`."""
        data, self._backlog = self._backlog, b""
        self._flushed += self._write(data)
        untouched = self._untouched
        while untouched and untouched[0][0] < self._flushed:
            untouched.popleft()
        if not self._backlog:
            self._flushed = 0
        self._update()

    def say(self, text: bytes) -> None:
        """Send a message that is no request, unless earlier data waits."""
        if self.ready:
            frame = frame_of(text)
            try:
                self._write(frame if self._encrypt is None else self._encrypt(frame))
            except Ended as end:
                self.fail(end.reason)

    def receive_bytes(self) -> memoryview:
        """What the socket has, without waiting; nothing if it has nothing. Raises :class:`Ended`.

        It is overwritten by the next call.
        """
        try:
            size = self._socket.recv_into(self._room)
        except BlockingIOError:
            return self._room[:0]
        except OSError as error:
            raise Ended(self._websocket.why_over(error), self._stage()) from error
        self.at_end = not size
        self.received = max(self.received, size)
        return self._room[:size]

    def decrypt(self, data: memoryview) -> bytes | memoryview:
        """The plain bytes of what came from the wire. Raises :class:`Ended`."""
        tls = self._tls
        if tls is None or not data:
            return data
        was_established = tls.established
        try:
            plain, reply = tls.receive(data)
        except ssl.SSLError as error:
            raise Ended(reason_of(error), "tls") from error
        if reply:
            self._write(reply)
        if tls.established and not was_established:
            self._send_protocol_bytes()
        self.at_end = tls.closed_by_peer
        return plain

    def receive(self, plain: bytes | memoryview) -> list[bytes]:
        """The messages that are now complete. Raises :class:`Ended` if the upgrade is refused."""
        messages = self._websocket.receive(plain) if plain else []
        self._send_protocol_bytes()
        if not self._opened:
            self._check_upgrade()
        self._update()
        return messages

    # The end.

    @property
    def closing(self) -> bool:
        """True once either side has begun the closing handshake."""
        return self._opened and not self._websocket.open

    def close(self) -> None:
        """Begin the closing handshake (RFC 6455, section 7)."""
        if self._websocket.open:
            self.failure = self.failure or CLOSED
        self._websocket.close()
        try:
            self._send_protocol_bytes()
        except Ended as end:
            self.fail(end.reason)
        self._update()
        self.bell.ring()

    def end(self) -> Ended:
        """Why there is nothing more to receive."""
        self._websocket.receive_eof()
        with contextlib.suppress(Ended):
            self._send_protocol_bytes()
        reason, status = self._websocket.refusal or (self._websocket.why_over(), None)
        return Ended(reason, self._stage(), status)

    def drop(self, reason: str) -> str:
        """Close the socket at once, and the bell; returns the reason, or an earlier one."""
        in_order = not self.failed and not self._backlog
        self.failure = self.failure or reason
        self.failed = True
        self._update()
        if in_order and self._tls is not None and self._tls.established:
            with contextlib.suppress(OSError):  # a courtesy: ssl.SSLError is one too
                self._socket.send(self._tls.close())
        self._close_socket()
        return self.failure

    def untouched(self) -> list[Pending]:
        """The requests of which the kernel has not taken a byte."""
        return [pending for _, pending in self._untouched]

    def abandon(self, reason: str) -> None:
        """In a forked child: let go of what belongs to the parent, without a byte to anybody."""
        self.failure = reason
        self.failed = True
        self.ready = False
        self._close_socket()

    # Inside.

    def _close_socket(self) -> None:
        self._descriptor[0] = -1  # before the number can be another's
        self._socket.close()

    def _write(self, data: bytes) -> int:
        """Bytes of the protocols themselves; they wait behind whatever waits already."""
        if self.failed:
            raise Ended(self.failure, self._stage())
        taken = 0
        if not self._backlog:
            taken = self._send(data, len(data))
            if taken < 0:
                raise Ended(self._websocket.why_over(os.strerror(-taken)), self._stage())
        elif len(self._backlog) > BACKLOG_MAX:
            raise Ended(NOT_READ, self._stage())
        if taken != len(data):
            self._keep(data[taken:])
        return taken

    def _keep(self, data: bytes) -> None:
        self._backlog += data
        self._update()
        self.bell.ring()

    def _send_protocol_bytes(self) -> None:
        if self._tls is not None and not self._tls.established:
            return
        data = self._websocket.to_send()
        if data:
            self._write(data if self._encrypt is None else self._encrypt(data))

    def _check_upgrade(self) -> None:
        refusal = self._websocket.refusal
        if refusal is not None:
            raise Ended(refusal.reason, "upgrade", refusal.status)
        self._opened = self._websocket.open

    def _stage(self) -> str:
        return "upgrade" if self._tls is None or self._tls.established else "tls"

    def _broken(self, reason: str) -> NotSent:
        self.fail(reason)
        return NotSent(self.failure)

    def _update(self) -> None:
        waiting = len(self._backlog)
        self.ready = self._websocket.open and waiting <= self._max_unsent and not self.failed
