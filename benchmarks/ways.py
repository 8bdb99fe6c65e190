# SPDX-License-Identifier: MIT
"""Every way to send a cancel, each on its own connection to an exchange in another process.

What is timed is the client's call: when it returns the bytes are with the kernel. The reply is
awaited, untimed. Before each call comes a rest, in the loop or in the thread, as in a bot; or none,
and the loop wakes for the reply and sends the next.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic, perf_counter_ns
from typing import Any

from websockets.asyncio.client import ClientConnection

from pacifica_fast import Signer
from pacifica_fast.asyncio import Pending, connect
from pacifica_fast.asyncio.link import Link
from pacifica_fast.sync import connect as connect_blocking

from . import cases, floors, peers, server
from .cases import PreparedSigner
from .experiment import Recorder
from .measure import REST, frozen_gc, in_turn
from .results import Round
from .sample import ACCOUNT, ORDER_ID, SYMBOL, is_request

ASYNCIO, UVLOOP, BLOCKING = "asyncio", "uvloop", "blocking"
FLOOR, ARMED, PREPARED, DETERMINISTIC = "write of a prebuilt frame", "armed", "prepared", "deterministic"
SDK, SDK_PLAIN = "SDK: ws.send(), connection kept", "SDK: the same, no compression"
SDK_EXAMPLE = "SDK, as its examples: connect for each"
SEND, PICOWS = "ws.send() of a prebuilt request", "picows: prebuilt request"
CCXT = "ccxt: cancel_order_ws()"
WARM = "asyncio: prepared, keep_warm"
NOT_INSTALLED = "not installed"

# What the clients say when another thread is busy is known here.
logging.getLogger("pacifica_fast").addHandler(logging.NullHandler())

Send = Callable[[], Awaitable[int]]
"""Sends one cancel; returns how long the sending took, in ns."""


def row(client: str, speed: str) -> str:
    """The name of a row."""
    return f"{client}: {speed}"


def sdk_request() -> str:
    """The SDK's algorithm, by who keeps the key and the account."""
    return cases.sdk_request(cases.sdk_sign_message, cases.SOLDERS, ACCOUNT)


def _itself(call: Callable[[], Any]) -> Callable[[], Any]:
    return call


class Ways:
    """The ways, by the name of their row, and the exchange that they send to."""

    def __init__(self, exchange: server.Server, recorder: Recorder, *, tls: bool, loop_name: str) -> None:
        self.exchange = exchange
        self.sends: dict[str, Send] = {}
        self.clients: dict[str, Any] = {}
        """Ours, deterministic, by event loop: they arm and pull."""
        self.prepared = PreparedSigner()
        self.deterministic = Signer(cases.OURS)
        self.sdk_connection: ClientConnection
        self.rest = REST
        """s before each call: in the loop, or in the thread where the client is a blocking one. At 0 a
        way has all its calls in a row, else the ways take turns call by call."""
        self.started = 0
        """When the last call began, on the clock that all processes share."""
        self._ahead: dict[str, Callable[[int], None]] = {}
        self._checked: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._recorder = recorder
        self._tls = tls
        self._url = exchange.url(tls=tls)
        self._context = exchange.context() if tls else None
        self._loop_name = loop_name
        self._order_ids = itertools.count(ORDER_ID)
        self._request = self.deterministic.cancel_order(SYMBOL, order_id=ORDER_ID).text
        self._frame = floors.masked(self._request)

    async def measure(self, names: Sequence[str], calls: int) -> Round:
        """So many cancels each way: how long the sending took, in ns.

        Afterwards every one is verified, by what the exchange received.
        """
        return (await self.measure_receipts(names, calls))[0]

    async def measure_receipts(self, names: Sequence[str], calls: int) -> tuple[Round, Round]:
        """The same, and from when each call began until the exchange had the request."""
        for name in set(names) & set(self._ahead):
            self._ahead[name](calls)
        self.prepared.wait()
        self.exchange.received()
        sending: Round = {name: [] for name in names}
        began = []
        for name in self._turns(names, calls):
            sending[name].append(await self.sends[name]())
            began.append((name, self.started))
        receipt: Round = {name: [] for name in names}
        for (name, start), when in zip(began, self.check([name for name, _ in began]), strict=False):
            receipt[name].append(when - start)
        return sending, receipt

    def _turns(self, names: Sequence[str], calls: int) -> list[str]:
        if not self.rest:
            return [name for name in names for _ in range(calls)]
        return [name for number in range(calls) for name in in_turn(names, number)]

    def check(self, sent: Sequence[str]) -> list[int]:
        """Whether a valid cancel came of each that was sent; when they did."""
        cancels = [(when, text) for when, text in self.exchange.received() if '"params"' in text]
        texts = [text for _, text in cancels]
        for name, text in zip(sent, texts + [""] * (len(sent) - len(texts)), strict=False):
            self._checked[name] += 1
            if not text or not is_request(text):
                self._wrong[name] += 1
                self._recorder.wrong(name, f"{self._wrong[name]} of {self._checked[name]} did not verify")
        return [when for when, _ in cancels]

    # The floors.

    async def floor(self, stack: AsyncExitStack) -> None:
        """``transport.write`` of the loop's own transport."""
        client = await stack.enter_async_context(
            floors.client(self.exchange, self.deterministic, tls=self._tls)
        )
        session, link = client._session, client._links.use
        assert isinstance(link, Link)  # it is open
        assert link._transport is not None
        write = link._transport.write
        ahead: deque[tuple[Pending[Any], bytes]] = deque()

        def build_ahead(calls: int) -> None:
            while len(ahead) < calls:
                pending = session.take()
                frame = self.deterministic.cancel_order_frame(
                    SYMBOL, ORDER_ID, None, None, None, pending.number
                )
                ahead.append((pending, frame))

        async def send() -> int:
            build_ahead(1)
            pending, frame = ahead.popleft()
            await asyncio.sleep(self.rest)
            start = self.started = perf_counter_ns()
            write(frame)
            taken = perf_counter_ns() - start
            link.lane.sent(pending, monotonic())
            await pending
            return taken

        self._ahead[row(self._loop_name, FLOOR)] = build_ahead
        self.sends[row(self._loop_name, FLOOR)] = send

    async def send(self, stack: AsyncExitStack) -> None:
        """``ws.send()`` of what was built before."""
        connection = await stack.enter_async_context(
            floors.websocket(self.exchange, tls=self._tls, compression=None)
        )
        text = self._request.decode()

        async def send() -> int:
            await asyncio.sleep(self.rest)
            start = self.started = perf_counter_ns()
            await connection.send(text)
            taken = perf_counter_ns() - start
            await connection.recv()
            return taken

        self.sends[SEND] = send

    async def blocking_floor(self, stack: AsyncExitStack) -> None:
        """``socket.send``, or that of an ``SSLSocket``, that no other thread reads from."""
        sock = stack.enter_context(floors.raw_socket(self.exchange, tls=self._tls))
        write = partial(sock.send, self._frame)

        async def reply(_: int) -> None:
            sock.recv(4096)

        self._add(row(BLOCKING, FLOOR), lambda: write, reply, blocking=True)

    # Ours.

    def client(self, signer: Signer, **options: Any) -> connect:
        """Another asyncio client, to be entered."""
        return connect(signer, url=self._url, ssl=self._context, **options)

    async def ours(self, stack: AsyncExitStack) -> None:
        """The asyncio client, on whichever loop runs."""
        prepared = await stack.enter_async_context(self.client(self.prepared))
        deterministic = await stack.enter_async_context(self.client(self.deterministic))

        async def reply(pending: Any) -> None:
            await pending

        self._add_speeds(self._loop_name, prepared, deterministic, reply)

    async def warm(self, stack: AsyncExitStack) -> None:
        """The asyncio client with ``keep_warm``, which warms its loop for everybody: in its turn alone."""
        client = await stack.enter_async_context(self.client(self.prepared, keep_warm=0.002))

        def stop() -> None:
            if client._warmer is not None:
                client._warmer.cancel()

        async def send() -> int:
            client._warm()
            await asyncio.sleep(self.rest)
            start = self.started = perf_counter_ns()
            pending = client.cancel_order_nowait(SYMBOL, order_id=ORDER_ID)
            taken = perf_counter_ns() - start
            stop()
            await pending
            return taken

        stop()
        self.sends[WARM] = send

    async def blocking(self, stack: AsyncExitStack) -> None:
        """The blocking client."""
        options: dict[str, Any] = {"url": self._url, "ssl": self._context}
        prepared = stack.enter_context(connect_blocking(self.prepared, **options))
        deterministic = stack.enter_context(connect_blocking(self.deterministic, **options))

        async def reply(pending: Any) -> None:
            pending.result()

        self._add_speeds(BLOCKING, prepared, deterministic, reply, blocking=True)

    def _add_speeds(
        self,
        client: str,
        prepared: Any,
        deterministic: Any,
        reply: Callable[[Any], Awaitable[None]],
        *,
        blocking: bool = False,
    ) -> None:
        ahead: deque[Callable[[], Any]] = deque()

        def arm_ahead(calls: int) -> None:
            while len(ahead) < calls:
                ahead.append(deterministic.arm(SYMBOL, order_id=next(self._order_ids)).fire)

        def armed() -> Callable[[], Any]:
            arm_ahead(1)
            return ahead.popleft()

        self.clients[client] = deterministic
        self._ahead[row(client, ARMED)] = arm_ahead
        self._add(row(client, ARMED), armed, reply, blocking=blocking)
        for speed, of in ((PREPARED, prepared), (DETERMINISTIC, deterministic)):
            cancel = partial(of.cancel_order_nowait, SYMBOL, order_id=ORDER_ID)
            self._add(row(client, speed), partial(_itself, cancel), reply, blocking=blocking)

    def _add(
        self,
        name: str,
        prepare: Callable[[], Callable[[], Any]],
        reply: Callable[[Any], Awaitable[Any]],
        *,
        blocking: bool = False,
    ) -> None:
        """A way whose timed part is one plain call."""

        async def send() -> int:
            call = prepare()
            if not blocking:
                await asyncio.sleep(self.rest)
            elif self.rest:
                time.sleep(self.rest)  # noqa: ASYNC251  # the bot of a blocking client has no event loop
            start = self.started = perf_counter_ns()
            result = call()
            taken = perf_counter_ns() - start
            await reply(result)
            return taken

        self.sends[name] = send

    # The others.

    async def sdk(self, stack: AsyncExitStack) -> None:
        """The official SDK's algorithm, sent as its examples send."""

        async def kept(name: str, **options: Any) -> ClientConnection:
            connection = await stack.enter_async_context(
                floors.websocket(self.exchange, tls=self._tls, ping_interval=30, **options)
            )

            async def send() -> int:
                await asyncio.sleep(self.rest)
                start = self.started = perf_counter_ns()
                await connection.send(sdk_request())
                taken = perf_counter_ns() - start
                await connection.recv()
                return taken

            self.sends[name] = send
            return connection

        self.sdk_connection = await kept(SDK)
        if self._loop_name == ASYNCIO:
            await kept(SDK_PLAIN, compression=None)

    async def sdk_example(self, stack: AsyncExitStack) -> None:
        """A connection for each cancel."""

        async def send() -> int:
            await asyncio.sleep(self.rest)
            start = self.started = perf_counter_ns()
            async with floors.websocket(self.exchange, tls=self._tls, ping_interval=30) as connection:
                await connection.send(sdk_request())
                taken = perf_counter_ns() - start
                await connection.recv()
            return taken

        self.sends[SDK_EXAMPLE] = send

    async def picows(self, stack: AsyncExitStack) -> None:
        """picows' transport, which masks and writes; signing is not its business."""
        try:
            picows = peers.load("picows")
        except ImportError:
            self._recorder.skip(PICOWS, NOT_INSTALLED)
            return

        class Listener(picows.WSListener):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                self.replies: asyncio.Queue[None] = asyncio.Queue()

            def on_ws_frame(self, transport: Any, frame: Any) -> None:
                self.replies.put_nowait(None)

        transport, listener = await picows.ws_connect(Listener, self._url, ssl_context=self._context)
        stack.callback(transport.disconnect)
        write = partial(transport.send, picows.WSMsgType.TEXT, self._request)
        self._add(PICOWS, lambda: write, lambda _: listener.replies.get())

    async def ccxt(self, stack: AsyncExitStack) -> None:
        """ccxt's own class. Its call ends with the reply; what is timed ends with its write."""
        try:
            exchange = peers.ccxt_exchange()
        except ImportError:
            self._recorder.skip(CCXT, NOT_INSTALLED)
            return
        stack.push_async_callback(exchange.close)
        exchange.ssl_context = self._context
        exchange.urls["api"]["ws"]["public"] = self._url
        await exchange.cancel_order_ws(str(ORDER_ID), peers.MARKET)
        connection = exchange.clients[self._url].connection
        write = connection.send_str
        written = 0

        async def send_str(text: str) -> None:
            nonlocal written
            await write(text)
            written = perf_counter_ns()

        connection.send_str = send_str

        async def send() -> int:
            await asyncio.sleep(self.rest)
            start = self.started = perf_counter_ns()
            await exchange.cancel_order_ws(str(ORDER_ID), peers.MARKET)
            return written - start

        self.sends[CCXT] = send


Open = Callable[[Ways, AsyncExitStack], Awaitable[None]]
ALL: tuple[Open, ...] = (
    Ways.floor,
    Ways.send,
    Ways.ours,
    Ways.blocking_floor,
    Ways.blocking,
    Ways.sdk,
    Ways.sdk_example,
    Ways.picows,
    Ways.ccxt,
)


@asynccontextmanager
async def opened(
    recorder: Recorder, which: Iterable[Open] = ALL, *, tls: bool, loop_name: str = ASYNCIO
) -> AsyncIterator[Ways]:
    """Ways to send, to an exchange of their own; the garbage collector does not run inside."""
    with server.running() as exchange:
        ways = Ways(exchange, recorder, tls=tls, loop_name=loop_name)
        async with AsyncExitStack() as stack:
            stack.callback(ways.prepared.close)
            for open_one in which:
                await open_one(ways, stack)
            await ways.measure(list(ways.sends), 2)  # the first on a connection is another thing
            with frozen_gc():
                yield ways
