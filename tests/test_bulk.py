# SPDX-License-Identifier: MIT
"""Many signatures at once: the right ones, in order, whatever the threads do."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import InvalidRequest, KeyClosed, Keypair, Signer, b58decode
from pacifica_fast.bulk import CHUNK

keypair = Keypair.from_seed(bytes(range(32)))
signer = Signer(keypair)


def signatures(messages: list[bytes]) -> list[bytes]:
    return [keypair.sign_message(message) for message in messages]


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 256])
@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 7])
def test_in_order(count: int, threads: int) -> None:
    messages = [b"message %d" % n for n in range(count)]
    signed = signer.sign_many(messages, threads=threads)
    assert [b58decode(text) for text in signed] == signatures(messages)


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 3))
def test_any_messages(messages: list[bytes], threads: int) -> None:
    assert [b58decode(text) for text in signer.sign_many(messages, threads=threads)] == signatures(messages)


def test_long_messages() -> None:
    messages = [bytes(size) for size in (4095, 4096, 4097, 100_000, 1_000_000)]
    assert [b58decode(text) for text in signer.sign_many(messages, threads=2)] == signatures(messages)


def test_tuples_will_do() -> None:
    assert signer.sign_many((b"a", b"b")) == signer.sign_many([b"a", b"b"])


def test_prepared_nonces_are_left_alone() -> None:
    with Signer(keypair, prepared=4) as prepared:
        assert prepared.sign_many([b"a"]) == signer.sign_many([b"a"])
        assert prepared.stats.prepared == 0


@pytest.mark.parametrize("messages", [b"bytes", "str", None, 5, {b"a"}, iter([b"a"])])
def test_no_sequence(messages: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^messages: expected a sequence of bytes, got "):
        signer.sign_many(messages)


@pytest.mark.parametrize("wrong", ["b", bytearray(b"b"), None, memoryview(b"b")])
def test_no_bytes(wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^messages\[1\]: expected bytes, got "):
        signer.sign_many([b"a", wrong])


@pytest.mark.parametrize("threads", [0, -1, 257, True, 1.5, "2", None])
def test_wrong_number_of_threads(threads: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^threads: expected "):
        signer.sign_many([b"a"], threads=threads)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_key_closed_meanwhile(threads: int) -> None:
    mortal = Keypair.generate()
    closer = threading.Timer(0.02, mortal.close)
    closer.start()
    with pytest.raises(KeyClosed):
        Signer(mortal).sign_many([b"x"] * 100_000, threads=threads)
    closer.join()
    assert not [t for t in threading.enumerate() if "sign_many" in t.name]


def test_other_threads_go_on_meanwhile() -> None:
    """The GIL is given up: somebody else gets somewhere during one call."""
    counted = 0
    stop = False

    def count() -> None:
        nonlocal counted
        while not stop:
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    signer.sign_many([b"x"] * 5000)
    during = counted - before
    stop = True
    thread.join()
    assert during > 10


def test_control_c_is_heard() -> None:
    code = (
        "import _thread, signal, threading\n"
        "from pacifica_fast import Keypair, Signer\n"
        # Whatever a shell started in the background inherits SIGINT ignored, this one as well.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.1, _thread.interrupt_main).start()\n"
        "try:\n"
        "    Signer(Keypair.generate()).sign_many([b'x'] * 3_000_000, threads=2)\n"
        "except KeyboardInterrupt:\n"
        "    print('heard', [t.name for t in threading.enumerate() if 'sign_many' in t.name])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr, result.returncode) == ("heard []\n", "", 0)
