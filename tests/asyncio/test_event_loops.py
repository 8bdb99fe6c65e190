# SPDX-License-Identifier: MIT
"""What a cancel needs of the event loop: that a write is a write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from links_of import transport_of
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from pacifica_fast import InvalidRequest, Keypair, NotSent, PacificaError, Signer
from pacifica_fast.asyncio import Pending, connect
from pacifica_fast.asyncio.client import check_event_loop
from pacifica_fast.asyncio.link import Link

uvloop = pytest.importorskip("uvloop")


class Peer:
    """The other end of one plain connection, in the hands of the test."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws"
        self._protocol = ServerProtocol()
        self._thread = threading.Thread(target=self._upgrade)
        self._thread.start()

    def _upgrade(self) -> None:
        self.socket, _ = self._listener.accept()
        self.socket.settimeout(10)
        (request,) = self._events()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))
        self.socket.sendall(b"".join(self._protocol.data_to_send()))

    def _events(self) -> list[Any]:
        while not (events := self._protocol.events_received()):
            self._protocol.receive_data(self.socket.recv(65536))
        return events

    def read_now(self) -> dict[str, Any]:
        """The next message, without the event loop: it blocks the thread that calls."""
        (frame,) = self._events()
        assert isinstance(frame, Frame)
        message: dict[str, Any] = json.loads(bytes(frame.data))
        return message

    def read_all(self) -> list[dict[str, Any]]:
        """All messages that arrive whole, up to the end of the connection."""
        events: list[Any] = []
        while data := self.socket.recv(65536):
            self._protocol.receive_data(data)
            events += self._protocol.events_received()
        return [json.loads(bytes(event.data)) for event in events if event.opcode is Opcode.TEXT]

    def close(self) -> None:
        self._thread.join()
        if hasattr(self, "socket"):
            self.socket.close()
        self._listener.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_cancel_is_on_the_wire_before_the_loop_runs_again(
    peer: Peer, run: Callable[[Any], object]
) -> None:
    async def main() -> None:
        signer = Signer(Keypair.from_seed(bytes(range(32))))
        client = await connect(signer, url=peer.url)
        await asyncio.get_running_loop().run_in_executor(None, peer._thread.join)
        for order_id in range(20):
            pending = client.cancel_order_nowait("BTC", order_id=order_id)
            assert peer.read_now()["id"] == pending.id
            armed = client.arm("BTC", order_id=order_id)
            assert peer_is_silent(peer)
            assert armed.fire().id == peer.read_now()["id"]
        pulled = client.pull([client.arm("BTC", order_id=n) for n in range(1)])
        assert peer.read_now()["id"] == pulled[0].id
        peer.socket.close()
        await client.close()

    run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("max_unsent", [0, 4096])
def test_what_was_not_sent_never_arrives(peer: Peer, run: Callable[[Any], Any], max_unsent: int) -> None:
    """uvloop goes on writing what it has after abort(), and the peer reads all the while."""

    async def main() -> list[Pending[Any]]:
        signer = Signer(Keypair.from_seed(bytes(32)))
        async with connect(signer, url=peer.url, reconnect_attempts=0, max_unsent=max_unsent) as client:
            own = transport_of(client).get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            armed = [client.arm("BTC", order_id=number) for number in range(2000)]
            arriving = threading.Thread(target=lambda: arrived.extend(peer.read_all()))
            pendings = client.pull(armed)
            arriving.start()
            await asyncio.wait([asyncio.ensure_future(ended(pending)) for pending in pendings])
            await asyncio.to_thread(arriving.join)
            return pendings

    async def ended(pending: Pending[Any]) -> None:
        with contextlib.suppress(PacificaError):
            await pending

    arrived: list[dict[str, Any]] = []
    pendings = run(main())
    unsent = {pending.id for pending in pendings if isinstance(pending._outcome, NotSent)}
    assert unsent
    assert arrived
    assert not unsent & {message["id"] for message in arrived}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_opening_may_be_cancelled_as_the_connection_is_made(
    peer: Peer, run: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop then never calls connection_lost: nobody may wait for it without end."""
    made = Link.connection_made
    opening: asyncio.Future[Any] | None = None

    def cancelled(link: Link, transport: asyncio.BaseTransport) -> None:
        made(link, transport)
        assert opening is not None
        opening.cancel()

    async def main() -> None:
        nonlocal opening
        signer = Signer(Keypair.from_seed(bytes(range(32))))
        opening = asyncio.ensure_future(connect(signer, url=peer.url))
        async with asyncio.timeout(30):
            await asyncio.wait([opening])
        assert opening.cancelled()
        await asyncio.get_running_loop().run_in_executor(None, peer._thread.join)

    monkeypatch.setattr(Link, "connection_made", cancelled)
    run(main())


def peer_is_silent(peer: Peer) -> bool:
    peer.socket.setblocking(False)
    try:
        peer.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        peer.socket.settimeout(10)
    return False


class Loop(asyncio.SelectorEventLoop):
    """Pretends to be uvloop's."""


Loop.__module__ = "uvloop"


@pytest.mark.parametrize(
    ("version", "refused"), [("0.22.1", True), ("0.9", True), ("0.23.0", False), ("1.0", False)]
)
def test_an_older_uvloop_is_refused(version: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.23 its transports only wrote when the loop ran again."""
    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(__version__=version))
    loop = Loop()
    try:
        if refused:
            with pytest.raises(InvalidRequest, match=rf"uvloop {version}: only from 0\.23"):
                check_event_loop(loop)
        else:
            check_event_loop(loop)
    finally:
        loop.close()


def test_other_loops_are_fine() -> None:
    loop = asyncio.new_event_loop()
    check_event_loop(loop)
    loop.close()
