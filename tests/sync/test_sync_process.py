# SPDX-License-Identifier: MIT
"""The blocking client where the process is not just one: forks, and the interpreter's exit.

Each case is a script of its own, for a fork of the test process would copy the locks of all its threads.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from pacifica_fast.mock_exchange import MockExchange

PATIENCE = 60.0  # s
FORKED = "this process was forked from the one that connected"

PROLOGUE = """
import ctypes, os, ssl, sys, threading, time, warnings
from pacifica_fast import KeyClosed, Keypair, NotSent, OutcomeUnknown, Rejected, Signer
from pacifica_fast.sync import connect

# Python 3.12 warns of every fork beside threads; surviving it is what is tested here.
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)

url, authority = sys.argv[1:]
signer = Signer(Keypair.from_seed(bytes(range(32))))
context = ssl.create_default_context(cadata=authority) if authority else None

def to_exchange(**options):
    return connect(signer, url=url, ssl=context, **options)

def child_succeeded(pid):
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
"""


@pytest.fixture(params=["wss", "ws"])
def exchange(request: pytest.FixtureRequest) -> Iterator[MockExchange]:
    with MockExchange(tls=request.param == "wss").in_thread() as exchange:
        yield exchange


def run(exchange: MockExchange, script: str) -> str:
    """What the script prints; it must succeed, and say nothing on stderr."""
    authority = exchange.authority_pem if exchange.url.startswith("wss") else ""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(script), exchange.url, authority],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_exit_without_close(exchange: MockExchange) -> None:
    """No hang, no noise, and the exchange is told."""
    exchange.faults.drop_replies()
    script = """
        clients = [to_exchange() for _ in range(3)]
        clients[0].cancel_order_nowait("BTC", order_id=1)
        print("bye")
    """
    assert run(exchange, script) == "bye\n"
    assert exchange.connections == 0
    assert exchange.verified == 1


def test_exit_while_a_thread_waits(exchange: MockExchange) -> None:
    """Daemon threads, one that waits and one that sends: they get their fates if they still get to run."""
    exchange.faults.drop_replies(1)
    script = """
        client = to_exchange()
        pending = client.cancel_order_nowait("BTC", order_id=1)

        def wait():
            try:
                pending.result()
            except OutcomeUnknown as error:
                os.write(1, str(error).encode())

        def send():
            while True:
                time.sleep(0.001)
                try:
                    client.cancel_order_nowait("BTC", order_id=2)
                except (NotSent, KeyClosed):  # keys are wiped at exit too
                    return

        for target in (wait, send):
            threading.Thread(target=target, daemon=True).start()
        time.sleep(0.05)
    """
    assert run(exchange, script) in ("", "the client was closed")
    assert exchange.connections == 0


def test_exit_by_an_exception(exchange: MockExchange) -> None:
    script = """
        client = to_exchange()
        client.cancel_order_nowait("BTC", order_id=1)
        raise SystemExit(0)
    """
    assert run(exchange, script) == ""
    assert exchange.connections == 0


def test_exit_after_the_exchange_went_silent(exchange: MockExchange) -> None:
    """It does not answer the close frame either: the exit waits 2 s, and no longer."""
    script = """
        import socket
        client = to_exchange()
        silent, other = socket.socketpair()
        os.dup2(silent.fileno(), client._links.use.fileno())
        other.detach(), silent.detach()
    """
    assert run(exchange, script) == ""


def test_a_forked_child_neither_sends_nor_hangs(exchange: MockExchange) -> None:
    exchange.faults.drop_replies()
    script = """
        client = to_exchange()
        pending = client.cancel_order_nowait("BTC", order_id=1)
        pid = os.fork()
        if pid == 0:
            assert not client.connected
            for call in (lambda: client.cancel_order("BTC", order_id=2), client.cancel_all_orders):
                try:
                    call()
                except (NotSent, KeyClosed) as error:
                    print(type(error).__name__, error)
            try:
                pending.result()
            except OutcomeUnknown as error:
                print("OutcomeUnknown", error)
            client.close()
            sys.exit()
        child_succeeded(pid)
        assert client.connected
        try:
            client.cancel_order("BTC", order_id=3)
        except Rejected as error:
            print(error)
        client.close()
        try:
            pending.result()
        except OutcomeUnknown as error:
            print(error)
    """
    assert run(exchange, script).splitlines() == [
        f"NotSent {FORKED}",
        f"NotSent {FORKED}",
        f"OutcomeUnknown {FORKED}",
        "420: Failed to cancel order",
        "the client was closed",
    ]
    assert len(exchange.requests) == 2


def test_a_forked_child_may_connect_for_itself(exchange: MockExchange) -> None:
    script = """
        client = to_exchange()
        pid = os.fork()
        if pid == 0:
            signer = Signer(Keypair.generate())
            with to_exchange() as own:
                try:
                    own.cancel_order("BTC", order_id=1)
                except Rejected:
                    sys.exit()
            sys.exit("not rejected")
        child_succeeded(pid)
        try:
            client.cancel_order("BTC", order_id=1)
        except Rejected:
            print("both")
    """
    assert run(exchange, script) == "both\n"
    assert exchange.verified == 2


def test_forks_while_threads_send() -> None:
    """Whoever has the turn at that moment does not exist in the child."""
    script = """
        client = to_exchange()
        stop = False
        sent = []

        def send():
            count = 0
            while not stop:
                try:
                    client.cancel_order_nowait("BTC", order_id=1)
                except NotSent as error:
                    assert "waiting for the socket" in str(error), error
                    continue
                count += 1
                time.sleep(0.001)
            sent.append(count)

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            time.sleep(0.005)
            pid = os.fork()
            if pid == 0:
                try:
                    client.cancel_order("BTC", order_id=2)
                except NotSent:
                    client.close()
                    os._exit(0)
                os._exit(1)
            child_succeeded(pid)
        stop = True
        for thread in threads:
            thread.join()
        assert client.connected
        client.close()
        print(sum(sent))
    """
    with MockExchange(tls=True, quota=None).in_thread() as exchange:
        sent = int(run(exchange, script))
    assert sent > 0
    assert exchange.verified == sent  # each arrived, whole and in order


def test_a_fork_that_python_does_not_know_of(exchange: MockExchange) -> None:
    """C code forks: no handler runs, and at its exit the child leaves the parent's connection alone."""
    script = """
        client = to_exchange()
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            try:
                client.cancel_order("BTC", order_id=1)
            except KeyClosed as error:
                print("does not cross a fork" in str(error), flush=True)
            client.close()
            sys.exit()
        child_succeeded(pid)
        try:
            client.cancel_order("BTC", order_id=2)
        except Rejected as error:
            print(error)
    """
    assert run(exchange, script).splitlines() == ["True", "420: Failed to cancel order"]
    assert len(exchange.requests) == 1
