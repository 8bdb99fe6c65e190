# SPDX-License-Identifier: MIT
"""The order tracker of the asyncio client, against the mock exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pacifica_fast import ConnectionFailed, InvalidRequest, Keypair, OutcomeUnknown, Rejected, Signer
from pacifica_fast.asyncio import Pending, connect
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.session import Truth

QUICK: dict[str, Any] = {"backoff": 0.01, "backoff_max": 0.05, "timeout": 0.3}


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.generate())


@pytest.fixture
async def exchange() -> AsyncIterator[MockExchange]:
    async with MockExchange(quota=None) as exchange:
        yield exchange


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.001)


async def ended(pending: Pending[Any]) -> type[BaseException] | None:
    try:
        await pending
    except (Rejected, OutcomeUnknown) as error:
        return type(error)
    return None


async def test_what_rests_is_armed_and_what_ends_is_not(exchange: MockExchange, signer: Signer) -> None:
    old = [exchange.place(signer.account).order_id for _ in range(3)]
    async with connect(signer, url=exchange.url, **QUICK) as client:
        tracker = await client.track()
        assert tracker.live
        assert list(tracker.orders) == old
        client_order_id = "79f948fd-7556-4066-a128-083f3ea49322"
        new = exchange.place(signer.account, symbol="ETH", price="2000", client_order_id=client_order_id)
        await until(lambda: len(tracker.orders) == 4)
        order = tracker.find(client_order_id)
        assert order is not None
        assert (order.order_id, order.symbol, order.price) == (new.order_id, "ETH", "2000")
        assert all(each.armed.armed for each in tracker.orders.values())
        assert client.status().orders is not None
        [pulled] = client.pull("ETH")
        assert (await pulled).order_id == new.order_id
        assert pulled.settled is Truth.CANCELLED
        await until(lambda: len(tracker.orders) == 3)
        armed = tracker.orders[old[0]].armed
        exchange.fill(signer.account, old[0])
        await until(lambda: old[0] not in tracker.orders)
        assert not armed.armed
        assert sorted([(await pending).order_id or 0 for pending in client.pull()]) == old[1:]
        await until(lambda: not tracker.orders)
        assert client.pull() == []
        assert await client.track() is tracker


async def test_the_truth_of_what_got_no_reply(exchange: MockExchange, signer: Signer) -> None:
    async with connect(signer, url=exchange.url, **QUICK) as client:
        orders = [exchange.place(signer.account).order_id for _ in range(3)]
        await client.track(arm=False)
        exchange.faults.drop_replies()
        cancelled = client.cancel_order_nowait("BTC", order_id=orders[0])
        assert await ended(cancelled) is OutcomeUnknown
        assert await client.truth(cancelled) is Truth.CANCELLED

        exchange.faults.random(1, drop_before=1.0)
        still_open = client.cancel_order_nowait("BTC", order_id=orders[1])
        await until(lambda: bool(exchange.faults.happened))
        exchange.faults.random(1)
        assert await ended(still_open) is OutcomeUnknown
        assert await client.truth(still_open) is Truth.OPEN
        exchange.fill(signer.account, orders[1])  # and if it ends later, that is known too
        await until(lambda: still_open.settled is Truth.FILLED)

        exchange.fill(signer.account, orders[2])
        filled = client.cancel_order_nowait("BTC", order_id=orders[2])
        assert await ended(filled) is Rejected
        assert await client.truth(filled) is Truth.FILLED

        never = client.cancel_order_nowait("BTC", order_id=7)
        assert await ended(never) is Rejected
        assert await client.truth(never) is Truth.NEVER_EXISTED


async def test_nothing_is_known_without_a_tracker(exchange: MockExchange, signer: Signer) -> None:
    async with connect(signer, url=exchange.url, **QUICK) as client:
        pending = client.cancel_order_nowait("BTC", order_id=7)
        assert await ended(pending) is Rejected
        assert pending.settled is None
        with pytest.raises(TimeoutError):
            await client.truth(pending, within=0.05)


async def test_it_survives_a_reconnect(exchange: MockExchange, signer: Signer) -> None:
    async with connect(signer, url=exchange.url, **QUICK) as client:
        kept, lost = (exchange.place(signer.account).order_id for _ in range(2))
        tracker = await client.track()
        exchange.faults.drop_replies()
        pending = client.cancel_order_nowait("BTC", order_id=kept)
        await until(lambda: exchange.requests[-1].operation == "cancel_order")
        exchange.faults.disconnect()
        exchange.fill(signer.account, lost)  # nobody hears of it
        new = exchange.place(signer.account).order_id
        assert await ended(pending) is OutcomeUnknown
        await until(lambda: tracker.live and set(tracker.orders) == {new})
        assert await client.truth(pending) in (Truth.CANCELLED, Truth.GONE)
        assert tracker.orders[new].armed.armed


async def test_two_links_bring_every_update_twice(exchange: MockExchange, signer: Signer) -> None:
    async with connect(signer, url=exchange.url, links=2, **QUICK) as client:
        tracker = await client.track()
        order = exchange.place(signer.account)
        await until(lambda: order.order_id in tracker.orders)
        await client.cancel_order("BTC", order_id=order.order_id)
        await until(lambda: not tracker.orders)
        exchange.faults.disconnect(0)
        again = exchange.place(signer.account)
        await until(lambda: list(tracker.orders) == [again.order_id])


async def test_a_subscription_that_is_not_acknowledged(
    exchange: MockExchange, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pacifica_fast.orders.ACK_TIMEOUT", 0.2)
    async with connect(signer, url=exchange.url, **QUICK) as client:
        exchange.faults.ignore_subscriptions(100)
        with pytest.raises(ConnectionFailed) as caught:
            await client.track(within=0.1)
        assert caught.value.stage == "subscribe"
        exchange.faults.clear()
        tracker = await client.track()  # it has been asking all the time
        assert tracker.live


async def test_accounts(exchange: MockExchange, signer: Signer) -> None:
    other = Keypair.generate().pubkey()
    exchange.place(other)
    async with connect(signer, url=exchange.url, **QUICK) as client:
        tracker = await client.track(other)
        [order] = tracker.orders.values()
        assert order.armed is None  # not ours to cancel
        for wrong in ("", "not base58 0OIl", "abc", 5):
            with pytest.raises(InvalidRequest, match="account"):
                await client.track(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match=f"account: this client tracks {other}"):
            await client.track()  # their snapshots could not be told apart
        assert await client.track(other) is tracker
        with pytest.raises(Rejected):
            await client.cancel_order("BTC", order_id=order.order_id)  # not ours: nothing to be found out
        assert not client._session.open
