# SPDX-License-Identifier: MIT
"""Armed cancels of the blocking client: what the asyncio one's tests say, and many threads."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gateways import gateway, to
from links_of import sync_link_of
from websockets.asyncio.server import ServerConnection

from pacifica_fast import (
    InvalidRequest,
    KeyClosed,
    Keypair,
    NotSent,
    OutcomeUnknown,
    PacificaError,
    Rejected,
    SignatureRejected,
    Signer,
    ids,
)
from pacifica_fast.armed import Armed, ArmedStore
from pacifica_fast.links import Pair
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.sync import Client, Pending, connect
from pacifica_fast.sync.link import Link

pytestmark = pytest.mark.usefixtures("no_threads_left")


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "pacifica_fast armed"]


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


@pytest.fixture(params=["wss", "ws"])
def exchange(request: pytest.FixtureRequest) -> Iterator[MockExchange]:
    with MockExchange(tls=request.param == "wss", quota=None).in_thread() as exchange:
        yield exchange


def sent_to(exchange: MockExchange) -> list[dict[str, Any]]:
    requests = [json.loads(received.text) for received in exchange.requests]
    return [request["params"]["cancel_order"] for request in requests if "params" in request]


def arm_orders(client: Client, exchange: MockExchange, count: int) -> list[Armed[Pending[Any]]]:
    orders = [exchange.place(client.signer.account) for _ in range(count)]
    return [client.arm("BTC", order_id=order.order_id) for order in orders]


def fate(pending: Pending[Any]) -> Any:
    try:
        return pending.result()
    except PacificaError as error:
        return error


def test_fire(exchange: MockExchange, signer: Signer) -> None:
    client_order_id = str(uuid.uuid4())
    with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        exchange.place(signer.account, client_order_id=client_order_id)
        other = client.arm("BTC", client_order_id=client_order_id)
        assert sent_to(exchange) == []
        assert armed.fire().result().order_id == armed.order_id
        assert other.fire().result().client_order_id == client_order_id
        assert not armed.armed
        assert exchange.orders(signer.account) == []
    assert [fields["expiry_window"] for fields in sent_to(exchange)] == [30_000, 10_000]


def test_firing_again_and_after_disarming_signs_afresh(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        first, second = arm_orders(client, exchange, 2)
        first.fire().result()
        assert isinstance(fate(first.fire()), Rejected)
        second.disarm()
        assert second.fire().result().order_id == second.order_id
        assert [fields["expiry_window"] for fields in sent_to(exchange)] == [30_000, 5_000, 5_000]


def test_arming_twice_is_arming_once(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer, arm_window=7_000) as client:
        (armed,) = arm_orders(client, exchange, 1)
        assert armed.order_id is not None
        assert client.arm("BTC", order_id=armed.order_id) is armed
        armed.fire().result()
        assert client.arm("BTC", order_id=armed.order_id) is not armed
    assert sent_to(exchange)[0]["expiry_window"] == 7_000


def test_arming_at_the_same_moment_is_arming_once(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(2)
    add = ArmedStore.add

    def add_at_once(*arguments: Any) -> Any:
        at_once.wait(10)
        return add(*arguments)

    order_id = exchange.place(signer.account).order_id
    with to(exchange, signer) as client, ThreadPoolExecutor(2) as threads:
        monkeypatch.setattr(ArmedStore, "add", add_at_once)
        first, second = threads.map(lambda _: client.arm("BTC", order_id=order_id), range(2))
        assert first is second
        assert first.armed
        assert client._store.counts()[0] == 1
        assert [pending.result().order_id for pending in client.pull()] == [order_id]
        assert client._store.counts()[0] == 0


def test_a_refused_signature_is_made_afresh_once(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        first, second = arm_orders(client, exchange, 2)
        exchange.faults.reject_next(401, "Invalid message")
        pending = first.fire()
        ack = pending.result()
        assert ack.request_id == pending.id
        exchange.faults.reject_next(401, "Invalid message", 2)
        assert isinstance(fate(second.fire()), SignatureRejected)
        assert len(sent_to(exchange)) == 4
        assert client._session.in_flight() == []


def test_pull(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        armed = arm_orders(client, exchange, 100)
        armed[7].disarm()
        pendings = client.pull(armed)
        assert [pending.result().order_id for pending in pendings] == [one.order_id for one in armed]
        assert client.pull([]) == []
        with pytest.raises(InvalidRequest, match=r"armed\[0\]"):
            client.pull([None])  # type: ignore[list-item]
        assert sys.getswitchinterval() == pytest.approx(0.005)


@pytest.mark.parametrize("which", [0, 1])
def test_a_pull_that_one_of_two_links_does_not_take(
    exchange: MockExchange, signer: Signer, which: int
) -> None:
    with to(exchange, signer, links=2) as client:
        pair = client._links.use
        assert isinstance(pair, Pair)
        armed = [client.arm("BTC", order_id=exchange.place(signer.account).order_id) for _ in range(3)]
        link = pair.links[which]
        assert isinstance(link, Link)
        link._send = lambda data, size: 0  # its socket is full
        pendings = client.pull(armed)
        assert [pending.result().order_id for pending in pendings] == [one.order_id for one in armed]


def test_a_pull_of_which_the_kernel_takes_a_part(signer: Signer) -> None:
    arrived = 0
    stop = threading.Event()

    async def handler(connection: ServerConnection) -> None:
        nonlocal arrived
        connection.transport.pause_reading()
        await asyncio.to_thread(stop.wait)
        connection.transport.resume_reading()
        async for _ in connection:
            arrived += 1

    with gateway(handler, signer) as client:
        sync_link_of(client)._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        # More than the kernel keeps for both ends of a loopback connection (tcp_rmem, tcp_wmem).
        pendings = client.pull([client.arm("BTC", order_id=n) for n in range(20_000)])
        assert not client.connected
        stop.set()
        kinds = [type(fate(pending)) for pending in pendings]
    assert set(kinds) == {OutcomeUnknown, NotSent}
    first_unsent = kinds.index(NotSent)
    assert set(kinds[first_unsent:]) == {NotSent}
    assert arrived <= first_unsent


def test_many_threads_fire_each_once(exchange: MockExchange, signer: Signer) -> None:
    """Whoever fires what another has fired cancels afresh; no frame goes out twice."""
    with to(exchange, signer) as client, ThreadPoolExecutor(8) as threads:
        armed = arm_orders(client, exchange, 60)
        shuffled = [armed[(index * 7) % 60] for index in range(120)]
        fates = list(threads.map(lambda one: fate(one.fire()), shuffled))
        won = [one for one in fates if not isinstance(one, Exception)]
        assert sorted(ack.order_id for ack in won) == sorted(one.order_id or 0 for one in armed)
        assert all(isinstance(one, Rejected) for one in fates if one not in won)
        ids = [json.loads(received.text)["id"] for received in exchange.requests]
        assert len(set(ids)) == len(ids) == 120


def test_arming_and_disarming_beside_firing(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer, arm_window=1_000) as client:
        until = time.monotonic() + 0.5

        def arm_and_disarm(thread: int) -> int:
            number = 0
            while time.monotonic() < until:
                number += 1
                client.arm("BTC", order_id=thread * 1_000_000 + number).disarm()
            return number

        with ThreadPoolExecutor(3) as threads:
            counts = threads.map(arm_and_disarm, range(1, 4))
            armed = arm_orders(client, exchange, 40)
            assert [one.fire().result().order_id for one in armed] == [one.order_id for one in armed]
            assert min(counts) > 0
        assert client._store.counts()[0] == 0


def test_the_connection_is_gone(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url)
        first, second = arm_orders(client, exchange, 2)
    with client:
        while client.connected:
            time.sleep(0.01)
        with pytest.raises(NotSent):
            first.fire()
        assert first.armed
        with pytest.raises(NotSent):
            client.pull([first, second])
        assert client.arm("BTC", order_id=9).armed  # for when it is connected again
    with pytest.raises(NotSent, match="closed"):
        client.arm("BTC", order_id=10)
    assert not first.armed
    with pytest.raises(NotSent):
        first.fire()
    first.disarm()


def test_a_forked_child_fires_nothing(exchange: MockExchange, signer: Signer) -> None:
    with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            outcomes = []
            for attempt in (armed.fire, lambda: client.pull([armed]), lambda: client.arm("BTC", order_id=2)):
                try:
                    attempt()
                    outcomes.append("sent")
                except (NotSent, KeyClosed) as error:
                    outcomes.append(type(error).__name__)
            armed.disarm()
            client.close()
            os.write(writer, " ".join(outcomes).encode())
            os._exit(0)
        os.close(writer)
        told = os.read(reader, 100).decode()
        os.close(reader)
        assert os.waitpid(pid, 0)[1] == 0
        assert told == "NotSent NotSent NotSent"
        assert armed.fire().result().order_id == armed.order_id


def test_a_store_that_was_closed_stays_closed(signer: Signer) -> None:
    """One thread arms while another closes: no store, and no thread, comes after the end."""
    store, (number,) = ArmedStore(signer), ids.reserve(1)
    store.add("BTC", 1, b"", 30_000, number)
    store.close()
    with pytest.raises(NotSent, match="the client was closed"):
        store.add("BTC", 1, b"", 30_000, number)
    assert not [thread for thread in threading.enumerate() if thread.name == "pacifica_fast armed"]


def test_a_store_may_be_closed_while_it_is_opened(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal handler, in the same thread."""
    store, (number,) = ArmedStore(signer), ids.reserve(1)
    start = threading.Thread.start

    def start_and_close(thread: threading.Thread) -> None:
        start(thread)
        monkeypatch.undo()
        store.close()

    monkeypatch.setattr(threading.Thread, "start", start_and_close)
    with pytest.raises(NotSent, match="the client was closed"):
        store.add("BTC", 1, b"", 30_000, number)
    assert not [thread for thread in threading.enumerate() if thread.name == "pacifica_fast armed"]
