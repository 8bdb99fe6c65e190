# SPDX-License-Identifier: MIT
"""Exchanges whose websockets are other people's: websockets' server, aiohttp's and picows'.

What a server does with a cancel, the cancel's symbol says: ``BTC`` is acknowledged, the others are in
:data:`BEHAVIOURS`. Each runs in a thread of its own. There is also a :class:`Relay` for a bad line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl as ssl_module
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

__all__ = ["BEHAVIOURS", "PING", "SERVERS", "Relay", "in_thread"]

PING = b"are you there?"
TEXT, CONTINUATION = 0x1, 0x0


def ack(request: dict[str, Any]) -> bytes:
    [(operation, params)] = request["params"].items()
    data = {"s": params["symbol"], "i": params.get("order_id")}
    now = time.time_ns() // 1_000_000
    return orjson.dumps({"id": request["id"], "code": 200, "type": operation, "data": data, "t": now})


def frame(opcode: int, payload: bytes, *, fin: bool) -> bytes:
    """An unmasked frame of a short payload, by RFC 6455 section 5.2: no library sends a part of a message."""
    assert len(payload) < 126
    return bytes([opcode | 0x80 * fin, len(payload)]) + payload


class Peer(ABC):
    """One connection as a server sees it."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    @abstractmethod
    async def send(self, text: bytes) -> None: ...
    @abstractmethod
    async def ping(self, payload: bytes) -> None: ...
    @abstractmethod
    async def close(self, code: int) -> None: ...
    @abstractmethod
    def transport(self) -> asyncio.Transport: ...

    async def received(self, text: str | bytes) -> None:
        request = orjson.loads(text)
        if request.get("method") == "ping":
            await self.send(b'{"channel":"pong"}')
            return
        self.seen.requests.append(request)
        symbol = request["params"]["cancel_order"]["symbol"]
        await BEHAVIOURS.get(symbol, acknowledge)(self, ack(request))


class Seen:
    """What came in, on all connections of a server."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.pongs: list[bytes] = []
        self.extensions: list[str | None] = []


async def acknowledge(peer: Peer, reply: bytes) -> None:
    await peer.send(reply)


async def in_fragments(peer: Peer, reply: bytes) -> None:
    """Four of them, one empty, each in a segment of its own; behind the first, a ping."""
    parts = [reply[:40], b"", reply[40:100], reply[100:]]
    for n, part in enumerate(parts):
        peer.transport().write(frame(CONTINUATION if n else TEXT, part, fin=n == len(parts) - 1))
        if n == 0:
            await peer.ping(PING)
        await asyncio.sleep(0.01)


async def byte_by_byte(peer: Peer, reply: bytes) -> None:
    for byte in frame(TEXT, reply[:100], fin=False) + frame(CONTINUATION, reply[100:], fin=True):
        peer.transport().write(bytes([byte]))
        await asyncio.sleep(0)


async def ping_first(peer: Peer, reply: bytes) -> None:
    await peer.ping(PING)
    await peer.send(reply)


async def abort(peer: Peer, reply: bytes) -> None:
    peer.transport().abort()


async def abort_in_the_middle(peer: Peer, reply: bytes) -> None:
    peer.transport().write(frame(TEXT, reply[:40], fin=False))
    await asyncio.sleep(0.05)
    peer.transport().abort()


async def break_the_protocol(peer: Peer, reply: bytes) -> None:
    """A continuation of nothing."""
    peer.transport().write(frame(CONTINUATION, reply[:40], fin=True))


def close_with(code: int) -> Callable[[Peer, bytes], Coroutine[Any, Any, None]]:
    async def close(peer: Peer, reply: bytes) -> None:
        await peer.close(code)

    return close


BEHAVIOURS: dict[str, Callable[[Peer, bytes], Coroutine[Any, Any, None]]] = {
    "FRAGMENTS": in_fragments,
    "BYTES": byte_by_byte,
    "PING": ping_first,
    "CLOSE 1000": close_with(1000),
    "CLOSE 1001": close_with(1001),
    "CLOSE 1011": close_with(1011),
    "ABORT": abort,
    "HALF": abort_in_the_middle,
    "BROKEN": break_the_protocol,
}


# The servers.

Server = Callable[[Seen, ssl_module.SSLContext | None], AbstractAsyncContextManager[int]]


class WebsocketsPeer(Peer):
    def __init__(self, seen: Seen, connection: ServerConnection) -> None:
        super().__init__(seen)
        self._connection = connection

    async def send(self, text: bytes) -> None:
        await self._connection.send(text, text=True)

    async def ping(self, payload: bytes) -> None:
        pong = asyncio.ensure_future(await self._connection.ping(payload))

        def ponged(pong: asyncio.Future[float]) -> None:
            if pong.exception() is None:
                self.seen.pongs.append(payload)

        pong.add_done_callback(ponged)

    async def close(self, code: int) -> None:
        await self._connection.close(code)

    def transport(self) -> asyncio.Transport:
        return self._connection.transport


@asynccontextmanager
async def websockets_server(seen: Seen, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.extensions.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
        peer = WebsocketsPeer(seen, connection)
        async for text in connection:
            await peer.received(text)

    async with serve(handle, "127.0.0.1", 0, ssl=ssl, compression="deflate", ping_interval=None) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def aiohttp_server(seen: Seen, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    web = pytest.importorskip("aiohttp.web")
    text_type, pong_type = web.WSMsgType.TEXT, web.WSMsgType.PONG

    class AiohttpPeer(Peer):
        def __init__(self, socket: Any, request: Any) -> None:
            super().__init__(seen)
            self._socket, self._request = socket, request

        async def send(self, text: bytes) -> None:
            await self._socket.send_str(text.decode())

        async def ping(self, payload: bytes) -> None:
            await self._socket.ping(payload)

        async def close(self, code: int) -> None:
            await self._socket.close(code=code)

        def transport(self) -> asyncio.Transport:
            transport: asyncio.Transport = self._request.transport
            return transport

    async def handle(request: Any) -> Any:
        seen.extensions.append(request.headers.get("Sec-WebSocket-Extensions"))
        socket = web.WebSocketResponse(compress=True, autoping=False)
        await socket.prepare(request)
        peer = AiohttpPeer(socket, request)
        async for message in socket:
            if message.type == text_type:
                await peer.received(message.data)
            elif message.type == pong_type:
                seen.pongs.append(bytes(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def picows_server(seen: Seen, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    picows = pytest.importorskip("picows")
    kinds = picows.WSMsgType
    tasks: set[asyncio.Task[None]] = set()

    class PicowsPeer(Peer):
        def __init__(self, transport: Any) -> None:
            super().__init__(seen)
            self._transport = transport

        async def send(self, text: bytes) -> None:
            self._transport.send(kinds.TEXT, text)

        async def ping(self, payload: bytes) -> None:
            self._transport.send_ping(payload)

        async def close(self, code: int) -> None:
            self._transport.send_close(code)
            self._transport.disconnect()

        def transport(self) -> asyncio.Transport:
            transport: asyncio.Transport = self._transport.underlying_transport
            return transport

    class Listener(picows.WSListener):  # type: ignore[name-defined,misc]
        def on_ws_connected(self, transport: Any) -> None:
            self.peer = PicowsPeer(transport)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == kinds.TEXT:
                task = asyncio.create_task(self.peer.received(frame.get_payload_as_bytes()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif frame.msg_type == kinds.PONG:
                seen.pongs.append(frame.get_payload_as_bytes())
            elif frame.msg_type == kinds.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()

    def listener(request: Any) -> Any:
        seen.extensions.append(request.headers.get("Sec-WebSocket-Extensions"))
        return Listener()

    server = await picows.ws_create_server(listener, "127.0.0.1", 0, ssl=ssl)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


SERVERS: dict[str, Server] = {
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
    "picows": picows_server,
}


class Relay:
    """Passes bytes on between a client and a port of this machine, as an imperfect line does."""

    def __init__(self, port: int, *, delay: float = 0.0, jitter: float = 0.0) -> None:
        self._port, self._delay, self._jitter = port, delay, jitter
        self._random = random.Random(1)
        self.stalled = False
        self.connections = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._relay(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        line = Line(self)
        try:
            with contextlib.suppress(OSError):
                done, rest = await asyncio.wait(
                    [
                        asyncio.ensure_future(line.carry(reader, back)),
                        asyncio.ensure_future(line.carry(there, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in rest:
                    task.cancel()
                await asyncio.gather(*done, *rest, return_exceptions=True)
        finally:
            for end in (writer, back):
                end.transport.abort()

    def pause(self) -> float:
        """For the next bytes, in s."""
        return self._delay + self._random.uniform(0, self._jitter)


class Line:
    """One connection of a relay. One that stood still does so for good: a machine between has gone."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._dead = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self._relay.pause())
            self._dead = self._dead or self._relay.stalled
            if not self._dead:
                writer.write(data)


@contextmanager
def in_thread(server: Callable[[], AbstractAsyncContextManager[int]]) -> Iterator[int]:
    """The port it listens on. It ends with the ``with`` block, and whatever went wrong in it is raised."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started: list[int] = []
    ready = threading.Event()
    failures: list[BaseException] = []

    async def run() -> None:
        async with server() as port:
            started.append(port)
            ready.set()
            await stop.wait()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run())
        except BaseException as failure:
            failures.append(failure)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="foreign server")
    thread.start()
    try:
        ready.wait()
        if failures:
            raise failures[0]
        yield started[0]
    finally:
        if not failures:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]
