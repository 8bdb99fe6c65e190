# SPDX-License-Identifier: MIT
"""A server that wishes its client ill: it answers an upgrade, reads a cancel, and then does its worst."""

from __future__ import annotations

import json
import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1

__all__ = ["Worst", "frame", "serving", "upgrade"]

TEXT, CONTINUATION, BINARY, CLOSE, PING = 1, 0, 2, 8, 9

Worst = Callable[[str], Iterable[bytes]]
"""From the id of the cancel, what is sent; for as long as the client takes it."""


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, said: int | None = None
) -> bytes:
    """A server's frame (RFC 6455, section 5.2); ``said`` is the length in its header, if that is a lie."""
    first = opcode | rsv << 4 | (0x80 if fin else 0)
    size = len(payload) if said is None else said
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + struct.pack(">H", size) + payload
    return bytes((first, 127)) + struct.pack(">Q", size) + payload


def upgrade(request: bytes, more: bytes = b"") -> bytes:
    """The answer that RFC 6455, section 4.2.2, asks for, and ``more`` header lines."""
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
    lines = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return lines + b"Sec-WebSocket-Accept: " + accept + b"\r\n" + more + b"\r\n"


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client has gone")
    return data


def _request_of(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += _received(connection)
    return data


def _cancel_id(connection: socket.socket) -> str:
    """The id of the request in the first text frame; the pings before it are passed over."""
    data = b""
    while True:
        data += _received(connection)
        while len(data) >= 8:
            length, head = data[1] & 127, 6
            if length == 126:
                length, head = int.from_bytes(data[2:4], "big"), 8
            if len(data) < head + length:
                break
            mask, masked = data[head - 4 : head], data[head : head + length]
            opcode, data = data[0] & 15, data[head + length :]
            if opcode == TEXT:
                message = json.loads(bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked)))
                if "params" in message and "id" in message:
                    return str(message["id"])


@contextmanager
def serving(worst: Worst, handshake: Callable[[bytes], Iterable[bytes]] | None = None) -> Iterator[str]:
    """Its url. ``handshake``: what answers the upgrade, in place of what should."""
    listening = socket.create_server(("127.0.0.1", 0))
    ending = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = _request_of(connection)
            for piece in (upgrade(request),) if handshake is None else handshake(request):
                connection.sendall(piece)
            for piece in worst(_cancel_id(connection)):
                if ending.is_set():
                    return
                connection.sendall(piece)
            _received(connection)  # a close frame, or the end: a server ends the connection then

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connections.append(connection)
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

    connections: list[socket.socket] = []
    threads = [threading.Thread(target=accept, daemon=True)]
    threads[0].start()
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"
    finally:
        ending.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10.0)
