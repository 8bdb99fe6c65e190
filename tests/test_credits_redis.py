# SPDX-License-Identifier: MIT
"""Credits shared through a real Redis: what the bots hold together, and what they do without it.

No test waits for a fixed time: what ought to come about is waited for, however slow the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis import Redis

import pacifica_fast
from pacifica_fast import CreditsReserved, InvalidRequest, Keypair, Signer, credits_redis
from pacifica_fast.asyncio import connect
from pacifica_fast.credits import Budget
from pacifica_fast.credits_redis import RedisShare
from pacifica_fast.mock_exchange import MockExchange, Received
from pacifica_fast.replies import CancelAck, Credits
from pacifica_fast.sync import connect as connect_blocking

PATIENCE = 60.0  # s
GROUP = "desk 1"
KEY = f"pacifica_fast:credits:{GROUP}"
PASSWORD = "open-sesame"  # in no message, wherever it is given
BOT = Path(__file__).with_name("sharing_bot.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(pacifica_fast.__file__).parents[1])}

# A bot is not taken for dead because the machine stood still.
PATIENT_SCRIPT = credits_redis._SCRIPT.replace("= 10000, 3000,", "= 3600000, 3600000,")
assert PATIENT_SCRIPT != credits_redis._SCRIPT


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Server:
    """A redis-server in a directory of its own, on a unix socket, which may come and go."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.path = directory / "redis"
        self.url = f"unix://{self.path}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> Redis:
        """Start it, and wait until it answers."""
        executable = shutil.which("redis-server")
        if executable is None:
            pytest.skip("redis-server is not installed")
        self._process = subprocess.Popen(
            [
                *(executable, "--port", "0", "--unixsocket", str(self.path), "--dir", str(self.path.parent)),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
                *(options or self._options),
            ],
            stdout=subprocess.DEVNULL,
        )
        until(self._answers)
        return self.client()

    def client(self, password: str | None = None) -> Redis:
        return Redis(unix_socket_path=str(self.path), password=password, decode_responses=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.path))
            probe.sendall(b"PING\r\n")
            return probe.recv(1) != b""
        return False

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # SIGSTOP or not
            self._process.wait()
            self._process = None
        self.path.unlink(missing_ok=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    """The server's, started."""
    with contextlib.closing(server.start()) as redis:
        yield redis


def told(remaining: float, quota: float = 125.0, refresh: float = 30.0) -> Credits:
    return Credits(remaining, quota, refresh)


def informed(remaining: float = 125.0, reserve: float = 10.0, stamp: int = 1) -> Budget:
    """A budget after its first reply."""
    budget = Budget(reserve)
    budget.replied(told(remaining), time.monotonic(), stamp)
    return budget


def part(budget: Budget) -> float | None:
    return budget.books().allowance


# Bots in processes of their own.

QUOTA, RESERVE = 250.0, 90.0  # cancels of all that may be ordered, 80, fit into the reserve


class Ledger:
    """Reckons from what the exchange was sent how often an order, and no cancel, got into the reserve."""

    def __init__(self) -> None:
        self.ordered = 0.0
        self.eaten = 0

    def __call__(self, received: Received) -> None:
        if received.operation == "create_order" and received.code != 429:
            self.ordered += 1.0
            self.eaten += QUOTA - self.ordered < RESERVE


def run_bots(redis: str | None, kinds: list[str]) -> tuple[Ledger, dict[str, int]]:
    """What became of everything that the bots tried, all beginning at once."""
    ledger = Ledger()
    with MockExchange(quota=int(QUOTA * 10), rate_window=3600, on_message=ledger).in_thread() as exchange:
        bots = [
            subprocess.Popen(
                [sys.executable, str(BOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
            for _ in kinds
        ]
        try:
            for kind, bot in zip(kinds, bots, strict=True):
                assert bot.stdin is not None
                wishes = {"url": exchange.url, "redis": redis, "reserve": RESERVE, "seconds": 0.5}
                bot.stdin.write(json.dumps(wishes | {"kind": kind}) + "\n")
                bot.stdin.flush()
            for bot in bots:
                assert bot.stdout is not None
                assert bot.stdout.readline() == "ready\n"
            for bot in bots:
                assert bot.stdin is not None
                bot.stdin.write("go\n")
                bot.stdin.flush()
            found = [json.loads(bot.communicate(timeout=PATIENCE)[0]) for bot in bots]
        finally:
            for bot in bots:
                bot.kill()
                bot.communicate()
    return ledger, {name: sum(each[name] for each in found) for name in found[0]}


KINDS = ["asyncio", "asyncio", "asyncio", "blocking"]


def test_many_bots_and_no_cancel_is_refused(server: Server, redis: Redis) -> None:
    ledger, found = run_bots(server.url, KINDS)
    assert ledger.eaten == 0
    assert found["refused"] == found["cancels_refused"] == 0
    assert found["held_back"] > 0
    assert found["cancelled"] == found["created"] > 0
    assert found["created"] <= QUOTA - RESERVE


def test_what_comes_of_not_sharing() -> None:
    """The same bots, each on its own, are too many: three bursts of 60 are more than the 160 there are."""
    ledger, found = run_bots(None, KINDS)
    assert ledger.eaten + found["refused"] + found["cancels_refused"] > 0


# What the bots hold together.


class Exchange:
    """One counter, and who gets into the reserve."""

    def __init__(self, quota: float, reserve: float) -> None:
        self.left = self.quota = quota
        self.reserve = reserve
        self.stamp = 0
        self.ordered = 0.0
        self.lock = threading.Lock()

    def execute(self, operation: str) -> tuple[Credits, int]:
        with self.lock:
            self.left -= 0.5 if operation == "cancel_order" else 1.0
            self.ordered += operation != "cancel_order"
            self.stamp += 1
            return Credits(self.left, self.quota, 3600.0), self.stamp


def test_threads_that_order_as_much_as_they_may(
    server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credits_redis, "_SCRIPT", PATIENT_SCRIPT)
    exchange = Exchange(quota=1000.0, reserve=100.0)
    done = threading.Event()
    failures: list[str] = []

    def trade(budget: Budget) -> None:
        while not done.is_set():
            try:
                budget.book(1.0, time.monotonic())
            except CreditsReserved:
                time.sleep(0.001)
                continue
            credits_then, stamp = exchange.execute("create_order")
            if credits_then.remaining < exchange.reserve:
                failures.append(f"an order left {credits_then.remaining}")
            time.sleep(0)  # replies overtake each other
            budget.replied(credits_then, time.monotonic(), stamp, "create_order")
            budget.settled(1.0, time.monotonic())

    budgets = [Budget(100.0) for _ in range(8)]
    for budget in budgets:
        budget.replied(Credits(1000.0, 1000.0, 3600.0), time.monotonic(), 0)
    with contextlib.ExitStack() as stack:
        for budget in budgets:
            stack.enter_context(RedisShare(budget, server.url, GROUP, interval=0.002, timeout=30))
        until(lambda: all(part(budget) is not None for budget in budgets))
        threads = [threading.Thread(target=trade, args=[budget]) for budget in budgets]
        for thread in threads:
            thread.start()
        try:  # each gets what the others leave, again and again, until less than one for each is left
            until(lambda: failures or exchange.ordered >= 900 - len(budgets))
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert failures == []


class Walker:
    """A bot whose share does only what a walk tells it, and whose replies come when it says so."""

    def __init__(self, url: str, exchange: Exchange) -> None:
        self.exchange = exchange
        self.budget = Budget(exchange.reserve)
        with (
            mock.patch.object(RedisShare, "_run"),
            mock.patch.object(credits_redis, "_SCRIPT", PATIENT_SCRIPT),
        ):
            self.share = RedisShare(self.budget, url, GROUP, timeout=PATIENCE)
        self.flying: list[tuple[str, float, tuple[Credits, int]]] = []
        self.delayed: list[tuple[list[str], list[Any]]] = []

    def order(self) -> None:
        with contextlib.suppress(CreditsReserved):
            self.budget.book(1.0, time.monotonic())
            self._send("create_order", 1.0)

    def cancel(self) -> None:
        self.budget.spent(0.5)
        self._send("cancel_order", 0.5)

    def _send(self, operation: str, cost: float) -> None:
        self.flying.append((operation, cost, self.exchange.execute(operation)))

    def reply(self, which: int) -> None:
        if self.flying:
            operation, cost, (credits_then, stamp) = self.flying.pop(which % len(self.flying))
            self.budget.replied(credits_then, time.monotonic(), stamp, operation)
            self.budget.settled(cost, time.monotonic())

    def ask(self, between: Callable[[], None] = lambda: None) -> None:
        """One turn; something may happen before the answer is here."""
        books = self.budget.books()
        answer = self.share._ask(books, time.monotonic())
        between()
        self.share._answered(answer, books, time.monotonic())

    def ask_in_vain(self) -> None:
        """Redis does it, and the answer is lost."""
        self.share._ask(self.budget.books(), time.monotonic())

    def delay(self) -> None:
        """It is left in a socket until :meth:`overtaken`."""

        def leave(keys: list[str], args: list[Any]) -> list[bytes]:
            self.delayed.append((keys, args))
            return []

        with mock.patch.object(self.share, "_script", leave):
            self.share._ask(self.budget.books(), time.monotonic())

    def overtaken(self) -> None:
        while self.delayed:
            keys, args = self.delayed.pop()
            self.share._script(keys=keys, args=args)


STEPS = ("order", "order", "order", "burst", "cancel", "reply", "reply", "ask", "ask", "ask while ordering")
RARE_STEPS = ("ask in vain", "delay", "overtaken", "Redis forgets")
BOTS = 3


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Redis]]:
    """A server for many examples."""
    server = Server(tmp_path_factory.mktemp("walk"))
    try:
        with contextlib.closing(server.start()) as redis:
            yield server, redis
    finally:
        server.kill()


def walk(url: str, redis: Redis, steps: list[tuple[str, int, int]]) -> float:
    """Take them; what is held never exceeds what there is. Return how much was ordered."""
    redis.flushall()
    exchange = Exchange(quota=60.0, reserve=10.0)
    bots = [Walker(url, exchange) for _ in range(BOTS)]
    try:
        for bot in bots:
            bot.cancel()
            bot.reply(0)
            bot.ask()
        redis.hset(KEY, "born", "0")  # all have had time to come
        for step, index, which in steps:
            bot = bots[index]
            match step:
                case "order":
                    bot.order()
                case "burst":
                    for _ in range(30):
                        bot.order()
                case "cancel":
                    bot.cancel()
                case "reply":
                    bot.reply(which)
                case "ask":
                    bot.ask()
                case "ask while ordering":
                    bot.ask(bot.order)
                case "ask in vain":
                    bot.ask_in_vain()
                case "delay":
                    bot.delay()
                case "overtaken":
                    bot.overtaken()
                case "Redis forgets":
                    redis.flushall()
            held = sum(max(0.0, part(bot.budget) or 0.0) for bot in bots)
            assert exchange.ordered + held <= exchange.quota - exchange.reserve + 1e-9, step
    finally:
        for bot in bots:
            bot.share._leave()
    return exchange.ordered


any_step = st.tuples(st.sampled_from(STEPS + RARE_STEPS), st.integers(0, BOTS - 1), st.integers(0, 9))


@settings(max_examples=60)
@given(steps=st.lists(any_step, max_size=60))
@example(steps=[("Redis forgets", 0, 0), ("ask", 2, 0)])
def test_together_they_never_hold_more_than_there_is(
    walking: tuple[Server, Redis], steps: list[tuple[str, int, int]]
) -> None:
    walk(walking[0].url, walking[1], steps)


@pytest.mark.parametrize("seed", range(10))
def test_a_long_walk(walking: tuple[Server, Redis], seed: int) -> None:
    chance = random.Random(seed)
    steps = [(chance.choice(STEPS), chance.randrange(BOTS), chance.randrange(10)) for _ in range(400)]
    ordered = walk(walking[0].url, walking[1], steps)
    assert ordered > 20  # of 50, less the cancels; parts were topped up


def test_a_call_that_was_overtaken_changes_nothing(walking: tuple[Server, Redis]) -> None:
    server, redis = walking
    redis.flushall()
    bot = Walker(server.url, Exchange(quota=60.0, reserve=10.0))
    try:
        bot.cancel()
        bot.delay()
        bot.reply(0)
        bot.ask()
        before = redis.hgetall(KEY)
        assert len(before) == 3
        bot.overtaken()
        assert redis.hgetall(KEY) == before
    finally:
        bot.share._leave()


class Clocked:
    """The script, under a clock that may be set; all bots know a quota of 125 and keep 10."""

    SCRIPT = credits_redis._SCRIPT.replace("redis.call('TIME')", "{redis.call('GET', 'clock'), 0}")
    assert SCRIPT != credits_redis._SCRIPT

    def __init__(self, redis: Redis) -> None:
        redis.flushall()
        self.redis = redis
        self.script = redis.register_script(self.SCRIPT)
        self.calls = 0

    def ask(
        self, at: float, bot: str, held: float, left: float, rest: float, stamp: int = 1
    ) -> credits_redis._Answer:
        self.redis.set("clock", at)
        self.calls += 1
        args: list[str | float] = [bot, self.calls, held, 0, 10, 1, 0, stamp, left, 125, int(rest * 1000)]
        return credits_redis._Answer(*map(float, self.script(keys=[KEY], args=args)))


HOUR = 3600


def test_a_clock_set_back_does_not_make_the_window_longer(walking: tuple[Server, Redis]) -> None:
    clocked = Clocked(walking[1])
    clocked.ask(1_000_000, "one", 0.0, left=12.0, rest=55.0)
    answer = clocked.ask(1_000_005 - HOUR, "one", 2.0, left=12.0, rest=50.0)
    assert (answer.left, answer.rest) == (12.0, 50_000.0)
    answer = clocked.ask(1_000_060 - HOUR, "two", 0.0, left=20.0, rest=-5.0, stamp=0)
    assert answer.left == 125.0  # whoever asks


def test_a_clock_set_back_keeps_no_dead_bot_alive(walking: tuple[Server, Redis]) -> None:
    clocked = Clocked(walking[1])
    for at in (1_000_000, 1_000_004):
        for bot in ("dead", "other"):
            answer = clocked.ask(at, bot, 0.0, left=110.0, rest=55.0)
    assert answer.bots == 2
    for later in range(5, 20):
        answer = clocked.ask(1_000_000 - HOUR + later, "other", 50.0, left=110.0, rest=50.0)
    assert (answer.bots, answer.grant) == (1, 50.0)


def test_a_clock_set_back_is_a_beginning_that_passes(walking: tuple[Server, Redis]) -> None:
    clocked = Clocked(walking[1])
    clocked.ask(1_000_000, "one", 0.0, left=110.0, rest=55.0)
    born = [clocked.ask(1_000_000 - HOUR + later, "one", 0.0, 110.0, 55.0).born for later in range(5)]
    assert born == [(1_000_000 - HOUR) * 1000] * 5


def test_all_comes_back_when_it_is_due(server: Server, redis: Redis) -> None:
    """Both know that 20 are left, for 0.2 s."""
    one, other = Budget(10.0), Budget(10.0)
    with (
        RedisShare(one, server.url, GROUP, interval=0.01, timeout=PATIENCE),
        RedisShare(other, server.url, GROUP, interval=0.01, timeout=PATIENCE),
    ):
        one.replied(told(20.0, refresh=0.2), time.monotonic(), 1)
        until(lambda: part(one) == part(other) == 57.5)
        other.book(57.0, time.monotonic())
        other.settled(57.0, time.monotonic())
        other.replied(told(68.0, refresh=3600.0), time.monotonic(), 2)
        until(lambda: part(one) == part(other) == 29.0)


def test_alone_it_takes_its_part_once_in_a_window() -> None:
    budget = Budget(5.0)
    with mock.patch.object(RedisShare, "_run"):
        share = RedisShare(budget, "unix:///nowhere", GROUP)

    def turn(now: float) -> float | None:
        share._alone(budget.books(), now)
        return part(budget)

    assert turn(0.0) is None  # nothing is known
    budget.replied(told(105.0, refresh=30.0), 0.0, 1)
    assert turn(0.0) == 50.0  # it takes itself for one of two
    budget.spent(20.0)
    assert turn(29.0) == 30.0
    budget.settled(20.0, 29.0)
    assert turn(31.0) == 60.0  # of a whole quota
    budget.book(10.0, 40.0)
    budget.settled(10.0, 40.0)
    budget.replied(told(115.0, refresh=60.0), 40.0, 2)
    assert turn(41.0) == 50.0  # the reply tells when the window ends, but it is the same
    assert turn(99.0) == 50.0
    assert turn(100.0) == 60.0
    share._leave()


# Redis slow, or gone.


class Trader:
    """A client of either kind, with one order to cancel after the other."""

    def __init__(self, exchange: MockExchange, kind: str, stack: contextlib.ExitStack) -> None:
        self.exchange = exchange
        keypair = stack.enter_context(Keypair.generate())
        signer = Signer(keypair, expiry_window=600_000)
        self.account = signer.account
        self._do: Callable[[Any], Any]
        if kind == "asyncio":
            runner = stack.enter_context(asyncio.Runner())
            opening = connect(signer, url=exchange.url, timeout=PATIENCE)
            self.client: Any = runner.run(_entered(opening))
            stack.callback(lambda: runner.run(self.client.close()))
            self._do = lambda call: runner.run(_awaited(call))
        else:
            self.client = stack.enter_context(connect_blocking(signer, url=exchange.url, timeout=PATIENCE))
            self._do = lambda call: call()
        self.budget: Budget = self.client.budget

    def cancel(self) -> CancelAck:
        """Cancel an order of its own; whatever is no acknowledgement is raised."""
        order = self.exchange.place(self.account, symbol="BTC", side="bid", price="50000", amount="0.01")
        ack = self._do(lambda: self.client.cancel_order("BTC", order_id=order.order_id))
        assert isinstance(ack, CancelAck)
        return ack

    def order(self) -> None:
        data = {"symbol": "BTC", "price": "50000", "amount": "0.01", "side": "bid", "tif": "ALO"}
        self._do(lambda: self.client.request("create_order", data | {"reduce_only": False}))

    def orders(self, count: int) -> None:
        for _ in range(count):
            self.order()


async def _entered(opening: Any) -> Any:
    return await opening


async def _awaited(call: Callable[[], Any]) -> Any:
    return await call()


@pytest.fixture(params=["asyncio", "blocking"])
def trader(request: pytest.FixtureRequest) -> Iterator[Trader]:
    """It knows what is left."""
    with MockExchange(rate_window=3600).in_thread() as exchange, contextlib.ExitStack() as stack:
        trader = Trader(exchange, request.param, stack)
        trader.cancel()
        yield trader


def test_a_cancel_does_not_wait_for_a_redis_that_stands_still(
    server: Server, redis: Redis, trader: Trader
) -> None:
    with RedisShare(trader.budget, server.url, GROUP, timeout=PATIENCE) as share:
        until(lambda: part(trader.budget) is not None)
        server.freeze()
        try:
            call = share._calls
            until(lambda: share._calls > call)  # begun when nobody could answer any more
            asked = share._calls
            for _ in range(5):
                trader.cancel()
            trader.order()
            assert share._calls == asked  # all that while it waited
            assert share.connected
        finally:
            server.thaw()
        until(lambda: share._calls > asked)
        assert share.connected


def paused(server: Server) -> None:
    with contextlib.closing(server.client()) as redis:
        redis.client_pause(600_000, all=False)  # of a pause of all there is no way back


def again_after_pause(server: Server) -> None:
    with contextlib.closing(server.client()) as redis:
        redis.client_unpause()


FAILURES = [
    pytest.param(Server.kill, Server.start, id="killed"),
    pytest.param(Server.freeze, Server.thaw, id="frozen"),
    pytest.param(paused, again_after_pause, id="paused"),
]


@pytest.mark.parametrize(("fail", "recover"), FAILURES)
def test_a_redis_that_comes_back(
    server: Server,
    redis: Redis,
    trader: Trader,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[Server], object],
    recover: Callable[[Server], object],
) -> None:
    caplog.set_level(logging.INFO, "pacifica_fast.credits")
    with RedisShare(trader.budget, server.url, GROUP, interval=0.01, timeout=0.1) as share:
        until(lambda: share.connected and part(trader.budget))
        fail(server)
        until(lambda: not share.connected)
        failures = share._failures
        trader.cancel()
        trader.order()  # of the part it has
        until(lambda: share._failures > failures + 1)
        assert not share.connected
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "this bot keeps to its part of the credits, one of" in warnings[-1].message
        assert part(trader.budget) is not None
        caplog.clear()
        recover(server)
        until(lambda: share.connected)
        until(lambda: "answers again" in caplog.text)
        trader.cancel()
    assert part(trader.budget) is None


def refusing(tmp_path: Path) -> Iterator[str]:
    """A port where nobody listens, nor will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://bot:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/0"


def never_there(tmp_path: Path) -> Iterator[str]:
    yield f"unix://bot:{PASSWORD}@{tmp_path}/nothing"


def silent(tmp_path: Path) -> Iterator[str]:
    """Something that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/0"


def no_redis(tmp_path: Path) -> Iterator[str]:
    """Something that says what it was sent, and is no Redis."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:

        def echo() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = stack.enter_context(listener.accept()[0])
                    peer.sendall(b"-ERR you said " + peer.recv(1000).replace(b"\r\n", b" ") + b"\r\n")

        thread = threading.Thread(target=echo)
        thread.start()
        yield f"redis://:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("where", [refusing, never_there, silent, no_redis])
def test_a_redis_that_is_not_there(
    tmp_path: Path,
    trader: Trader,
    caplog: pytest.LogCaptureFixture,
    where: Callable[[Path], Iterator[str]],
) -> None:
    with contextlib.contextmanager(where)(tmp_path) as url:  # noqa: SIM117
        with RedisShare(trader.budget, url, GROUP, interval=0.01, timeout=0.1) as share:
            trader.cancel()
            until(lambda: share._failures > 2)
            assert not share.connected
            left = trader.budget.available(time.monotonic())
            assert left is not None
            assert part(trader.budget) == pytest.approx((left + 0.5 - 10) / 2, abs=1)  # one of two
            trader.cancel()
            trader.order()
            with pytest.raises(CreditsReserved) as caught:
                trader.orders(100)
            assert caught.value.remaining > caught.value.reserve > 10  # what is another's is kept too
            trader.cancel()
            shown = [repr(share), str(vars(share)), caplog.text, str(caught.value)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # once
    assert not any(PASSWORD in text for text in shown)


def test_a_wrong_password(server: Server, trader: Trader, caplog: pytest.LogCaptureFixture) -> None:
    server.start("--requirepass", "another").close()
    with RedisShare(trader.budget, f"unix://:{PASSWORD}@{server.path}", GROUP, interval=0.01) as share:
        until(lambda: share._failures > 1)
        assert not share.connected
        trader.cancel()
        with contextlib.closing(server.client("another")) as redis:
            redis.config_set("requirepass", PASSWORD)
        until(lambda: share.connected)
        assert "AuthenticationError" in caplog.text
        assert PASSWORD not in caplog.text + repr(share)


def test_rediss_to_what_speaks_no_tls(trader: Trader, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.contextmanager(no_redis)(Path()) as url:
        secure = url.replace("redis://", "rediss://")
        with RedisShare(trader.budget, secure, GROUP, interval=0.01, timeout=0.1) as share:
            until(lambda: share._failures > 1)
            trader.cancel()
    assert PASSWORD not in caplog.text


# What it refuses.

GOOD = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("budget", None),
        ("budget", "credits"),
        ("url", None),
        ("url", b"redis://127.0.0.1"),
        ("url", ""),
        ("url", f"http://:{PASSWORD}@127.0.0.1"),
        ("url", f"redis://:{PASSWORD}/x@127.0.0.1:6379"),  # what is a port then?
        ("url", f"redis://:{PASSWORD}@127.0.0.1:{PASSWORD}"),
        ("url", f"redis://:{PASSWORD}@127.0.0.1:99999"),
        ("url", f"redis://:{PASSWORD}@127.0.0.1/0?sokcet_timeout=1"),
        ("url", f"redis://127.0.0.1/0?password={PASSWORD}&max_connections={PASSWORD}"),
        ("group", None),
        ("group", b"desk"),
        ("group", ""),
        ("group", "x" * 129),
        ("group", "desk\n1"),
        *[(field, wrong) for field in ("interval", "timeout") for wrong in (0, -1.0, 61, True, "1", None)],
        *[(field, wrong) for field in ("interval", "timeout") for wrong in (float("nan"), float("inf"))],
    ],
)
def test_what_it_refuses(field: str, wrong: Any) -> None:
    threads = threading.active_count()
    budget = Budget()
    arguments: dict[str, Any] = {"budget": budget, "url": GOOD, "group": GROUP} | {field: wrong}
    with pytest.raises(InvalidRequest, match=f"^{field}: ") as caught:
        RedisShare(**arguments)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in f"{error} {error!r}"
        error = error.__context__
    assert threading.active_count() == threads
    RedisShare(budget, GOOD, GROUP).close()  # it is nobody's


def test_a_budget_is_shared_once() -> None:
    budget = Budget()
    with RedisShare(budget, GOOD, GROUP):
        with pytest.raises(InvalidRequest, match=r"^budget: it is shared"):
            RedisShare(budget, GOOD, "desk 2")
        RedisShare(Budget(), GOOD, GROUP).close()
    with RedisShare(budget, GOOD, "desk 2") as share:
        assert repr(share) == "<RedisShare of 'desk 2' at 127.0.0.1:1/0>"


# The end.


def connections(redis: Redis) -> int:
    return len(redis.client_list())


def test_close_gives_the_part_back(server: Server, redis: Redis) -> None:
    one, other = informed(), informed()
    with RedisShare(one, server.url, GROUP, interval=0.01, timeout=PATIENCE) as staying:
        leaving = RedisShare(other, server.url, GROUP, interval=0.01, timeout=PATIENCE)
        until(lambda: staying.bots == leaving.bots == 2)
        until(lambda: part(one) == part(other) == 57.5)
        assert len(redis.hgetall(KEY)) == 4  # born, told, and the two
        leaving.close()
        leaving.close()
        assert not leaving._thread.is_alive()
        assert not leaving.connected
        assert part(other) is None
        other.book(100.0, time.monotonic())  # its own again
        assert leaving._me not in redis.hgetall(KEY)
        redis.hset(KEY, "born", "0")  # as if long enough ago for all to have come
        until(lambda: part(one) == 115.0)
        assert staying.bots == 1
    assert sorted(redis.hgetall(KEY)) == ["born", "told"]
    until(lambda: connections(redis) == 1)


def test_close_when_redis_does_not_answer(server: Server, redis: Redis) -> None:
    budget = informed()
    share = RedisShare(budget, server.url, GROUP, interval=0.01, timeout=0.1)
    until(lambda: share.connected)
    server.freeze()
    share.close()
    until(lambda: not share._thread.is_alive())
    assert part(budget) is None
    server.thaw()
    until(lambda: connections(redis) == 1)


def test_close_when_redis_refuses(server: Server) -> None:
    with contextlib.closing(server.start("--rename-command", "HDEL", "")) as redis:
        budget = informed()
        share = RedisShare(budget, server.url, GROUP, timeout=PATIENCE)
        until(lambda: share.connected)
        share.close()
        assert part(budget) is None
        until(lambda: connections(redis) == 1)
        assert not share.connected  # it is there still: nobody else closed its socket


PROLOGUE = """
import gc, logging, os, sys, threading, time, warnings
from pacifica_fast.credits import Budget
from pacifica_fast.credits_redis import RedisShare
from pacifica_fast.errors import InvalidRequest
from pacifica_fast.replies import Credits

# Python 3.12 warns of every fork beside threads; surviving it is what is tested here.
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)

logging.disable()
url = sys.argv[1]

def informed():
    budget = Budget(10.0)
    budget.replied(Credits(125.0, 125.0, 30.0), time.monotonic(), 1)
    return budget

def until(condition):
    while not condition():
        time.sleep(0.005)

def files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
"""


def run(server: Server, script: str) -> None:
    """It must succeed, and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROLOGUE + textwrap.dedent(script), server.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_nothing_is_left(server: Server, redis: Redis) -> None:
    script = """
    before = files()
    for _ in range(3):
        with RedisShare(informed(), url, "desk 1", interval=0.01) as share:
            until(lambda: share.connected)
            assert threading.active_count() == 2
            assert not before or files() > before
        assert threading.active_count() == 1
        assert files() == before
    with RedisShare(informed(), url + ".not", "desk 1", interval=0.01) as share:
        until(lambda: share._failures)
    assert threading.active_count() == 1
    assert files() == before
    del share
    gc.collect()
    """
    run(server, script)


def test_the_interpreter_ends_without_close(server: Server, redis: Redis) -> None:
    run(server, "share = RedisShare(informed(), url, 'desk 1'); until(lambda: share.connected)")
    run(server, "share = RedisShare(informed(), url + '.not', 'desk 1'); until(lambda: share._failures)")


def test_a_fork(server: Server, redis: Redis) -> None:
    script = """
    budget = informed()
    share = RedisShare(budget, url, "desk 1", interval=0.01, timeout=60)
    until(lambda: share.connected)
    asked = share._calls
    child = os.fork()
    if child == 0:
        assert threading.active_count() == 1
        assert not share.connected
        share.close()
        assert "desk 1" in repr(share)
        with RedisShare(informed(), url, "desk 1", interval=0.01, timeout=60) as own:
            until(lambda: own.connected and own.bots == 2)
        del share
        gc.collect()
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert share.connected
    now = share._calls
    until(lambda: share._calls > now + 2)
    assert share.connected
    assert share._failures == 0
    share.close()
    assert threading.active_count() == 1
    """
    run(server, script)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "pacifica_fast.credits_redis")
    with pytest.raises(
        ImportError, match=r"^sharing credits needs redis: pip install 'pacifica-fast\[redis\]'$"
    ):
        importlib.import_module("pacifica_fast.credits_redis")
