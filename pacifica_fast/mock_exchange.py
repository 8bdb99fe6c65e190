# SPDX-License-Identifier: MIT
"""A Pacifica gateway on loopback, to try a bot against with neither money nor network.

.. code-block:: python

    async with MockExchange(tls=True) as exchange:
        order = exchange.place(account, symbol="BTC", side="bid", price="87768", amount="0.002")
        async with connect(signer, url=exchange.url, ssl=exchange.client_ssl_context()) as client:
            await client.cancel_order("BTC", order_id=order.order_id)
        assert exchange.orders(account) == []

It speaks the documented websocket protocol: the six trading operations, the
``account_order_updates`` channel, the snapshots of ``account_orders`` (one, when subscribed),
pings, the idle and lifetime limits, credits. It is
strict: what the documentation does not allow is refused, every signature is verified
over the message rebuilt from what arrived, and with no code of the signer. What it
answers to what, and how sure we are of it, is the table
:class:`pacifica_fast._mock_rules.Condition`. It matches no orders and delays nothing.

Code that is not asyncio runs it in a thread: ``with MockExchange().in_thread() as exchange``.
REST has a server of its own, :mod:`pacifica_fast.mock_rest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from pacifica_fast._certificate import Certificate, issue
from pacifica_fast._mock_book import MARKETS, Book, Market, Order
from pacifica_fast._mock_rules import (
    Condition,
    Fields,
    Refusal,
    check_actions,
    check_fields,
    check_public_key,
    parse_json,
    read_id,
    read_operation,
    verify,
)
from pacifica_fast.mock_faults import Before, Faults, Weather

__all__ = ["MARKETS", "Faults", "Market", "MockExchange", "Order", "Received", "Weather"]

PATH: Final = "/ws"
MESSAGE_MAX: Final = 64 * 1024  # bytes; longer ones end the connection (close code 1009)
UNSENT_MAX: Final = 1024 * 1024  # bytes; a client that leaves more of its replies unread is cut off
UPDATES: Final = "account_order_updates"
SNAPSHOT: Final = "account_orders"
_CHANNELS: Final = (UPDATES, SNAPSHOT)
SUBSCRIPTIONS_MAX: Final = 20  # per channel and connection [D-new]
THREAD_TIMEOUT: Final = 10.0  # seconds that a call from another thread may take

# In tenths of a credit, the unit of ``rl``. Cancels [K]; cancel-all and batch as ccxt books them.
COSTS: Final[Mapping[str, int]] = {"cancel_order": 5, "cancel_all_orders": 5}
COST: Final = 10

_log = logging.getLogger(__name__)
# That a client breaks off a handshake or breaks the protocol is not worth a traceback.
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.CRITICAL)

_T = TypeVar("_T")


@dataclass(slots=True)
class Received:
    """One message from a client and what became of it.

    ``code`` is None for what has no code: pings, subscriptions and their like.
    """

    text: str | bytes
    operation: str | None = None
    code: int | None = None
    error: str | None = None


class _Credits:
    """The allowance of one API key or address: ``quota`` tenths of a credit per ``window`` seconds.

    All at once at the end of the window, as the ``t`` of ``rl`` says; [D-new] calls it rolling.
    """

    def __init__(self, quota: int, window: float) -> None:
        self._quota = quota
        self._window = window
        self._remaining = quota
        self._refresh = time.monotonic() + window

    def charge(self, cost: int) -> bool:
        """Take ``cost``; False, and nothing taken, if it is not there."""
        now = time.monotonic()
        if now >= self._refresh:
            self._remaining = self._quota
            self._refresh = now + self._window
        if self._remaining < cost:
            return False
        self._remaining -= cost
        return True

    def rl(self) -> dict[str, int]:
        """Return what replies carry: remaining, quota, and seconds to the refresh."""
        wait = math.ceil(self._refresh - time.monotonic())
        return {"r": self._remaining, "q": self._quota, "t": max(wait, 0)}


@dataclass(slots=True, eq=False)
class _Session:
    """One connection."""

    connection: ServerConnection
    credits: _Credits | None
    number: int  # the how many-th it is
    subscriptions: set[str] = field(default_factory=set)  # accounts, to account_order_updates
    snapshots: set[str] = field(default_factory=set)  # accounts, to account_orders
    mute: bool = False  # nothing is sent any more


class MockExchange:
    """The exchange; an async context manager that listens from entry to exit.

    - ``host``, ``port``: where; port 0 is any free one, kept when it is entered again.
    - ``tls``: make a throw-away certificate; clients use :meth:`client_ssl_context`.
      ``ssl_context``: a server context of your own instead.
    - ``markets``: symbols and their grids, or just symbols, each on a grid of 10\\ :sup:`-12`.
    - ``accounts``: who may trade; None: whoever signs.
    - ``builder_codes``: those that orders may carry.
    - ``quota``: tenths of a credit per ``rate_window`` seconds and API key (or address);
      1250 is what an anonymous address has [K]. None: unlimited, and replies carry no ``rl``.
    - ``idle_timeout``, ``max_lifetime``: seconds without a message, and altogether, after
      which a connection is closed [K]. Websocket pings are no messages (INFERRED).
    - ``future_tolerance``: ms that a timestamp may be ahead (INFERRED).
    - ``errors_without_id``: leave ``id`` out of error replies, as one client's notes have it.
    - ``max_request_bytes``: longer requests are refused with code 400. Off by default:
      one client's notes say 4096, newer documentation says nothing.
    - ``history``: how many messages :attr:`requests` keeps.
    - ``journal``: for how many request ids :meth:`truth` tells what was done.
    - ``on_message``: called in the exchange's event loop after each message was dealt with; what
      it raises is logged.

    ``future_tolerance``, ``errors_without_id``, ``max_request_bytes`` and ``clock_offset``
    (ms that the exchange's clock is ahead of this machine's) are attributes that may be
    changed at any time. All public methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        markets: Mapping[str, Market] | Collection[str] = MARKETS,
        accounts: Collection[str] | None = None,
        builder_codes: Collection[str] = (),
        quota: int | None = 1250,
        rate_window: float = 60.0,
        idle_timeout: float = 60.0,
        max_lifetime: float = 24 * 3600.0,
        future_tolerance: int = 5_000,
        errors_without_id: bool = False,
        max_request_bytes: int | None = None,
        history: int = 1000,
        journal: int = 0,
        on_message: Callable[[Received], None] | None = None,
    ) -> None:
        self.future_tolerance = future_tolerance
        self.errors_without_id = errors_without_id
        self.max_request_bytes = max_request_bytes
        self.clock_offset = 0
        self.verified: int = 0  # signatures that verified
        self.rejected: int = 0  # messages answered with an error
        self.faults: Faults = Faults(self._send_to_all, self._cut)
        self._host = host
        self._port = port
        self._on_message = on_message
        self._certificate: Certificate | None = issue() if tls and ssl_context is None else None
        self._ssl = self._certificate.server_context() if self._certificate else ssl_context
        if not isinstance(markets, Mapping):
            markets = {symbol: Market(tick="0.000000000001", lot="0.000000000001") for symbol in markets}
        self._book = Book(markets)
        self._accounts = None if accounts is None else frozenset(map(_check_key, accounts))
        self._agents: dict[str, set[str]] = {}
        self._builder_codes = frozenset(builder_codes)
        self._quota = quota
        self._rate_window = rate_window
        self._credits: dict[str, _Credits] = {}
        self._idle_timeout = idle_timeout
        self._max_lifetime = max_lifetime
        self._history: deque[Received] = deque(maxlen=history)
        self._journal_size = journal
        self._journal: OrderedDict[str, list[int]] = OrderedDict()
        self._sessions: set[_Session] = set()
        self._connected = 0
        self._stopping = asyncio.Event()
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    # ----------------------------------------------------------------------- for the owner

    @property
    def port(self) -> int:
        """The port it listens on, or will."""
        return self._port

    @property
    def url(self) -> str:
        """What clients connect to. An address, not a name: nothing has to be looked up."""
        return f"{'wss' if self._ssl else 'ws'}://{self._host}:{self._port}{PATH}"

    @property
    def requests(self) -> list[Received]:
        """The messages that arrived last, oldest first."""
        return self._on_loop(lambda: list(self._history))

    def truth(self, request_id: str) -> list[int]:
        """With which codes the requests of that id were carried out, whatever was answered.

        Empty if none arrived; two links send one id twice. Needs ``journal``.
        """
        return self._on_loop(lambda: list(self._journal.get(request_id, ())))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._on_loop(lambda: len(self._sessions))

    def now(self) -> int:
        """Return the exchange's clock: Unix milliseconds."""
        return time.time_ns() // 1_000_000 + self.clock_offset

    @property
    def authority_pem(self) -> str:
        """The certificate to trust, PEM, for a client in another process; needs ``tls=True``."""
        if self._certificate is None:
            raise ValueError("only a MockExchange(tls=True) knows whom its clients are to trust")
        return self._certificate.authority

    def client_ssl_context(self) -> ssl.SSLContext:
        """Return a new client context that trusts this exchange and nobody else; needs ``tls=True``."""
        if self._certificate is None:
            raise ValueError("only a MockExchange(tls=True) knows whom its clients are to trust")
        return self._certificate.client_context()

    def bind_agent(self, account: str, agent: str) -> None:
        """Let ``agent`` sign for ``account``; both are base58 public keys."""
        self._on_loop(lambda: self._agents.setdefault(_check_key(account), set()).add(_check_key(agent)))

    def revoke_agent(self, account: str, agent: str) -> None:
        """Take that back."""
        self._on_loop(lambda: self._agents.get(account, set()).discard(agent))

    @property
    def markets(self) -> Mapping[str, Market]:
        """The symbols traded, and their grids."""
        return self._book.markets

    def orders(self, account: str) -> list[Order]:
        """Return the resting orders of ``account``, oldest first."""
        return self._on_loop(lambda: self._book.orders(account))

    def place(
        self,
        account: str,
        *,
        symbol: str = "BTC",
        side: str = "bid",
        price: str = "50000",
        amount: str = "0.01",
        tif: str = "ALO",
        reduce_only: bool = False,
        client_order_id: str | None = None,
    ) -> Order:
        """Rest an order without a signature, as if its owner had sent it.

        Raises :class:`ValueError` for what a signed request would have been refused for.
        """
        fields = {
            "account": _check_key(account),
            "signature": "",
            "timestamp": self.now(),
            "symbol": symbol,
            "side": side,
            "price": price,
            "amount": amount,
            "tif": tif,
            "reduce_only": reduce_only,
            "client_order_id": client_order_id,
        }
        if tif == "IOC":
            raise ValueError("an IOC order does not rest")

        def place() -> Order:
            try:
                self._book.create(check_fields("create_order", fields), self.now())
            except Refusal as refusal:
                raise ValueError(refusal.text) from None
            self._publish()
            return self._book.newest(account)

        return self._on_loop(place)

    def fill(self, account: str, order_id: int) -> Order:
        """Have somebody take a resting order, all of it, and return it: a cancel now comes too late.

        Raises :class:`KeyError` if it does not rest.
        """

        def fill() -> Order:
            order = self._book.fill(account, order_id, self.now())
            self._publish()
            return order

        return self._on_loop(fill)

    def answer(self, operation: str, text: str, owner: str) -> dict[str, Any]:
        """Carry out what did not come by websocket; return ``code``, and ``data`` or ``err``.

        ``text`` is the JSON of its fields; ``owner`` the API key or address whose credits pay. Faults
        that are about connections and replies do not apply.
        """

        def answer() -> dict[str, Any]:
            received = Received(text, operation)
            self._history.append(received)
            reply: dict[str, Any]
            try:
                data = self._trade(self._credits_for(owner), operation, parse_json(text))
                reply = {"code": 200, "data": data}
            except Exception as error:
                reply = _refused(error)
            received.code, received.error = reply["code"], reply.get("err")
            if received.code != 200:
                self.rejected += 1
            self._publish()
            self._tell(received)
            return reply

        return self._on_loop(answer)

    # ----------------------------------------------------------------------- running

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("this MockExchange is running already")
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            ssl=self._ssl,
            process_request=self._handshake,
            compression=None,
            ping_interval=None,
            open_timeout=60.0,
            close_timeout=1.0,
            max_size=MESSAGE_MAX,
            logger=_wire_log,
        )
        self._stopping = asyncio.Event()
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        server, self._server = self._server, None
        self._stopping.set()
        if server is not None:
            server.close()
            await server.wait_closed()
        self._loop = None

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run in a background thread, with a loop of its own, while the ``with`` block runs."""
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def run() -> None:
            stop = asyncio.Event()
            async with self:
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()

        def main() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=main, name="mock-exchange", daemon=True)
        thread.start()
        loop, stop = started.result()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

    def _on_loop(self, function: Callable[[], _T]) -> _T:
        """Call ``function`` where the connections live: in this thread, or from the outside in theirs."""
        loop = self._loop
        if loop is None or self._thread == threading.get_ident():
            return function()

        async def call() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), loop).result(THREAD_TIMEOUT)

    # ----------------------------------------------------------------------- connections

    async def _serve(self, connection: ServerConnection) -> None:
        """One connection, from its handshake to its end."""
        self._connected += 1
        session = _Session(connection, self._credits_of(connection), self._connected)
        self._sessions.add(session)
        loop = asyncio.get_running_loop()
        end_of_life = loop.time() + self._max_lifetime
        try:
            while True:
                deadline = min(loop.time() + self._idle_timeout, end_of_life)
                async with asyncio.timeout_at(deadline):
                    message = await connection.recv()
                before = self.faults.before()
                if before is Before.ABORT:
                    return connection.transport.abort()  # what it sent behind this is lost with it
                if before is Before.HALF_OPEN:
                    return await self._go_silent(session)
                if before is Before.SLOW_READ:
                    await self._read_slowly(session)
                if before is not Before.DROP:
                    self._tell(self._receive(session, message))
        except TimeoutError:
            reason = "connection too old" if loop.time() >= end_of_life else "connection idle"
            await connection.close(1001, reason)
        except ConnectionClosed:
            pass
        finally:
            self._sessions.discard(session)

    async def _go_silent(self, session: _Session) -> None:
        """Neither read nor write any more, not even a close frame, until it would have been closed."""
        session.mute = True
        transport = session.connection.transport
        transport.pause_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_timeout):
                await self._stopping.wait()
        transport.abort()

    async def _read_slowly(self, session: _Session) -> None:
        """Leave what comes next in the sockets for a while."""
        transport = session.connection.transport
        transport.pause_reading()
        await asyncio.sleep(self.faults.slow_s)
        if not transport.is_closing():
            transport.resume_reading()

    def _credits_of(self, connection: ServerConnection) -> _Credits | None:
        """The allowance that a connection draws on: of its ``PF-API-KEY``, else of its address [K]."""
        headers = connection.request.headers if connection.request is not None else {}
        address, *_ = connection.remote_address or ("gone",)
        return self._credits_for(headers.get("PF-API-KEY") or f"address {address}")

    def _credits_for(self, owner: str) -> _Credits | None:
        if self._quota is None:
            return None
        if owner not in self._credits:
            self._credits[owner] = _Credits(self._quota, self._rate_window)
        return self._credits[owner]

    async def _handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        status, wait = self.faults.handshake()
        if wait:
            await asyncio.sleep(wait)
        if status is not None:
            return connection.respond(status, "refused on purpose\n")
        return _check_path(connection, request)

    def _send(self, session: _Session, message: str | bytes) -> None:
        """Write now, whatever the client reads; one that reads nothing any more is cut off."""
        if session.mute:
            return
        broadcast([session.connection], message)
        transport = session.connection.transport
        if transport.get_write_buffer_size() > UNSENT_MAX:
            transport.abort()

    def _send_to_all(self, message: str | bytes) -> None:
        def send() -> None:
            for session in list(self._sessions):
                self._send(session, message)

        self._on_loop(send)

    def _cut(self, index: int | None) -> None:
        def cut() -> None:
            sessions = sorted(self._sessions, key=lambda session: session.number)
            for session in sessions if index is None else [sessions[index]]:
                session.connection.transport.abort()

        self._on_loop(cut)

    def _publish(self) -> None:
        """Send what the book has to report to those who subscribed to it: one message per account."""
        by_account: dict[str, list[dict[str, Any]]] = {}
        for update in self._book.take_updates():
            by_account.setdefault(update["u"], []).append(update)
        for account, updates in by_account.items():
            text = _dumps({"channel": "account_order_updates", "data": updates})
            for session in self._sessions:
                if account in session.subscriptions and not self.faults.update_lost():
                    self._send(session, text)

    # ----------------------------------------------------------------------- messages

    def _tell(self, received: Received) -> None:
        """Call ``on_message``; what it raises is its own trouble, not the connection's."""
        if self._on_message is not None:
            try:
                self._on_message(received)
            except Exception:
                _log.exception("on_message")

    def _receive(self, session: _Session, message: str | bytes) -> Received:
        """Answer one message, then tell the subscribers what it changed. Raises nothing."""
        received = Received(message)
        self._history.append(received)
        request_id: str | None = None
        reply: dict[str, Any]
        try:
            if self.max_request_bytes is not None and _size(message) > self.max_request_bytes:
                raise Condition.TOO_LARGE.refusal(f"more than {self.max_request_bytes} bytes")
            parsed = parse_json(message)
            if isinstance(parsed, dict) and "method" in parsed:
                if self._method(session, parsed):
                    return received
                request_id = read_id(parsed)
                raise Condition.UNKNOWN_METHOD.refusal("unknown method")
            request_id = read_id(parsed)
            received.operation, body = read_operation(parsed)
            reply = {"code": 200, "data": self._trade(session.credits, received.operation, body)}
        except Exception as error:
            reply = _refused(error)
        received.code, received.error = reply["code"], reply.get("err")
        self._note(request_id, received.code)
        self._reply(session, reply, request_id, received.operation)
        self._publish()
        return received

    def _reply(
        self, session: _Session, reply: dict[str, Any], request_id: str | None, operation: str | None
    ) -> None:
        """Complete the envelope and send it, as the faults will have it."""
        if reply["code"] != 200:
            self.rejected += 1
            if self.errors_without_id:
                request_id = None
        how = self.faults.reply()
        if request_id is not None and not how.without_id:
            reply["id"] = request_id
        reply["t"] = self.now()
        if operation is not None:
            reply["type"] = operation
        if session.credits is not None:
            reply["rl"] = session.credits.rl()
        text = _dumps(reply)
        send = self._send_in_fragments if how.fragment else self._send
        if how.first is not None:
            self._send(session, how.first)
        for delay in how.at:
            if delay > 0:
                asyncio.get_running_loop().call_later(delay, send, session, text)
            else:
                send(session, text)
        if how.abort:
            session.connection.transport.abort()

    def _send_in_fragments(self, session: _Session, text: str) -> None:
        """A ping between them, an empty one, and one that ends in the middle of nothing."""
        protocol, data = session.connection.protocol, text.encode()
        if session.mute or protocol.state is not State.OPEN:
            return
        cuts = [0, 1, 1, len(data) // 2, len(data) - 1]
        protocol.send_text(data[: cuts[1]], fin=False)
        for start, end in pairwise(cuts[1:]):
            protocol.send_continuation(data[start:end], fin=False)
            protocol.send_ping(b"between")
        protocol.send_continuation(data[cuts[-1] :], fin=True)
        session.connection.send_data()

    def _note(self, request_id: str | None, code: int) -> None:
        if request_id is not None and self._journal_size:
            self._journal.setdefault(request_id, []).append(code)
            while len(self._journal) > self._journal_size:
                self._journal.popitem(last=False)

    def _method(self, session: _Session, message: Mapping[str, Any]) -> bool:
        """Do what a message with a ``method`` asks; False if there is no such method.

        A subscription that cannot be had is answered with silence, as the real one is.
        """
        method, params = message["method"], message.get("params")
        if method == "ping":
            self._send(session, _dumps({"channel": "pong"}))
            return True
        if method not in ("subscribe", "unsubscribe"):
            return False
        if not isinstance(params, dict) or params.get("source") not in _CHANNELS:
            return True
        if method == "subscribe" and self.faults.subscription_ignored():
            return True
        try:
            account = _check_key(params.get("account"))
        except ValueError:
            return True
        source = params["source"]
        subscriptions = session.subscriptions if source == UPDATES else session.snapshots
        if method == "unsubscribe":
            if account not in subscriptions:
                return True
            subscriptions.remove(account)
        else:
            if len(subscriptions | {account}) > SUBSCRIPTIONS_MAX:
                return True
            subscriptions.add(account)
        self._send(session, _dumps({"channel": method, "data": params}))
        if method == "subscribe" and source == SNAPSHOT:
            self._send(session, _dumps({"channel": SNAPSHOT, "data": self._book.snapshot(account)}))
        return True

    def _trade(self, allowance: _Credits | None, operation: str, body: Any) -> dict[str, Any]:
        """Carry out one trading request and return the ``data`` of its answer.

        It is paid for first, whatever becomes of it: failed cancels are too [CCXT].
        """
        if allowance is not None and not allowance.charge(COSTS.get(operation, COST)):
            raise Condition.RATE_LIMITED.refusal()
        rejection = self.faults.rejection()
        if rejection is not None:
            raise rejection
        now = self.now()
        if operation == "batch_orders":
            actions = check_actions(body)
            for action, fields in actions:  # one bad signature, and none of them is executed [K]
                self._authorize(action, fields, now)
            return {"results": [self._attempt(action, fields, now) for action, fields in actions]}
        fields = check_fields(operation, body)
        self._authorize(operation, fields, now)
        return self._book.execute(operation, fields, now)

    def _authorize(self, operation: str, fields: Fields, now: int) -> None:
        """Refuse what was not signed, just now, by somebody who may."""
        verify(operation, fields, now, self.future_tolerance)
        self.verified += 1
        account, agent, builder = (fields.get(name) for name in ("account", "agent_wallet", "builder_code"))
        if self._accounts is not None and account not in self._accounts:
            raise Condition.UNKNOWN_ACCOUNT.refusal()
        if agent is not None and agent not in self._agents.get(fields["account"], ()):
            raise Condition.NOT_AN_AGENT.refusal()
        if builder is not None and builder not in self._builder_codes:
            raise Condition.UNKNOWN_BUILDER.refusal()

    def _attempt(self, action: str, fields: Fields, now: int) -> dict[str, Any]:
        """Execute one action of a batch; ``error`` says if it failed, and the next one still runs [K]."""
        error: str | None = None
        order_id, client_order_id = fields.get("order_id"), fields.get("client_order_id")
        try:
            if self.faults.action_fails():
                raise Condition.CANCEL_FAILED.refusal()
            done = self._book.execute(action, fields, now)
            order_id, client_order_id = done["i"], done["I"]
        except Refusal as refusal:
            error = refusal.text
        result: dict[str, Any] = {"success": error is None}
        if order_id is not None:
            result["order_id"] = order_id
        if client_order_id is not None:
            result["client_order_id"] = client_order_id
        return result | {"symbol": fields["symbol"], "error": error}


def _refused(error: Exception) -> dict[str, Any]:
    """Code and text of an answer that is no; whatever is no refusal is a bug of ours, and logged."""
    if isinstance(error, Refusal):
        return {"code": error.code, "err": error.text}
    _log.error("a bug of the mock exchange", exc_info=error)
    return {"code": Condition.BROKEN.code, "err": Condition.BROKEN.text}


def _check_path(connection: ServerConnection, request: Request) -> Response | None:
    """404 for every path but the one; None lets the handshake go on."""
    if request.path.partition("?")[0] == PATH:
        return None
    return connection.respond(404, "Not Found\n")


def _check_key(account: object) -> str:
    """Return ``account`` if it is a base58 public key; :class:`ValueError` otherwise."""
    try:
        if isinstance(account, str):
            check_public_key(account)
            return account
    except Refusal:
        pass
    raise ValueError("expected a base58 Ed25519 public key")


def _size(message: str | bytes) -> int:
    """Bytes on the wire."""
    return len(message.encode() if isinstance(message, str) else message)


def _dumps(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
