# SPDX-License-Identifier: MIT
"""``pacifica-fast demo``: every kind of cancel and of fate, and what a cancel costs.

The mock exchange runs as a process of its own, so that its work is not measured as ours.
It is started and stopped through the public command ``pacifica-fast mock-exchange``, on a
port that it chooses, and ends when this process does, however that happens.

Beside our requests the same ones are built by :mod:`pacifica_fast.reference`, the SDK's
algorithm in pure Python, and sent as the SDK sends: ``await ws.send()`` of websockets.
Both take turns in one loop, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import secrets
import select
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect

from pacifica_fast import reference
from pacifica_fast.asyncio import Client, Pending, connect
from pacifica_fast.errors import ConnectionFailed, NotSent, OutcomeUnknown, PacificaError, Rejected
from pacifica_fast.keys import Keypair
from pacifica_fast.nonces import Stats
from pacifica_fast.replies import Ack, BatchAck, CancelAllAck
from pacifica_fast.signer import Signer

if TYPE_CHECKING:
    from pacifica_fast._cli_terminal import Terminal

__all__ = ["run"]

EXCHANGE_PATIENCE: Final = 30.0  # s for the exchange to start, and to stop
REPLY_PATIENCE: Final = 15.0  # s; nothing here should take even a hundredth
MUTE_TIMEOUT: Final = 0.25  # s, where the exchange is made not to answer
REST: Final = 0.01  # s before each cold decision
NONCES: Final = 256
NOISY_RATIO: Final = 5.0  # p99 over p50 of work that waits for nothing

# The exchange is a new interpreter that finds its modules exactly where this one does.
_EXCHANGE: Final = (
    "import sys; sys.path[:] = {path!r}; from pacifica_fast.cli import main; sys.exit(main({args!r}))"
)

ORDER: Final[Mapping[str, Any]] = {
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.001",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}


# --------------------------------------------------------------------------- the exchange


class Exchange:
    """The mock exchange in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.started: dict[str, Any] = self._event("listening")
        self.url: str = self.started["url"]
        self.pid: int = process.pid

    def ssl_context(self) -> ssl.SSLContext:
        """Verifies the exchange's certificate against its own authority, and trusts no other."""
        return ssl.create_default_context(cadata=self.started["ca"])

    def withhold_answer(self) -> None:
        """Have it carry out the next request without a word."""
        self._process.send_signal(signal.SIGUSR1)
        self._event("withholding")

    def stop(self) -> dict[str, Any]:
        """Have it end, and return what it counted."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        counts = self._event("stopped")
        self._process.wait(EXCHANGE_PATIENCE)
        return counts

    def _event(self, name: str) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101
        readable, _, _ = select.select([stdout], [], [], EXCHANGE_PATIENCE)
        line = stdout.readline() if readable else ""
        event: dict[str, Any] = json.loads(line) if line else {}
        if event.get("event") != name:
            raise RuntimeError(f"the mock exchange did not say {name!r} within {EXCHANGE_PATIENCE:g} s")
        return event


@contextmanager
def exchange_process(account: str, agent: str) -> Iterator[Exchange]:
    """A mock exchange over TLS, without rate limit, on any free port; gone when this is left."""
    # It leaves its certificate authority nowhere but in its first line.
    args = ["mock-exchange", "--port=0", "--credits=0", "--json", "--quiet", "--stop-on-eof"]
    args += ["--ca-file=-", f"--agent={account}:{agent}"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _EXCHANGE.format(path=sys.path, args=args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, which then ends the other
    )
    with process:
        try:
            yield Exchange(process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5.0)
                except subprocess.TimeoutExpired:
                    process.kill()


# --------------------------------------------------------------------------- the same in pure Python


class NaClKeypair:
    """PyNaCl's signing key, as the SDK's ``sign_message`` takes keys."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)

    def sign_message(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return self._key.sign(message).signature


class PythonWay:
    """Cancels as the SDK's examples build and send them, over one kept connection."""

    def __init__(self, account: str, seed: bytes) -> None:
        self._account = account
        self._keypair = NaClKeypair(seed)

    def cancel_order(self, symbol: str, order_id: int) -> tuple[str, str]:
        """Request id and text: the steps, and their order, of the SDK's ``cancel_order`` example."""
        timestamp = int(time.time() * 1_000)
        header = {"timestamp": timestamp, "expiry_window": 5_000, "type": "cancel_order"}
        payload = {"symbol": symbol, "order_id": order_id}
        _, signature = reference.sign_message(header, payload, self._keypair)
        request = {
            "account": self._account,
            "signature": signature,
            "timestamp": timestamp,
            "expiry_window": 5_000,
            **payload,
        }
        request_id = str(uuid.uuid4())
        return request_id, json.dumps({"id": request_id, "params": {"cancel_order": request}})

    @staticmethod
    @asynccontextmanager
    async def connected(exchange: Exchange) -> AsyncIterator[ClientConnection]:
        """A connection of websockets, without compression, and never through a proxy."""
        options: dict[str, Any] = {"ssl": exchange.ssl_context(), "compression": None, "ping_interval": None}
        try:
            connecting = websockets_connect(exchange.url, proxy=None, **options)
        except TypeError:  # before websockets 15 there was no proxy to decline
            connecting = websockets_connect(exchange.url, **options)
        async with connecting as connection:
            yield connection


# --------------------------------------------------------------------------- fates


@dataclass
class Fate:
    """One row of the first table."""

    what: str
    expected: str
    fate: str
    detail: str
    took_ms: float

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it should have."""
        return self.fate == self.expected


class Fates:
    """Carries requests out one by one, and shows what becomes of each as it happens."""

    COLOURS: Final = {
        "ack": "green",
        "rejected": "red",
        "refused": "red",
        "unknown": "yellow",
        "not sent": "yellow",
    }

    def __init__(self, terminal: Terminal | None) -> None:
        self._terminal = terminal
        self.rows: list[Fate] = []

    async def of(self, what: str, expected: str, asked: Awaitable[Any]) -> Any:
        """Await what was asked, show its fate, return its acknowledgement if it has one."""
        start = time.perf_counter_ns()
        ack: Any = None
        try:
            ack = await asked
            fate, detail = "ack", _detail(ack)
        except Rejected as error:
            fate, detail = "rejected", str(error)
        except OutcomeUnknown as error:
            fate, detail = "unknown", error.reason
        except NotSent as error:
            fate, detail = "not sent", error.reason
        except ConnectionFailed as error:
            fate, detail = "refused", error.reason.partition(":")[0]
        row = Fate(what, expected, fate, detail, round((time.perf_counter_ns() - start) / 1e6, 3))
        self.rows.append(row)
        self._show(row)
        if not row.as_expected and expected == "ack":
            raise _WrongFateError(f"{what}: {fate} ({detail}), where an acknowledgement was due")
        return ack

    def _show(self, row: Fate) -> None:
        if self._terminal is None:
            return
        fate = self._terminal.paint(f"{row.fate:<8}", self.COLOURS[row.fate])
        mark = "" if row.as_expected else self._terminal.paint(f"  (expected: {row.expected})", "red")
        self._terminal.line(f"  {row.what:<30}{row.took_ms:>7.2f} ms  {fate} {row.detail}{mark}".rstrip())


class _WrongFateError(Exception):
    """What should have been acknowledged was not: the rest of the demo makes no sense."""


def _detail(ack: Any) -> str:
    """What an acknowledgement says beyond yes."""
    if isinstance(ack, CancelAllAck):
        return f"{ack.cancelled_count} cancelled"
    if isinstance(ack, BatchAck):
        return f"{sum(result.success for result in ack.results)} of {len(ack.results)} cancelled"
    if isinstance(ack, Ack) and ack.operation == "create_order":
        return f"order {ack.data['i']}"
    return ""


# --------------------------------------------------------------------------- measurements


@dataclass
class Sample:
    """Durations of one thing, in ns."""

    ns: list[int] = field(default_factory=list)

    def us(self, quantile: float) -> float:
        """A quantile by nearest rank, in µs: a value that was measured, not one between two."""
        ordered = sorted(self.ns)
        return ordered[max(math.ceil(quantile * len(ordered)) - 1, 0)] / 1e3

    def summary(self) -> dict[str, float | int]:
        """What ``--json`` shows."""
        return {"n": len(self.ns), "p50_us": self.us(0.5), "p99_us": self.us(0.99), "max_us": self.us(1.0)}


@dataclass
class Pair:
    """The same thing done both ways."""

    label: str
    ours: Sample = field(default_factory=Sample)
    python: Sample = field(default_factory=Sample)

    @property
    def ratio(self) -> float:
        """How many times longer the pure-Python way takes, by the medians."""
        return self.python.us(0.5) / self.ours.us(0.5)


BUILD, SEND, FIRE, ACK = "build the request", "decide -> kernel", "armed -> kernel", "decide -> ack"


class Measurement:
    """Both ways, taking turns."""

    def __init__(
        self, client: Client, python: PythonWay, connection: ClientConnection, first_order: int
    ) -> None:
        self._client = client
        self._python = python
        self._connection = connection
        self._some_order = first_order
        self.signatures: int = 0  # sent to the exchange
        self.acks: int = 0

    def tight(self, rounds: int) -> list[Pair]:
        """Building alone, in a tight loop: everything is in the caches."""
        build = Pair(BUILD)
        signer, python, order_id = self._client.signer, self._python, self._some_order
        for _ in range(max(rounds // 10, 3)):  # warm up
            signer.cancel_order("BTC", order_id=order_id)
            python.cancel_order("BTC", order_id)
        for _ in range(rounds):
            start = time.perf_counter_ns()
            signer.cancel_order("BTC", order_id=order_id)
            middle = time.perf_counter_ns()
            python.cancel_order("BTC", order_id)
            end = time.perf_counter_ns()
            build.ours.ns.append(middle - start)
            build.python.ns.append(end - middle)
        return [build]

    async def wire(self, rounds: int, rest: float = 0.0) -> list[Pair]:
        """Place an order and cancel it, both ways. ``rest``: s of sleep before each decision."""
        build, send, fire, ack = Pair(BUILD), Pair(SEND), Pair(FIRE), Pair(ACK)

        async def ours() -> None:
            order_id = await self._place()
            await asyncio.sleep(rest)
            start = time.perf_counter_ns()
            self._client.signer.cancel_order("BTC", order_id=order_id)  # not sent: only built
            build.ours.ns.append(time.perf_counter_ns() - start)
            await asyncio.sleep(rest)
            start = time.perf_counter_ns()
            pending = self._client.cancel_order_nowait("BTC", order_id=order_id)
            send.ours.ns.append(time.perf_counter_ns() - start)
            await pending
            ack.ours.ns.append(time.perf_counter_ns() - start)
            self._count()
            armed = self._client.arm("BTC", order_id=await self._place())
            await asyncio.sleep(rest)
            start = time.perf_counter_ns()
            pending = armed.fire()
            fire.ours.ns.append(time.perf_counter_ns() - start)
            await pending
            self._count()

        async def python() -> None:
            order_id = await self._place()
            await asyncio.sleep(rest)
            start = time.perf_counter_ns()
            self._python.cancel_order("BTC", order_id)
            build.python.ns.append(time.perf_counter_ns() - start)
            await asyncio.sleep(rest)
            start = time.perf_counter_ns()
            request_id, text = self._python.cancel_order("BTC", order_id)
            await self._connection.send(text)
            send.python.ns.append(time.perf_counter_ns() - start)
            fire.python.ns.append(send.python.ns[-1])  # it knows no other way
            reply = json.loads(await self._connection.recv())
            ack.python.ns.append(time.perf_counter_ns() - start)
            if (reply.get("id"), reply.get("code")) != (request_id, 200):
                raise _WrongFateError(f"a cancel of the pure-Python way got {reply.get('code')}")
            self._count()

        for number in range(rounds):
            for way in (ours, python) if number % 2 == 0 else (python, ours):
                await way()
        return [build, send, fire, ack]

    async def _place(self) -> int:
        placed = await self._client.request("create_order", dict(ORDER))
        self._count()
        order_id: int = placed.data["i"]
        return order_id

    def _count(self) -> None:
        self.signatures += 1
        self.acks += 1


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What exists is frozen and nothing new is collected meanwhile."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


# --------------------------------------------------------------------------- the demo


@dataclass
class Summary:
    """What the demo found out; as JSON, the output of ``--json``."""

    ok: bool = False
    problem: str | None = None
    fates: list[Fate] = field(default_factory=list)
    signatures_sent: int = 0
    signatures_verified: int = 0
    refused: int = 0
    tight: list[Pair] = field(default_factory=list)
    hot: list[Pair] = field(default_factory=list)
    cold: list[Pair] = field(default_factory=list)
    stats: Stats = field(default_factory=Stats)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """One line."""
        pairs = {"hot_tight_loop": self.tight, "hot_on_the_wire": self.hot, "cold_on_the_wire": self.cold}
        names = {BUILD: "build", SEND: "decide_to_kernel", FIRE: "armed_to_kernel", ACK: "decide_to_ack"}
        return json.dumps(
            {
                "ok": self.ok,
                "problem": self.problem,
                "fates": [asdict(fate) for fate in self.fates],
                "signatures_sent": self.signatures_sent,
                "signatures_verified": self.signatures_verified,
                "refused": self.refused,
                "latency": {
                    group: {
                        names[pair.label]: {
                            "pacifica_fast": pair.ours.summary(),
                            "pure_python": pair.python.summary(),
                            "ratio_p50": round(pair.ratio, 2),
                        }
                        for pair in members
                    }
                    for group, members in pairs.items()
                },
                "notes": self.notes,
            }
        )


def run(terminal: Terminal, *, rounds: int = 300, as_json: bool = False) -> int:
    """Run the demo; 0 if every fate was as it should be and every signature verified, else 1."""
    summary = Summary()
    seed = bytearray(secrets.token_bytes(32))
    shown = None if as_json else terminal
    try:
        with (
            Keypair.from_seed(seed) as main_key,
            Keypair.generate() as agent_key,
            exchange_process(main_key.pubkey(), agent_key.pubkey()) as exchange,
        ):
            if shown is not None:
                _introduce(shown, exchange, main_key, agent_key)
            asyncio.run(_play(shown, summary, exchange, main_key, agent_key, bytes(seed), rounds))
            counts = exchange.stop()
        summary.signatures_verified, summary.refused = counts["verified"], counts["refused"]
        summary.ok = summary.signatures_verified == summary.signatures_sent and all(
            fate.as_expected for fate in summary.fates
        )
        if not summary.ok:
            summary.problem = "a fate or the number of verified signatures is not what it should be"
    except (PacificaError, _WrongFateError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        if isinstance(error, BrokenPipeError):
            raise
        summary.problem = str(error) or type(error).__name__
    finally:
        seed[:] = bytes(len(seed))
    if as_json:
        terminal.line(summary.as_json())
    else:
        _conclude(terminal, summary)
    return 0 if summary.ok else 1


async def _play(
    terminal: Terminal | None,
    summary: Summary,
    exchange: Exchange,
    main_key: Keypair,
    agent_key: Keypair,
    seed: bytes,
    rounds: int,
) -> None:
    """Both acts, in one event loop."""
    signer = Signer(main_key, prepared=NONCES)
    async with connect(
        signer, url=exchange.url, ssl=exchange.ssl_context(), timeout=REPLY_PATIENCE
    ) as client:
        fates = Fates(terminal)
        summary.fates = fates.rows
        summary.signatures_sent += await _all_fates(fates, exchange, client, agent_key)
        if terminal is not None:
            terminal.line()
            terminal.line(terminal.paint("What a cancel costs", "bold") + ", in µs; the two ways take turns")
            terminal.line(f"  {'':<17}{'pacifica_fast':^24}  {'pure Python':^24}".rstrip())
            terminal.line(f"  {'':<17}" + f"{'p50':>8}{'p99':>8}{'max':>8}  " * 2 + f"{'p50 ratio':>9}")
        python = PythonWay(signer.account, seed)
        async with PythonWay.connected(exchange) as connection:
            measurement = Measurement(client, python, connection, first_order=28_416_222_569)
            with no_garbage_collection():
                await measurement.wire(max(rounds // 20, 1))  # warm up
                summary.tight = measurement.tight(rounds * 3)
                _show(terminal, f"hot: in a tight loop, {rounds * 3} each", summary.tight)
                summary.hot = await measurement.wire(rounds)
                _show(terminal, f"on the wire: order and cancel back to back, {rounds} each", summary.hot)
                some = max(rounds // 3, 1)
                summary.cold = await measurement.wire(some, REST)
                _show(
                    terminal, f"cold: after {REST * 1e3:g} ms of rest, as in a bot, {some} each", summary.cold
                )
            summary.signatures_sent += measurement.signatures
    summary.stats = signer.stats
    signer.close()
    summary.notes = _notes(summary)


async def _all_fates(fates: Fates, exchange: Exchange, client: Client, agent_key: Keypair) -> int:
    """The first act. Returns how many signatures the exchange got."""
    signer = client.signer

    def order(**fields: Any) -> Awaitable[Ack]:
        return client.request("create_order", {**ORDER, **fields})

    placed = await fates.of("place an order, BTC bid 50000", "ack", order())
    first = placed.data["i"]
    await fates.of("cancel it by its order id", "ack", client.cancel_order("BTC", order_id=first))
    await fates.of("cancel it once more", "rejected", client.cancel_order("BTC", order_id=first))

    mine = str(uuid.uuid4())
    await fates.of("place one with our own id", "ack", order(client_order_id=mine))
    cancel = client.cancel_order("BTC", client_order_id=mine)
    await fates.of("cancel it by client order id", "ack", cancel)
    signatures = 5

    placed = await fates.of("place another", "ack", order())
    agent = Signer(agent_key, account=signer.account)
    trusting = exchange.ssl_context()
    async with connect(agent, url=exchange.url, ssl=trusting, timeout=REPLY_PATIENCE) as agent_client:
        cancel = agent_client.cancel_order("BTC", order_id=placed.data["i"])
        await fates.of("cancel it by an agent wallet", "ack", cancel)
    signatures += 2

    async def several(symbols: str) -> list[tuple[str, int]]:
        fields = {"BTC": {}, "ETH": {"symbol": "ETH", "price": "2000"}}
        return [(symbol, (await order(**fields[symbol])).data["i"]) for symbol in symbols.split()]

    placed = await fates.of("place one and arm its cancel", "ack", order())
    armed = client.arm("BTC", order_id=placed.data["i"])
    await fates.of("fire it: one write", "ack", armed.fire())
    await fates.of("fire again: signed afresh", "rejected", armed.fire())
    resting = [client.arm(symbol, order_id=number) for symbol, number in await several("BTC " * 10)]
    await fates.of("pull 10 armed in one write", "ack", _last(client.pull(resting)))
    signatures += 3 + 10 + 10

    batch = await several("BTC ETH BTC ETH BTC")
    await fates.of("cancel 5 orders in one batch", "ack", client.batch_cancel(batch))
    await several("BTC BTC ETH ETH ETH")
    await fates.of("cancel all BTC orders at once", "ack", client.cancel_all_orders(symbol="BTC"))
    await fates.of("cancel all orders at once", "ack", client.cancel_all_orders())
    signatures += 5 + 5 + 5 + 2

    placed = await fates.of("place one more", "ack", order())
    async with connect(signer, url=exchange.url, ssl=trusting, timeout=MUTE_TIMEOUT) as hasty:
        exchange.withhold_answer()
        cancel = hasty.cancel_order("BTC", order_id=placed.data["i"])
        await fates.of("cancel it, the answer withheld", "unknown", cancel)
    again = client.cancel_order("BTC", order_id=placed.data["i"])
    await fates.of("ask again: was it cancelled?", "rejected", again)
    signatures += 3

    cancel = hasty.cancel_order("BTC", order_id=first)
    await fates.of("cancel on a closed connection", "not sent", cancel)
    distrusting = connect(signer, url=exchange.url, ssl=ssl.create_default_context())
    await fates.of("connect without trusting it", "refused", distrusting)
    return signatures


async def _last(pendings: list[Pending[Any]]) -> Ack:
    """All of them acknowledged, and the last acknowledgement."""
    acks: list[Ack] = [await pending for pending in pendings]
    return acks[-1]


# --------------------------------------------------------------------------- what it says


def _introduce(terminal: Terminal, exchange: Exchange, main_key: Keypair, agent_key: Keypair) -> None:
    terminal.line(
        terminal.paint("Pacifica's exchange in miniature", "bold") + ", on this machine: no money, no network"
    )
    terminal.line(f"  exchange  {exchange.url} (process {exchange.pid}), TLS verified")
    terminal.line("            it verifies every signature, and shares no code with the signer")
    terminal.line(f"  account   {main_key.pubkey()}, a key made for this")
    terminal.line(f"  agent     {agent_key.pubkey()}, may sign for it")
    terminal.line()
    terminal.line(terminal.paint("Every request has one fate", "bold") + ", told when it is known")


def _show(terminal: Terminal | None, title: str, pairs: list[Pair]) -> None:
    """One group of the second table, as soon as it is measured."""
    if terminal is None:
        return
    terminal.line("  " + terminal.paint(title, "dim"))
    for pair in pairs:
        columns = ["".join(f"{_us(s.us(q)):>8}" for q in (0.5, 0.99, 1.0)) for s in (pair.ours, pair.python)]
        ratio = terminal.paint(f"{pair.ratio:>9.1f}", "bold")
        terminal.line(f"  {pair.label:<17}{columns[0]}  {columns[1]}  {ratio}")


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _notes(summary: Summary) -> list[str]:
    """What a reader of the figures should know about this machine."""
    notes = []
    build = summary.tight[0].ours
    spread = build.us(0.99) / build.us(0.5)
    if spread > NOISY_RATIO:
        notes.append(
            f"this machine is noisy: building has a p99 of {spread:.0f} times its p50; read the p50s"
        )
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        notes.append(f"it is busy with other things: load average {load:.1f} on {cores} cores")
    stats = summary.stats
    if stats.deterministic:
        notes.append(
            f"{stats.deterministic:,} of {stats.prepared + stats.deterministic:,} signatures found no "
            "prepared nonce: a tight loop is quicker than the thread that makes them"
        )
    if cores == 1:
        notes.append("one core only: the exchange's work is part of every round trip and of some sends")
    return notes


_LEGEND: Final = (
    "kernel: the call has returned, the bytes are written. ack: the answer is read.",
    "ours sign with prepared nonces, or deterministically when none is ready; an",
    "armed cancel was signed when its order was placed.",
    "pure Python: the official SDK's algorithm (pacifica_fast.reference), with PyNaCl",
    "to sign, sent by websockets' ws.send() on a kept connection. The SDK itself",
    "signs with solders, encodes with base58 and, in its examples, connects anew for",
    "each cancel; 'make bench' measures that signing too.",
)


def _conclude(terminal: Terminal, summary: Summary) -> None:
    terminal.line()
    if summary.tight and summary.cold:
        for line in _LEGEND:
            terminal.line(line)
        for note in summary.notes:
            first, *more = wrap(note, 74)
            terminal.line(terminal.paint("note: ", "yellow") + first)
            for line in more:
                terminal.line("      " + line)
        terminal.line()
    verdict = (
        terminal.paint("all as it should be", "green")
        if summary.ok
        else terminal.paint("not all is well", "red")
    )
    if summary.signatures_verified:
        verdict += (
            f": the exchange verified {summary.signatures_verified:,} "
            f"of {summary.signatures_sent:,} signatures"
        )
    if summary.problem is not None:
        verdict += f": {summary.problem}"
    terminal.line(verdict)
    if summary.ok:
        terminal.line("next: README.md, then 'pacifica-fast cancel --help'")
