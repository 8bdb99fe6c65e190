# SPDX-License-Identifier: MIT
"""The blocking client and its connections: lost, replaced, refused, doubled."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from links_of import sync_link_of

from pacifica_fast import (
    ConnectionFailed,
    CreditsReserved,
    InvalidRequest,
    Keypair,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Signer,
)
from pacifica_fast.links import ConnectionEvent, LinkState
from pacifica_fast.mock_exchange import MockExchange, Weather
from pacifica_fast.replies import CancelAck
from pacifica_fast.session import Truth
from pacifica_fast.sync import Pending, connect

QUICK: dict[str, Any] = {"backoff": 0.01, "backoff_max": 0.05}


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.generate())


def until(there: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not there():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def own_threads() -> list[str]:
    """But for the refill of nonces, which is the key's."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name in ("pacifica_fast reader", "pacifica_fast opener", "pacifica_fast resolver")
    ]


@pytest.mark.parametrize("tls", [False, True])
def test_it_comes_back_by_itself(signer: Signer, tls: bool) -> None:
    with MockExchange(tls=tls).in_thread() as exchange:
        ssl = exchange.client_ssl_context() if tls else None
        with connect(signer, url=exchange.url, ssl=ssl, **QUICK) as client:
            for times in range(1, 4):
                exchange.faults.drop_replies()
                order = exchange.place(signer.account)
                before = len(exchange.requests)
                lost = client.cancel_order_nowait("BTC", order_id=1)
                until(lambda before=before: len(exchange.requests) > before)  # type: ignore[misc]
                exchange.faults.disconnect()
                with pytest.raises(OutcomeUnknown):
                    lost.result()
                until(lambda times=times: client.status().reconnects >= times and client.connected)  # type: ignore[misc]
                assert client.cancel_order("BTC", order_id=order.order_id).order_id == order.order_id
    assert own_threads() == []


def test_a_cancel_may_wait_for_a_connection(signer: Signer) -> None:
    exchange = MockExchange()
    with exchange.in_thread():
        client = connect(signer, url=exchange.url, on_disconnect="retry", **QUICK)
        orders = [exchange.place(signer.account).order_id for _ in range(3)]
        armed = client.arm("BTC", order_id=orders[1])
    until(lambda: not client.connected)
    waiting = client.cancel_order_nowait("BTC", order_id=orders[0])
    fired = armed.fire()
    with pytest.raises(InvalidRequest):
        client.cancel_order_nowait("BTC", order_id=-1)
    with pytest.raises(NotSent):
        client.request("create_order", {"symbol": "BTC"})
    assert not waiting.done
    with exchange.in_thread():
        assert waiting.result().order_id == orders[0]
        assert fired.result().order_id == orders[1]
        assert client.cancel_all_orders().cancelled_count == 1
        client.close()


@pytest.mark.parametrize("how", ["cancel", "fire", "pull"])
def test_a_cancel_waits_too_if_it_is_the_one_that_finds_the_link_broken(signer: Signer, how: str) -> None:
    with (
        MockExchange().in_thread() as exchange,
        connect(signer, url=exchange.url, on_disconnect="retry", **QUICK) as client,
    ):
        order = exchange.place(signer.account)
        armed = client.arm("BTC", order_id=order.order_id)
        sync_link_of(client)._send = lambda data, size: -errno.EPIPE
        if how == "cancel":
            pending: Pending[Any] = client.cancel_order_nowait("BTC", order_id=order.order_id)
        else:
            pending = armed.fire() if how == "fire" else client.pull()[0]
            assert not armed.armed
        assert pending.result().order_id == order.order_id
        assert client.fates.not_sent == 0


def test_a_pull_may_wait_for_a_connection(signer: Signer) -> None:
    exchange = MockExchange()
    with exchange.in_thread():
        client = connect(signer, url=exchange.url, on_disconnect="retry", **QUICK)
        orders = [exchange.place(signer.account).order_id for _ in range(3)]
        for order_id in orders:
            client.arm("BTC", order_id=order_id)
    until(lambda: not client.connected)
    pendings = client.pull("BTC")
    with exchange.in_thread():
        assert [pending.result().order_id for pending in pendings] == orders
        client.close()


def test_but_not_for_ever(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url, on_disconnect="retry", retry_within=0.1, **QUICK)
    until(lambda: not client.connected)
    with pytest.raises(NotSent):
        client.cancel_order_nowait("BTC", order_id=1).result()
    left = client.cancel_order_nowait("BTC", order_id=2)
    client.close()
    with pytest.raises(NotSent):
        left.result()
    assert own_threads() == []


def test_giving_up(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url, reconnect_attempts=0, **QUICK)
        events = client.events()
    states = [event.state for event in events]
    assert states == [LinkState.CLOSED]
    with pytest.raises(NotSent):
        client.cancel_order_nowait("BTC", order_id=1)
    client.close()


def test_the_end_of_a_client_ends_its_events(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url)
        events = client.events()
        seen: list[ConnectionEvent] = []
        thread = threading.Thread(target=lambda: seen.extend(events))
        thread.start()
        client.close()
        thread.join(10)
        assert not thread.is_alive()
        assert seen[-1].state is LinkState.CLOSED


def test_too_many_connections(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        exchange.faults.refuse_handshakes(429)
        with pytest.raises(ConnectionFailed) as caught:
            connect(signer, url=exchange.url)
        assert (caught.value.stage, caught.value.status) == ("upgrade", 429)
    gc.collect()
    assert own_threads() == []


def test_a_half_open_link_is_found(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        settings = QUICK | {"heartbeat": 0.2, "pong_timeout": 0.2}
        with connect(signer, url=exchange.url, **settings) as client:
            exchange.faults.random(1, Weather(half_open=1.0))
            pending = client.cancel_order_nowait("BTC", order_id=1)
            until(lambda: bool(exchange.faults.happened))
            exchange.faults.random(1)
            with pytest.raises(OutcomeUnknown, match="ping"):
                pending.result()
            until(lambda: client.connected)
            with pytest.raises(Rejected):
                client.cancel_order("BTC", order_id=1)
            [link] = client._links.all()
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 200


def test_links_are_replaced_and_no_cancel_pays_for_it(signer: Signer) -> None:
    exchange = MockExchange(tls=True, quota=None, idle_timeout=0.6, max_lifetime=1.0)
    with exchange.in_thread():
        settings = QUICK | {"heartbeat": 0.3, "rotate_after": 0.5}
        ssl = exchange.client_ssl_context()
        with connect(signer, url=exchange.url, ssl=ssl, **settings) as client:
            events: list[ConnectionEvent] = []
            client._links.listeners.append(events.append)
            end = time.monotonic() + 3.0
            count = 0
            while time.monotonic() < end:
                order = exchange.place(signer.account)
                assert client.cancel_order("BTC", order_id=order.order_id).order_id == order.order_id
                count += 1
                time.sleep(0.3 if count % 20 == 0 else 0.001)
            assert client.fates.acked == count
            assert len(events) >= 4
            assert all(event.state is LinkState.OPEN for event in events)
            until(lambda: exchange.connections == 1)
    assert own_threads() == []


def test_two_links_and_a_hundred_reconnects_under_load(signer: Signer) -> None:
    with MockExchange(quota=None, journal=100_000).in_thread() as exchange:  # noqa: SIM117
        with connect(signer, url=exchange.url, links=2, **QUICK) as client:
            sent = []
            for _ in range(100):
                orders = [exchange.place(signer.account).order_id for _ in range(4)]
                sent += [client.cancel_order_nowait("BTC", order_id=order_id) for order_id in orders[:3]]
                exchange.faults.disconnect(0)
                assert client.cancel_order("BTC", order_id=orders[3]).order_id == orders[3]
                until(lambda: client._links.states == [LinkState.OPEN] * 2 and exchange.connections == 2)
            for pending in sent:
                code = 200
                try:
                    assert isinstance(pending.result(), CancelAck)
                except Rejected as error:
                    code = error.code
                assert code in exchange.truth(pending.id)
            assert client.status().reconnects >= 100


def test_a_late_reply_is_reported_and_the_hook_may_send(signer: Signer) -> None:
    late: list[Any] = []

    def hook(pending: Any, outcome: Any) -> None:
        late.append((pending, outcome))
        client.cancel_order_nowait("BTC", order_id=2)

    with MockExchange().in_thread() as exchange:  # noqa: SIM117
        with connect(signer, url=exchange.url, timeout=0.1, on_late_reply=hook) as client:
            order = exchange.place(signer.account)
            exchange.faults.delay_replies(0.3)
            pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
            with pytest.raises(OutcomeUnknown):
                pending.result()
            until(lambda: len(exchange.requests) == 2)
            [(what, outcome)] = late
            assert what is pending
            assert isinstance(outcome, CancelAck)


def test_closing_while_a_link_is_being_opened(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url, **QUICK)
        exchange.faults.random(1, Weather(stall_handshake=1.0, stall_s=2.0))
        exchange.faults.disconnect()
        until(lambda: client.state is LinkState.CONNECTING)
        time.sleep(0.05)
        descriptors = len(os.listdir("/proc/self/fd"))
        client.close()
        until(lambda: own_threads() == [])  # an opener that has handed over takes a moment to end
        assert client.state is LinkState.CLOSED
        assert len(os.listdir("/proc/self/fd")) < descriptors


def test_a_client_that_nobody_has_any_more_is_closed_also_while_it_reconnects(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url, **QUICK)
        client.track()
    while client.connected:
        time.sleep(0.001)
    del client
    gc.collect()
    until(lambda: own_threads() == [])


def test_a_client_that_nobody_has_any_more_is_closed_with_all_that_it_armed_and_fired(signer: Signer) -> None:
    with MockExchange().in_thread() as exchange:
        client = connect(signer, url=exchange.url, **QUICK)
        client.arm("BTC", order_id=exchange.place(signer.account).order_id).fire().result()
        exchange.place(signer.account)
        assert [order.armed.armed for order in client.track().orders.values()] == [True]
        del client
        until(lambda: gc.collect() >= 0 and own_threads() == [])


def test_tracking(signer: Signer) -> None:
    with MockExchange(quota=None).in_thread() as exchange:
        with connect(signer, url=exchange.url, timeout=0.3, **QUICK) as client:
            old = exchange.place(signer.account).order_id
            tracker = client.track()
            new = exchange.place(signer.account, symbol="ETH", price="2000").order_id
            until(lambda: set(tracker.orders) == {old, new})
            assert tracker.orders[new].armed is not None
            [pulled] = client.pull("ETH")
            assert pulled.result().order_id == new
            exchange.faults.drop_replies()
            pending = client.cancel_order_nowait("BTC", order_id=old)
            with pytest.raises(OutcomeUnknown):
                pending.result()
            assert client.truth(pending) is Truth.CANCELLED
            until(lambda: not tracker.orders)
            exchange.faults.disconnect()
            again = exchange.place(signer.account).order_id
            until(lambda: list(tracker.orders) == [again])
            assert client.track() is tracker
            other = Keypair.generate().pubkey()
            with pytest.raises(InvalidRequest, match="account: this client tracks"):
                client.track(other)
        with connect(signer, url=exchange.url, **QUICK) as client:
            exchange.faults.ignore_subscriptions(9)
            with pytest.raises(ConnectionFailed) as caught:
                client.track(other, within=0.1)
            assert caught.value.stage == "subscribe"


def test_the_truth_of_a_cancel_whose_reply_is_read_before_its_sender_goes_on(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MockExchange().in_thread() as exchange, connect(signer, url=exchange.url) as client:
        client.track()
        send = client._send

        def sent_and_answered(pending: Any, *args: Any) -> Any:
            sent = send(pending, *args)
            until(lambda: pending.done and not client._session.open)
            return sent

        monkeypatch.setattr(client, "_send", sent_and_answered)
        pending = client.cancel_order_nowait("BTC", order_id=1)
        assert client.truth(pending) is Truth.NEVER_EXISTED


def test_with_two_links_an_order_is_placed_once(signer: Signer) -> None:
    order = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
    with (
        MockExchange().in_thread() as exchange,
        connect(signer, url=exchange.url, links=2, **QUICK) as client,
    ):
        client.request("create_order", order | {"reduce_only": False})
        with pytest.raises(Rejected):  # on both links: what was before it has been done
            client.cancel_order("BTC", order_id=1)
        assert len(exchange.orders(signer.account)) == 1


def test_a_reserve_for_cancels(signer: Signer) -> None:
    with MockExchange(quota=100, rate_window=1000.0).in_thread() as exchange:  # noqa: SIM117
        with connect(signer, url=exchange.url, credit_reserve=9.0) as client:
            order = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
            ack = client.request("create_order", order | {"reduce_only": False})
            with pytest.raises(CreditsReserved):
                client.request("create_order", order | {"reduce_only": False})
            assert client.cancel_order("BTC", order_id=ack.data["i"]).symbol == "BTC"
            assert (client.credits.remaining, client.credits.quota) == (8.5, 10.0)
