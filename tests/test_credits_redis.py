# SPDX-License-Identifier: MIT
"""One quota for many bots, through a real Redis: what they hold together, and what they do without it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica_fast import CreditsReserved, InvalidRequest, Keypair, Rejected, Signer
from pacifica_fast.credits import Budget
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.replies import Credits
from pacifica_fast.sync import connect

redis = pytest.importorskip("redis")

from pacifica_fast import credits_redis  # noqa: E402
from pacifica_fast.credits_redis import RedisShare  # noqa: E402

BOT = Path(__file__).with_name("sharing_bot.py")
PATIENCE = 20.0  # s, before a test gives up


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


class Server:
    """A redis-server of our own, on a unix socket, that keeps nothing on disk."""

    def __init__(self, directory: Path, password: str = "") -> None:
        self._socket = directory / "redis.sock"
        self._arguments = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(directory)]
        self._arguments += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        if password:
            self._arguments += ["--requirepass", password]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"
        self.client = redis.Redis.from_url(self.url, password=password or None)

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("there is no redis-server here")
        self._process = subprocess.Popen([program, *self._arguments], stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stand_still(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.client.close()
        self.stop()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with closing(Server(tmp_path_factory.mktemp("redis"))) as server:
        server.start()
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.client.flushall()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One that a test may maltreat."""
    with closing(Server(tmp_path)) as server:
        server.start()
        yield server


@pytest.fixture
def signer() -> Signer:
    return Signer(Keypair.from_seed(bytes(range(32))))


def told(
    budget: Budget, remaining: float, quota: float = 125.0, stamp: int = 1, refresh: float = 60.0
) -> None:
    budget.replied(Credits(remaining, quota, refresh), time.monotonic(), stamp)


def allowance(budget: Budget) -> float:
    return budget.books().allowance or 0.0


# Together.


@pytest.mark.parametrize("shared", [True, False])
def test_no_cancel_of_many_bots_is_refused(server: Server, signer: Signer, shared: bool) -> None:
    """Three processes that order as much as they may. Without sharing they eat each other's reserve."""
    with MockExchange(quota=1000, rate_window=600.0).in_thread() as exchange, ExitStack() as stack:
        bots = [stack.enter_context(bot(exchange, server if shared else None, kind)) for kind in KINDS]
        for process in bots:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        found = [json.loads(process.communicate("go\n", PATIENCE)[0]) for process in started(bots)]
    total = {field: sum(bot[field] for bot in found) for field in found[0]}
    assert total["created"] > 0
    assert total["held_back"] > 0 or not shared
    if shared:
        assert total["cancels_refused"] == total["refused"] == 0
        assert total["cancelled"] == total["created"]
    else:
        assert total["cancels_refused"] > 0


KINDS = ("asyncio", "blocking", "asyncio")


def bot(exchange: MockExchange, server: Server | None, kind: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(BOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    wish = {"kind": kind, "url": exchange.url, "reserve": 30.0, "seconds": 1.0}
    process.stdin.write(json.dumps(wish | {"redis": server.url if server else None}) + "\n")
    process.stdin.flush()
    return process


def started(bots: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """All at once: the last one to begin is no help to the first."""
    for process in bots[1:]:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return bots


def test_a_part_for_each_and_no_credit_twice(server: Server) -> None:
    budgets = [Budget(reserve=10.0) for _ in range(3)]
    with ExitStack() as stack:
        shares = [
            stack.enter_context(RedisShare(each, server.url, "desk", interval=0.01)) for each in budgets
        ]
        told(budgets[0], 100.0)
        until(lambda: all(share.bots == 3 for share in shares))
        until(lambda: [allowance(each) for each in budgets] == [30.0] * 3)
        budgets[1].book(1.0, time.monotonic())
        for _ in range(29):
            budgets[0].book(1.0, time.monotonic())
        assert sum(map(allowance, budgets)) <= 90.0 - 30.0
        budgets[0].settled(29.0)
        told(budgets[0], 71.0, stamp=2)
        # What is left is divided anew, but nobody gives more back than he has too much.
        until(lambda: allowance(budgets[0]) > 15.0)
        assert sum(map(allowance, budgets)) <= 60.0
        shares[2].close()
        until(lambda: shares[0].bots == shares[1].bots == 2)
    assert [each.books().allowance for each in budgets] == [None] * 3  # each is alone again


def test_another_group_is_another_quota(server: Server) -> None:
    one, other = Budget(), Budget()
    with RedisShare(one, server.url, "one", interval=0.01), RedisShare(other, server.url, "other"):
        told(one, 100.0)
        until(lambda: allowance(one) == 100.0)
        assert other.books().allowance is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ask", "spend", "reply"])), max_size=60))
def test_together_they_never_hold_more_than_there_is(
    shared_server: Server, steps: list[tuple[int, str]]
) -> None:
    """The script alone, asked in any order; ``left`` is the exchange's own count."""
    shared_server.client.flushall()
    script = shared_server.client.register_script(credits_redis._SCRIPT)
    left, reserve, stamp = 100.0, 10.0, 1
    held, calls = [0.0] * 4, 0
    known: list[tuple[int, float]] = [(1, left)] * 4
    for who, step in steps:
        if step == "spend" and held[who] >= 1.0:
            held[who] -= 1.0
            left -= 1.0
            stamp += 1
            known[who] = (stamp, left)  # its reply
        elif step == "reply":
            stamp += 1
            known[who] = (stamp, left)
        elif step == "ask":
            calls += 1
            told_stamp, told_left = known[who]
            answer = script(
                keys=["k"],
                args=[f"bot {who}", calls, held[who], 0, reserve, 1, told_stamp, told_left, 125, 60_000],
            )
            held[who] = min(held[who] + float(answer[1]), float(answer[2]))
        assert sum(held) <= left - reserve


# Redis is slow, or gone.


@pytest.mark.parametrize("trouble", ["stands still", "is killed"])
def test_a_cancel_never_waits_for_redis(
    own_server: Server, signer: Signer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        MockExchange(quota=1000, rate_window=600.0).in_thread() as exchange,
        connect(signer, url=exchange.url) as client,
        RedisShare(client.budget, own_server.url, "desk", interval=0.01, timeout=0.1) as share,
    ):
        until(lambda: share.connected)
        if trouble == "is killed":
            own_server.stop()
        else:
            own_server.stand_still()
        until(lambda: not share.connected)
        with pytest.raises(Rejected, match="420"):  # it was there and back
            client.cancel_order("BTC", order_id=1)
        assert len(exchange.requests) == 1
        assert client.credits.remaining == 99.5
        if trouble == "is killed":
            own_server.start()
        else:
            own_server.go_on()
        until(lambda: share.connected)
        until(lambda: allowance(client.budget) > 0)
    complaints = [record.message for record in caplog.records if record.name == "pacifica_fast.credits"]
    assert len(complaints) == 1
    assert "keeps to its part" in complaints[0]


def test_without_redis_a_bot_takes_its_part_in_each_window(tmp_path: Path) -> None:
    budget = Budget(reserve=10.0)
    nowhere = f"unix://{tmp_path}/nobody.sock"
    with RedisShare(budget, nowhere, "desk", interval=0.01) as share:
        assert not share.connected
        told(budget, 90.0, refresh=0.5)
        until(lambda: allowance(budget) == 40.0)  # there may be another
        for _ in range(40):
            budget.book(1.0, time.monotonic())
        with pytest.raises(CreditsReserved):
            budget.book(1.0, time.monotonic())
        budget.spent(0.5)  # a cancel's
        budget.settled(40.5)
        until(lambda: allowance(budget) == 57.5)  # of a whole quota


def test_those_who_have_met_keep_their_parts_when_it_goes(own_server: Server) -> None:
    budgets = [Budget(), Budget(), Budget()]
    with ExitStack() as stack:
        shares = [
            stack.enter_context(RedisShare(each, own_server.url, "desk", interval=0.01)) for each in budgets
        ]
        told(budgets[0], 90.0)
        until(lambda: [allowance(each) for each in budgets] == [30.0] * 3)
        own_server.stop()
        until(lambda: not any(share.connected for share in shares))
        told(budgets[0], 90.0, stamp=2)
        assert [allowance(each) for each in budgets] == [30.0] * 3
        told(budgets[1], 125.0, stamp=3, refresh=120.0)  # the next window
        until(lambda: allowance(budgets[1]) == pytest.approx(125.0 / 3))


# Secrets, input, and the end.


def test_a_wrong_password_is_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(Server(tmp_path, password="right")) as server:
        server.start()
        url = server.url.replace("unix://", "unix://user:swordfish@")
        with RedisShare(Budget(), url, "desk", interval=0.01) as share:
            until(lambda: caplog.records)
            assert not share.connected
            assert "swordfish" not in repr(share)
    assert caplog.text
    assert "swordfish" not in caplog.text


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("budget", {"budget": 5}),
        ("url", {"url": 5}),
        ("url", {"url": "http://user:swordfish@localhost"}),
        ("url", {"url": "redis://user:swordfish@localhost:port"}),
        ("group", {"group": ""}),
        ("group", {"group": "x" * 129}),
        ("group", {"group": "a\nb"}),
        ("group", {"group": b"desk"}),
        ("interval", {"interval": 0}),
        ("interval", {"interval": float("nan")}),
        ("timeout", {"timeout": True}),
        ("timeout", {"timeout": 61}),
    ],
)
def test_bad_input_is_named(field: str, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"budget": Budget(), "url": "redis://localhost", "group": "desk"}
    with pytest.raises(InvalidRequest, match=f"^{field}: ") as caught:
        RedisShare(**arguments | wrong)
    assert "swordfish" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_budget_is_shared_once(server: Server) -> None:
    budget = Budget()
    with RedisShare(budget, server.url, "desk"):  # noqa: SIM117
        with pytest.raises(InvalidRequest, match="budget: it is shared"):
            RedisShare(budget, server.url, "another desk")
    with RedisShare(budget, server.url, "another desk"):
        pass


def test_closing_leaves_nothing(server: Server) -> None:
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    budget = Budget()
    share = RedisShare(budget, server.url, "desk", interval=0.01)
    told(budget, 50.0)
    until(lambda: allowance(budget) > 0)
    assert server.client.hlen("pacifica_fast:credits:desk") == 3  # born, told, and this bot
    share.close()
    share.close()
    assert not share.connected
    assert server.client.hlen("pacifica_fast:credits:desk") == 2
    assert server.client.pttl("pacifica_fast:credits:desk") > 0
    assert not [thread for thread in threading.enumerate() if thread.name == "pacifica_fast credits"]
    assert budget.books().allowance is None
    if descriptors:
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later
def test_in_a_child_it_stays_the_parents(server: Server) -> None:
    budget = Budget()
    with RedisShare(budget, server.url, "desk", interval=0.01) as share:
        told(budget, 50.0)
        until(lambda: share.connected)
        child = os.fork()
        if child == 0:
            share.close()
            same = RedisShare(budget, server.url, "desk")  # its own, of what is its own by now
            same.close()
            os._exit(0 if not share.connected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert share.connected


def test_without_the_package_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['redis'] = None\nimport pacifica_fast.credits_redis"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'pacifica-fast[redis]'" in result.stderr
