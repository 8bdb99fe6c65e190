# SPDX-License-Identifier: MIT
"""What a ``write`` costs, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from pacifica_fast import Signer
from pacifica_fast.asyncio.client import Client
from pacifica_fast.asyncio.link import Link
from pacifica_fast.endpoint import Endpoint

from .server import Server


def masked(text: bytes) -> bytes:
    """A finished client frame."""
    return Frame(Opcode.TEXT, text).serialize(mask=True)


@asynccontextmanager
async def websocket(
    server: Server, *, tls: bool, path: str = "/ws", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A connection of websockets, on the loop's own transport, never through a proxy."""
    context = server.context() if tls else None
    async with websockets_connect(
        server.url(tls=tls, path=path), ssl=context, proxy=None, **options
    ) as connection:
        yield connection


@asynccontextmanager
async def client(server: Server, signer: Signer, *, tls: bool) -> AsyncIterator[Client]:
    """Our own client, but on the loop's own transport, also where that has to encrypt.

    Between a reply and the next cancel there happens here what happens there: what differs is the
    sending alone.
    """
    endpoint = Endpoint.checked(server.url(tls=tls), ssl=server.context() if tls else None)
    bare = Client(signer, endpoint)
    lane = bare._session.open_lane(monotonic())
    link = Link(endpoint.websocket(), None, lane, bare._message, bare._lost)
    uri = endpoint.uri
    await asyncio.get_running_loop().create_connection(
        lambda: link, uri.host, uri.port, ssl=endpoint.ssl, server_hostname=uri.host if tls else None
    )
    await link.opened
    bare._links.opened(0, link, monotonic())
    async with bare:
        yield bare


@contextmanager
def raw_socket(server: Server, *, tls: bool) -> Iterator[socket.socket]:
    """A blocking socket, upgraded, that nobody else reads from."""
    uri = parse_uri(server.url(tls=tls))
    sock: socket.socket | ssl.SSLSocket = socket.create_connection((uri.host, uri.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        sock = server.context().wrap_socket(sock, server_hostname=uri.host)
    protocol = ClientProtocol(uri)
    protocol.send_request(protocol.connect())
    for data in protocol.data_to_send():
        sock.sendall(data)
    with sock:
        while not protocol.events_received():
            protocol.receive_data(sock.recv(4096))
        yield sock
