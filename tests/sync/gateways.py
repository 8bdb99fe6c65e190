# SPDX-License-Identifier: MIT
"""Exchanges for the blocking client, in a thread of their own: the mock, and any handler."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.server import ServerProtocol

from pacifica_fast import Signer
from pacifica_fast._certificate import Certificate, issue
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.sync import Client, connect

__all__ = ["CERTIFICATE", "accepted", "ack", "gateway", "listener", "to"]

CERTIFICATE: Certificate = issue()

Handler = Callable[[ServerConnection], Awaitable[None]]


def to(exchange: MockExchange, signer: Signer, **options: Any) -> Client:
    """A client of the mock exchange."""
    if exchange.url.startswith("wss"):
        options.setdefault("ssl", exchange.client_ssl_context())
    return connect(signer, url=exchange.url, **options)


@contextmanager
def gateway(handler: Handler, signer: Signer, **options: Any) -> Iterator[Client]:
    """A client connected, over TLS, to an exchange that does what ``handler`` does."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    connections: list[ServerConnection] = []

    async def remembered(connection: ServerConnection) -> None:
        connections.append(connection)
        await handler(connection)

    async def run() -> None:
        stop = asyncio.Event()
        context = CERTIFICATE.server_context()
        async with serve(remembered, "127.0.0.1", 0, ssl=context, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            started.set_result((asyncio.get_running_loop(), stop, port))
            await stop.wait()
            for connection in connections:  # some do not read, and would not hear of a close
                connection.transport.abort()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="gateway", daemon=True)
    thread.start()
    loop, stop, port = started.result(10)
    try:
        url = f"wss://127.0.0.1:{port}/ws"
        with connect(signer, url=url, ssl=CERTIFICATE.client_context(), **options) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def listener(serve_one: Callable[[socket.socket], None] | None = None) -> Iterator[int]:
    """The port of a bare TCP server: accepts one connection and hands it to ``serve_one``, or to nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread: threading.Thread | None = None
        if serve_one is not None:

            def accept() -> None:
                connection, _ = server.accept()
                with connection:
                    serve_one(connection)

            thread = threading.Thread(target=accept, name="listener", daemon=True)
            thread.start()
        yield server.getsockname()[1]
        if thread is not None:
            thread.join(10)
            assert not thread.is_alive()


def accepted(connection: socket.socket, *, send: bool = True) -> ServerProtocol:
    """The upgrade of a bare connection, answered; or, unless ``send``, about to be."""
    protocol = ServerProtocol()
    protocol.receive_data(connection.recv(65536))
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    if send:
        connection.sendall(b"".join(protocol.data_to_send()))
    return protocol


def ack(message: str | bytes, **fields: Any) -> str:
    """A reply to a request as it arrived."""
    request = orjson.loads(message)
    reply = {"id": request["id"], "code": 200, "type": next(iter(request["params"])), "data": {}}
    return orjson.dumps(reply | fields).decode()
