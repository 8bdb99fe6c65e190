# SPDX-License-Identifier: MIT
"""The asyncio client and its connections: lost, replaced, refused, doubled."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hostile import upgrade
from links_of import link_of

from pacifica_fast import (
    ConnectionFailed,
    CreditsReserved,
    InvalidRequest,
    Keypair,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Signer,
)
from pacifica_fast.asyncio import Client, Pending, connect
from pacifica_fast.links import ConnectionEvent, LinkState
from pacifica_fast.mock_exchange import MockExchange, Weather
from pacifica_fast.replies import Ack, CancelAck

QUICK: dict[str, Any] = {"backoff": 0.01, "backoff_max": 0.05}


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.generate())


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.001)


def reconnected(client: Client, times: int = 1) -> Callable[[], bool]:
    return lambda: client.status().reconnects >= times and client.connected


@pytest.mark.parametrize("tls", [False, True])
async def test_it_comes_back_by_itself(signer: Signer, tls: bool) -> None:
    async with MockExchange(tls=tls) as exchange:
        ssl = exchange.client_ssl_context() if tls else None
        async with connect(signer, url=exchange.url, ssl=ssl, **QUICK) as client:
            for times in range(1, 4):
                exchange.faults.drop_replies()
                order = exchange.place(signer.account)
                lost = client.cancel_order_nowait("BTC", order_id=1)
                await until(lambda: bool(exchange.requests) and exchange.requests[-1].code is not None)
                exchange.faults.disconnect()
                with pytest.raises(OutcomeUnknown):
                    await lost
                await until(reconnected(client, times))
                exchange.faults.clear()
                assert (await client.cancel_order("BTC", order_id=order.order_id)).order_id == order.order_id


async def test_while_it_is_down_a_cancel_is_not_sent(signer: Signer) -> None:
    exchange = MockExchange()
    async with exchange:
        client = await connect(signer, url=exchange.url, **QUICK)
    await until(lambda: not client.connected)
    with pytest.raises(NotSent, match="not connected"):
        client.cancel_order_nowait("BTC", order_id=1)
    with pytest.raises(NotSent):
        await client.cancel_all_orders()
    assert client.state.value in ("waiting", "connecting")
    async with exchange:  # at the same port
        await until(lambda: client.connected)
        order = exchange.place(signer.account)
        assert (await client.cancel_order("BTC", order_id=order.order_id)).symbol == "BTC"
        await client.close()
    assert client.state is LinkState.CLOSED
    with pytest.raises(NotSent, match="the client was closed"):
        client.cancel_order_nowait("BTC", order_id=1)


async def test_a_cancel_may_wait_for_a_connection(signer: Signer) -> None:
    exchange = MockExchange()
    async with exchange:
        client = await connect(signer, url=exchange.url, on_disconnect="retry", **QUICK)
        order, another = exchange.place(signer.account), exchange.place(signer.account)
        armed = client.arm("BTC", order_id=another.order_id)
    await until(lambda: not client.connected)
    waiting = client.cancel_order_nowait("BTC", order_id=order.order_id)
    fired = armed.fire()
    everything = asyncio.ensure_future(client.cancel_all_orders())
    await asyncio.sleep(0.05)
    assert not waiting.done
    with pytest.raises(InvalidRequest):  # told now, not when there is a connection
        client.cancel_order_nowait("BTC", order_id=-1)
    with pytest.raises(NotSent):  # anything else is never sent later
        await client.request("create_order", {"symbol": "BTC"})
    async with exchange:
        assert (await waiting).order_id == order.order_id
        assert (await fired).order_id == another.order_id
        assert (await everything).cancelled_count == 0
        assert [received.operation for received in exchange.requests[-3:]] == [
            "cancel_order",
            "cancel_order",
            "cancel_all_orders",
        ]
        await client.close()


async def test_events_are_kept_from_the_call_on(signer: Signer) -> None:
    async with MockExchange() as exchange, connect(signer, url=exchange.url, **QUICK) as client:
        events = client.events()
        exchange.faults.disconnect()
        await until(reconnected(client))
        await client.close()
        seen = [event.state async for event in events]
        assert seen[-3:] == [LinkState.CONNECTING, LinkState.OPEN, LinkState.CLOSED]


@pytest.mark.parametrize("how", ["cancel", "fire", "pull"])
async def test_a_cancel_waits_too_if_it_is_the_one_that_finds_the_link_broken(
    signer: Signer, how: str
) -> None:
    async with (
        MockExchange() as exchange,
        connect(signer, url=exchange.url, on_disconnect="retry", **QUICK) as client,
    ):
        order = exchange.place(signer.account)
        armed = client.arm("BTC", order_id=order.order_id)
        link_of(client)._send = lambda data, size: -errno.EPIPE
        if how == "cancel":
            pending: Pending[Any] = client.cancel_order_nowait("BTC", order_id=order.order_id)
        else:
            pending = armed.fire() if how == "fire" else client.pull()[0]
            assert not armed.armed
        assert not pending.done
        assert (await pending).order_id == order.order_id
        assert client.fates.not_sent == 0


async def test_a_pull_may_wait_for_a_connection(signer: Signer) -> None:
    exchange = MockExchange()
    async with exchange:
        client = await connect(signer, url=exchange.url, on_disconnect="retry", **QUICK)
        orders = [exchange.place(signer.account).order_id for _ in range(3)]
        for order_id in orders:
            client.arm("BTC", order_id=order_id)
    await until(lambda: not client.connected)
    pendings = client.pull("BTC")
    async with exchange:
        assert [(await pending).order_id for pending in pendings] == orders
        await client.close()


async def test_but_not_for_ever(signer: Signer) -> None:
    async with MockExchange() as exchange:
        client = await connect(
            signer,
            url=exchange.url,
            on_disconnect="retry",
            retry_within=0.1,
            reconnect_attempts=None,
            **QUICK,
        )
    await until(lambda: not client.connected)
    waiting = client.cancel_order_nowait("BTC", order_id=1)
    with pytest.raises(NotSent):
        await waiting
    left = client.cancel_order_nowait("BTC", order_id=2)
    await client.close()
    with pytest.raises(NotSent, match="the client was closed"):
        await left


async def test_giving_up(signer: Signer) -> None:
    async with MockExchange() as exchange:
        client = await connect(signer, url=exchange.url, reconnect_attempts=2, **QUICK)
        events = client.events()
        listening = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
    assert (await listening).state is LinkState.WAITING
    states = [event.state async for event in events]
    assert states[-1] is LinkState.CLOSED
    assert states.count(LinkState.CONNECTING) == 1  # the link, which had not held, was the first failure
    with pytest.raises(NotSent):
        client.cancel_order_nowait("BTC", order_id=1)
    await client.close()


async def test_what_went_wrong_is_told(signer: Signer) -> None:
    async with MockExchange() as exchange:
        exchange.faults.refuse_handshakes(429)
        with pytest.raises(ConnectionFailed) as caught:
            await connect(signer, url=exchange.url)
        assert (caught.value.stage, caught.value.status) == ("upgrade", 429)
        client = await connect(signer, url=exchange.url, backoff=0.01, backoff_max=0.1)
        events: list[ConnectionEvent] = []
        client._links.listeners.append(events.append)
        exchange.faults.refuse_handshakes(429)
        exchange.faults.disconnect()
        await until(reconnected(client))
        refused = [event for event in events if event.status == 429]
        assert [event.stage for event in refused] == ["upgrade"]
        assert refused[0].retry_in is not None
        assert refused[0].retry_in >= 0.05
        await client.close()


async def test_a_name_that_is_none(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectionFailed, match="not known") as caught:
        await connect(signer, url="wss://exchange.test/ws")
    assert caught.value.stage == "dns"


async def test_a_half_open_link_is_found(signer: Signer) -> None:
    async with (
        MockExchange() as exchange,
        connect(signer, url=exchange.url, heartbeat=0.2, pong_timeout=0.2, timeout=5.0, **QUICK) as client,
    ):
        exchange.faults.random(1, Weather(half_open=1.0))
        pending = client.cancel_order_nowait("BTC", order_id=1)
        await until(lambda: bool(exchange.faults.happened))
        exchange.faults.random(1)
        with pytest.raises(OutcomeUnknown, match="ping"):
            await pending
        await until(reconnected(client))
        with pytest.raises(Rejected):
            await client.cancel_order("BTC", order_id=1)


@pytest.mark.parametrize("last_words", [b"\x88\x02\x03\xe9", b"\xff\x00"], ids=["close", "nonsense"])
@pytest.mark.parametrize("tls", [False, True])
async def test_the_end_is_not_waited_for_for_ever(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, tls: bool, last_words: bytes
) -> None:
    """After its last words the exchange is to end TCP. It may not, if it has hung itself up."""
    monkeypatch.setattr("pacifica_fast.asyncio.link.CLOSE_TIMEOUT", 0.05)
    async with MockExchange(tls=tls) as exchange:
        ssl = exchange.client_ssl_context() if tls else None
        async with connect(signer, url=exchange.url, ssl=ssl, timeout=60.0, **QUICK) as client:
            [session] = exchange._sessions
            transport = session.connection.transport
            transport.pause_reading()
            pending = client.cancel_order_nowait("BTC", order_id=1)
            transport.write(last_words)
            with pytest.raises(OutcomeUnknown, match=r"1001 \(going away\)|protocol error"):
                await pending
            await until(reconnected(client))
            transport.abort()


async def test_the_kernel_looks_after_the_connection_too(signer: Signer) -> None:
    async with MockExchange() as exchange, connect(signer, url=exchange.url, pong_timeout=3.0) as client:
        [link] = client._links.all()
        assert link._transport is not None
        sock = link._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


async def test_links_are_replaced_and_no_cancel_pays_for_it(signer: Signer) -> None:
    """The exchange's limits, scaled down: 60 s idle to 2 s, 24 h to 3 s; a slow machine may lose two."""
    async with MockExchange(tls=True, quota=None, idle_timeout=2.0, max_lifetime=3.0) as exchange:  # noqa: SIM117
        async with connect(
            signer,
            url=exchange.url,
            ssl=exchange.client_ssl_context(),
            heartbeat=0.3,
            rotate_after=0.5,
            **QUICK,
        ) as client:
            events: list[ConnectionEvent] = []
            client._links.listeners.append(events.append)
            loop = asyncio.get_running_loop()
            end = loop.time() + 4.0
            count = 0
            while loop.time() < end:
                order = exchange.place(signer.account)
                ack = await client.cancel_order("BTC", order_id=order.order_id)  # never fails
                assert ack.order_id == order.order_id
                count += 1
                await asyncio.sleep(0.3 if count % 20 == 0 else 0.001)
            assert client.fates.acked == count
            assert [event.state for event in events].count(LinkState.OPEN) >= 4
            assert all(event.state is LinkState.OPEN for event in events)
            await until(lambda: exchange.connections == 1)


async def test_heartbeats_keep_an_idle_link(signer: Signer) -> None:
    async with MockExchange(idle_timeout=0.5) as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url, heartbeat=0.2) as client:
            await asyncio.sleep(1.2)
            assert client.connected
            assert client.status().reconnects == 0


async def test_every_cancel_goes_out_on_two_links(signer: Signer) -> None:
    async with MockExchange(journal=1000) as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url, links=2, **QUICK) as client:
            assert exchange.connections == 2
            orders = [exchange.place(signer.account) for _ in range(20)]
            pendings = [client.cancel_order_nowait("BTC", order_id=order.order_id) for order in orders]
            assert [(await pending).order_id for pending in pendings] == [o.order_id for o in orders]
            await until(lambda: all(len(exchange.truth(pending.id)) == 2 for pending in pendings))
            assert all(sorted(exchange.truth(pending.id)) == [200, 420] for pending in pendings)
            # One link goes in the middle: nobody notices.
            order = exchange.place(signer.account)
            exchange.faults.disconnect(0)
            assert (await client.cancel_order("BTC", order_id=order.order_id)).symbol == "BTC"
            await until(lambda: exchange.connections == 2)


async def test_many_reconnects_under_load(signer: Signer) -> None:
    """Unknown is only what had left; with two links the next cancel is accepted at once."""
    async with MockExchange(quota=None, journal=100_000) as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url, links=2, timeout=2.0, **QUICK) as client:
            sent: list[tuple[Pending[CancelAck], int]] = []
            for round_ in range(100):
                for _ in range(5):
                    order = exchange.place(signer.account)
                    sent.append((client.cancel_order_nowait("BTC", order_id=order.order_id), order.order_id))
                exchange.faults.disconnect(round_ % max(1, exchange.connections))
                order = exchange.place(signer.account)
                ack = await client.cancel_order("BTC", order_id=order.order_id)
                assert ack.order_id == order.order_id
                await until(lambda: exchange.connections == 2 and client.status().links[1].state == "open")
                await until(lambda: client.status().links[0].state == "open")
            for pending, _ in sent:
                assert pending.done or await pending
                if isinstance(pending._outcome, Ack):
                    assert 200 in exchange.truth(pending.id)
            assert client.status().reconnects >= 100


async def test_an_exchange_that_hangs_up_at_once_is_no_connection(signer: Signer) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(upgrade(await reader.readuntil(b"\r\n\r\n")))
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        for _ in range(20):
            with pytest.raises(ConnectionFailed, match="connection lost") as caught:
                await connect(signer, url=url)
            assert caught.value.stage == "upgrade"


async def test_a_late_reply_is_reported(signer: Signer) -> None:
    late: list[tuple[Any, Any]] = []
    async with (
        MockExchange() as exchange,
        connect(
            signer, url=exchange.url, timeout=0.1, on_late_reply=lambda *args: late.append(args)
        ) as client,
    ):
        order = exchange.place(signer.account)
        exchange.faults.delay_replies(0.3)
        pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
        with pytest.raises(OutcomeUnknown):
            await pending
        await until(lambda: bool(late))
        [(what, outcome)] = late
        assert what is pending
        assert isinstance(outcome, CancelAck)
        assert client.fates.late == 1
        with pytest.raises(OutcomeUnknown):
            await pending


async def test_a_hook_that_fails_is_logged(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    def hook(pending: object, outcome: object) -> None:
        raise RuntimeError("mine")

    async with MockExchange() as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url, timeout=0.05, on_late_reply=hook) as client:
            exchange.faults.delay_replies(0.1)
            with pytest.raises(OutcomeUnknown):
                await client.cancel_order("BTC", order_id=1)
            await until(lambda: "mine" in caplog.text)
            exchange.faults.delay_replies(0)
            with pytest.raises(Rejected):
                await client.cancel_order("BTC", order_id=1)


def test_the_end_of_the_loop_ends_every_request(signer: Signer) -> None:
    """Without anybody having closed the client."""
    pendings: list[Pending[Any]] = []
    complaints: list[Any] = []
    with MockExchange().in_thread() as exchange:
        exchange.faults.drop_replies(10)

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            client = await connect(signer, url=exchange.url, on_disconnect="retry")
            pendings.extend(client.cancel_order_nowait("BTC", order_id=n) for n in range(5))

        threads = threading.active_count()
        asyncio.run(main())
        gc.collect()
        assert threading.active_count() == threads
    for pending in pendings:
        assert pending.done
        with pytest.raises(OutcomeUnknown, match="the event loop was closed"):
            pending.outcome()
    assert complaints == []


async def test_a_closed_client_looks_at_no_clock_any_more(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MockExchange() as exchange:
        client = await connect(signer, url=exchange.url, timeout=0.1)
        await client.close()
        monkeypatch.setattr(client._stall, "goes_on", lambda *args: pytest.fail("it ticks"))
        assert client._ticker is not None
        assert client._ticker.cancelled()
        forgotten = weakref.ref(client._session)
        del client
        await asyncio.sleep(0.05)
        gc.collect()
        assert forgotten() is None


async def test_nothing_is_left_of_a_client_that_is_opening_a_link(signer: Signer) -> None:
    async with MockExchange() as exchange:
        client = await connect(signer, url=exchange.url, **QUICK)
        exchange.faults.random(1, Weather(stall_handshake=1.0, stall_s=1.0))
        exchange.faults.disconnect()
        await until(lambda: client.state is LinkState.CONNECTING)
        await asyncio.sleep(0.05)
        await client.close()
        assert client._openings == set()
        assert client.state is LinkState.CLOSED


async def test_a_reserve_for_cancels(signer: Signer) -> None:
    async with MockExchange(quota=100, rate_window=1000.0) as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url, credit_reserve=5.0) as client:
            assert client.credits.remaining is None
            order = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
            for _ in range(5):
                await client.request("create_order", order | {"reduce_only": False})
            with pytest.raises(CreditsReserved) as caught:
                await client.request("create_order", order | {"reduce_only": False})
            assert caught.value.remaining == 5.0
            assert 900 < caught.value.wait <= 1000
            for order_id in [each.order_id for each in exchange.orders(signer.account)]:
                await client.cancel_order("BTC", order_id=order_id)  # never 429
            state = client.credits
            assert (state.remaining, state.quota, state.per_cancel) == (2.5, 10.0, 0.5)


@pytest.mark.parametrize("links", [1, 2])
async def test_orders_sent_at_once_leave_the_reserve_alone(signer: Signer, links: int) -> None:
    """None of them knows yet what the others cost; nor does a client that shares the quota."""
    order = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
    settings: dict[str, Any] = {"credit_reserve": 8.0, "links": links}
    async with MockExchange(quota=300, rate_window=1000.0) as exchange:
        one = await connect(signer, url=exchange.url, **settings)
        other = await connect(signer, url=exchange.url, **settings)
        with pytest.raises(Rejected):
            await one.cancel_order("BTC", order_id=1)
        sent = [
            client.request("create_order", order | {"reduce_only": False}) for client in [one, other] * 20
        ]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        held_back = [outcome for outcome in outcomes if isinstance(outcome, CreditsReserved)]
        assert len(outcomes) - len(held_back) == 21
        remaining = one.credits.remaining
        assert remaining is not None
        assert remaining >= 8.0
        assert not [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
        for client in (one, other):
            await client.close()


async def test_with_two_links_an_order_is_placed_once(signer: Signer) -> None:
    order = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
    async with MockExchange() as exchange, connect(signer, url=exchange.url, links=2, **QUICK) as client:
        for placed in range(1, 4):
            await client.request("create_order", order | {"reduce_only": False})
            with pytest.raises(Rejected):  # on both links: what was before it has been done
                await client.cancel_order("BTC", order_id=1)
            assert len(exchange.orders(signer.account)) == placed


async def test_429_tells_how_long_to_wait(signer: Signer) -> None:
    async with MockExchange(quota=10, rate_window=1000.0) as exchange:  # noqa: SIM117
        async with connect(signer, url=exchange.url) as client:
            for _ in range(2):
                with pytest.raises(Rejected, match="420"):
                    await client.cancel_order("BTC", order_id=1)
            with pytest.raises(RateLimited) as caught:
                await client.cancel_order("BTC", order_id=1)
            assert caught.value.retry_after is not None
            assert 900 < caught.value.retry_after <= 1000
            with pytest.raises(CreditsReserved):
                await client.request("create_order", {"symbol": "BTC"})


async def test_clients_of_one_address_count_their_credits_together(signer: Signer) -> None:
    async with MockExchange(quota=1000, rate_window=1000.0) as exchange:
        first, second = await connect(signer, url=exchange.url), await connect(signer, url=exchange.url)
        third = await connect(signer, url=exchange.url, credit_group="another")
        with pytest.raises(Rejected):
            await first.cancel_order("BTC", order_id=1)
        assert second.credits.remaining == first.credits.remaining == 99.5
        assert third.credits.remaining is None
        for client in (first, second, third):
            await client.close()


async def test_a_wrong_clock_is_put_right(signer: Signer) -> None:
    """The exchange refuses what comes from its future; ours is 10 s ahead of it."""
    async with MockExchange(future_tolerance=0) as exchange:
        exchange.clock_offset = -4_000
        order = exchange.place(signer.account)
        async with connect(signer, url=exchange.url, correct_clock=True) as client:
            with pytest.raises(Rejected):
                await client.cancel_order("BTC", order_id=order.order_id)
            assert client.clock.offset is not None
            assert -4_100 < client.clock.offset < -3_900
            await until(lambda: signer.clock_correction < 0)
            assert (await client.cancel_order("BTC", order_id=order.order_id)).symbol == "BTC"
