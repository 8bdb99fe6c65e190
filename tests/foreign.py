# SPDX-License-Identifier: MIT
"""Websocket servers that are not ours, a wire that can be bad, and both clients driven alike.

Everything runs in threads, and is told what to do from the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from pacifica_fast import Signer, sync
from pacifica_fast import asyncio as ours
from pacifica_fast._mock_rules import verify
from pacifica_fast.links import ConnectionEvent, LinkState
from pacifica_fast.replies import CancelAck
from pacifica_fast.session import Pending

__all__ = [
    "CLOSE",
    "CONTINUATION",
    "PATIENCE",
    "SERVERS",
    "TEXT",
    "AsyncioBot",
    "BlockingBot",
    "Bot",
    "Cancel",
    "House",
    "Loop",
    "Peer",
    "Relay",
    "ack",
    "acknowledge",
    "frame",
    "until",
]

PATIENCE = 60.0  # s; nothing takes so long unless it is stuck
CONTINUATION, TEXT, CLOSE, PING = 0, 1, 8, 9  # opcodes (RFC 6455, section 5.2)

T = TypeVar("T")


def until(there: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < give_up
        time.sleep(0.001)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def main() -> None:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result(PATIENCE)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        return self.run(called())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


# The servers.


class Cancel(NamedTuple):
    """A cancel as it arrived."""

    id: str
    fields: dict[str, Any]

    @property
    def order_id(self) -> int:
        order_id: int = self.fields["order_id"]
        return order_id


def ack(cancel: Cancel) -> bytes:
    """What the exchange answers to it."""
    data = {"s": cancel.fields["symbol"], "i": cancel.order_id, "I": None}
    now = time.time_ns() // 1_000_000
    return orjson.dumps({"code": 200, "data": data, "id": cancel.id, "t": now, "type": "cancel_order"})


def frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """As a server sends it: without a mask."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([opcode | fin << 7]) + length + payload


class Peer(ABC):
    """One connection, seen from the server."""

    def __init__(self, house: House, offered: str | None) -> None:
        self.offered = offered
        """The extensions that the client asked for."""
        self.tasks: list[asyncio.Task[None]] = []
        self._house = house
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        house.peers.append(self)

    @property
    @abstractmethod
    def transport(self) -> asyncio.Transport: ...

    @abstractmethod
    async def send(self, opcode: int, payload: bytes, fin: bool = True) -> None:
        """One frame."""

    @abstractmethod
    async def close(self, code: int, reason: str) -> None: ...

    async def ping(self, payload: bytes) -> None:
        """Send one, and wait for the pong that has the same payload."""
        self._pongs[payload] = asyncio.get_running_loop().create_future()
        await self.send(PING, payload)
        await self._pongs[payload]

    def ponged(self, payload: bytes) -> None:
        self._pongs.pop(payload).set_result(None)

    async def heard(self, text: str | bytes) -> None:
        message = orjson.loads(text)
        if message.get("method") == "ping":
            await self.send(TEXT, b'{"channel":"pong"}')
            return
        cancel = Cancel(message["id"], message["params"]["cancel_order"])
        verify("cancel_order", cancel.fields, time.time_ns() // 1_000_000, 60_000)
        self._house.asked.append(cancel)
        self.tasks.append(asyncio.get_running_loop().create_task(self._house.script(self, cancel)))


async def acknowledge(peer: Peer, cancel: Cancel) -> None:
    await peer.send(TEXT, ack(cancel))


class House:
    """What a server does, whoever's it is."""

    def __init__(self, status: int = 101, extension: str | None = None) -> None:
        self.script: Callable[[Peer, Cancel], Coroutine[Any, Any, None]] = acknowledge
        """What happens with each cancel that is well signed, in a task of its own."""
        self.status = status
        self.extension = extension
        """What the answer to the upgrade says was agreed on, whatever was."""
        self.peers: list[Peer] = []
        self.asked: list[Cancel] = []

    def abort(self) -> None:
        for peer in self.peers:
            peer.transport.abort()
            for task in peer.tasks:
                task.cancel()


@asynccontextmanager
async def by_websockets(house: House, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    class WebsocketsPeer(Peer):
        def __init__(self, connection: ServerConnection) -> None:
            assert connection.request is not None
            super().__init__(house, connection.request.headers.get("Sec-WebSocket-Extensions"))
            self._connection = connection

        @property
        def transport(self) -> asyncio.Transport:
            return self._connection.transport

        async def send(self, opcode: int, payload: bytes, fin: bool = True) -> None:
            protocol = self._connection.protocol
            (protocol.send_text if opcode == TEXT else protocol.send_continuation)(payload, fin)
            self._connection.send_data()

        async def ping(self, payload: bytes) -> None:
            await (await self._connection.ping(payload))

        async def close(self, code: int, reason: str) -> None:
            await self._connection.close(code, reason)

    async def serve_one(connection: ServerConnection) -> None:
        peer = WebsocketsPeer(connection)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await peer.heard(message)

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        return None if house.status == 101 else connection.respond(HTTPStatus(house.status), "no\n")

    def agree(connection: ServerConnection, request: Request, response: Response) -> None:
        if house.extension is not None:
            response.headers["Sec-WebSocket-Extensions"] = house.extension

    async with serve(
        serve_one, "127.0.0.1", 0, ssl=ssl, process_request=refuse, process_response=agree
    ) as server:
        yield server.sockets[0].getsockname()[1]
        house.abort()


@asynccontextmanager
async def by_aiohttp(house: House, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    from aiohttp import WSMsgType, web

    class AiohttpPeer(Peer):
        def __init__(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
            super().__init__(house, request.headers.get("Sec-WebSocket-Extensions"))
            assert request.transport is not None
            assert not websocket.compress
            self._transport = request.transport
            self._websocket = websocket

        @property
        def transport(self) -> asyncio.Transport:
            return self._transport

        async def send(self, opcode: int, payload: bytes, fin: bool = True) -> None:
            if opcode == TEXT and fin:
                await self._websocket.send_str(payload.decode())
            elif opcode == PING:
                await self._websocket.ping(payload)
            else:  # it makes no fragments itself
                self._transport.write(frame(opcode, payload, fin))

        async def close(self, code: int, reason: str) -> None:
            await self._websocket.close(code=code, message=reason.encode())

    async def serve_one(request: web.Request) -> web.StreamResponse:
        if house.status != 101:
            return web.Response(status=house.status, text="no\n")
        websocket = web.WebSocketResponse(autoping=False, compress=True)
        if house.extension is not None:
            websocket.headers["Sec-WebSocket-Extensions"] = house.extension
        await websocket.prepare(request)
        peer = AiohttpPeer(request, websocket)
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                await peer.heard(message.data)
            elif message.type is WSMsgType.PONG:
                peer.ponged(bytes(message.data))
        if peer.tasks:  # one of them may be about to close; without it, that would be code 1000
            await asyncio.wait(peer.tasks)
        return websocket

    application = web.Application()
    application.router.add_get("/ws", serve_one)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl).start()
        yield runner.addresses[0][1]
        house.abort()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def by_picows(house: House, ssl: ssl_module.SSLContext | None) -> AsyncIterator[int]:
    import picows

    class PicowsPeer(Peer):
        def __init__(self, offered: str | None, websocket: picows.WSTransport) -> None:
            super().__init__(house, offered)
            self._websocket = websocket

        @property
        def transport(self) -> asyncio.Transport:
            return self._websocket.underlying_transport

        async def send(self, opcode: int, payload: bytes, fin: bool = True) -> None:
            self._websocket.send(picows.WSMsgType(opcode), payload, fin)

        async def close(self, code: int, reason: str) -> None:
            self._websocket.send_close(picows.WSCloseCode(code), reason.encode())

    class Listener(picows.WSListener):
        def __init__(self, offered: str | None) -> None:
            super().__init__()
            self._offered = offered

        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            self._peer = PicowsPeer(self._offered, transport)

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                text = frame.get_payload_as_bytes()
                self._peer.tasks.append(asyncio.get_running_loop().create_task(self._peer.heard(text)))
            elif frame.msg_type == picows.WSMsgType.PONG:
                self._peer.ponged(frame.get_payload_as_bytes())
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                if not transport.is_close_frame_sent:
                    transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()

    def upgrade(request: picows.WSUpgradeRequest) -> picows.WSUpgradeResponseWithListener:
        if house.status != 101:
            response = picows.WSUpgradeResponse.create_error_response(house.status, b"no\n")
            return picows.WSUpgradeResponseWithListener(response, None)
        extra = {} if house.extension is None else {"Sec-WebSocket-Extensions": house.extension}
        return picows.WSUpgradeResponseWithListener(
            picows.WSUpgradeResponse.create_101_response(extra),
            Listener(request.headers.get("Sec-WebSocket-Extensions")),
        )

    server = await picows.ws_create_server(upgrade, "127.0.0.1", 0, ssl=ssl)
    yield server.sockets[0].getsockname()[1]
    server.close()
    house.abort()


SERVERS: dict[str, Callable[[House, ssl_module.SSLContext | None], AbstractAsyncContextManager[int]]] = {
    "websockets": by_websockets,
    "aiohttp": by_aiohttp,
    "picows": by_picows,
}


# The wire.


class _Line:
    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.open = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self.open.values():
            gate.set()


class Relay:
    """TCP from its ``port`` to that of a server, which can be late, in pieces, stuck or cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay: Callable[[], float] = lambda: 0.0
        """In s, of each piece."""
        self.cuts: Callable[[int], int] = lambda size: size
        """How large the next piece of so many bytes is."""
        self._lines: list[_Line] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """From now on nobody listens here; what is open stays."""
        if self._server is not None:
            self._server.close()

    async def cut(self) -> None:
        for line in self._lines:
            for writer in line.writers:
                writer.transport.abort()
        await self.resume()

    async def stall(self, *directions: str) -> None:
        """What is open transports nothing any more: neither the client's bytes, ``up``, nor ``down``."""
        for line in self._lines:
            for direction in directions:
                line.open[direction].clear()

    async def resume(self) -> None:
        for line in self._lines:
            for gate in line.open.values():
                gate.set()

    async def close(self) -> None:
        await self.refuse()
        await self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(far_writer)
            line = _Line(*writers)
            self._lines.append(line)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, far_writer, line.open["up"]))
                pumps.create_task(self._pump(far_reader, writer, line.open["down"]))
        except* OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            while data:
                size = self.cuts(len(data))
                await asyncio.sleep(self.delay())
                await gate.wait()
                writer.write(data[:size])
                data = data[size:]
        writer.write_eof()


# The clients.


class Bot(ABC):
    """A client, used from the test's thread."""

    client: ours.Client | sync.Client

    def __init__(self, signer: Signer, **options: Any) -> None:
        self._connect(signer, options)
        self.events: list[ConnectionEvent] = []
        self.do(lambda: self.client._links.listeners.append(self.events.append))

    @abstractmethod
    def _connect(self, signer: Signer, options: dict[str, Any]) -> None: ...

    @abstractmethod
    def do(self, call: Callable[[], T]) -> T:
        """Call it where the client wants to be called."""

    @abstractmethod
    def result(self, pending: Pending) -> CancelAck: ...

    @abstractmethod
    def close(self) -> None: ...

    def send(self, order_id: int) -> Pending:
        return self.do(lambda: self.client.cancel_order_nowait("BTC", order_id=order_id))

    def cancel(self, order_id: int) -> CancelAck:
        return self.result(self.send(order_id))


class BlockingBot(Bot):
    client: sync.Client

    def _connect(self, signer: Signer, options: dict[str, Any]) -> None:
        self.client = sync.connect(signer, **options)

    def do(self, call: Callable[[], T]) -> T:
        return call()

    def result(self, pending: Pending) -> CancelAck:
        assert isinstance(pending, sync.Pending)
        ack: CancelAck = pending.result(PATIENCE)
        return ack

    def close(self) -> None:
        self.client.close()


class AsyncioBot(Bot):
    client: ours.Client

    def _connect(self, signer: Signer, options: dict[str, Any]) -> None:
        self._loop = Loop()
        try:
            self.client = self._loop.run(self._awaited(ours.connect(signer, **options)))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    async def _awaited(what: Awaitable[T]) -> T:
        return await what

    def do(self, call: Callable[[], T]) -> T:
        return self._loop.call(call)

    def result(self, pending: Pending) -> CancelAck:
        assert isinstance(pending, ours.Pending)
        ack: CancelAck = self._loop.run(self._awaited(pending))
        return ack

    def close(self) -> None:
        if self.client.state is not LinkState.CLOSED:
            self._loop.run(self.client.close())
            self._loop.close()
