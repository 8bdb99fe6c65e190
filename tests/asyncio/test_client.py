# SPDX-License-Identifier: MIT
"""The asyncio client on real sockets, over TLS, against the mock exchange and worse ones."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from links_of import link_of, transport_of
from websockets.asyncio.server import ServerConnection, serve

from pacifica_fast import (
    ConnectionFailed,
    InvalidRequest,
    KeyClosed,
    Keypair,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Signer,
    WrongThread,
)
from pacifica_fast._certificate import Certificate, issue
from pacifica_fast.asyncio import Client, Pending, connect
from pacifica_fast.asyncio.link import Link
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.replies import BatchAck, CancelAck, CancelAllAck

CERTIFICATE: Certificate = issue()
ORDER = {
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.1",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


@pytest.fixture(params=["wss", "ws"])
async def exchange(request: pytest.FixtureRequest) -> AsyncIterator[MockExchange]:
    async with MockExchange(tls=request.param == "wss") as exchange:
        yield exchange


def to(exchange: MockExchange, signer: Signer, **options: Any) -> connect:
    if exchange.url.startswith("wss"):
        options.setdefault("ssl", exchange.client_ssl_context())
    return connect(signer, url=exchange.url, **options)


Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def gateway(handler: Handler, signer: Signer, **options: Any) -> AsyncIterator[Client]:
    """A client connected, over TLS, to an exchange that does what ``handler`` does."""
    context = CERTIFICATE.server_context()
    async with serve(handler, "127.0.0.1", 0, ssl=context, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"wss://127.0.0.1:{port}/ws"
        async with connect(signer, url=url, ssl=CERTIFICATE.client_context(), **options) as client:
            yield client


def ack(message: str | bytes, **fields: Any) -> str:
    request = orjson.loads(message)
    reply = {"id": request["id"], "code": 200, "type": next(iter(request["params"])), "data": {}}
    return orjson.dumps(reply | fields).decode()


# The whole way.


async def test_place_and_cancel_by_order_id(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        assert client.connected
        placed = await client.request("create_order", ORDER)
        order_id = placed.data["i"]
        assert [order.order_id for order in exchange.orders(signer.account)] == [order_id]
        cancelled = await client.cancel_order("BTC", order_id=order_id)
        assert isinstance(cancelled, CancelAck)
        assert (cancelled.symbol, cancelled.order_id) == ("BTC", order_id)
        assert exchange.orders(signer.account) == []
    assert exchange.verified == 2
    assert not client.connected


async def test_cancel_by_client_order_id(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        for client_order_id in (uuid.uuid4(), str(uuid.uuid4())):
            exchange.place(signer.account, client_order_id=str(client_order_id))
            ack = await client.cancel_order("BTC", client_order_id=client_order_id)
            assert ack.client_order_id == str(client_order_id)


async def test_nowait_returns_a_pending(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        order = exchange.place(signer.account)
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
        assert isinstance(pending, Pending)
        assert not pending.done
        assert len(pending.id) == 36
        ack = await pending
        assert pending.done
        assert ack is await pending  # any number of times
        assert ack.request_id == pending.id
        assert pending.settled_at >= pending.sent_at


async def test_a_cancel_of_nothing_is_rejected(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        with pytest.raises(Rejected) as caught:
            await client.cancel_order("BTC", order_id=5)
        assert caught.value.code == 420
        pending = client.cancel_order_nowait("BTC", order_id=5)
        for _ in range(2):
            with pytest.raises(Rejected):
                await pending


async def test_cancel_all_and_batch(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        orders = [exchange.place(signer.account, symbol=symbol) for symbol in ("BTC", "ETH", "SOL", "SOL")]
        batch = await client.batch_cancel([("BTC", orders[0].order_id), ("ETH", 1), ("ETH", uuid.uuid4())])
        assert isinstance(batch, BatchAck)
        assert [result.success for result in batch.results] == [True, False, False]
        one = await client.cancel_all_orders(symbol="SOL")
        assert isinstance(one, CancelAllAck)
        assert one.cancelled_count == 2
        rest = await client.cancel_all_orders()
        assert rest.cancelled_count == 1


@pytest.mark.parametrize("by_agent", [False, True])
async def test_every_operation_of_the_websocket_verifies(exchange: MockExchange, by_agent: bool) -> None:
    """docs.pacifica.fi, websocket trading operations: these, and the cancels above."""
    keypair, main = Keypair.generate(), Keypair.generate().pubkey()
    signer = Signer(keypair, account=main) if by_agent else Signer(keypair)
    if by_agent:
        exchange.bind_agent(main, keypair.pubkey())
    market = {"symbol": "BTC", "amount": "0.1", "side": "ask", "slippage_percent": "0.5", "reduce_only": True}
    async with to(exchange, signer) as client:
        client_order_id = str(uuid.uuid4())
        placed = await client.request("create_order", ORDER | {"client_order_id": client_order_id})
        assert placed.data["I"] == client_order_id
        assert (await client.request("create_market_order", market)).operation == "create_market_order"
        edit = {"symbol": "BTC", "price": "50001", "amount": "0.2", "client_order_id": client_order_id}
        edited = await client.request("edit_order", edit)
        assert edited.data["i"] != placed.data["i"]
        await client.cancel_order("BTC", order_id=edited.data["i"])
        await client.cancel_all_orders(symbol="BTC", exclude_reduce_only=True)
        await client.cancel_all_orders()
        await client.batch_cancel([("BTC", 1)])
    assert (exchange.verified, exchange.rejected) == (7, 0)


async def test_agent_wallet(exchange: MockExchange) -> None:
    agent, account = Keypair.generate(), Keypair.generate().pubkey()
    order = exchange.place(account)
    async with to(exchange, Signer(agent, account=account)) as client:
        with pytest.raises(Rejected, match="not authorized"):
            await client.cancel_order("BTC", order_id=order.order_id)
        exchange.bind_agent(account, agent.pubkey())
        assert (await client.cancel_order("BTC", order_id=order.order_id)).order_id == order.order_id


async def test_many_at_once_each_gets_its_own_reply(signer: Signer) -> None:
    async with MockExchange(tls=True, quota=None) as exchange, to(exchange, signer) as client:
        orders = [exchange.place(signer.account).order_id for _ in range(300)]
        pendings = [client.cancel_order_nowait("BTC", order_id=order_id) for order_id in orders]
        acks = await asyncio.gather(*pendings)
        assert [ack.order_id for ack in acks] == orders
        assert [ack.request_id for ack in acks] == [pending.id for pending in pendings]


async def test_connect_can_be_awaited(exchange: MockExchange, signer: Signer) -> None:
    client = await to(exchange, signer)
    assert client.connected
    await client.close()
    await client.close()
    assert not client.connected


# What is refused before anything is sent.


async def test_bad_arguments_reach_no_wire_and_cost_no_request(
    exchange: MockExchange, signer: Signer
) -> None:
    async with to(exchange, signer) as client:
        for arguments in ({}, {"order_id": -1}, {"order_id": 1, "client_order_id": str(uuid.uuid4())}):
            with pytest.raises(InvalidRequest, match="order_id"):
                client.cancel_order_nowait("BTC", **arguments)
        with pytest.raises(InvalidRequest, match="symbol"):
            await client.cancel_order("", order_id=1)
        with pytest.raises(InvalidRequest, match="cancels"):
            await client.batch_cancel([])
        with pytest.raises(InvalidRequest, match=r"data\.price"):
            await client.request("create_order", ORDER | {"price": 1.5})
        with pytest.raises(Rejected):
            await client.cancel_order("BTC", order_id=1)
    assert len(exchange.requests) == 1


async def test_after_close_nothing_is_sent(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        pass
    with pytest.raises(NotSent):
        client.cancel_order_nowait("BTC", order_id=1)
    assert exchange.requests == []


async def test_a_closed_key_sends_nothing(exchange: MockExchange) -> None:
    keypair = Keypair.generate()
    async with to(exchange, Signer(keypair)) as client:
        keypair.close()
        with pytest.raises(KeyClosed):
            await client.cancel_order("BTC", order_id=1)
    assert exchange.requests == []


async def test_another_thread_is_refused(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        with pytest.raises(WrongThread, match="event loop"):
            await asyncio.to_thread(client.cancel_order_nowait, "BTC", order_id=1)
        exchange.faults.drop_replies()
        pending = client.cancel_order_nowait("BTC", order_id=1)

        async def wait() -> None:
            await pending

        with pytest.raises(WrongThread, match="event loop"):
            await asyncio.to_thread(lambda: asyncio.run(wait()))
        with pytest.raises(Rejected):
            await client.cancel_order("BTC", order_id=1)
    assert len(exchange.requests) == 2


def test_another_event_loop_of_the_thread_is_refused_before_anything_is_sent(signer: Signer) -> None:
    """An order that is sent, and then raises, would be sent again."""
    with MockExchange().in_thread() as exchange, asyncio.Runner() as own, asyncio.Runner() as other:
        client = own.run(_connected(exchange, signer))
        armed = client.arm("BTC", order_id=1)

        async def nowait(call: Callable[[], object]) -> None:
            call()

        for attempt in (
            client.request("create_order", {"symbol": "BTC"}),
            client.cancel_order("BTC", order_id=1),
            client.cancel_all_orders(),
            client.batch_cancel([("BTC", 1)]),
            nowait(lambda: client.cancel_order_nowait("BTC", order_id=1)),
            nowait(armed.fire),
            nowait(lambda: client.pull([armed])),
        ):
            with pytest.raises(WrongThread, match="another event loop"):
                other.run(attempt)
        assert armed.armed
        pending = client.cancel_order_nowait("BTC", order_id=1)  # while no loop runs it may be called
        fired = armed.fire()

        async def rejected() -> None:
            for one in (pending, fired):
                with pytest.raises(Rejected):
                    await one
            await client.close()

        own.run(rejected())
        assert len(exchange.requests) == 2


async def _connected(exchange: MockExchange, signer: Signer) -> Client:
    return await to(exchange, signer)


CLOSED_LOOP = """
import asyncio
from pacifica_fast import Keypair, NotSent, OutcomeUnknown, Signer
from pacifica_fast.asyncio import connect
from pacifica_fast.mock_exchange import MockExchange

async def opened():
    return await connect(Signer(Keypair.generate()), url=exchange.url)

async def wait(pending):
    await pending

with MockExchange().in_thread() as exchange:
    exchange.faults.drop_replies(3)
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(opened())
    pendings = [client.cancel_order_nowait("BTC", order_id=number) for number in range(3)]
    waiting = [loop.create_task(wait(pending)) for pending in pendings]
    loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()
    try:
        client.cancel_order_nowait("BTC", order_id=4)
    except NotSent as error:
        assert str(error) == "the event loop was closed", error
    else:
        raise AssertionError("sent")
    assert len(exchange.requests) == 3
    client._stop("the event loop was closed")
    client._abort("the event loop was closed")
    assert all(isinstance(pending._outcome, OutcomeUnknown) for pending in pendings), pendings
"""


def test_a_loop_that_was_closed_under_an_open_client() -> None:
    """``run_until_complete`` and ``close``, without the courtesies of ``asyncio.run``, which warns of it."""
    run = [sys.executable, "-W", "ignore", "-c", CLOSED_LOOP]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class RaisesOnce(logging.Handler):
    """A logging handler of the user's, with a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.raised = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self.raised:
            self.raised += 1
            raise OSError("the disk is full")


@contextlib.contextmanager
def a_log_that_raises_once(name: str) -> Iterator[RaisesOnce]:
    handler = RaisesOnce()
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


async def test_a_log_that_raises_does_not_end_reconnecting(exchange: MockExchange, signer: Signer) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with to(exchange, signer, backoff=0.01) as client:
        with a_log_that_raises_once("pacifica_fast") as log:
            exchange.faults.disconnect()
            while client.connected or not log.raised:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while not client.connected:
                await asyncio.sleep(0.01)


async def test_what_raises_in_a_tick_does_not_end_time(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    async with to(exchange, signer, timeout=0.1) as client:
        exchange.faults.drop_replies()
        tick, fault = client._news.tick, OSError("once")

        def tick_and_raise(now: float) -> None:
            monkeypatch.setattr(client._news, "tick", tick)
            raise fault

        monkeypatch.setattr(client._news, "tick", tick_and_raise)
        with pytest.raises(OutcomeUnknown, match="no reply"):
            await client.cancel_order("BTC", order_id=1)
        assert told == [fault]


async def test_a_hook_that_raises_what_is_no_exception_costs_no_link(
    exchange: MockExchange, signer: Signer
) -> None:
    """``future.result()`` of one that was cancelled raises that."""
    told: list[Any] = []

    def hook(pending: Any, outcome: Any) -> None:
        told.append(pending)
        raise asyncio.CancelledError

    async with to(exchange, signer, timeout=0.05, on_late_reply=hook) as client:
        exchange.faults.delay_replies(0.2)
        with pytest.raises(OutcomeUnknown):
            await client.cancel_order("BTC", order_id=1)
        while not told:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert client.connected
        assert client._links.reconnects == 0


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "http://localhost/ws"}),
        ("url", {"url": "wss://"}),
        ("url", {"url": 5}),
        ("url", {"url": "ws://ws.pacifica.fi/ws"}),
        ("url", {"url": "ws://10.0.0.1/ws"}),
        ("url", {"url": "wss://localhost/ws\r\nX-Injected: 1"}),
        ("url", {"url": "wss://localhost/ws x"}),
        ("url", {"url": "wss://a..b/ws"}),
        ("url", {"url": "wss://localhost:port/ws"}),
        ("api_key", {"api_key": "k\r\nX-Injected: 1"}),
        ("api_key", {"api_key": ""}),
        ("api_key", {"api_key": "kéy"}),
        ("timeout", {"timeout": 0}),
        ("timeout", {"timeout": "5"}),
        ("timeout", {"timeout": True}),
        ("timeout", {"timeout": float("nan")}),
        ("heartbeat", {"heartbeat": -1}),
        ("open_timeout", {"open_timeout": float("inf")}),
        ("ssl", {"ssl": True}),
        ("ssl", {"ssl": CERTIFICATE.client_context(), "url": "ws://localhost/ws"}),
        ("max_size", {"max_size": 0}),
        ("max_size", {"max_size": None}),
    ],
)
def test_bad_options_are_named(signer: Signer, field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field}: "):
        connect(signer, **options)


def test_a_keypair_is_no_signer() -> None:
    keypair: Any = Keypair.generate()
    with pytest.raises(InvalidRequest, match=r"^signer: "):
        connect(keypair)


# Connecting, and what can go wrong with it.


async def test_nobody_listens(signer: Signer) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"wss://127.0.0.1:{sock.getsockname()[1]}/ws"
        with pytest.raises(ConnectionFailed) as caught:
            await connect(signer, url=url)
    assert caught.value.stage == "connect"


async def test_an_untrusted_exchange(signer: Signer) -> None:
    async with MockExchange(tls=True) as exchange:
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            await connect(signer, url=exchange.url)
    assert caught.value.stage == "tls"
    assert exchange.requests == []


async def test_not_tls_at_all(signer: Signer) -> None:
    async with MockExchange() as exchange:
        with pytest.raises(ConnectionFailed) as caught:
            await connect(signer, url=exchange.url.replace("ws://", "wss://"), open_timeout=5)
    assert caught.value.stage == "tls"


async def test_an_upgrade_that_is_refused(signer: Signer) -> None:
    async with MockExchange(tls=True) as exchange:
        url = exchange.url.removesuffix("/ws") + "/elsewhere"
        with pytest.raises(ConnectionFailed, match="404") as caught:
            await connect(signer, url=url, ssl=exchange.client_ssl_context())
    assert (caught.value.stage, caught.value.status) == ("upgrade", 404)


async def test_an_exchange_that_never_answers(signer: Signer) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    with pytest.raises(ConnectionFailed) as caught:
        await connect(signer, url=url, open_timeout=0.2)
    assert caught.value.stage == "timeout"
    server.close()
    for writer in accepted:
        writer.close()


async def test_an_exchange_that_hangs_up(signer: Signer) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    with pytest.raises(ConnectionFailed) as caught:
        await connect(signer, url=url)
    assert caught.value.stage == "tls"
    server.close()


async def test_the_api_key_is_a_header(signer: Signer) -> None:
    headers: list[str | None] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        headers.append(connection.request.headers.get("PF-API-KEY"))
        headers.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
        await connection.wait_closed()

    async with gateway(handler, signer, api_key="8charpre_5Hm") as client:
        assert client.connected
    assert headers == ["8charpre_5Hm", None]


async def test_nagle_is_off(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        sock = transport_of(client).get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


# One fate for every request.


async def test_timeout(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer, timeout=0.1) as client:
        order = exchange.place(signer.account)
        exchange.faults.drop_replies()
        with pytest.raises(OutcomeUnknown, match="no reply"):
            await client.cancel_order("BTC", order_id=order.order_id)
        assert exchange.orders(signer.account) == []  # it had happened


# A race of connections that is cancelled leaves a socket to the garbage collector (CPython's staggered_race).
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_connecting_can_be_cancelled_at_any_moment(exchange: MockExchange, signer: Signer) -> None:
    """Nothing is left behind: no connection, and no exception that nobody retrieved."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    cancelled = 0
    for moment in range(60):
        connecting = asyncio.ensure_future(done_connecting(exchange, signer))
        for _ in range(moment):
            await asyncio.sleep(0)
        connecting.cancel()
        try:
            await (await connecting).close()
        except asyncio.CancelledError:
            cancelled += 1
        del connecting
    assert cancelled > 10
    gc.collect()
    await no_connections(exchange)
    gc.collect()
    assert complaints == []


async def no_connections(exchange: MockExchange) -> None:
    async with asyncio.timeout(5):
        while exchange.connections:
            await asyncio.sleep(0.001)


async def test_connecting_cancelled_when_the_upgrade_is_accepted(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Link._check_upgrade

    def check_and_cancel(link: Link) -> None:
        check(link)
        if link.opened.done():
            connecting.cancel()

    monkeypatch.setattr(Link, "_check_upgrade", check_and_cancel)
    connecting = asyncio.ensure_future(done_connecting(exchange, signer))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await no_connections(exchange)


async def test_connecting_without_a_free_descriptor(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("socket.dup", refuse)
        with pytest.raises(ConnectionFailed, match="Too many open files") as caught:
            await to(exchange, signer)
    assert caught.value.stage == "connect"
    await no_connections(exchange)


async def test_an_interruption_in_the_middle_of_sending_ends_the_connection(
    exchange: MockExchange, signer: Signer
) -> None:
    """How much of the message went out is not known then, and the next one must not follow it."""

    class Interrupted(BaseException):
        pass

    def interrupt(data: bytes, size: int) -> int:
        raise Interrupted

    async with to(exchange, signer) as client:
        exchange.faults.drop_replies()
        earlier = client.cancel_order_nowait("BTC", order_id=1)
        link_of(client)._send = interrupt
        with pytest.raises(Interrupted):
            client.cancel_order_nowait("BTC", order_id=2)
        with pytest.raises(NotSent, match="interrupted while sending"):
            client.cancel_order_nowait("BTC", order_id=3)
        with pytest.raises(OutcomeUnknown, match="interrupted while sending"):
            await earlier


async def test_the_number_of_a_closed_descriptor_is_never_used(signer: Signer) -> None:
    """Whatever becomes of the link: a number that is closed may be another's by then."""
    with MockExchange(tls=True).in_thread() as exchange:
        async with to(exchange, signer) as client:
            link = link_of(client)
            assert link is not None
            assert link._descriptor is not None
            send = link._send
            link._descriptor()
            assert send(b"x", 1) == -errno.EBADF
            with pytest.raises(NotSent, match="Bad file descriptor"):
                client.cancel_order_nowait("BTC", order_id=1)


async def done_connecting(exchange: MockExchange, signer: Signer) -> Client:
    return await to(exchange, signer)


async def test_a_lost_connection(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        exchange.faults.drop_replies(10)
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range(10)]
        while len(exchange.requests) < 10:
            await asyncio.sleep(0.001)
        exchange.faults.disconnect()
        for pending in pendings:
            with pytest.raises(OutcomeUnknown):
                await pending
        with pytest.raises(NotSent):
            await client.cancel_order("BTC", order_id=1)


async def test_closing_ends_what_is_in_flight(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        exchange.faults.drop_replies()
        pending = client.cancel_order_nowait("BTC", order_id=1)
    assert pending.done
    with pytest.raises(OutcomeUnknown, match="the client was closed"):
        await pending
    with pytest.raises(NotSent, match="the client was closed"):
        await client.cancel_order("BTC", order_id=1)


async def test_replies_twice_late_and_strange(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send("not json")
            await connection.send(b"\xff\x00")
            await connection.send('{"code":400,"err":"whose?"}')
            await connection.send('{"id":"00000000-0000-4000-8000-000000000001","code":420,"err":"no"}')
            await connection.send(ack(message, data={"s": "BTC"}))
            await connection.send(ack(message, code=420, err="second thoughts"))

    async with gateway(handler, signer) as client:
        for _ in range(3):
            assert (await client.cancel_order("BTC", order_id=1)).symbol == "BTC"
    assert "second thoughts" in caplog.text


async def test_replies_out_of_order(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        messages = [await connection.recv() for _ in range(3)]
        for message in reversed(messages):
            params = orjson.loads(message)["params"]["cancel_order"]
            await connection.send(ack(message, data={"i": params["order_id"], "s": "BTC"}))
        await connection.wait_closed()

    async with gateway(handler, signer) as client:
        acks = await asyncio.gather(*(client.cancel_order("BTC", order_id=n) for n in (1, 2, 3)))
        assert [ack.order_id for ack in acks] == [1, 2, 3]


async def test_a_fragmented_reply(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            text = ack(message, data={"s": "BTC"})
            await connection.send([text[:10], text[10:50], "", text[50:]])

    async with gateway(handler, signer) as client:
        assert (await client.cancel_order("BTC", order_id=1)).symbol == "BTC"


async def test_a_reply_that_is_too_long_ends_the_connection(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(ack(message, data={"s": "x" * 5000}))

    async with gateway(handler, signer, max_size=1000) as client:
        with pytest.raises(OutcomeUnknown, match="protocol error"):
            await client.cancel_order("BTC", order_id=1)
        assert not client.connected


async def test_a_close_frame_ends_sending_at_once(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1001, "maintenance")

    async with gateway(handler, signer) as client:
        with pytest.raises(OutcomeUnknown, match="maintenance"):
            await client.cancel_order("BTC", order_id=1)
        with pytest.raises(NotSent):
            client.cancel_order_nowait("BTC", order_id=2)


async def test_a_cancel_never_waits_behind_unsent_data(signer: Signer) -> None:
    """A peer that does not read: once the kernel's buffers are full, cancels are not sent."""
    stop = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await stop.wait()
        connection.transport.abort()

    async with gateway(handler, signer) as client:
        sock = transport_of(client).get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        payload = {"note": "x" * 60_000}
        tasks = []
        while client.connected:
            tasks.append(asyncio.ensure_future(client.request("note", payload)))
            await asyncio.sleep(0)
        with pytest.raises(NotSent, match="waiting for the socket"):
            client.cancel_order_nowait("BTC", order_id=1)
        stop.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, OutcomeUnknown | NotSent) for result in results)


@pytest.mark.parametrize("taken", [0, 1, 100])
async def test_what_the_kernel_does_not_take_follows(
    exchange: MockExchange, signer: Signer, taken: int
) -> None:
    async with to(exchange, signer) as client:
        send = link_of(client)._send
        link_of(client)._send = lambda data, size: send(data, taken) if taken else 0
        for _ in range(5):
            order = exchange.place(signer.account)
            assert (await client.cancel_order("BTC", order_id=order.order_id)).order_id == order.order_id


async def test_a_broken_pipe_is_not_sent(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        exchange.faults.drop_replies()
        earlier = client.cancel_order_nowait("BTC", order_id=1)
        armed = client.arm("BTC", order_id=2)
        link_of(client)._send = lambda data, size: -errno.EPIPE
        with pytest.raises(NotSent, match="connection lost: Broken pipe"):
            client.cancel_order_nowait("BTC", order_id=3)
        with pytest.raises(NotSent, match="connection lost: Broken pipe"):
            armed.fire()
        assert not client.connected
        with pytest.raises(OutcomeUnknown, match="Broken pipe"):
            await earlier


async def test_a_lost_connection_that_the_loop_has_not_heard_of(signer: Signer) -> None:
    """Nothing is swallowed: a cancel is not sent, or its outcome is unknown."""
    with MockExchange(tls=True).in_thread() as exchange:
        async with to(exchange, signer) as client:
            exchange.faults.disconnect()
            pendings = []
            refused = ""
            for order_id in range(1, 1_000):
                time.sleep(0.002)  # noqa: ASYNC251  # the loop is not to hear of it
                try:
                    pendings.append(client.cancel_order_nowait("BTC", order_id=order_id))
                except NotSent as error:
                    refused = str(error)
                    break
            assert "connection lost: " in refused
            assert not client.connected
            for pending in pendings:
                with pytest.raises(OutcomeUnknown):
                    await pending


async def test_max_unsent_lets_requests_wait_in_their_order(signer: Signer) -> None:
    """The peer does not read until more than its and our kernel's buffers hold is sent."""
    read = asyncio.Event()
    seen: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await read.wait()
        connection.transport.resume_reading()
        async for message in connection:
            seen.append(orjson.loads(message)["id"])
            await connection.send(ack(message))

    async with gateway(handler, signer, max_unsent=200_000) as client:
        sock = transport_of(client).get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        tasks: list[asyncio.Future[Any]] = []
        while transport_of(client).get_write_buffer_size() < 100_000:
            tasks.append(asyncio.ensure_future(client.request("note", {"note": "x" * 20_000})))
            await asyncio.sleep(0)
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range(3)]
        read.set()
        await asyncio.gather(*tasks, *(asyncio.ensure_future(done(pending)) for pending in pendings))
        assert seen[-3:] == [pending.id for pending in pendings]


async def done(pending: Pending[Any]) -> Any:
    return await pending


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_no_descriptor_outlives_its_connection(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        assert client.connected
    await asyncio.sleep(0.01)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with to(exchange, signer):
            pass
        client = await to(exchange, signer)
        exchange.faults.disconnect()
        while client.connected:
            await asyncio.sleep(0.001)
        await client.close()
    await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_cancelling_the_task_does_not_touch_the_request(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        exchange.faults.delay_replies(0.05)
        order = exchange.place(signer.account)
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)

        async def wait() -> CancelAck:
            return await pending

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await pending).order_id == order.order_id


async def test_outcomes_nobody_asks_for_make_no_noise(
    exchange: MockExchange, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with to(exchange, signer) as client:
            for n in range(20):
                client.cancel_order_nowait("BTC", order_id=n)
        del client
        gc.collect()
        await asyncio.sleep(0)
    assert caplog.records == []


# The heartbeat.


async def test_pings_keep_the_connection_open(signer: Signer) -> None:
    async with (
        MockExchange(tls=True, idle_timeout=1.0) as exchange,
        to(exchange, signer, heartbeat=0.2) as client,
    ):
        await asyncio.sleep(2.0)
        assert client.connected
        assert any('"ping"' in str(received.text) for received in exchange.requests)


async def test_without_pings_the_exchange_closes(signer: Signer) -> None:
    async with MockExchange(tls=True, idle_timeout=0.3) as exchange, to(exchange, signer) as client:
        deadline = time.monotonic() + 10
        while client.connected and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert not client.connected
        with pytest.raises(NotSent):
            await client.cancel_order("BTC", order_id=1)


# Leaks.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts /proc/self/fd")
async def test_connections_leave_nothing_behind(signer: Signer) -> None:
    async def round_of_connections() -> None:
        async with MockExchange(tls=True) as exchange:
            for _ in range(10):
                async with to(exchange, signer) as client:
                    with pytest.raises(Rejected):
                        await client.cancel_order("BTC", order_id=1)

    await round_of_connections()
    gc.collect()
    tasks, threads, files = len(asyncio.all_tasks()), threading.active_count(), open_files()
    await round_of_connections()
    gc.collect()
    assert (len(asyncio.all_tasks()), threading.active_count(), open_files()) == (tasks, threads, files)
