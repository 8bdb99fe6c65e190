# SPDX-License-Identifier: MIT
"""Armed cancels on real sockets, against the mock exchange and worse ones."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from links_of import link_of, transport_of
from websockets.asyncio.server import ServerConnection, serve

from pacifica_fast import (
    InvalidRequest,
    Keypair,
    NotSent,
    OutcomeUnknown,
    Rejected,
    SignatureRejected,
    Signer,
    WrongThread,
)
from pacifica_fast.armed import Armed
from pacifica_fast.asyncio import Client, Pending, connect
from pacifica_fast.mock_exchange import MockExchange


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


@pytest.fixture(params=["wss", "ws"])
async def exchange(request: pytest.FixtureRequest) -> AsyncIterator[MockExchange]:
    async with MockExchange(tls=request.param == "wss", quota=None) as exchange:
        yield exchange


def to(exchange: MockExchange, signer: Signer, **options: Any) -> connect:
    if exchange.url.startswith("wss"):
        options.setdefault("ssl", exchange.client_ssl_context())
    return connect(signer, url=exchange.url, **options)


def sent_to(exchange: MockExchange) -> list[dict[str, Any]]:
    """The fields of every cancel that arrived."""
    requests = [json.loads(received.text) for received in exchange.requests]
    return [request["params"]["cancel_order"] for request in requests if "params" in request]


def arm_orders(client: Client, exchange: MockExchange, count: int) -> list[Armed[Pending[Any]]]:
    orders = [exchange.place(client.signer.account) for _ in range(count)]
    return [client.arm("BTC", order_id=order.order_id) for order in orders]


# Arming and firing.


async def test_fire_by_order_id(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        order = exchange.place(signer.account)
        armed = client.arm("BTC", order_id=order.order_id)
        assert armed.armed
        assert sent_to(exchange) == []
        ack = await armed.fire()
        assert (ack.symbol, ack.order_id) == ("BTC", order.order_id)
        assert not armed.armed
        assert exchange.orders(signer.account) == []
        (fields,) = sent_to(exchange)
        assert fields["expiry_window"] == 30_000


@pytest.mark.parametrize("kind", [str, lambda u: u])
async def test_fire_by_client_order_id(exchange: MockExchange, signer: Signer, kind: Any) -> None:
    client_order_id = uuid.uuid4()
    async with to(exchange, signer) as client:
        exchange.place(signer.account, client_order_id=str(client_order_id))
        ack = await client.arm("BTC", client_order_id=kind(client_order_id)).fire()
        assert ack.client_order_id == str(client_order_id)
        (fields,) = sent_to(exchange)
        assert fields["expiry_window"] == 10_000


async def test_what_is_fired_is_deterministic_even_with_prepared_nonces(exchange: MockExchange) -> None:
    key = Keypair.from_seed(bytes(range(32)))
    plain = Signer(key)
    with Signer(key, prepared=4) as signer:
        async with to(exchange, signer) as client:
            (armed,) = arm_orders(client, exchange, 1)
            await armed.fire()
        (fields,) = sent_to(exchange)
        same = plain.sign(
            "cancel_order",
            {"symbol": "BTC", "order_id": armed.order_id},
            timestamp=fields["timestamp"],
            expiry_window=30_000,
        )
        assert fields["signature"] == same.signature
        assert signer.stats.prepared == 0


async def test_firing_again_signs_afresh(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        first, second = armed.fire(), armed.fire()
        assert first.id != second.id
        assert (await first).order_id == armed.order_id
        with pytest.raises(Rejected) as gone:
            await second
        assert gone.value.code == 420
        windows = [fields["expiry_window"] for fields in sent_to(exchange)]
        assert windows == [30_000, signer.expiry_window]


async def test_an_order_that_is_gone_is_for_the_exchange_to_tell(
    exchange: MockExchange, signer: Signer
) -> None:
    async with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        assert armed.order_id is not None
        exchange.fill(signer.account, armed.order_id)
        with pytest.raises(Rejected) as gone:
            await armed.fire()
        assert gone.value.code == 420


async def test_arming_twice_is_arming_once(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        assert armed.order_id is not None
        assert client.arm("BTC", order_id=armed.order_id) is armed
        text = str(uuid.uuid4())
        by_text = client.arm("BTC", client_order_id=text)
        assert client.arm("BTC", client_order_id=uuid.UUID(text)) is by_text
        assert client._store.counts()[0] == 2
        await armed.fire()
        again = client.arm("BTC", order_id=armed.order_id)
        assert again is not armed
        assert again.armed


async def test_disarm(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        armed.disarm()
        armed.disarm()
        assert not armed.armed
        assert client._store.counts()[0] == 0
        assert (await armed.fire()).order_id == armed.order_id
        assert sent_to(exchange)[0]["expiry_window"] == signer.expiry_window


async def test_the_window_is_a_setting(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer, arm_window=60_000) as client:
        orders = [exchange.place(signer.account) for _ in range(2)]
        await client.arm("BTC", order_id=orders[0].order_id).fire()
        await client.arm("BTC", order_id=orders[1].order_id, arm_window=4_000).fire()
        assert [fields["expiry_window"] for fields in sent_to(exchange)] == [60_000, 4_000]


async def test_signed_anew_in_the_background(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer, arm_window=1_000) as client:
        (armed,) = arm_orders(client, exchange, 1)
        armed_at = time.time() * 1000
        await asyncio.sleep(1.2)
        # Fired as soon as it is fresh: on a busy machine the keeper, at nice 19, may come late.
        before = client._store.counts()[1]
        while client._store.counts()[1] == before:
            await asyncio.sleep(0.005)
        await armed.fire()
        (fields,) = sent_to(exchange)
        assert fields["expiry_window"] == 1_000
        assert fields["timestamp"] > armed_at


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "order_id and client_order_id"),
        ({"order_id": 1, "client_order_id": str(uuid.UUID(int=1))}, "exactly one"),
        ({"order_id": -1}, "order_id"),
        ({"order_id": True}, "order_id"),
        ({"client_order_id": "X"}, "client_order_id"),
        ({"order_id": 1, "symbol": 'B"'}, "symbol"),
        ({"order_id": 1, "symbol": 7}, "symbol"),
        ({"order_id": 1, "symbol": []}, "symbol"),
        ({"order_id": 1, "arm_window": 999}, "arm_window"),
        ({"order_id": 1, "arm_window": 2.5}, "arm_window"),
    ],
)
async def test_wrong_arguments(signer: Signer, arguments: dict[str, Any], field: str) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as client:
        with pytest.raises(InvalidRequest, match=field):
            client.arm(arguments.pop("symbol", "BTC"), **arguments)
        assert client._store.counts() == (0, 0)


async def test_arming_belongs_to_the_loop(signer: Signer) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as client:
        errors = []

        def elsewhere() -> None:
            try:
                client.arm("BTC", order_id=1)
            except WrongThread as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 1


async def test_armed_cancels_are_not_copied(signer: Signer) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as client:
        armed = client.arm("BTC", order_id=5)
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="sent once"):
                copied(armed)
        assert "5 armed" in repr(armed)


# Refused signatures.


async def test_a_refused_signature_is_made_afresh_once(exchange: MockExchange, signer: Signer) -> None:
    for code, text in ((401, "Invalid message"), (402, "Invalid signer"), (400, "message has expired")):
        async with to(exchange, signer) as client:
            (armed,) = arm_orders(client, exchange, 1)
            exchange.faults.reject_next(code, text)
            pending = armed.fire()
            first_id = pending.id
            ack = await pending
            assert ack.order_id == armed.order_id
            assert ack.request_id == pending.id != first_id
            assert client._session.in_flight() == []


async def test_but_only_once(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        exchange.faults.reject_next(401, "Invalid message", 2)
        with pytest.raises(SignatureRejected):
            await armed.fire()
        assert len(sent_to(exchange)) == 2


async def test_what_was_signed_just_now_is_not_signed_again(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        exchange.faults.reject_next(401, "Invalid message")
        with pytest.raises(SignatureRejected):
            await client.cancel_order("BTC", order_id=1)
        (armed,) = arm_orders(client, exchange, 1)
        exchange.faults.reject_next(500, "engine on fire")
        with pytest.raises(Rejected):
            await armed.fire()
        assert len(sent_to(exchange)) == 2


async def test_no_link_to_sign_afresh_on(signer: Signer) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        exchange.faults.reject_next(401, "Invalid message")
        pending = armed.fire()
        client._resend = lambda armed, pending: False  # type: ignore[method-assign]
        with pytest.raises(SignatureRejected):
            await pending


# Pulling.


async def test_pull(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        armed = arm_orders(client, exchange, 100)
        writes = counted_writes(client)
        pendings = client.pull(armed)
        assert len(writes) == 1
        acks = await asyncio.gather(*pendings)
        assert [ack.order_id for ack in acks] == [one.order_id for one in armed]
        assert exchange.orders(signer.account) == []
        assert client.pull([]) == []


async def test_a_cancel_that_is_disarmed_in_the_middle_of_a_pull(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the tracker's thread, say: its frame is made already, and must not go out beside a fresh one."""
    async with to(exchange, signer) as client:
        armed = arm_orders(client, exchange, 3)
        fire_many = client._store.fire_many

        def fire_and_disarm(handles: Any) -> Any:
            out = fire_many(handles)
            armed[1]._pending = None
            return out

        store = SimpleNamespace(fire_many=fire_and_disarm, close=client._store.close)
        with monkeypatch.context() as patch:
            patch.setattr(client, "_store", store)
            pendings = client.pull(armed)
        acks = await asyncio.gather(*pendings)
        assert [ack.order_id for ack in acks] == [one.order_id for one in armed]
        assert len(exchange.requests) == 3


def counted_writes(client: Client) -> list[int]:
    link, writes = link_of(client), []
    send = link._send

    def counting(data: bytes, size: int) -> int:
        writes.append(size)
        return send(data, size)

    link._send = counting
    return writes


async def test_pull_signs_afresh_what_is_spent(exchange: MockExchange, signer: Signer) -> None:
    async with to(exchange, signer) as client:
        armed = arm_orders(client, exchange, 5)
        armed[1].disarm()
        await armed[3].fire()
        pendings = client.pull([*armed, armed[0]])
        results = await asyncio.gather(*pendings, return_exceptions=True)
        gone = [index for index, result in enumerate(results) if isinstance(result, Rejected)]
        assert gone == [3, 5]
        assert exchange.orders(signer.account) == []


async def test_pull_takes_only_what_this_client_armed(signer: Signer) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as one, to(exchange, signer) as other:
        mine, foreign = one.arm("BTC", order_id=1), other.arm("BTC", order_id=1)
        with pytest.raises(InvalidRequest, match=r"armed\[1\]"):
            one.pull([mine, foreign])
        with pytest.raises(InvalidRequest, match=r"armed\[0\]"):
            one.pull(["BTC"])  # type: ignore[list-item]
        assert mine.armed
        assert foreign.armed
        assert sys.getswitchinterval() == pytest.approx(0.005)


async def test_a_pull_of_which_the_kernel_takes_a_part(signer: Signer) -> None:
    """Each cancel gets its own fate: what provably never left is NotSent, and the link is closed."""
    arrived = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal arrived
        connection.transport.pause_reading()
        await stop.wait()
        connection.transport.resume_reading()
        async for _ in connection:
            arrived += 1

    for tls in (True, False):
        arrived, stop = 0, asyncio.Event()
        async with MockExchange(tls=tls) as certificate_of:
            context = certificate_of._ssl
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.bind(("127.0.0.1", 0))
            async with serve(handler, sock=sock, ssl=context, compression=None) as server:
                port = server.sockets[0].getsockname()[1]
                url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws"
                ssl = certificate_of.client_ssl_context() if tls else None
                async with connect(signer, url=url, ssl=ssl) as client:
                    own = transport_of(client).get_extra_info("socket")
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
                    pendings = client.pull([client.arm("BTC", order_id=n) for n in range(2000)])
                    assert not client.connected
                    with pytest.raises(NotSent):
                        client.cancel_order_nowait("BTC", order_id=1)
                    stop.set()
                    results = await asyncio.gather(*pendings, return_exceptions=True)
        kinds = [type(result) for result in results]
        assert set(kinds) == {OutcomeUnknown, NotSent}
        first_unsent = kinds.index(NotSent)
        assert set(kinds[first_unsent:]) == {NotSent}
        assert arrived <= first_unsent


# Life and death.


async def test_not_connected_any_more(signer: Signer) -> None:
    async with MockExchange() as exchange:
        async with to(exchange, signer) as client:
            first, second = arm_orders(client, exchange, 2)
            await exchange.__aexit__(None, None, None)
            while client.connected:
                await asyncio.sleep(0.01)
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
        assert client._store.counts() == (0, 0)


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pacifica_fast armed"]


async def test_closing_ends_the_thread(signer: Signer) -> None:
    async with MockExchange() as exchange:
        async with to(exchange, signer) as client:
            assert background_threads() == []
            client.arm("BTC", order_id=1)
            assert background_threads() == ["pacifica_fast armed"]
        assert background_threads() == []
        client = await to(exchange, signer)
        client.arm("BTC", order_id=1)
        store = client._store
        await client.close()
        del client
        gc.collect()
        assert background_threads() == []
        assert store.counts() == (0, 0)


async def test_a_closed_key_cannot_arm_nor_be_fired_afresh() -> None:
    key = Keypair.from_seed(bytes(range(32)))
    signer = Signer(key)
    async with MockExchange() as exchange, to(exchange, signer) as client:
        (armed,) = arm_orders(client, exchange, 1)
        key.close()
        with pytest.raises(Exception, match="is closed"):
            client.arm("BTC", order_id=77)
        # What was signed before is still good, and a cancel.
        assert (await armed.fire()).order_id == armed.order_id
        with pytest.raises(Exception, match="is closed"):
            armed.fire()


async def test_ten_thousand(signer: Signer) -> None:
    async with MockExchange() as exchange, to(exchange, signer) as client:
        armed = [client.arm("BTC", order_id=n) for n in range(10_000)]
        assert client._store.counts()[0] == 10_000
        for one in armed:
            one.disarm()
        assert client._store.counts()[0] == 0
        assert client._armed == {}
