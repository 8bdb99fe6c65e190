# SPDX-License-Identifier: MIT
"""An exchange that only acknowledges, in a process of its own, and notes when each request came.

The mock exchange verifies every signature, which is work that would stand beside what is measured
on two cores. This one keeps what it received, and the measuring process verifies it afterwards.
It listens on a plain and on a TLS port; a connection to ``/feed`` gets market data.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns, time
from typing import IO, Any

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from pacifica_fast._certificate import issue
from pacifica_fast._elsewhere import play_elsewhere

from .place import CHECKOUT, PACKAGE

FEED = "/feed"
FEED_INTERVAL = 0.001  # s between messages of market data
BOOK = json.dumps(
    {
        "channel": "book",
        "data": {
            "s": "BTC",
            "l": [[{"p": f"{87_000 + n}", "a": "0.1", "n": 3} for n in range(10)] for _ in range(2)],
            "t": 1_749_051_881_187,
            "li": 1_559_885_104,
        },
    },
    separators=(",", ":"),
).encode()

Received = tuple[int, str]
"""When, on the clock that all processes of a Linux machine share (``monotonic_ns``), and what."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, received: deque[Received]) -> None:
        self._received = received
        # As websockets' own server does: offered compression is accepted.
        self._protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()])
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = monotonic_ns()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
                if event.path == FEED:
                    asyncio.get_running_loop().call_soon(self._feed)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                text = bytes(event.data).decode()
                self._received.append((now, text))
                self._protocol.send_text(acknowledgement(text))
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def _feed(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(BOOK)
            self._flush()
            asyncio.get_running_loop().call_later(FEED_INTERVAL, self._feed)

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.write_eof() if self._transport.can_write_eof() else self._transport.close()


def acknowledgement(text: str) -> bytes:
    """What the exchange says to a request that it carries out."""
    request = json.loads(text)
    if request.get("method") == "ping":
        return b'{"channel":"pong"}'
    operation, fields = next(iter(request["params"].items()))
    reply = {
        "code": 200,
        "data": {"i": fields.get("order_id"), "s": fields.get("symbol")},
        "id": request["id"],
        "t": int(time() * 1000),
        "type": operation,
    }
    return json.dumps(reply, separators=(",", ":")).encode()


async def serve() -> None:
    """Until stdin ends; every line on it asks for what was received since the last one."""
    play_elsewhere()
    loop = asyncio.get_running_loop()
    received: deque[Received] = deque(maxlen=4096)
    certificate = issue()
    servers = {
        "ws": await loop.create_server(lambda: Connection(received), "127.0.0.1", 0),
        "wss": await loop.create_server(
            lambda: Connection(received), "127.0.0.1", 0, ssl=certificate.server_context()
        ),
    }
    ports = {scheme: server.sockets[0].getsockname()[1] for scheme, server in servers.items()}
    print(json.dumps({"ports": ports, "authority": certificate.authority}), flush=True)
    ended = asyncio.Event()

    def asked() -> None:
        if not sys.stdin.readline():
            ended.set()
            return
        print(json.dumps(list(received)), flush=True)
        received.clear()

    loop.add_reader(sys.stdin, asked)
    await ended.wait()


class Server:
    """The other process, as seen from this one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._questions: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        self._listening: dict[str, Any] = json.loads(self._answers.readline())

    def url(self, *, tls: bool, path: str = "/ws") -> str:
        """Where to connect."""
        scheme = "wss" if tls else "ws"
        return f"{scheme}://127.0.0.1:{self._listening['ports'][scheme]}{path}"

    def context(self) -> ssl.SSLContext:
        """Trusts this server and no other."""
        return ssl.create_default_context(cadata=self._listening["authority"])

    def received(self) -> list[Received]:
        """What came since the last time, the oldest first."""
        self._questions.write("\n")
        self._questions.flush()
        return [(when, text) for when, text in json.loads(self._answers.readline())]


@contextmanager
def running() -> Iterator[Server]:
    """A server, gone when this is left."""
    with subprocess.Popen(
        [sys.executable, "-m", f"{PACKAGE}.server"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the measuring process, which then ends this one
    ) as process:
        try:
            yield Server(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    asyncio.run(serve())
