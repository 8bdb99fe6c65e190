# SPDX-License-Identifier: MIT
"""The mock exchange's faults, as a client sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_raw
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pacifica_fast import Keypair, NotSent, OutcomeUnknown, PacificaError, Rejected, Signer
from pacifica_fast.asyncio import connect
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_faults import FAULTS, Before, Faults, Weather


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.generate())


async def ask(raw: ClientConnection, signer: Signer, order_id: int = 1) -> str:
    """Send a cancel; its id."""
    request = signer.cancel_order("BTC", order_id=order_id)
    await raw.send(request.text.decode())
    return request.id


async def answer(raw: ClientConnection) -> Any:
    return orjson.loads(await asyncio.wait_for(raw.recv(), 5))


def always(exchange: MockExchange, **probabilities: float) -> None:
    exchange.faults.random(1, Weather(**probabilities))


async def met(exchange: MockExchange) -> None:
    """Until a fault was met; then all is well."""
    async with asyncio.timeout(5):
        while not exchange.faults.happened:
            await asyncio.sleep(0.001)
    exchange.faults.random(1)


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
async def test_no_reply(signer: Signer, fault: str) -> None:
    async with MockExchange(journal=10) as exchange, connect_raw(exchange.url) as raw:
        always(exchange, **{fault: 1.0})
        request_id = await ask(raw, signer)
        await met(exchange)
        second = await ask(raw, signer)
        assert (await answer(raw))["id"] == second
        assert exchange.truth(request_id) == ([] if fault == "drop_before" else [420])


@pytest.mark.parametrize("fault", ["abort_before", "abort_after"])
async def test_cut(signer: Signer, fault: str) -> None:
    async with MockExchange(journal=10) as exchange, connect_raw(exchange.url) as raw:
        always(exchange, **{fault: 1.0})
        request_id = await ask(raw, signer)
        with pytest.raises(ConnectionClosed):
            await answer(raw)
        assert exchange.truth(request_id) == ([] if fault == "abort_before" else [420])


@pytest.mark.parametrize("fault", FAULTS)
def test_any_of_them_can_be_told(fault: str) -> None:
    """So often, and no more."""
    faults = Faults(lambda message: None, lambda index: None)
    calm = what_happens(faults)
    faults.next(fault, 2)
    assert what_happens(faults) != calm
    assert what_happens(faults) != calm
    assert what_happens(faults) == calm
    assert faults.happened == {fault: 2}
    faults.next(fault)
    faults.clear()
    assert what_happens(faults) == calm


def what_happens(faults: Faults) -> list[object]:
    """To one action of a batch, and one handshake."""
    rejection = faults.rejection()
    return [faults.before(), rejection, faults.action_fails(), faults.reply(), faults.handshake()]


def test_no_such_fault() -> None:
    with pytest.raises(ValueError, match=r"fault: expected one of abort_after, .*stall_handshake"):
        Faults(lambda message: None, lambda index: None).next("delay_s")


async def test_a_batch_that_fails_in_part(signer: Signer) -> None:
    async with MockExchange() as exchange, connect(signer, url=exchange.url) as client:
        orders = [exchange.place(signer.account).order_id for _ in range(3)]
        exchange.faults.next("batch_failure", 2)
        ack = await client.batch_cancel([("BTC", order_id) for order_id in orders])
        assert [result.success for result in ack.results] == [False, False, True]
        assert [order.order_id for order in exchange.orders(signer.account)] == orders[:2]


async def test_nothing_behind_a_cut_is_carried_out(signer: Signer) -> None:
    async with MockExchange(journal=100) as exchange:
        exchange.faults.random(1, abort_before=0.3)
        raw = await connect_raw(exchange.url)
        requests = [signer.cancel_order("BTC", order_id=n) for n in range(12)]
        for request in requests:
            await raw.send(request.text.decode())
        await raw.wait_closed()
        carried_out = [bool(exchange.truth(request.id)) for request in requests]
        assert exchange.faults.happened == {"abort_before": 1}
        assert carried_out == sorted(carried_out, reverse=True)
        assert not all(carried_out)


async def test_half_open(signer: Signer) -> None:
    async with MockExchange() as exchange:
        raw = await connect_raw(exchange.url, close_timeout=0.1)
        always(exchange, half_open=1.0)
        await ask(raw, signer)
        await met(exchange)
        await ask(raw, signer)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.recv(), 0.2)
        raw.transport.abort()


async def test_slow_reading(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url) as raw:
        always(exchange, slow_read=1.0, slow_s=0.2)
        start = asyncio.get_running_loop().time()
        await ask(raw, signer)
        await answer(raw)
        assert asyncio.get_running_loop().time() - start >= 0.19


async def test_twice_without_id_and_429(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url) as raw:
        always(exchange, duplicate=1.0)
        request_id = await ask(raw, signer)
        assert [(await answer(raw))["id"] for _ in range(2)] == [request_id] * 2
        always(exchange, without_id=1.0)
        await ask(raw, signer)
        assert "id" not in await answer(raw)
        always(exchange, rate_limit=1.0)
        await ask(raw, signer)
        assert (await answer(raw))["code"] == 429


async def test_reordered_and_late(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url) as raw:
        always(exchange, reorder=1.0)
        first = await ask(raw, signer)
        while not exchange.requests:
            await asyncio.sleep(0.001)
        exchange.faults.clear()
        second = await ask(raw, signer)
        assert [(await answer(raw))["id"] for _ in range(2)] == [second, first]


async def test_in_fragments(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url) as raw:
        always(exchange, fragment=1.0)
        request_id = await ask(raw, signer)
        pieces = [piece async for piece in raw.recv_streaming()]
        assert len(pieces) == 5
        assert orjson.loads("".join(str(piece) for piece in pieces))["id"] == request_id


async def test_garbage_and_oversized(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url, max_size=4 << 20) as raw:
        always(exchange, garbage=1.0)
        for _ in range(20):
            request_id = await ask(raw, signer)
            await raw.recv()
            assert (await answer(raw))["id"] == request_id
        always(exchange, oversized=1.0)
        await ask(raw, signer)
        assert len(await raw.recv()) == 2 << 20


async def test_handshakes(signer: Signer) -> None:
    async with MockExchange() as exchange:
        exchange.faults.refuse_handshakes(503)
        with pytest.raises(InvalidStatus) as caught:
            await connect_raw(exchange.url)
        assert caught.value.response.status_code == 503
        always(exchange, refuse_handshake=1.0)
        with pytest.raises(InvalidStatus):
            await connect_raw(exchange.url)
        always(exchange, stall_handshake=1.0, stall_s=0.6)
        with pytest.raises(TimeoutError):
            await connect_raw(exchange.url, open_timeout=0.2)


async def test_actions_of_a_batch_fail(signer: Signer) -> None:
    async with MockExchange() as exchange, connect(signer, url=exchange.url) as client:
        orders = [exchange.place(signer.account).order_id for _ in range(10)]
        exchange.faults.random(5, batch_failure=0.5)
        results = (await client.batch_cancel([("BTC", order_id) for order_id in orders])).results
        failed = [result.order_id for result in results if not result.success]
        assert 0 < len(failed) < 10
        assert [order.order_id for order in exchange.orders(signer.account)] == failed


async def test_subscriptions_and_updates(signer: Signer) -> None:
    async with MockExchange() as exchange, connect_raw(exchange.url) as raw:
        params = {"source": "account_order_updates", "account": signer.account}
        subscribe = orjson.dumps({"method": "subscribe", "params": params}).decode()
        exchange.faults.ignore_subscriptions()
        await raw.send(subscribe)
        await raw.send(subscribe)
        assert await answer(raw) == {"channel": "subscribe", "data": params}
        exchange.faults.lose_updates()
        exchange.place(signer.account)
        second = exchange.place(signer.account)
        [update] = (await answer(raw))["data"]
        assert update["i"] == second.order_id
        snapshot = params | {"source": "account_orders"}
        await raw.send(orjson.dumps({"method": "subscribe", "params": snapshot}).decode())
        assert await answer(raw) == {"channel": "subscribe", "data": snapshot}
        message = await answer(raw)
        assert message["channel"] == "account_orders"
        assert [entry["i"] for entry in message["data"]] == [
            order.order_id for order in exchange.orders(signer.account)
        ]


async def test_one_of_several_is_cut() -> None:
    async with MockExchange() as exchange:
        with pytest.raises(IndexError):
            exchange.faults.disconnect(0)
        first, second = await connect_raw(exchange.url), await connect_raw(exchange.url)
        exchange.faults.disconnect(0)
        with pytest.raises(ConnectionClosed):
            await first.recv()
        await second.send('{"method":"ping"}')
        assert await answer(second) == {"channel": "pong"}
        await second.close()


def test_the_same_seed_is_the_same_weather() -> None:
    def run(seed: int) -> list[object]:
        faults = Faults(lambda message: None, lambda index: None)
        faults.random(seed, drop_before=0.2, abort_after=0.2, delay=0.3, garbage=0.2, refuse_handshake=0.3)
        return [(faults.before(), faults.rejection(), faults.reply(), faults.handshake()) for _ in range(200)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_how_often() -> None:
    faults = Faults(lambda message: None, lambda index: None)
    faults.random(3, drop_before=0.1)
    dropped = [faults.before() for _ in range(10_000)].count(Before.DROP)
    assert 900 < dropped < 1100
    assert faults.happened == {"drop_before": dropped}


def test_weather_as_text() -> None:
    weather = Weather.parse("drop_after=0.01,delay=0.5,delay_s=0.2")
    assert weather == Weather(drop_after=0.01, delay=0.5, delay_s=0.2)
    assert Weather.parse("") == Weather()
    for text, complaint in {
        "rain=1": "rain",
        "delay": "delay",
        "delay=x": "delay",
        "delay=2": "delay",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            Weather.parse(text)


async def test_every_fate_under_bad_weather(signer: Signer) -> None:
    """What this is for: a bot's own test."""
    async with MockExchange(quota=None, journal=10_000) as exchange:
        exchange.faults.random(
            11, drop_after=0.1, abort_after=0.02, garbage=0.1, fragment=0.1, rate_limit=0.1
        )
        fates: dict[str, int] = {}
        async with connect(signer, url=exchange.url, timeout=0.1) as client:
            for _ in range(200):
                order = exchange.place(signer.account)
                fate, codes = "acked", [200]
                try:
                    pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
                    await pending
                except NotSent:
                    fate, codes = "not sent", []
                    await asyncio.sleep(0.01)
                except Rejected as error:
                    fate, codes = "rejected", [error.code]
                except OutcomeUnknown:
                    fate, codes = "unknown", exchange.truth(pending.id)
                    assert codes in ([200], [429])
                except PacificaError as error:  # pragma: no cover
                    raise AssertionError from error
                fates[fate] = fates.get(fate, 0) + 1
                if fate != "not sent":
                    assert exchange.truth(pending.id) == codes
        assert set(fates) >= {"acked", "rejected", "unknown"}
