# SPDX-License-Identifier: MIT
"""The blocking client on real sockets, over TLS, against the mock exchange and worse ones."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import orjson
import pytest
from gateways import accepted, ack, gateway, listener, to
from links_of import sync_link_of
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

import pacifica_fast.asyncio
from pacifica_fast import (
    ConnectionFailed,
    InvalidRequest,
    KeyClosed,
    Keypair,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Signer,
)
from pacifica_fast.links import LinkState
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.replies import BatchAck, CancelAck, CancelAllAck
from pacifica_fast.sync import Client, Pending, connect, reader
from pacifica_fast.sync.link import Link

ORDER = {
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.1",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}
PATIENCE = 30.0  # s for what happens at once, on a machine that may be busy


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


@pytest.fixture(params=["wss", "ws"])
def exchange(request: pytest.FixtureRequest) -> Iterator[MockExchange]:
    with MockExchange(tls=request.param == "wss").in_thread() as exchange:
        yield exchange


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# The whole way.


def test_place_and_cancel_by_order_id(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        assert client.connected
        placed = client.request("create_order", ORDER)
        order_id = placed.data["i"]
        assert [order.order_id for order in exchange.orders(signer.account)] == [order_id]
        cancelled = client.cancel_order("BTC", order_id=order_id)
        assert isinstance(cancelled, CancelAck)
        assert (cancelled.symbol, cancelled.order_id) == ("BTC", order_id)
        assert exchange.orders(signer.account) == []
        assert "connected in_flight=0" in repr(client)
    assert exchange.verified == 2
    assert not client.connected


def test_cancel_by_client_order_id(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        for client_order_id in (uuid.uuid4(), str(uuid.uuid4())):
            exchange.place(signer.account, client_order_id=str(client_order_id))
            ack = client.cancel_order("BTC", client_order_id=client_order_id)
            assert ack.client_order_id == str(client_order_id)


def test_nowait_returns_a_pending(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        order = exchange.place(signer.account)
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
        assert isinstance(pending, Pending)
        assert len(pending.id) == 36
        ack = pending.result()
        assert pending.done
        assert ack is pending.result()  # any number of times
        assert ack.request_id == pending.id
        assert pending.settled_at >= pending.sent_at


def test_a_cancel_of_nothing_is_rejected(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        with pytest.raises(Rejected) as caught:
            client.cancel_order("BTC", order_id=5)
        assert caught.value.code == 420
        pending = client.cancel_order_nowait("BTC", order_id=5)
        for _ in range(2):
            with pytest.raises(Rejected):
                pending.result()


def test_cancel_all_and_batch(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        orders = [exchange.place(signer.account, symbol=symbol) for symbol in ("BTC", "ETH", "SOL", "SOL")]
        batch = client.batch_cancel([("BTC", orders[0].order_id), ("ETH", 1), ("ETH", uuid.uuid4())])
        assert isinstance(batch, BatchAck)
        assert [result.success for result in batch.results] == [True, False, False]
        one = client.cancel_all_orders(symbol="SOL")
        assert isinstance(one, CancelAllAck)
        assert one.cancelled_count == 2
        rest = client.cancel_all_orders()
        assert rest.cancelled_count == 1


@pytest.mark.parametrize("by_agent", [False, True])
def test_every_operation_of_the_websocket_verifies(exchange: MockExchange, by_agent: bool) -> None:
    """docs.pacifica.fi, websocket trading operations: these, and the cancels above."""
    keypair, main = Keypair.generate(), Keypair.generate().pubkey()
    signer = Signer(keypair, account=main) if by_agent else Signer(keypair)
    if by_agent:
        exchange.bind_agent(main, keypair.pubkey())
    market = {"symbol": "BTC", "amount": "0.1", "side": "ask", "slippage_percent": "0.5", "reduce_only": True}
    with to(exchange, signer) as client:
        client_order_id = str(uuid.uuid4())
        placed = client.request("create_order", ORDER | {"client_order_id": client_order_id})
        assert placed.data["I"] == client_order_id
        assert client.request("create_market_order", market).operation == "create_market_order"
        edit = {"symbol": "BTC", "price": "50001", "amount": "0.2", "client_order_id": client_order_id}
        edited = client.request("edit_order", edit)
        assert edited.data["i"] != placed.data["i"]
        client.cancel_order("BTC", order_id=edited.data["i"])
        client.cancel_all_orders(symbol="BTC", exclude_reduce_only=True)
        client.cancel_all_orders()
        client.batch_cancel([("BTC", 1)])
    assert (exchange.verified, exchange.rejected) == (7, 0)


def test_agent_wallet(exchange: MockExchange) -> None:
    agent, account = Keypair.generate(), Keypair.generate().pubkey()
    order = exchange.place(account)
    with to(exchange, Signer(agent, account=account)) as client:
        with pytest.raises(Rejected, match="not authorized"):
            client.cancel_order("BTC", order_id=order.order_id)
        exchange.bind_agent(account, agent.pubkey())
        assert client.cancel_order("BTC", order_id=order.order_id).order_id == order.order_id


def test_many_at_once_each_gets_its_own_reply(signer: Signer) -> None:
    with MockExchange(tls=True, quota=None).in_thread() as exchange, to(exchange, signer) as client:
        orders = [exchange.place(signer.account).order_id for _ in range(300)]
        pendings = [client.cancel_order_nowait("BTC", order_id=order_id) for order_id in orders]
        acks = [pending.result() for pending in pendings]
        assert [ack.order_id for ack in acks] == orders
        assert [ack.request_id for ack in acks] == [pending.id for pending in pendings]


def test_prepared_signatures_verify(exchange: MockExchange) -> None:
    with (
        Signer(Keypair.generate(), prepared=8) as signer,
        to(exchange, signer) as client,
        pytest.raises(Rejected, match="420"),
    ):
        client.cancel_order("BTC", order_id=1)
    assert exchange.verified == 1


def test_without_with(exchange: MockExchange, signer: Signer) -> None:
    client = to(exchange, signer)
    assert client.connected
    client.close()
    client.close()
    assert not client.connected


def test_the_asyncio_client_has_the_same_methods_and_options() -> None:
    """One page of documentation, and one habit, for both."""

    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(Client) == methods(pacifica_fast.asyncio.Client)
    options = dict(inspect.signature(pacifica_fast.asyncio.connect).parameters)
    assert dict(inspect.signature(connect).parameters) == options


def test_nobody_else_can_warm_the_core_of_a_thread_of_the_bot(signer: Signer) -> None:
    with pytest.raises(InvalidRequest, match="keep_warm"):
        connect(signer, keep_warm=0.01)


# From many threads.


def test_threads_send_at_once_and_none_gets_another_ones_reply(signer: Signer) -> None:
    threads, each = 8, 40
    with MockExchange(tls=True, quota=None).in_thread() as exchange, to(exchange, signer) as client:
        orders = [[exchange.place(signer.account).order_id for _ in range(each)] for _ in range(threads)]
        start = threading.Barrier(threads)

        def cancel(mine: list[int]) -> list[CancelAck]:
            start.wait()
            pendings = [client.cancel_order_nowait("BTC", order_id=order_id) for order_id in mine]
            return [pending.result() for pending in pendings]

        with ThreadPoolExecutor(threads) as pool:
            acks = list(pool.map(cancel, orders))
        assert [[ack.order_id for ack in some] for some in acks] == orders
        assert len({ack.request_id for some in acks for ack in some}) == threads * each
        assert exchange.verified == threads * each


def test_several_threads_wait_for_one_reply(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client, ThreadPoolExecutor(8) as pool:
        exchange.faults.delay_replies(0.1)
        order = exchange.place(signer.account)
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
        results = [pool.submit(pending.result, timeout) for timeout in (None, PATIENCE) * 4]
        assert {result.result().order_id for result in results} == {order.order_id}
        assert pending._waiters == []


def test_waiting_races_with_settling(signer: Signer) -> None:
    """Whoever begins to wait as the reply comes must not sleep through it."""
    with (
        MockExchange(quota=None).in_thread() as exchange,
        to(exchange, signer) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        for turn in range(200):
            pending = client.cancel_order_nowait("BTC", order_id=turn)
            waits = [pool.submit(pending.result, PATIENCE) for _ in range(4)]
            assert all(isinstance(wait.exception(PATIENCE), Rejected) for wait in waits)


def test_a_closing_thread_ends_the_waiting_of_others(exchange: MockExchange, signer: Signer) -> None:
    exchange.faults.drop_replies(2)
    with to(exchange, signer) as client, ThreadPoolExecutor(4) as pool:
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range(2)]
        waits = [pool.submit(pending.result) for pending in pendings]
        for close in [pool.submit(client.close) for _ in range(2)]:
            close.result()
        for wait in waits:
            assert isinstance(wait.exception(), OutcomeUnknown)


# What is refused before anything is sent.


def test_bad_arguments_reach_no_wire_and_cost_no_request(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        for arguments in ({}, {"order_id": -1}, {"order_id": 1, "client_order_id": str(uuid.uuid4())}):
            with pytest.raises(InvalidRequest, match="order_id"):
                client.cancel_order_nowait("BTC", **arguments)
        with pytest.raises(InvalidRequest, match="symbol"):
            client.cancel_order("", order_id=1)
        with pytest.raises(InvalidRequest, match="cancels"):
            client.batch_cancel([])
        with pytest.raises(InvalidRequest, match=r"data\.price"):
            client.request("create_order", ORDER | {"price": 1.5})
        with pytest.raises(Rejected):
            client.cancel_order("BTC", order_id=1)
    assert len(exchange.requests) == 1


def test_after_close_nothing_is_sent(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        pass
    with pytest.raises(NotSent, match="the client was closed"):
        client.cancel_order_nowait("BTC", order_id=1)
    assert exchange.requests == []


def test_a_closed_key_sends_nothing(exchange: MockExchange) -> None:
    keypair = Keypair.generate()
    with to(exchange, Signer(keypair)) as client:
        keypair.close()
        with pytest.raises(KeyClosed):
            client.cancel_order("BTC", order_id=1)
    assert exchange.requests == []


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "ws://ws.pacifica.fi/ws"}),
        ("api_key", {"api_key": ""}),
        ("timeout", {"timeout": 0}),
        ("heartbeat", {"heartbeat": -1}),
        ("open_timeout", {"open_timeout": float("inf")}),
        ("ssl", {"ssl": True}),
        ("max_size", {"max_size": 0}),
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


def test_nobody_listens(signer: Signer) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"wss://127.0.0.1:{sock.getsockname()[1]}/ws"
        with pytest.raises(ConnectionFailed, match="refused") as caught:
            connect(signer, url=url)
    assert caught.value.stage == "connect"


def test_an_untrusted_exchange(signer: Signer) -> None:
    with MockExchange(tls=True).in_thread() as exchange:
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            connect(signer, url=exchange.url)
        assert exchange.requests == []
    assert caught.value.stage == "tls"


def test_not_tls_at_all(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange, pytest.raises(ConnectionFailed) as caught:
        connect(signer, url=exchange.url.replace("ws://", "wss://"), open_timeout=PATIENCE)
    assert caught.value.stage == "tls"


def test_an_upgrade_that_is_refused(signer: Signer) -> None:
    with MockExchange(tls=True).in_thread() as exchange:
        url = exchange.url.removesuffix("/ws") + "/elsewhere"
        with pytest.raises(ConnectionFailed, match="404") as caught:
            connect(signer, url=url, ssl=exchange.client_ssl_context())
    assert (caught.value.stage, caught.value.status) == ("upgrade", 404)


def test_what_is_no_websocket(signer: Signer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"220 smtp.example ESMTP\r\n")
        connection.recv(1)

    with listener(answer) as port, pytest.raises(ConnectionFailed) as caught:
        connect(signer, url=f"ws://127.0.0.1:{port}/ws")
    assert caught.value.stage == "upgrade"


def test_an_exchange_that_never_answers(signer: Signer) -> None:
    with listener() as port, pytest.raises(ConnectionFailed, match=r"not open within 0\.2 s") as caught:
        connect(signer, url=f"wss://127.0.0.1:{port}/ws", open_timeout=0.2)
    assert caught.value.stage == "timeout"


@pytest.mark.parametrize(("scheme", "stage"), [("wss", "tls"), ("ws", "upgrade")])
def test_an_exchange_that_hangs_up(signer: Signer, scheme: str, stage: str) -> None:
    with listener(lambda connection: None) as port, pytest.raises(ConnectionFailed) as caught:
        connect(signer, url=f"{scheme}://127.0.0.1:{port}/ws")
    assert caught.value.stage == stage


def test_the_api_key_is_a_header(signer: Signer) -> None:
    headers: list[str | None] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        headers.append(connection.request.headers.get("PF-API-KEY"))
        headers.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
        await connection.wait_closed()

    with gateway(handler, signer, api_key="8charpre_5Hm") as client:
        assert client.connected
    assert headers == ["8charpre_5Hm", None]


def test_no_thread_to_be_had(exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            to(exchange, signer)
    until(lambda: exchange.connections == 0)


# Fates.


def test_no_reply_in_time(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer, timeout=0.1) as client:
        order = exchange.place(signer.account)
        exchange.faults.drop_replies()
        with pytest.raises(OutcomeUnknown, match="no reply"):
            client.cancel_order("BTC", order_id=order.order_id)
        assert exchange.orders(signer.account) == []  # it had happened


def test_a_lost_connection(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        exchange.faults.drop_replies(10)
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range(10)]
        until(lambda: len(exchange.requests) == 10)
        exchange.faults.disconnect()
        for pending in pendings:
            with pytest.raises(OutcomeUnknown):
                pending.result()
        with pytest.raises(NotSent):
            client.cancel_order("BTC", order_id=1)


def test_closing_ends_what_is_in_flight(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        exchange.faults.drop_replies()
        pending = client.cancel_order_nowait("BTC", order_id=1)
    assert pending.done
    with pytest.raises(OutcomeUnknown, match="the client was closed"):
        pending.result()
    with pytest.raises(NotSent, match="the client was closed"):
        client.cancel_order("BTC", order_id=1)


def test_a_reply_still_comes_while_closing(signer: Signer) -> None:
    """The exchange answers the close frame last."""

    def serve(connection: socket.socket) -> None:
        protocol = accepted(connection)
        messages: list[bytes] = []
        while not messages or protocol.state is not State.CLOSING:
            protocol.receive_data(connection.recv(65536))
            frames = protocol.events_received()
            messages += [bytes(f.data) for f in frames if isinstance(f, Frame) and f.opcode is Opcode.TEXT]
        close = protocol.data_to_send()
        reply = Frame(Opcode.TEXT, ack(messages[0], data={"s": "BTC"}).encode())
        connection.sendall(reply.serialize(mask=False) + b"".join(close))

    with listener(serve) as port, connect(signer, url=f"ws://127.0.0.1:{port}/ws") as client:
        pending = client.cancel_order_nowait("BTC", order_id=1)
        client.close()
        assert pending.result(0).symbol == "BTC"


@pytest.fixture
def short_close_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CLOSE_TIMEOUT", 0.1)


@pytest.mark.usefixtures("short_close_timeout")
def test_closing_does_not_wait_for_a_peer_that_does_not(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    with gateway(handler, signer) as client:
        pending = client.cancel_order_nowait("BTC", order_id=1)
        client.close()
        with pytest.raises(OutcomeUnknown, match="the client was closed"):
            pending.result(0)


def test_replies_twice_late_and_strange(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send("not json")
            await connection.send(b"\xff\x00")
            await connection.send('{"code":400,"err":"whose?"}')
            await connection.send('{"id":"00000000-0000-4000-8000-000000000001","code":420,"err":"no"}')
            await connection.send(ack(message, data={"s": "BTC"}))
            await connection.send(ack(message, code=420, err="second thoughts"))

    with gateway(handler, signer) as client:
        for _ in range(3):
            assert client.cancel_order("BTC", order_id=1).symbol == "BTC"
    assert "second thoughts" in caplog.text


def test_replies_out_of_order(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        messages = [await connection.recv() for _ in range(3)]
        for message in reversed(messages):
            params = orjson.loads(message)["params"]["cancel_order"]
            await connection.send(ack(message, data={"i": params["order_id"], "s": "BTC"}))
        await connection.wait_closed()

    with gateway(handler, signer) as client:
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in (1, 2, 3)]
        assert [pending.result().order_id for pending in pendings] == [1, 2, 3]


def test_a_fragmented_reply(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            text = ack(message, data={"s": "BTC"})
            await connection.send([text[:10], text[10:50], "", text[50:]])

    with gateway(handler, signer) as client:
        assert client.cancel_order("BTC", order_id=1).symbol == "BTC"


def test_replies_longer_than_what_is_parsed_at_a_time(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(ack(message, data={"s": "x" * 300_000}))

    with gateway(handler, signer) as client:
        assert client.cancel_order("BTC", order_id=1).symbol == "x" * 300_000


def test_a_message_right_behind_the_upgrade(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    """It comes in the same segment, before there is a reader."""

    def serve(connection: socket.socket) -> None:
        protocol = accepted(connection, send=False)
        protocol.send_text(b'{"code":429,"err":"slow down"}')
        connection.sendall(b"".join(protocol.data_to_send()))
        connection.recv(1)

    with (
        listener(serve) as port,
        caplog.at_level(logging.WARNING),
        connect(signer, url=f"ws://127.0.0.1:{port}/ws") as client,
    ):
        assert client.connected
        assert "slow down" in caplog.text


def test_a_reply_that_is_too_long_ends_the_connection(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(ack(message, data={"s": "x" * 5000}))

    with gateway(handler, signer, max_size=1000) as client:
        with pytest.raises(OutcomeUnknown, match="protocol error"):
            client.cancel_order("BTC", order_id=1)
        assert not client.connected


def test_a_close_frame_ends_sending_at_once(signer: Signer) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1001, "maintenance")

    with gateway(handler, signer) as client:
        with pytest.raises(OutcomeUnknown, match="maintenance"):
            client.cancel_order("BTC", order_id=1)
        with pytest.raises(NotSent):
            client.cancel_order_nowait("BTC", order_id=2)


@pytest.mark.usefixtures("short_close_timeout")
def test_a_close_frame_and_then_nothing(signer: Signer) -> None:
    """A peer that begins the closing handshake and never ends it does not keep the link."""

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        connection.protocol.send_close(1001, "maintenance")
        connection.transport.write(b"".join(connection.protocol.data_to_send()))
        connection.transport.pause_reading()
        await connection.wait_closed()

    with gateway(handler, signer) as client, pytest.raises(OutcomeUnknown, match="maintenance"):
        client.cancel_order("BTC", order_id=1)


# Waiting.


@contextmanager
def withheld(signer: Signer) -> Iterator[tuple[Client, Callable[[], None]]]:
    """A client of an exchange that answers the first request when it is told to."""
    answer = threading.Event()

    async def handler(connection: ServerConnection) -> None:
        message = await connection.recv()
        await asyncio.to_thread(answer.wait, PATIENCE)
        await connection.send(ack(message, data={"s": "BTC"}))
        await connection.wait_closed()

    with gateway(handler, signer, timeout=PATIENCE) as client:
        yield client, answer.set


def test_the_timeout_of_waiting_is_not_the_requests(signer: Signer) -> None:
    with withheld(signer) as (client, answer):
        pending = client.cancel_order_nowait("BTC", order_id=1)
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match=pending.id):
                pending.result(timeout)
        assert not pending.done
        assert "in flight" in repr(pending)
        answer()
        assert pending.result().symbol == "BTC"
        assert pending.result(0).symbol == "BTC"


class Interrupted(BaseException):
    """What a signal handler raises: KeyboardInterrupt would be pytest's own."""


@contextmanager
def on_signal(handler: Callable[[], None]) -> Iterator[None]:
    def call(number: int, frame: FrameType | None) -> None:
        handler()

    before = signal.signal(signal.SIGUSR1, call)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt() -> NoReturn:
    raise Interrupted


def test_ctrl_c_while_waiting_does_not_touch_the_request(signer: Signer) -> None:
    with withheld(signer) as (client, answer), on_signal(interrupt):
        pending = client.cancel_order_nowait("BTC", order_id=1)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(Interrupted):
            pending.result()
        timer.join()
        assert pending._waiters == []
        assert client.connected
        answer()
        assert pending.result().symbol == "BTC"


def test_ctrl_c_in_the_middle_of_sending_ends_the_connection(signer: Signer) -> None:
    """How much of the message went out is not known then, and the next one must not follow it."""
    with MockExchange(tls=True).in_thread() as exchange, to(exchange, signer) as client:
        exchange.faults.drop_replies()
        earlier = client.cancel_order_nowait("BTC", order_id=1)
        with on_signal(interrupt):
            sync_link_of(client)._send = lambda data, size: interrupt()
            with pytest.raises(Interrupted):
                client.cancel_order_nowait("BTC", order_id=2)
        with pytest.raises(OutcomeUnknown, match="interrupted while sending"):
            earlier.result()
        with pytest.raises(NotSent, match="interrupted while sending"):
            client.cancel_order_nowait("BTC", order_id=3)


def test_a_signal_handler_in_the_middle_of_sending_is_told(signer: Signer) -> None:
    """It runs in the very thread whose turn it is: waiting for its end would be for ever."""
    told: list[str] = []
    with MockExchange(tls=True).in_thread() as exchange, to(exchange, signer) as client:
        send = sync_link_of(client)._send

        def send_and_be_interrupted(data: bytes, size: int) -> int:
            signal.raise_signal(signal.SIGUSR1)
            return send(data, size)

        def handler() -> None:
            with pytest.raises(NotSent) as caught:
                client.cancel_all_orders()
            told.append(str(caught.value))

        sync_link_of(client)._send = send_and_be_interrupted
        with on_signal(handler), pytest.raises(Rejected):
            client.cancel_order("BTC", order_id=1)
        sync_link_of(client)._send = send
    assert len(told) == 1
    assert "signal handler" in told[0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_signal_handler_lets_pass_is_not_taken_for_not_sent(signer: Signer, when: str) -> None:
    with MockExchange(tls=True).in_thread() as exchange, to(exchange, signer) as client:
        order = exchange.place(signer.account)
        send = sync_link_of(client)._send

        def send_and_be_interrupted(data: bytes, size: int) -> int:
            if when == "before":
                signal.raise_signal(signal.SIGUSR1)
            taken = send(data, size)
            signal.raise_signal(signal.SIGUSR1)
            return taken

        def handler() -> None:
            client.cancel_order_nowait("BTC", order_id=7)

        sync_link_of(client)._send = send_and_be_interrupted
        with on_signal(handler), pytest.raises(OutcomeUnknown, match="interrupted while sending"):
            client.cancel_order("BTC", order_id=order.order_id)
        sync_link_of(client)._send = send
        with pytest.raises(NotSent, match="interrupted while sending"):
            client.cancel_order_nowait("BTC", order_id=order.order_id)


ORDER = {"symbol": "BTC", "price": "1", "amount": "1", "side": "bid", "tif": "ALO", "reduce_only": False}

# Each sends one request that the exchange has before the signal comes.
SENT: dict[str, Callable[[Client], object]] = {
    "request": lambda client: client.request("create_order", ORDER),
    "cancel": lambda client: client.cancel_order_nowait("BTC", order_id=1),
    "cancel all": lambda client: client.cancel_all_orders(),
    "fire": lambda client: client.arm("BTC", order_id=1).fire(),
    "pull": lambda client: client.pull([client.arm("BTC", order_id=1)]),
}


@pytest.mark.parametrize("on_disconnect", ["fail", "retry"])
@pytest.mark.parametrize("what", SENT)
def test_what_a_signal_handler_raises_right_after_sending_is_not_the_fate(
    signer: Signer, what: str, on_disconnect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own cancel was not sent; the request that it came behind was."""
    with MockExchange().in_thread() as exchange, to(exchange, signer, on_disconnect=on_disconnect) as client:

        def put_and_be_interrupted(self: Link, *arguments: Any) -> Any:
            monkeypatch.undo()
            out = getattr(self, name)(*arguments)
            signal.raise_signal(signal.SIGUSR1)
            return out

        def handler() -> None:
            raise NotSent("not connected")

        name = "put_many" if what == "pull" else "put"
        monkeypatch.setattr(Link, name, put_and_be_interrupted)
        with on_signal(handler), pytest.raises(OutcomeUnknown, match="interrupted after it was sent"):
            SENT[what](client)
        until(lambda: len(exchange.requests) == 1)
        until(lambda: client._session.in_flight_count == 0)
        assert len(exchange.requests) == 1


def test_what_a_signal_handler_raises_while_waiting_is_not_the_fate(signer: Signer) -> None:
    def handler() -> None:
        raise NotSent("not connected")

    with MockExchange().in_thread() as exchange, to(exchange, signer) as client:
        exchange.faults.delay_replies(0.3)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        with on_signal(handler):
            timer.start()
            with pytest.raises(OutcomeUnknown, match="interrupted after it was sent") as caught:
                client.request("create_order", ORDER)
            timer.join()
        assert isinstance(caught.value.__cause__, OutcomeUnknown | NotSent)
        until(lambda: client._session.in_flight_count == 0)
        pending = client.cancel_order_nowait("BTC", order_id=1)
        with pytest.raises(Rejected):  # its own error is
            pending.result()


def test_the_number_of_a_closed_descriptor_is_never_used(exchange: MockExchange, signer: Signer) -> None:
    client = to(exchange, signer)
    send = sync_link_of(client)._send
    client.close()
    assert send(b"x", 1) == -errno.EBADF


def test_closing_in_the_middle_of_sending_does_not_wait(signer: Signer) -> None:
    """For the reader waits for its turn, which is this very thread's. It closes when it gets it."""
    with MockExchange(tls=True).in_thread() as exchange, to(exchange, signer) as client:
        send = sync_link_of(client)._send

        def send_and_be_interrupted(data: bytes, size: int) -> int:
            sync_link_of(client)._send = send
            signal.raise_signal(signal.SIGUSR1)
            return send(data, size)

        sync_link_of(client)._send = send_and_be_interrupted
        with on_signal(client.close):
            pending = client.cancel_order_nowait("BTC", order_id=1)
        with pytest.raises((Rejected, OutcomeUnknown)):
            pending.result()
        until(lambda: exchange.connections == 0)
        assert exchange.verified == 1


# Write readiness.


@contextmanager
def stalled(signer: Signer, **options: Any) -> Iterator[tuple[Client, Callable[[], object]]]:
    """A client of a peer that reads nothing until it is told to, with hardly a buffer in between."""
    ready = threading.Event()
    resume: list[Callable[[], object]] = []

    async def handler(connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        connection.transport.pause_reading()
        resume.append(partial(loop.call_soon_threadsafe, connection.transport.resume_reading))
        ready.set()
        async for message in connection:
            await connection.send(ack(message))

    with gateway(handler, signer, **options) as client:
        assert ready.wait(PATIENCE)
        sync_link_of(client)._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield client, resume[0]


def fill(client: Client, pool: ThreadPoolExecutor) -> list[Any]:
    requests = []
    while client.connected:
        requests.append(pool.submit(client.request, "note", {"note": "x" * 60_000}))
        time.sleep(0.001)
    return requests


def test_a_cancel_never_waits_behind_unsent_data(signer: Signer) -> None:
    """A peer that does not read: once the kernel's buffers are full, cancels are not sent."""
    with ThreadPoolExecutor(64) as pool, stalled(signer) as (client, resume):
        requests = fill(client, pool)
        with pytest.raises(NotSent, match="waiting for the socket"):
            client.cancel_order_nowait("BTC", order_id=1)
        resume()
        until(lambda: client.connected)  # the rest has gone
        assert client.cancel_order("BTC", order_id=1).request_id
        results = [request.exception(PATIENCE) for request in requests]
    assert None in results
    assert all(result is None or isinstance(result, NotSent) for result in results)


@pytest.mark.usefixtures("short_close_timeout")
def test_what_had_begun_to_leave_is_unknown(signer: Signer) -> None:
    with ThreadPoolExecutor(64) as pool, stalled(signer) as (client, _):
        requests = fill(client, pool)
        client.close()
        assert all(isinstance(request.exception(), OutcomeUnknown | NotSent) for request in requests)


@pytest.mark.usefixtures("short_close_timeout")
def test_what_the_kernel_took_nothing_of_was_not_sent(signer: Signer) -> None:
    """It is encrypted, and may yet go; if the connection ends before, it provably has not."""
    with stalled(signer) as (client, _):
        sync_link_of(client)._send = lambda data, size: 0
        pending = client.cancel_order_nowait("BTC", order_id=1)
        assert not client.connected
        with pytest.raises(NotSent, match="waiting for the socket"):
            client.cancel_order_nowait("BTC", order_id=2)
        client.close()
        with pytest.raises(NotSent, match="the client was closed") as caught:
            pending.result(0)
        assert caught.value.request_id == pending.id


def test_what_the_kernel_took_nothing_of_goes_later(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        order = exchange.place(signer.account)
        send = sync_link_of(client)._send
        refusals = [True]

        def refuse_once(data: bytes, size: int) -> int:
            if refusals:
                refusals.pop()
                return 0
            return send(data, size)

        sync_link_of(client)._send = refuse_once
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
        assert pending.result().order_id == order.order_id
        assert sync_link_of(client).untouched() == []
        assert client.connected


@pytest.mark.usefixtures("short_close_timeout")
def test_max_unsent_lets_requests_wait_each_with_its_own_fate(signer: Signer) -> None:
    """The kernel takes 100 bytes, later 400 more, and then nothing: the third has not begun to leave."""
    with stalled(signer, max_unsent=2_000) as (client, _):
        room = [100]

        sync_link_of(client)._send = lambda data, size: min(room.pop(), size) if room else 0
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range(3)]
        assert client.connected  # there is room for more
        room.append(400)
        until(lambda: not room)
        client.close()
        for pending, fate in zip(pendings, (OutcomeUnknown, OutcomeUnknown, NotSent), strict=True):
            with pytest.raises(fate, match="the client was closed"):
                pending.result(0)


def test_partial_writes_lose_nothing(exchange: MockExchange, signer: Signer) -> None:
    """The kernel takes 100 bytes at a time."""
    with to(exchange, signer) as client:
        send = sync_link_of(client)._send
        sync_link_of(client)._send = lambda data, size: send(data, min(size, 100))
        for _ in range(5):
            order = exchange.place(signer.account)
            until(lambda: client.connected)
            assert client.cancel_order("BTC", order_id=order.order_id).order_id == order.order_id


def test_a_broken_pipe_is_not_sent(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        exchange.faults.drop_replies()
        earlier = client.cancel_order_nowait("BTC", order_id=1)

        sync_link_of(client)._send = lambda data, size: -errno.EPIPE
        with pytest.raises(NotSent, match="Broken pipe"):
            client.cancel_order("BTC", order_id=2)
        with pytest.raises(OutcomeUnknown, match="Broken pipe"):
            earlier.result()


# The heartbeat.


def test_pings_keep_the_connection_open(signer: Signer) -> None:
    with (
        MockExchange(tls=True, idle_timeout=1.0).in_thread() as exchange,
        to(exchange, signer, heartbeat=0.2) as client,
    ):
        time.sleep(2.0)
        assert client.connected
        assert any('"ping"' in str(received.text) for received in exchange.requests)


def test_without_pings_the_exchange_closes(signer: Signer) -> None:
    with MockExchange(tls=True, idle_timeout=0.3).in_thread() as exchange, to(exchange, signer) as client:
        until(lambda: not client.connected)
        with pytest.raises(NotSent):
            client.cancel_order("BTC", order_id=1)


# The reader, and the end.


def test_logging_handlers_may_call_the_client(exchange: MockExchange, signer: Signer) -> None:
    """They run in the reader, in its turn."""
    seen: list[str] = []
    with to(exchange, signer) as client:

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                with pytest.raises(NotSent):
                    client.cancel_order("BTC", order_id=1)
                client.close()
                seen.append(record.getMessage())

        log, handler = logging.getLogger("pacifica_fast.session"), Handler()
        log.addHandler(handler)
        try:
            exchange.faults.send_raw("not json")
            until(lambda: bool(seen))
        finally:
            log.removeHandler(handler)
        until(lambda: exchange.connections == 0)
        assert not client.connected


def test_a_bug_in_the_reader_ends_the_connection_and_is_logged(
    exchange: MockExchange, signer: Signer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lane: object, text: bytes, now: float) -> None:
        raise ZeroDivisionError

    with to(exchange, signer) as client:
        monkeypatch.setattr(client._session, "receive", broken)
        with pytest.raises(OutcomeUnknown, match="internal error"):
            client.cancel_order("BTC", order_id=1)
    assert "ZeroDivisionError" in caplog.text


def test_a_hook_that_exits_leaves_no_request_without_a_fate(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.faults.drop_replies()
    with to(exchange, signer) as client:
        pending = client.cancel_order_nowait("BTC", order_id=1)
        monkeypatch.setattr(client._news, "tick", lambda now: sys.exit(1))
        with pytest.raises(OutcomeUnknown, match="internal error"):
            pending.result(5)
        assert client.state is LinkState.CLOSED


def test_one_may_wait_for_ever(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client, pytest.raises(Rejected, match="420"):
        client.cancel_order_nowait("BTC", order_id=1).result(float("inf"))


def test_a_client_that_nobody_has_is_closed(exchange: MockExchange, signer: Signer) -> None:
    exchange.faults.drop_replies()
    client = to(exchange, signer)
    pending = client.cancel_order_nowait("BTC", order_id=1)
    del client
    gc.collect()
    with pytest.raises(OutcomeUnknown, match="the client was closed"):
        pending.result()
    until(lambda: exchange.connections == 0)


def test_outcomes_nobody_asks_for_make_no_noise(
    exchange: MockExchange, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        with to(exchange, signer) as client:
            for n in range(20):
                client.cancel_order_nowait("BTC", order_id=n)
        del client
        gc.collect()
    assert caplog.records == []


# Leaks.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts /proc/self/fd")
def test_connections_leave_nothing_behind(signer: Signer) -> None:
    def round_of_connections() -> None:
        with MockExchange(tls=True).in_thread() as exchange:
            for _ in range(10):
                with to(exchange, signer) as client, pytest.raises(Rejected):
                    client.cancel_order("BTC", order_id=1)
                url = exchange.url.removesuffix("/ws") + "/elsewhere"
                with pytest.raises(ConnectionFailed):
                    connect(signer, url=url, ssl=exchange.client_ssl_context())

    round_of_connections()
    gc.collect()
    threads, files = threading.active_count(), open_files()
    round_of_connections()
    assert (threading.active_count(), open_files()) == (threads, files)
