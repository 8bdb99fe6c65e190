# SPDX-License-Identifier: MIT
"""The switch interval: put back, and warned of when it hurts."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from pacifica_fast.switching import SwitchAdvice, eager_switching


@contextmanager
def busy_thread() -> Iterator[None]:
    stop = False

    def spin() -> None:
        while not stop:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()


@pytest.fixture(autouse=True)
def interval() -> Iterator[float]:
    before = sys.getswitchinterval()
    yield before
    assert sys.getswitchinterval() == before


def test_short_inside_and_put_back(interval: float) -> None:
    with eager_switching():
        assert sys.getswitchinterval() == pytest.approx(1e-5)
        with eager_switching():
            assert sys.getswitchinterval() == pytest.approx(1e-5)
        assert sys.getswitchinterval() == pytest.approx(1e-5)
    with pytest.raises(ZeroDivisionError), eager_switching():
        _ = 1 / 0


def test_a_shorter_one_stays(interval: float) -> None:
    sys.setswitchinterval(1e-6)
    with eager_switching():
        assert sys.getswitchinterval() == pytest.approx(1e-6)
    sys.setswitchinterval(interval)


def test_many_threads_put_it_back_once() -> None:
    def enter(_: int) -> None:
        for _ in range(200):
            with eager_switching():
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(8)))


def looked(caplog: pytest.LogCaptureFixture) -> int:
    advice = SwitchAdvice()
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            advice.look()
            time.sleep(0.001)
    return len(caplog.records)


def test_a_busy_thread_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with busy_thread():
        assert looked(caplog) == 1
    assert "sys.setswitchinterval(1e-4)" in caplog.text


def test_threads_that_wait_are_not(caplog: pytest.LogCaptureFixture, interval: float) -> None:
    sys.setswitchinterval(0.5)  # so that no hiccup of the machine is taken for a thread
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert looked(caplog) == 0
    done.set()
    thread.join()
    sys.setswitchinterval(interval)


def test_other_processes_are_not(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is busy: one waits, and nobody in this process works."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(max(seconds, 0.01)))
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert looked(caplog) == 0
    done.set()
    thread.join()


def test_a_short_interval_is_not(caplog: pytest.LogCaptureFixture, interval: float) -> None:
    sys.setswitchinterval(1e-4)
    with busy_thread():
        assert looked(caplog) == 0
    sys.setswitchinterval(interval)
