# SPDX-License-Identifier: MIT
"""The programs of examples/, as they are, against the mock exchange."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nacl.signing import SigningKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from pacifica_fast import b58decode, b58encode
from pacifica_fast._mock_rules import check_fields, verify
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.mock_rest import MockRest

EXAMPLES = Path(__file__).parent.parent / "examples"
WITHOUT_CORE = "ignore:pacifica_fast runs without:RuntimeWarning"  # docs/platforms.md
PATIENCE = 60.0  # s; nothing here takes a tenth of it on an idle machine

SEED = bytes(range(1, 33))
ACCOUNT = b58encode(bytes(SigningKey(SEED).verify_key))
SECRET = b58encode(SEED + b58decode(ACCOUNT))
AGENT_SEEDS = [bytes(range(first, first + 32)) for first in (40, 80, 120)]


class Program:
    """An example that runs, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def until(self, condition: Callable[[], object], again: Callable[[], object] = lambda: None) -> None:
        """Wait until something is so; ``again`` is done all the while."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None or condition(), self.said
            again()
            time.sleep(0.02)

    def says(self, text: str, again: Callable[[], object] = lambda: None) -> None:
        """Wait until it has said something."""
        self.until(lambda: text in self.said, again)

    def ends(self) -> int:
        """Its exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    names = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "PACIFICA_PRIVATE_KEY": SECRET}


@pytest.fixture
def start(environment: Mapping[str, str]) -> Iterator[Callable[..., Program]]:
    """Starts an example; no secret is in what it says, and all have ended afterwards."""
    programs: list[Program] = []

    def start(name: str, *args: str, without_key: bool = False) -> Program:
        its = {k: v for k, v in environment.items() if not without_key or k != "PACIFICA_PRIVATE_KEY"}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", WITHOUT_CORE, str(EXAMPLES / name), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=its,
        )
        programs.append(Program(process))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.ends()
        for stream in (program.process.stdin, program.process.stdout):
            assert stream is not None
            stream.close()
        assert SECRET not in program.said
        assert "Traceback" not in program.said, program.said


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[MockExchange]:
    with MockExchange(tls=True, quota=None).in_thread() as exchange:
        (tmp_path / "ca.pem").write_text(exchange.authority_pem)
        yield exchange


@pytest.fixture
def to(exchange: MockExchange, tmp_path: Path) -> list[str]:
    """The arguments that lead to it."""
    return ["--url", exchange.url, "--ca-file", str(tmp_path / "ca.pem")]


class Feed:
    """What the mock exchange does not have: channels of prices and of equity, as documented."""

    def __init__(self) -> None:
        self.subscriptions: list[Any] = []
        self._connections: list[ServerConnection] = []

    def serve(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for message in connection:
                asked = json.loads(message)
                if asked["method"] == "subscribe":
                    self._connections.append(connection)
                    self.subscriptions.append(asked["params"])

    def say(self, channel: str, **data: Any) -> None:
        for connection in self._connections:
            with suppress(ConnectionClosed):
                connection.send(json.dumps({"channel": channel, "data": data}))

    def bbo(self, bid: str, ask: str) -> None:
        self.say("bbo", s="BTC", i=1, li=2, t=1_764_133_203_991, b=bid, B="1.234", a=ask, A="0.567")

    def equity(self, value: str) -> None:
        self.say("account_info", ae=value, b="2000", oc=2, pc=0, sc=0, t=1_764_133_203_991, **{"as": "1500"})


@pytest.fixture
def feed() -> Iterator[tuple[Feed, str]]:
    feed = Feed()
    with serve(feed.serve, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield feed, f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def prices_of(exchange: MockExchange) -> dict[str, str]:
    return {order.side: order.price for order in exchange.orders(ACCOUNT)}


def cancels(exchange: MockExchange) -> list[Any]:
    """The fields of those that came."""
    received = [r for r in exchange.requests if r.operation == "cancel_order"]
    return [json.loads(r.text)["params"]["cancel_order"] for r in received]


# All of them.


def test_each_is_tested_here_and_has_help(start: Callable[..., Program]) -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    programs = []
    for path in sorted(EXAMPLES.glob("*.py")):
        assert f'start("{path.name}"' in here, path.name
        programs.append((path, start(path.name, "--help")))
    assert len(programs) >= 5
    for path, program in programs:
        assert program.ends() == 0
        assert "usage:" in program.said
        assert "PACIFICA_PRIVATE_KEY" in program.said or path.name == "many_accounts.py"
        assert "testnet" in program.said


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("market_maker.py", ["BTC"]),
        ("kill_switch.py", []),
        ("rest_cancel.py", ["BTC"]),
        ("sdk_cancel.py", ["BTC", "1"]),
    ],
)
def test_without_a_key_it_says_so(start: Callable[..., Program], name: str, arguments: list[str]) -> None:
    program = start(name, *arguments, without_key=True)
    assert program.ends() in (1, 2)
    assert "PACIFICA_PRIVATE_KEY" in program.said


NO_PROCESS = str(1 << 30)  # more than a Linux has numbers for


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("kill_switch.py", ("--drawdown", value)) for value in ("5%", "5", "nan", "0")),
        *(("kill_switch.py", ("--silence", value)) for value in ("nan", "inf", "0", "x")),
        *(("kill_switch.py", ("--pid", value)) for value in ("1", "-1", "x", NO_PROCESS)),
        ("kill_switch.py", ("--within", "-1")),
        ("market_maker.py", ("BTC", "--move", "5%")),
        ("market_maker.py", ("BTC", "--spread", "1")),
        ("market_maker.py", ("BTC", "--amount", "nan")),
        ("market_maker.py", ("BTC", "--tick", "0")),
        ("market_maker.py", ("BTC", "--every", "nan")),
        ("rest_cancel.py", ("BTC", "1", "x")),
    ],
)
def test_wrong_usage(start: Callable[..., Program], name: str, wrong: tuple[str, ...]) -> None:
    program = start(name, *wrong)
    assert program.ends() == 2, program.said
    assert "error: argument " in program.said


# market_maker.py


@pytest.fixture
def maker(start: Callable[..., Program], to: list[str], feed: tuple[Feed, str]) -> Callable[..., Program]:
    return lambda *more: start("market_maker.py", "BTC", *to, "--feed", feed[1], "--every", "0.01", *more)


def test_market_maker(maker: Callable[..., Program], exchange: MockExchange, feed: tuple[Feed, str]) -> None:
    program, prices = maker("--stale", "60"), feed[0]

    program.until(lambda: len(prices_of(exchange)) == 2, lambda: prices.bbo("49995", "50005"))
    assert prices.subscriptions == [{"source": "bbo", "symbol": "BTC"}]
    assert prices_of(exchange) == {"bid": "49975", "ask": "50025"}
    assert {order.tif for order in exchange.orders(ACCOUNT)} == {"ALO"}
    first = {order.order_id for order in exchange.orders(ACCOUNT)}

    prices.bbo("49996", "50006")  # a move, but a small one
    program.until(
        lambda: prices_of(exchange) == {"bid": "50974", "ask": "51026"},
        lambda: prices.bbo("50995", "51005"),
    )
    assert {cancel["order_id"] for cancel in cancels(exchange)} >= first
    assert exchange.rejected == 0

    [bid] = [order for order in exchange.orders(ACCOUNT) if order.side == "bid"]
    exchange.fill(ACCOUNT, bid.order_id)
    program.says(f"bid {bid.order_id}: filled, position 0.001", lambda: prices.bbo("50995", "51005"))
    program.until(lambda: len(prices_of(exchange)) == 2, lambda: prices.bbo("50995", "51005"))

    program.process.send_signal(signal.SIGINT)
    assert program.ends() == 0
    assert "cancel all: 0 were left; position 0.001" in program.said
    assert exchange.orders(ACCOUNT) == []


def test_market_maker_that_sees_no_price_does_not_quote(
    maker: Callable[..., Program], exchange: MockExchange, feed: tuple[Feed, str]
) -> None:
    program = maker("--stale", "0.5", "--max-position", "0.001")
    program.says("ask ", lambda: feed[0].bbo("49995", "50005"))
    program.says(": cancelled")
    program.until(lambda: exchange.orders(ACCOUNT) == [])


def test_market_maker_keeps_to_its_limit(
    maker: Callable[..., Program], exchange: MockExchange, feed: tuple[Feed, str]
) -> None:
    program = maker("--stale", "60", "--max-position", "0.001", "--amount", "0.001")
    program.until(lambda: len(prices_of(exchange)) == 2, lambda: feed[0].bbo("49995", "50005"))
    [ask] = [order for order in exchange.orders(ACCOUNT) if order.side == "ask"]
    exchange.fill(ACCOUNT, ask.order_id)
    program.says("position -0.001", lambda: feed[0].bbo("49995", "50005"))
    program.until(lambda: "bid" in prices_of(exchange), lambda: feed[0].bbo("49995", "50005"))
    assert list(prices_of(exchange)) == ["bid"]
    program.process.send_signal(signal.SIGTERM)
    assert program.ends() == 0


def test_market_maker_cancels_an_order_that_it_does_not_know_to_rest(
    maker: Callable[..., Program], exchange: MockExchange, feed: tuple[Feed, str]
) -> None:
    program = maker("--stale", "60")
    program.says("quoting")
    exchange.faults.drop_replies(1)
    program.says("cancelling it, if it is there", lambda: feed[0].bbo("49995", "50005"))
    program.until(lambda: len(prices_of(exchange)) == 1)
    program.process.send_signal(signal.SIGTERM)
    assert program.ends() == 0
    assert exchange.orders(ACCOUNT) == []


# kill_switch.py


@pytest.fixture
def switch(start: Callable[..., Program], exchange: MockExchange, to: list[str]) -> Callable[..., Program]:
    """Started, while two orders rest."""
    for side, price in (("bid", "40000"), ("ask", "60000")):
        exchange.place(ACCOUNT, side=side, price=price)

    def switch(*more: str) -> Program:
        program = start("kill_switch.py", *to, *more)
        program.says(f"watching {ACCOUNT}, 2 orders rest")
        return program

    return switch


def fired(program: Program, exchange: MockExchange, reason: str) -> None:
    assert program.ends() == 0, program.said
    assert f"firing: {reason}" in program.said
    assert program.said.endswith("nothing rests\n")
    assert exchange.orders(ACCOUNT) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_kill_switch_on_a_signal(
    switch: Callable[..., Program], exchange: MockExchange, number: signal.Signals
) -> None:
    exchange.faults.reject_next(500, "Unknown error", 2)  # both links' copies: it asks again
    program = switch()
    program.process.send_signal(number)
    fired(program, exchange, number.name)
    assert "Unknown error" in program.said


def test_kill_switch_on_a_lost_heartbeat(
    switch: Callable[..., Program], exchange: MockExchange, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    bot = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with bot:
        try:
            alive.touch()
            program = switch("--heartbeat", str(alive), "--silence", "2", "--pid", str(bot.pid))
            fired(program, exchange, f"{alive} not touched for 2 s")
            assert bot.wait(PATIENCE) == -signal.SIGKILL
        finally:
            bot.kill()


def test_kill_switch_on_a_drawdown(
    switch: Callable[..., Program], exchange: MockExchange, feed: tuple[Feed, str]
) -> None:
    equity, url = feed
    program = switch("--drawdown", "0.05", "--feed", url)
    program.until(lambda: equity.subscriptions)
    assert equity.subscriptions == [{"source": "account_info", "account": ACCOUNT}]
    for value in ("2000", "2100", "1996"):  # 4.95 % below the highest
        equity.equity(value)
    equity.say("account_info", ae="not a number")
    program.until(lambda: len(equity.subscriptions) == 2)  # it could not read that, and connected again
    assert "firing" not in program.said
    equity.equity("1995")
    fired(program, exchange, "equity 1995")


def test_kill_switch_sees_an_order_that_turns_up_late(
    switch: Callable[..., Program], exchange: MockExchange
) -> None:
    """It was in the speed bump, which cancels do not wait for."""
    program = switch()
    program.process.send_signal(signal.SIGTERM)
    program.until(lambda: not exchange.orders(ACCOUNT))
    time.sleep(0.15)
    exchange.place(ACCOUNT)
    fired(program, exchange, "SIGTERM")
    assert "cancelled 1\n" in program.said


NOT_PERMITTED = """
import os, runpy

def kill(pid: int, number: int) -> None:
    if number:  # to look is allowed
        raise PermissionError(1, "Operation not permitted")

os.kill = kill
runpy.run_path({!r}, run_name="__main__")
"""


def test_kill_switch_that_may_not_kill_cancels(
    start: Callable[..., Program], exchange: MockExchange, to: list[str], tmp_path: Path
) -> None:
    exchange.place(ACCOUNT)
    (tmp_path / "kill_switch.py").write_text(NOT_PERMITTED.format(str(EXAMPLES / "kill_switch.py")))
    program = start(str(tmp_path / "kill_switch.py"), *to, "--pid", "4711")
    program.says("1 orders rest")
    program.process.send_signal(signal.SIGTERM)
    fired(program, exchange, "SIGTERM")
    assert "4711 not killed: Operation not permitted\n" in program.said


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_signal_may_come_anywhere_while_the_kill_switch_waits() -> None:
    """Between any two lines of its own or of the standard library, as handlers of signals do."""
    trigger = loaded("kill_switch").Trigger()

    def interrupt(*_: object) -> Callable[..., Any]:
        trigger.on_signal(signal.SIGTERM, None)
        return interrupt

    def wait() -> None:
        sys.settrace(interrupt)
        trigger.pulled()
        trigger.pull("another")

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE / 10)
    assert not thread.is_alive()
    assert trigger.reason == "SIGTERM"


def test_kill_switch_that_does_not_get_through_says_so(
    switch: Callable[..., Program], exchange: MockExchange
) -> None:
    program = switch("--within", "1")
    exchange.faults.reject_next(500, "Unknown error", 1000)
    program.process.send_signal(signal.SIGTERM)
    assert program.ends() == 1
    assert "look at your open orders" in program.said


# many_accounts.py


def test_many_accounts(
    start: Callable[..., Program], exchange: MockExchange, to: list[str], tmp_path: Path
) -> None:
    entries = []
    for number, seed in enumerate(AGENT_SEEDS):
        account = b58encode(bytes(SigningKey(bytes([number]) * 32).verify_key))
        exchange.bind_agent(account, b58encode(bytes(SigningKey(seed).verify_key)))
        for symbol, price in (("BTC", "50000"), ("BTC", "50001"), ("ETH", "2000")):
            exchange.place(account, symbol=symbol, price=price)
        (tmp_path / f"{number}.key").write_text(b58encode(seed))
        entries.append({"name": f"desk {number}", "account": account, "key_file": f"{number}.key"})
    (tmp_path / "desk.json").write_text(json.dumps({"credit_group": "these", "accounts": entries}))

    program = start("many_accounts.py", str(tmp_path / "desk.json"), *to, without_key=True)
    stdin = program.process.stdin
    assert stdin is not None

    def say(line: str) -> None:
        stdin.write(line + "\n")
        stdin.flush()

    program.says("3 accounts")
    say("pull BTC")
    for number in range(3):
        program.says(f"desk {number}: 2 cancelled")
    assert all([order.symbol for order in exchange.orders(entry["account"])] == ["ETH"] for entry in entries)
    program.says("desk 2: open, 1 orders rest", lambda: say("status"))
    say("what?")
    program.says("status, pull [SYMBOL], quit\n")
    say("pull")
    program.says("desk 1: 1 cancelled")
    say("quit")
    assert program.ends() == 0
    assert all(exchange.orders(entry["account"]) == [] for entry in entries)
    assert exchange.rejected == 0
    signed_by = {cancel["agent_wallet"] for cancel in cancels(exchange)}
    assert signed_by == {b58encode(bytes(SigningKey(seed).verify_key)) for seed in AGENT_SEEDS}


# rest_cancel.py


@contextmanager
def rest_server(answer: tuple[int, str] | None) -> Iterator[str]:
    """A REST that verifies a cancel, and then says what it is told, or hangs up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            verify("cancel_order", check_fields("cancel_order", fields), time.time_ns() // 10**6, 5000)
            if answer is None:
                self.close_connection = True
                return
            status, text = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_rest_cancel(start: Callable[..., Program], exchange: MockExchange) -> None:
    client_order_id = "79f948fd-7556-4066-a128-083f3ea49322"
    order = exchange.place(ACCOUNT)
    exchange.place(ACCOUNT, client_order_id=client_order_id)
    for _ in range(3):
        exchange.place(ACCOUNT)
    with MockRest(exchange) as rest:
        program = start("rest_cancel.py", "BTC", str(order.order_id), client_order_id, "--url", rest.url)
        assert program.ends() == 0, program.said
        assert program.said.count("done ") == 2
        assert len(exchange.orders(ACCOUNT)) == 3
        twice = start("rest_cancel.py", "BTC", str(order.order_id), "--url", rest.url)
        assert twice.ends() == 1, twice.said
        assert twice.said.startswith("refused ")
        every = start("rest_cancel.py", "BTC", "--url", rest.url)
        assert every.ends() == 0, every.said
    assert exchange.orders(ACCOUNT) == []


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        ((400, '{"error":"Order not found","code":400}'), 1, "refused"),
        ((504, ""), 3, "unknown"),
        (None, 3, "unknown"),
    ],
)
def test_rest_cancel_tells_the_fate(
    start: Callable[..., Program], answer: tuple[int, str] | None, status: int, word: str
) -> None:
    with rest_server(answer) as url:
        program = start("rest_cancel.py", "BTC", "1", "--url", url)
        assert program.ends() == status
    assert program.said.startswith(word)
    program = start("rest_cancel.py", "BTC", "1", "--url", url)  # nobody listens there any more
    assert program.ends() == 4
    assert program.said.startswith("not sent")


def test_rest_cancel_shows_what_it_would_send(start: Callable[..., Program]) -> None:
    owner = b58encode(bytes(SigningKey(AGENT_SEEDS[0]).verify_key))
    program = start("rest_cancel.py", "ETH", "7", "--dry-run", "--account", owner)
    assert program.ends() == 0
    request, body = program.said.splitlines()
    assert request == "POST https://test-api.pacifica.fi/api/v1/orders/cancel"
    fields = check_fields("cancel_order", json.loads(body))
    assert (fields["account"], fields["agent_wallet"]) == (owner, ACCOUNT)
    verify("cancel_order", fields, time.time_ns() // 10**6, 5000)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--url", "http://api.example"), "use https://"),
        (("--url", "https://api.example:port"), "Port"),
        (("--ca-file", "/nowhere/at/all"), "No such file"),
        (("--key-file", "/nowhere/at/all"), "No such file"),
    ],
)
def test_rest_cancel_that_cannot_even_try(
    start: Callable[..., Program], arguments: tuple[str, ...], says: str
) -> None:
    """Not 1, which is the exchange's no."""
    program = start("rest_cancel.py", "BTC", "1", *arguments)
    assert program.ends() == 2
    assert says in program.said
    assert len(program.said.splitlines()) == 1


def test_rest_cancel_without_a_key_was_not_refused(start: Callable[..., Program]) -> None:
    assert start("rest_cancel.py", "BTC", "1", without_key=True).ends() == 2


# sdk_cancel.py


def test_sdk_cancel(start: Callable[..., Program], exchange: MockExchange, to: list[str]) -> None:
    pytest.importorskip("solders")
    order = exchange.place(ACCOUNT)
    program = start("sdk_cancel.py", "BTC", str(order.order_id), *to)
    assert program.ends() == 0, program.said
    assert json.loads(program.said)["code"] == 200
    assert exchange.orders(ACCOUNT) == []

    owner = b58encode(bytes(SigningKey(AGENT_SEEDS[0]).verify_key))
    exchange.bind_agent(owner, ACCOUNT)
    order = exchange.place(owner)
    program = start("sdk_cancel.py", "BTC", str(order.order_id), *to, "--account", owner)
    assert program.ends() == 0, program.said
    assert exchange.orders(owner) == []
