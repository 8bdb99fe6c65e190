# SPDX-License-Identifier: MIT
"""Both clients against websocket servers that are not ours, and over a wire that can be bad.

Real sockets and real TLS; see :mod:`foreign`.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import random
import socket
import ssl as ssl_module
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import pytest
from foreign import (
    CLOSE,
    CONTINUATION,
    PATIENCE,
    SERVERS,
    TEXT,
    AsyncioBot,
    BlockingBot,
    Bot,
    Cancel,
    House,
    Loop,
    Peer,
    Relay,
    ack,
    acknowledge,
    frame,
    until,
)

from pacifica_fast import ConnectionFailed, Keypair, NotSent, OutcomeUnknown, Signer
from pacifica_fast._certificate import Certificate, issue
from pacifica_fast.links import LinkState
from pacifica_fast.session import Pending

QUICK: dict[str, Any] = {"backoff": 0.01, "backoff_max": 0.05}
PATIENT: dict[str, Any] = {"timeout": PATIENCE, "pong_timeout": PATIENCE, "open_timeout": PATIENCE}

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
TRUSTED: Certificate = issue()
UNTRUSTED: Certificate = issue()
EXPIRED: Certificate = issue(not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(days=90))
ELSEWHERE: Certificate = issue(["exchange.test", "192.0.2.1"])


class Town:
    """Servers of one kind, wires to them, and clients of one kind."""

    def __init__(self, kind: str, tls: bool, bots: type[Bot]) -> None:
        pytest.importorskip(kind)
        self.kind, self.tls, self.bots = kind, tls, bots
        self.loop = Loop()
        self._servers = AsyncExitStack()
        self._clients = ExitStack()
        self.house = House()
        self.port = self.server(self.house)

    def server(self, house: House, certificate: Certificate = TRUSTED) -> int:
        """One more; its port."""
        ssl = certificate.server_context() if self.tls else None
        return self.loop.run(self._servers.enter_async_context(SERVERS[self.kind](house, ssl)))

    def relay(self) -> Relay:
        relay = Relay(self.port)
        self.loop.run(relay.listen())
        self._servers.push_async_callback(relay.close)
        return relay

    def bot(self, port: int = 0, *, signer: Signer | None = None, **settings: Any) -> Bot:
        if self.tls:
            known = TRUSTED.authority + EXPIRED.authority + ELSEWHERE.authority
            settings["ssl"] = ssl_module.create_default_context(cadata=known)
        url = f"{'wss' if self.tls else 'ws'}://localhost:{port or self.port}/ws"
        bot = self.bots(signer or Signer(Keypair.generate()), url=url, **QUICK | PATIENT | settings)
        self._clients.callback(bot.close)
        return bot

    def close(self) -> None:
        with ExitStack() as last:
            last.callback(self.loop.close)
            last.callback(lambda: self.loop.run(self._servers.aclose()))
            self._clients.close()


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[AsyncioBot, BlockingBot], ids=["asyncio", "sync"])
def bots(request: pytest.FixtureRequest) -> type[Bot]:
    bots: type[Bot] = request.param
    return bots


@pytest.fixture
def town(kind: str, tls: bool, bots: type[Bot]) -> Iterator[Town]:
    town = Town(kind, tls, bots)
    yield town
    town.close()


def recovers(bot: Bot, order_id: int = 77) -> None:
    """A new link is opened, and brings an acknowledgement; that link may be lost too, on a slow machine."""
    for _ in range(100):
        until(lambda: bot.client.connected)
        try:
            assert bot.cancel(order_id).order_id == order_id
        except (NotSent, OutcomeUnknown):
            continue
        assert bot.client.status().reconnects >= 1
        return
    raise AssertionError("it does not recover")


# When all is well.


@pytest.mark.parametrize("way", ["signed", "prepared", "armed", "pulled"])
def test_a_cancel_is_acknowledged(town: Town, way: str) -> None:
    with Signer(Keypair.generate(), prepared=16 if way == "prepared" else 0) as signer:
        bot = town.bot(signer=signer)
        numbers = range(1, 6)
        if way in ("signed", "prepared"):
            until(lambda: signer.stats.ready == (16 if way == "prepared" else 0))
            pendings = [bot.send(number) for number in numbers]
            assert signer.stats.prepared == (5 if way == "prepared" else 0)
        else:
            armed = bot.do(lambda: [bot.client.arm("BTC", order_id=number) for number in numbers])
            if way == "armed":
                pendings = [bot.do(one.fire) for one in armed]
            else:
                client: Any = bot.client
                pendings = bot.do(lambda: list[Pending](client.pull(armed)))
        acks = [bot.result(pending) for pending in pendings]
        assert sorted(ack.order_id or 0 for ack in acks) == list(numbers)
        assert {ack.symbol for ack in acks} == {"BTC"}
        assert len(town.house.asked) == bot.client.fates.acked == 5
        assert bot.events == []


def test_a_reply_in_fragments_with_a_ping_between_them(town: Town) -> None:
    async def in_fragments(peer: Peer, cancel: Cancel) -> None:
        data = ack(cancel)
        await peer.send(TEXT, data[:1], fin=False)
        await peer.ping(b"after the first")
        await peer.send(CONTINUATION, b"", fin=False)
        await peer.send(CONTINUATION, data[1:50], fin=False)
        await peer.ping(b"after the third")  # the pong comes before the message is whole
        await peer.send(CONTINUATION, data[50:])

    town.house.script = in_fragments
    bot = town.bot()
    assert [bot.cancel(number).order_id for number in (1, 2, 3)] == [1, 2, 3]


def test_a_ping_is_answered_with_what_it_said(town: Town) -> None:
    async def after_pongs(peer: Peer, cancel: Cancel) -> None:
        for payload in (b"", b"x", bytes(range(125))):
            await peer.ping(payload)
        await acknowledge(peer, cancel)

    town.house.script = after_pongs
    assert town.bot().cancel(1).order_id == 1


def test_no_compression_is_asked_for(town: Town) -> None:
    town.bot().cancel(1)
    [peer] = town.house.peers
    assert peer.offered is None


def test_nor_taken_if_it_comes_unasked(town: Town) -> None:
    port = town.server(House(extension="permessage-deflate; server_no_context_takeover"))
    with pytest.raises(ConnectionFailed, match="extension") as caught:
        town.bot(port)
    assert caught.value.stage == "upgrade"


def test_one_client_closing_does_not_disturb_another(town: Town) -> None:
    go = asyncio.Event()

    async def when_told(peer: Peer, cancel: Cancel) -> None:
        await go.wait()
        await acknowledge(peer, cancel)

    town.house.script = when_told
    one, other = town.bot(), town.bot()
    lost, kept = one.send(1), other.send(2)
    until(lambda: len(town.house.asked) == 2)
    one.close()
    until(lambda: lost.done)
    with pytest.raises(OutcomeUnknown, match="closed"):
        lost.outcome()
    town.loop.call(go.set)
    assert other.result(kept).order_id == 2
    assert other.cancel(3).order_id == 3
    assert other.events == []


@pytest.mark.parametrize("bots", [BlockingBot], ids=["sync"], indirect=True)
def test_four_threads_and_every_cancel_gets_its_own_reply(town: Town) -> None:
    waiting: list[tuple[Peer, Cancel]] = []

    async def four_at_a_time(peer: Peer, cancel: Cancel) -> None:
        waiting.append((peer, cancel))
        if len(waiting) == 4:  # one of each thread; the last is answered first
            while waiting:
                await acknowledge(*waiting.pop())

    town.house.script = four_at_a_time
    bot = town.bot()
    ready = threading.Barrier(4)

    def work(first: int) -> list[int | None]:
        ready.wait(PATIENCE)
        return [bot.cancel(number).order_id for number in range(first, first + 50)]

    with ThreadPoolExecutor(4) as threads:
        for first, orders in zip(range(0, 4000, 1000), threads.map(work, range(0, 4000, 1000)), strict=True):
            assert orders == list(range(first, first + 50))
    assert bot.client.fates.acked == 200


# When the server goes.


CLOSES = [(1000, "OK"), (1001, "going away"), (1011, "internal error")]


@pytest.mark.parametrize(("code", "name"), CLOSES)
@pytest.mark.parametrize("hangs_up", [True, False], ids=["and hangs up", "and no more"])
def test_a_close_is_named_and_a_new_link_opened(
    town: Town, code: int, name: str, hangs_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def third_time(peer: Peer, cancel: Cancel) -> None:
        if cancel.order_id == 3:
            if hangs_up:
                await peer.close(code, "so it is")
            else:  # nor does it hear that we agree
                await relay.stall("up")
                peer.transport.write(frame(CLOSE, struct.pack(">H", code) + b"so it is"))

    if not hangs_up:
        for module in ("asyncio.link", "sync.reader"):
            monkeypatch.setattr(f"pacifica_fast.{module}.CLOSE_TIMEOUT", 0.05)
    town.house.script = third_time
    relay = town.relay()
    bot = town.bot(relay.port)
    pendings = [bot.send(number) for number in (1, 2, 3)]
    for pending in pendings:
        with pytest.raises(OutcomeUnknown, match=rf"closed by the exchange.* {code} \({name}\) so it is"):
            bot.result(pending)
    town.house.script = acknowledge
    recovers(bot)
    assert bot.events[0].state is LinkState.WAITING
    assert f"{code} ({name}) so it is" in bot.events[0].reason


def test_a_reply_right_before_a_close_counts(town: Town) -> None:
    async def last_words(peer: Peer, cancel: Cancel) -> None:
        peer.transport.write(frame(TEXT, ack(cancel)) + frame(CLOSE, struct.pack(">H", 1001)))

    town.house.script = last_words
    bot = town.bot()
    assert bot.cancel(1).order_id == 1
    town.house.script = acknowledge
    until(lambda: bot.client.status().reconnects == 1)
    recovers(bot)
    assert bot.client.fates.unknown == 0


@pytest.mark.parametrize("how", ["abort", "reset", "after a fragment", "within a frame"])
def test_an_abrupt_end_leaves_the_outcome_unknown(town: Town, how: str) -> None:
    async def gone(peer: Peer, cancel: Cancel) -> None:
        if how == "reset":
            sock = peer.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "after a fragment":
            await peer.send(TEXT, ack(cancel)[:40], fin=False)
        elif how == "within a frame":
            peer.transport.write(frame(TEXT, ack(cancel))[:-1])
        peer.transport.abort()

    town.house.script = gone
    bot = town.bot()
    with pytest.raises(OutcomeUnknown, match="connection lost"):
        bot.cancel(1)
    town.house.script = acknowledge
    recovers(bot)
    assert (bot.client.fates.unknown, bot.client.fates.late) == (1, 0)


# When there is no way in.

FAILURES = {
    "untrusted": ("tls", None, "certificate not accepted: .*(issuer|self-signed)"),
    "expired": ("tls", None, "certificate not accepted: certificate has expired"),
    "another host": ("tls", None, "certificate not accepted: .*[Hh]ostname mismatch"),
    "403": ("upgrade", 403, "HTTP 403"),
    "refused": ("connect", None, f"Errno {errno.ECONNREFUSED}"),
    "no such name": ("dns", None, "Name or service not known"),
}
CERTIFICATES = {"untrusted": UNTRUSTED, "expired": EXPIRED, "another host": ELSEWHERE}


@pytest.mark.parametrize("why", ["403", "refused", "no such name"])
def test_why_there_is_no_link(town: Town, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_way_in(town, why, monkeypatch)


@pytest.mark.parametrize("tls", [True], ids=["wss"], indirect=True)
@pytest.mark.parametrize("why", CERTIFICATES)
def test_a_certificate_that_is_not_accepted(town: Town, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_way_in(town, why, monkeypatch)


def no_such_name(*_: Any, **__: Any) -> list[Any]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def no_way_in(town: Town, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that was there is another one after a reconnect; and then itself again."""
    stage, status, reason = FAILURES[why]
    relay = town.relay()
    bot = town.bot(relay.port)
    assert bot.cancel(1).order_id == 1

    impostor = House(status=status or 101)
    relay.target = town.server(impostor, CERTIFICATES.get(why, TRUSTED))
    with monkeypatch.context() as patched:
        if why == "refused":
            town.loop.run(relay.refuse())
        if why == "no such name":
            patched.setattr(socket, "getaddrinfo", no_such_name)
        town.loop.run(relay.cut())
        until(lambda: len([event for event in bot.events if event.stage]) >= 2)
        assert bot.client.state in (LinkState.WAITING, LinkState.CONNECTING)
        with pytest.raises(NotSent, match=reason):
            bot.cancel(2)
        with pytest.raises(ConnectionFailed, match=reason) as caught:
            town.bot(relay.port)
        assert (caught.value.stage, caught.value.status) == (stage, status)
        relay.target = town.port
    for event in (event for event in bot.events if event.stage):
        assert (event.state, event.stage, event.status) == (LinkState.WAITING, stage, status)
        assert event.retry_in is not None
        assert event.reason.startswith(f"{stage}: ")
    if why == "refused":
        town.loop.run(relay.listen())
    recovers(bot)
    assert impostor.asked == []
    assert bot.client.fates.unknown == 0


@contextmanager
def saying(reply: bytes) -> Iterator[int]:
    """A server that says always the same, and hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

        answered = pool.submit(answer)
        yield listener.getsockname()[1]
        answered.result(PATIENCE)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\nwho are you?", 403),
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\n\r\n", 429),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://exchange.test/ws\r\n\r\n", 301),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200),
        (b"SSH-2.0-OpenSSH_9.9\r\n", None),
        (b"", None),
    ],
    ids=["403", "429", "301", "200", "no HTTP", "nothing"],
)
def test_those_that_are_no_exchange_at_all(bots: type[Bot], reply: bytes, status: int | None) -> None:
    """Most of them say how long they are by ending."""
    with saying(reply) as port, pytest.raises(ConnectionFailed) as caught:
        bots(Signer(Keypair.generate()), url=f"ws://127.0.0.1:{port}/ws")
    assert (caught.value.stage, caught.value.status) == ("upgrade", status)


def test_no_tls_where_it_is_expected(bots: type[Bot]) -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, pytest.raises(ConnectionFailed) as caught:
        bots(Signer(Keypair.generate()), url=f"wss://127.0.0.1:{port}/ws")
    assert caught.value.stage == "tls"


# When the wire is bad.


def test_a_long_and_uneven_way(town: Town) -> None:
    """20 ms each way, more or less, and everything cut in pieces."""
    chance = random.Random(7)
    relay = town.relay()
    relay.delay = lambda: chance.uniform(0.01, 0.03)
    relay.cuts = lambda size: chance.randint(1, max(size, 400))
    bot = town.bot(relay.port)
    pendings = [bot.send(number) for number in range(40)]
    assert [bot.result(pending).order_id for pending in pendings] == list(range(40))
    assert min(pending.settled_at - pending.sent_at for pending in pendings) > 0.015
    assert bot.client.fates.acked == 40


def test_a_short_stall_is_waited_for(town: Town) -> None:
    relay = town.relay()
    bot = town.bot(relay.port)
    town.loop.run(relay.stall("up", "down"))
    pendings = [bot.send(number) for number in range(3)]
    town.loop.run(asyncio.sleep(0.1))
    assert not any(pending.done for pending in pendings)
    town.loop.run(relay.resume())
    assert [bot.result(pending).order_id for pending in pendings] == [0, 1, 2]
    assert bot.events == []


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_long_stall_is_found_and_the_link_replaced(town: Town, direction: str) -> None:
    relay = town.relay()
    bot = town.bot(relay.port, pong_timeout=0.25)
    town.loop.run(relay.stall(direction))
    pending = bot.send(1)
    with pytest.raises(OutcomeUnknown, match="no answer to a ping"):
        bot.result(pending)
    recovers(bot)
    assert any("no answer to a ping" in event.reason for event in bot.events)
    if direction == "down":  # it was done, and only the reply is missing
        until(lambda: pending.id in [cancel.id for cancel in town.house.asked])
    else:
        assert pending.id not in [cancel.id for cancel in town.house.asked]


def test_a_cut_in_the_middle_of_many(town: Town) -> None:
    """Those that were answered are acknowledged, and the others are not known; none is lost."""

    async def some(peer: Peer, cancel: Cancel) -> None:
        if cancel.order_id < 10:
            await acknowledge(peer, cancel)

    town.house.script = some
    relay = town.relay()
    bot = town.bot(relay.port)
    pendings = [bot.send(number) for number in range(20)]
    until(lambda: bot.client.fates.acked == 10)
    town.loop.run(relay.cut())
    for pending in pendings[10:]:
        with pytest.raises(OutcomeUnknown, match="connection lost"):
            bot.result(pending)
    assert [bot.result(pending).order_id for pending in pendings[:10]] == list(range(10))
    town.house.script = acknowledge
    recovers(bot)
