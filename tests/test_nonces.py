# SPDX-License-Identifier: MIT
"""Prepared nonces as a Signer uses them. That no nonce is used twice is shown elsewhere (make prove)."""

from __future__ import annotations

import copy
import gc
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import pytest
from nacl.signing import VerifyKey

from pacifica_fast import InvalidRequest, KeyClosed, Keypair, Request, Signer, b58decode, reference
from pacifica_fast.nonces import NONCES_MAX, NoncePool, Stats

pytestmark = pytest.mark.core

SEED = bytes(range(32))
CLIENT_ID = "79f948fd-7556-4066-a128-083f3ea49322"
PATIENCE = 20.0  # s


@pytest.fixture
def keypair() -> Iterator[Keypair]:
    with Keypair.from_seed(SEED) as keypair:
        yield keypair


@pytest.fixture
def signer(keypair: Keypair) -> Iterator[Signer]:
    with Signer(keypair, prepared=8) as signer:
        wait_until(lambda: signer.stats.ready == 8)
        yield signer


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def background_threads() -> int:
    return sum(thread.name == "pacifica_fast nonces" for thread in threading.enumerate())


def verify(pubkey: str, message: str, signature: str) -> bytes:
    """Libsodium's own verdict; returns R."""
    raw = b58decode(signature)
    VerifyKey(b58decode(pubkey)).verify(message.encode(), raw)
    return raw[:32]


def verify_request(request: Request) -> set[bytes]:
    """Every signature of a request, over messages rebuilt from its fields by the reference."""
    (operation, body), points = next(iter(json.loads(request.text)["params"].items())), set()
    actions = [a["data"] for a in body["actions"]] if operation == "batch_orders" else [body]
    for fields in actions:
        pubkey = fields.pop("agent_wallet", fields["account"])
        del fields["account"]
        signature = fields.pop("signature")
        header = {
            "timestamp": fields.pop("timestamp"),
            "expiry_window": fields.pop("expiry_window"),
            "type": "cancel_order" if operation == "batch_orders" else operation,
        }
        points.add(verify(pubkey, reference.prepare_message(header, fields), signature))
    return points


# Signing.


def test_every_kind_of_request_verifies_with_a_nonce_of_its_own(signer: Signer) -> None:
    agent = Signer(signer.keypair, account=Keypair.generate().pubkey(), prepared=8)
    for who in (signer, agent):
        points: set[bytes] = set()
        made = 0
        for _ in range(50):
            wait_until(lambda who=who: who.stats.ready == 8)  # type: ignore[misc]
            points |= verify_request(who.cancel_order("BTC", order_id=42069))
            points |= verify_request(who.cancel_order("BTC", client_order_id=CLIENT_ID))
            points |= verify_request(who.cancel_all_orders(symbol="BTC"))
            points |= verify_request(who.batch_cancel([("BTC", 1), ("ETH", CLIENT_ID)]))
            points |= verify_request(who.request("edit_order", {"symbol": "BTC", "price": "1"}))
            signed = who.sign("x", {})
            points.add(verify(who.keypair.pubkey(), signed.message, signed.signature))
            made += 7
        assert len(points) == made
        assert who.stats.prepared == made
        assert who.stats.deterministic == 0
    agent.close()


def test_the_same_request_twice_has_two_signatures(signer: Signer) -> None:
    one, two = (signer.sign("x", {}, timestamp=5) for _ in range(2))
    assert one.message == two.message
    assert one.signature != two.signature


def test_an_empty_pool_never_waits(keypair: Keypair) -> None:
    """What no nonce was ready for is signed deterministically, and counted."""
    with Signer(keypair, prepared=1) as signer:
        plain = Signer(keypair)
        for timestamp in range(1, 2001):
            prepared = signer.stats.prepared
            signed = signer.sign("x", {}, timestamp=timestamp)
            same = plain.sign("x", {}, timestamp=timestamp)
            assert (signed == same) == (signer.stats.prepared == prepared)
        stats = signer.stats
        assert stats.deterministic > 0
        assert stats.prepared + stats.deterministic == 2000
        assert 0 <= stats.refilled - stats.prepared - stats.burnt <= 1


def test_the_keypair_itself_stays_deterministic(signer: Signer) -> None:
    assert signer.keypair.sign_message(b"x") == signer.keypair.sign_message(b"x")
    assert signer.stats.prepared == 0


def test_many_threads(keypair: Keypair) -> None:
    with Signer(keypair, prepared=64) as signer, ThreadPoolExecutor(8) as threads:
        signed = list(threads.map(lambda n: signer.sign("x", {}, timestamp=1 + n), range(4000)))
        points = {verify(keypair.pubkey(), one.message, one.signature) for one in signed}
        assert len(points) == 4000
        stats = signer.stats
        assert stats.prepared + stats.deterministic == 4000


# Refilling and age.


def test_refilling(signer: Signer) -> None:
    assert background_threads() == 1
    for _ in range(5):
        for _ in range(8):
            signer.cancel_order("BTC", order_id=1)
        wait_until(lambda: signer.stats.ready == 8)
    assert signer.stats.refilled >= 40


def test_old_nonces_are_thrown_away(keypair: Keypair) -> None:
    with Signer(keypair, prepared=4, prepared_max_age=0.05) as signer:
        wait_until(lambda: signer.stats.burnt >= 20)
        verify_request(signer.cancel_order("BTC", order_id=1))
        stats = signer.stats
        assert stats.refilled >= stats.burnt


def test_stats(keypair: Keypair, signer: Signer) -> None:
    assert Signer(keypair).stats == Stats() == (0, 0, 0, 0, 0, 0)
    wait_until(lambda: signer.stats.refilled >= 8)  # numbers are read one after the other
    before = signer.stats
    assert before[:2] == (0, 0)
    assert before.unlocked_pages >= 0
    signer.cancel_order("BTC", order_id=1)
    assert signer.stats.prepared == 1


# The end.


def test_close(keypair: Keypair) -> None:
    signer = Signer(keypair, prepared=16)
    wait_until(lambda: signer.stats.ready == 16)
    signer.cancel_order("BTC", order_id=1)
    signer.close()
    signer.close()
    assert background_threads() == 0
    stats = signer.stats
    assert (stats.prepared, stats.ready) == (1, 0)
    one, two = (signer.sign("x", {}, timestamp=5) for _ in range(2))
    assert one == two == Signer(keypair).sign("x", {}, timestamp=5)
    assert signer.stats == stats
    Signer(keypair).close()  # nothing to close


def test_a_closed_key_ends_the_pool() -> None:
    keypair = Keypair.generate()
    signer = Signer(keypair, prepared=4)
    wait_until(lambda: signer.stats.ready == 4)
    keypair.close()
    with pytest.raises(KeyClosed):
        signer.cancel_order("BTC", order_id=1)
    wait_until(lambda: background_threads() == 0)
    signer.close()


def test_a_forgotten_signer_ends_its_thread(keypair: Keypair) -> None:
    signer = Signer(keypair, prepared=4)
    assert background_threads() == 1
    del signer
    gc.collect()
    assert background_threads() == 0


def test_closing_beside_signing_threads(keypair: Keypair) -> None:
    signer = Signer(keypair, prepared=64)
    stop = threading.Event()
    signed: list[Any] = []

    def sign() -> None:
        while not stop.is_set():
            signed.append(signer.sign("x", {}))

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    signer.close()
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    for one in signed:
        verify(keypair.pubkey(), one.message, one.signature)


def test_signers_come_and_go(keypair: Keypair) -> None:
    """Their memory is used again."""

    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return len(maps.readlines())

    Signer(keypair, prepared=100).close()
    before = mapped()
    for _ in range(200):
        Signer(keypair, prepared=100).close()
    assert mapped() <= before + 5


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "signer.close()",
        "key.close()",
        "del signer",
        "threading.Thread(target=use).start()",
    ],
)
def test_interpreter_exit_while_refilling(ending: str) -> None:
    result = run_python(
        "import sys, threading\n"
        "from pacifica_fast import Keypair, Signer\n"
        "key = Keypair.generate()\n"
        "signer = Signer(key, prepared=65536)\n"
        "def use():\n    for _ in range(1000): signer.cancel_order('BTC', order_id=1)\n"
        "signer.cancel_order('BTC', order_id=1)\n" + ending
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Forks.


def test_a_forked_child_has_neither_key_nor_nonces(signer: Signer) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signer.cancel_order("BTC", order_id=1)
            outcome = "signed"
        except KeyClosed as error:
            outcome = str(error)
        own = Signer(Keypair.from_seed(SEED), prepared=4)
        deadline = time.monotonic() + PATIENCE
        while own.stats.ready < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        verify_request(own.cancel_order("BTC", order_id=1))
        signer.close()
        os.write(writer, f"{outcome}; {signer.stats.ready}; {own.stats.prepared}".encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 1000).decode()
    os.close(reader)
    assert os.waitpid(pid, 0)[1] == 0
    assert "does not cross a fork" in told
    assert told.endswith("; 0; 1")
    verify_request(signer.cancel_order("BTC", order_id=1))


def sign_in_child(connection: Connection) -> None:
    with Signer(Keypair.from_seed(SEED), prepared=4) as signer:
        connection.send([signer.sign("x", {"n": n}, timestamp=7) for n in range(50)])


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_every_start_method(signer: Signer, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=sign_in_child, args=(theirs,))
    child.start()
    signed = [signer.sign("y", {"n": n}, timestamp=7) for n in range(50)]
    signed += ours.recv()
    child.join()
    assert child.exitcode == 0
    points = {verify(signer.keypair.pubkey(), one.message, one.signature) for one in signed}
    assert len(points) == 100


# Arguments.


@pytest.mark.parametrize("value", [-1, NONCES_MAX + 1, True, 1.0, "8", None, 2**70])
def test_wrong_number_of_nonces(keypair: Keypair, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^prepared: expected "):
        Signer(keypair, prepared=value)
    assert background_threads() == 0


@pytest.mark.parametrize("value", [0, -1.0, 0.0001, 86_401, True, "60", None, float("nan"), float("inf")])
def test_wrong_age(keypair: Keypair, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^prepared_max_age: expected "):
        Signer(keypair, prepared=8, prepared_max_age=value)
    assert background_threads() == 0


def test_the_largest_pool(keypair: Keypair) -> None:
    with Signer(keypair, prepared=NONCES_MAX) as signer:
        wait_until(lambda: signer.stats.ready >= 10)
        verify_request(signer.cancel_order("BTC", order_id=1))


def test_a_minimal_libsodium_cannot(keypair: Keypair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacifica_fast.nonces.PREPARED_SIGNING_POSSIBLE", False)
    with pytest.raises(InvalidRequest, match="minimal build"):
        Signer(keypair, prepared=8)
    verify_request(Signer(keypair).cancel_order("BTC", order_id=1))


def test_a_closed_key_makes_no_pool() -> None:
    keypair = Keypair.generate()
    keypair.close()
    pool = NoncePool(keypair, 4, 1000)
    wait_until(lambda: background_threads() == 0)
    assert pool.stats().ready == 0
    pool.close()


def test_neither_copied_nor_shown(signer: Signer) -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="private key"):
            copied(signer)
    assert SEED.hex() not in repr(signer)
