# SPDX-License-Identifier: MIT
"""Both clients against servers that are not ours, on real sockets and real TLS, and over a bad line."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl as ssl_module
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from foreign import BEHAVIOURS, PING, SERVERS, Relay, Seen, in_thread

from pacifica_fast import ConnectionFailed, Keypair, NotSent, OutcomeUnknown, Signer, sync
from pacifica_fast import asyncio as aio
from pacifica_fast._certificate import Certificate, issue
from pacifica_fast.links import LinkState
from pacifica_fast.replies import CancelAck

CERTIFICATE: Certificate = issue()
PATIENCE = 20.0  # s, before a test gives up
QUICK: dict[str, Any] = {"backoff": 0.01, "backoff_max": 0.05}


class Driver(ABC):
    """A client, asyncio or blocking, used from a thread that may wait."""

    client: aio.Client | sync.Client

    @abstractmethod
    def cancel(self, symbol: str, order_id: int = 1) -> CancelAck: ...
    @abstractmethod
    def fire(self, symbol: str) -> CancelAck: ...
    @abstractmethod
    def sleep(self, seconds: float) -> None: ...
    @abstractmethod
    def close(self) -> None: ...

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            self.sleep(0.005)


class Asyncio(Driver):
    client: aio.Client

    def __init__(self, signer: Signer, url: str, **settings: Any) -> None:
        self._runner = asyncio.Runner()

        async def connect() -> aio.Client:
            return await aio.connect(signer, url=url, **settings)

        try:
            self.client = self._runner.run(connect())
        except BaseException:
            self._runner.close()
            raise

    def cancel(self, symbol: str, order_id: int = 1) -> CancelAck:
        ack: CancelAck = self._runner.run(self.client.cancel_order(symbol, order_id=order_id))
        return ack

    def fire(self, symbol: str) -> CancelAck:
        async def fire() -> CancelAck:
            ack: CancelAck = await self.client.arm(symbol, order_id=1).fire()
            return ack

        return self._runner.run(fire())

    def sleep(self, seconds: float) -> None:
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        self._runner.run(self.client.close())
        self._runner.close()


class Blocking(Driver):
    client: sync.Client

    def __init__(self, signer: Signer, url: str, **settings: Any) -> None:
        self.client = sync.connect(signer, url=url, **settings)

    def cancel(self, symbol: str, order_id: int = 1) -> CancelAck:
        return self.client.cancel_order(symbol, order_id=order_id)

    def fire(self, symbol: str) -> CancelAck:
        ack: CancelAck = self.client.arm(symbol, order_id=1).fire().result()
        return ack

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self.client.close()


Kind = Callable[..., Driver]


@pytest.fixture(params=[Asyncio, Blocking], ids=["asyncio", "blocking"])
def driver(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


class Exchange:
    """A server that runs, and how to reach it."""

    def __init__(self, port: int, seen: Seen, *, tls: bool) -> None:
        self.seen, self.port = seen, port
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws"
        self.settings = QUICK | ({"ssl": CERTIFICATE.client_context()} if tls else {})


@contextmanager
def serving(name: str, certificate: Certificate | None) -> Iterator[Exchange]:
    seen = Seen()
    context = None if certificate is None else certificate.server_context()
    with in_thread(lambda: SERVERS[name](seen, context)) as port:
        yield Exchange(port, seen, tls=certificate is not None)


@pytest.fixture(params=[(name, tls) for name in SERVERS for tls in (False, True)], ids=str)
def exchange(request: pytest.FixtureRequest) -> Iterator[Exchange]:
    name, tls = request.param
    with serving(name, CERTIFICATE if tls else None) as exchange:
        yield exchange


# All is well.


def test_cancels_are_acknowledged(driver: Kind, exchange: Exchange, signer: Signer) -> None:
    with closing(driver(signer, exchange.url, **exchange.settings)) as client:
        assert client.cancel("BTC", 7).order_id == 7
        assert client.fire("BTC").symbol == "BTC"
    assert [request["params"]["cancel_order"]["order_id"] for request in exchange.seen.requests] == [7, 1]
    assert exchange.seen.extensions == [None]  # compression was to be had, and nobody asked for it


@pytest.mark.parametrize("symbol", ["FRAGMENTS", "BYTES", "PING"])
def test_replies_in_other_shapes(driver: Kind, exchange: Exchange, signer: Signer, symbol: str) -> None:
    with closing(driver(signer, exchange.url, **exchange.settings)) as client:
        for order_id in range(3):
            assert client.cancel(symbol, order_id).order_id == order_id
        client.until(lambda: len(exchange.seen.pongs) == (0 if symbol == "BYTES" else 3))
    assert set(exchange.seen.pongs) <= {PING}


def test_two_clients_and_one_of_them_leaves(driver: Kind, exchange: Exchange, signer: Signer) -> None:
    with closing(driver(signer, exchange.url, **exchange.settings)) as staying:
        with closing(driver(signer, exchange.url, **exchange.settings)) as leaving:
            assert leaving.cancel("BTC", 1).order_id == 1
        assert staying.cancel("BTC", 2).order_id == 2
        assert staying.client.status().reconnects == 0


def test_many_threads_each_get_their_own(exchange: Exchange, signer: Signer) -> None:
    with (
        closing(Blocking(signer, exchange.url, **exchange.settings)) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        acks = list(pool.map(partial(client.cancel, "BTC"), range(200)))
    assert [ack.order_id for ack in acks] == list(range(200))


# The server ends it.


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("CLOSE 1000", "1000"),
        ("CLOSE 1001", "1001"),
        ("CLOSE 1011", "1011"),
        ("ABORT", "connection lost"),
        ("HALF", "connection lost"),
        ("BROKEN", "protocol"),
    ],
)
def test_what_ends_a_link_is_named_and_it_comes_back(
    driver: Kind, exchange: Exchange, signer: Signer, symbol: str, reason: str
) -> None:
    assert symbol in BEHAVIOURS
    with closing(driver(signer, exchange.url, **exchange.settings)) as client:
        with pytest.raises(OutcomeUnknown, match=reason):
            client.cancel(symbol)
        client.until(lambda: client.client.state is LinkState.OPEN)
        assert client.cancel("BTC", 3).order_id == 3
        assert client.client.status().reconnects == 1


# Whom to trust.


def day(offset: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=offset)


NOT_TO_BE_TRUSTED: dict[str, tuple[Certificate, str]] = {
    "untrusted": (issue(), "unable to get local issuer|self.signed"),
    "expired": (issue(not_before=day(-9), not_after=day(-2)), "expired"),
    "not yet valid": (issue(not_before=day(2), not_after=day(9)), "not yet valid"),
    "another host's": (issue(["exchange.example"]), "IP address mismatch|not valid for"),
}


@pytest.mark.parametrize("name", list(SERVERS))
@pytest.mark.parametrize("trouble", list(NOT_TO_BE_TRUSTED))
def test_certificates_that_are_refused(driver: Kind, name: str, trouble: str, signer: Signer) -> None:
    certificate, text = NOT_TO_BE_TRUSTED[trouble]
    trusting = CERTIFICATE if trouble == "untrusted" else certificate
    with serving(name, certificate) as exchange:
        with pytest.raises(ConnectionFailed, match=text) as failed:
            driver(signer, exchange.url, ssl=trusting.client_context())
        assert failed.value.stage == "tls"
        assert not exchange.seen.extensions  # nobody got as far as an upgrade


def test_by_default_only_known_authorities_are_trusted(driver: Kind, signer: Signer) -> None:
    with (
        serving("websockets", CERTIFICATE) as exchange,
        pytest.raises(ConnectionFailed, match="certificate not accepted"),
    ):
        driver(signer, exchange.url)


def test_a_certificate_that_turns_bad_keeps_everything_unsent(driver: Kind, signer: Signer) -> None:
    """The link is cut, and who answers now is somebody else."""
    seen = Seen()
    context = CERTIFICATE.server_context()
    with in_thread(lambda: SERVERS["websockets"](seen, context)) as port:
        settings: dict[str, Any] = QUICK | {"ssl": CERTIFICATE.client_context()}
        with closing(driver(signer, f"wss://127.0.0.1:{port}/ws", **settings)) as client:
            replace_certificate(context, issue())
            with pytest.raises(OutcomeUnknown):
                client.cancel("ABORT")
            client.until(lambda: client.client.status().links[0].state is not LinkState.OPEN)
            for _ in range(3):
                with pytest.raises(NotSent, match=r"tls|TLS|certificate|lost"):
                    client.cancel("BTC")
                client.sleep(0.02)
        assert len(seen.requests) == 1


def replace_certificate(context: ssl_module.SSLContext, certificate: Certificate) -> None:
    """What a server's context answers with from now on."""

    def switch(socket: Any, name: str | None, old: ssl_module.SSLContext) -> None:
        socket.context = other

    other = certificate.server_context()
    context.sni_callback = switch


# Those that are no exchange at all: the stage tells them apart.


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that says always the same, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

        answered = pool.submit(answer)
        yield listener.getsockname()[1]
        answered.result()


@pytest.mark.parametrize(
    ("reply", "stage", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "upgrade", 403),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "upgrade", 429),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://elsewhere.example/ws\r\n\r\n", "upgrade", 301),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "upgrade", 200),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "upgrade", None),
        (b"", "upgrade", None),
    ],
    ids=["403", "429", "301", "200", "no HTTP", "nothing"],
)
def test_other_answers(driver: Kind, signer: Signer, reply: bytes, stage: str, status: int | None) -> None:
    with answering(reply) as port, pytest.raises(ConnectionFailed) as failed:
        driver(signer, f"ws://127.0.0.1:{port}/ws")
    assert (failed.value.stage, failed.value.status) == (stage, status)


def test_no_tls_where_it_is_expected(driver: Kind, signer: Signer) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:  # noqa: SIM117
        with pytest.raises(ConnectionFailed) as failed:
            driver(signer, f"wss://127.0.0.1:{port}/ws")
    assert failed.value.stage == "tls"


def test_nobody_there(driver: Kind, signer: Signer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed) as failed:
        driver(signer, f"ws://127.0.0.1:{port}/ws")
    assert failed.value.stage == "connect"
    with pytest.raises(ConnectionFailed) as failed:
        driver(signer, "wss://exchange.invalid/ws")  # RFC 6761 section 6.4
    assert failed.value.stage == "dns"


# A bad line.


@contextmanager
def far_away(relay: Callable[[int], Relay]) -> Iterator[tuple[Exchange, Relay]]:
    with serving("websockets", CERTIFICATE) as exchange:
        line = relay(exchange.port)
        with in_thread(line.serve) as port:
            exchange.url = f"wss://127.0.0.1:{port}/ws"
            yield exchange, line


def test_a_slow_and_uneven_line(driver: Kind, signer: Signer) -> None:
    relay = partial(Relay, delay=0.02, jitter=0.03)
    with far_away(relay) as (exchange, _):  # noqa: SIM117
        with closing(driver(signer, exchange.url, **exchange.settings)) as client:
            for order_id in range(10):
                assert client.cancel("BTC", order_id).order_id == order_id
            round_trip = client.client.clock.round_trip
            assert round_trip is not None
            assert round_trip >= 40  # ms


def test_a_line_that_stands_still_is_found_out(driver: Kind, signer: Signer) -> None:
    """Nothing is closed and nothing is lost for TCP: only the silence tells."""
    with far_away(Relay) as (exchange, line):
        settings = exchange.settings | {"pong_timeout": 0.2, "heartbeat": 0.2, "timeout": 10.0}
        with closing(driver(signer, exchange.url, **settings)) as client:
            assert client.cancel("BTC", 1).order_id == 1
            line.stalled = True
            with pytest.raises(OutcomeUnknown, match=r"pong|answer"):
                client.cancel("BTC", 2)
            line.stalled = False
            client.until(lambda: client.client.state is LinkState.OPEN)
            assert client.cancel("BTC", 3).order_id == 3
            assert line.connections >= 2
    orders = [request["params"]["cancel_order"]["order_id"] for request in exchange.seen.requests]
    assert orders == [1, 3]
