# SPDX-License-Identifier: MIT
"""One websocket connection without I/O: the upgrade, and whole text messages both ways.

A thin shell around the Sans-I/O ``ClientProtocol`` of websockets (RFC 6455). Compression
is never offered: it costs 17 µs a message and gains nothing on 350 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from pacifica_fast._sodium import ffi, lib

__all__ = ["WebSocket", "frame_of", "masked_anew"]

_frame_text = lib.pf_frame_text
_frame_again = lib.pf_frame_again
_FRAME_ROOM = 14  # bytes before the payload, at most: header, 64-bit length, mask

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def frame_of(text: bytes) -> bytes:
    """A text message as one masked frame (RFC 6455, section 5.2), to be sent when :attr:`WebSocket.open`.

    A whole frame leaves the state of the protocol alone; messages are never sent in fragments.
    """
    capacity = len(text) + _FRAME_ROOM
    out = ffi.new("char[]", capacity)
    size = _frame_text(out, capacity, text, len(text))
    if size < 0:
        raise RuntimeError(f"no frame: {ffi.string(lib.pf_error_text(size)).decode()}")
    return bytes(ffi.buffer(out, size))


def masked_anew(frames: bytes) -> bytes:
    """The same frames for another connection: a mask key is used once (RFC 6455, section 5.3)."""
    size = len(frames)
    out = ffi.new("char[]", size)
    if _frame_again(out, size, frames, size) != size:
        raise RuntimeError("not whole masked frames")
    return bytes(ffi.buffer(out, size))


class Refusal(NamedTuple):
    """Why an upgrade failed, and the HTTP status, if there was one."""

    reason: str
    status: int | None


class WebSocket:
    """Bytes of the wire in, messages out, and the other way round.

    Messages of more than ``max_size`` bytes fail the connection (close code 1009).
    """

    __slots__ = ("_parts", "_protocol")

    def __init__(self, uri: WebSocketURI, headers: Mapping[str, str], max_size: int) -> None:
        self._protocol = ClientProtocol(uri, max_size=max_size)
        # Its debug log would hold the API key and every signed request.
        self._protocol.debug = False
        self._parts: list[bytes] = []
        request = self._protocol.connect()
        request.headers.update(headers)
        self._protocol.send_request(request)

    @property
    def open(self) -> bool:
        """True from the accepted upgrade until a close frame is sent or received."""
        return self._protocol.state is State.OPEN

    @property
    def ending(self) -> bool:
        """True when all has been said, and the peer is to end the connection."""
        return self._protocol.close_expected()

    @property
    def refusal(self) -> Refusal | None:
        """Why the upgrade failed, if it did: a body without a length ends with the stream."""
        error = self._protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            return Refusal(f"the exchange answered HTTP {status}", status)
        return None if error is None or isinstance(error.__cause__, EOFError) else Refusal(str(error), None)

    def why_over(self, error: object = None) -> str:
        """What the peer's close frame said, or what was wrong with what it sent; else the socket's error."""
        received = self._protocol.close_rcvd
        if received is not None:
            return f"closed by the exchange: {received}"
        wrong = self._protocol.parser_exc
        if wrong is not None and not isinstance(wrong, EOFError):
            return f"protocol error: {wrong}"
        return "connection lost" if error is None else f"connection lost: {error}"

    def receive(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes from the wire; return the messages that are now complete."""
        self._protocol.receive_data(cast(bytes, data))  # it goes straight into a bytearray
        messages = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and (message := self._whole_message(event)) is not None:
                messages.append(message)
        return messages

    def receive_eof(self) -> None:
        """The peer sends no more."""
        self._protocol.receive_eof()

    def close(self) -> None:
        """Begin the closing handshake, if it has not begun."""
        if self.open:
            self._protocol.send_close(1000)

    def to_send(self) -> bytes:
        """What the protocol itself wants to send: the upgrade, pongs, the closing handshake."""
        return b"".join(self._protocol.data_to_send())

    def _whole_message(self, frame: Frame) -> bytes | None:
        if frame.opcode not in _DATA:
            return None
        if frame.opcode is not Opcode.CONT:
            if frame.fin:
                return bytes(frame.data)
            self._parts = []
        if frame.data:  # empty fragments count for nothing, and must not pile up
            self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        message = b"".join(self._parts)
        self._parts = []
        return message
