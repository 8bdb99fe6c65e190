# SPDX-License-Identifier: MIT
"""Latency histograms: right, bounded, and no library unless somebody asks."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica_fast import InvalidRequest
from pacifica_fast.latency import STAGES, Latency, StageSummary

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_stage_is_what_it_is_called() -> None:
    latency = Latency()
    latency.note((10.0, 10.000_010, 10.000_050))
    latency.acked(0.012)
    summary = latency.summary()
    assert summary.window == 60
    for stage, us in ((summary.build, 10), (summary.write, 40), (summary.ack, 12_000)):
        assert stage.count == 1
        assert stage.total == pytest.approx(us, rel=1e-6)
        for name in QUANTILES:
            assert getattr(stage, name) == pytest.approx(us, rel=0.01)


@settings(max_examples=50)
@given(st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=500))
def test_percentiles_are_within_one_per_cent(seconds: list[float]) -> None:
    latency = Latency()
    for value in seconds:
        latency.acked(value)
    ack = latency.summary().ack
    assert ack.count == len(seconds)
    assert ack.total == pytest.approx(sum(seconds) * 1e6)
    ordered = sorted(seconds)
    for name, quantile in QUANTILES.items():
        # As many are not slower, rounded as the library rounds.
        rank = max(int(quantile * len(ordered) + 0.5), 1)
        assert getattr(ack, name) == pytest.approx(ordered[rank - 1] * 1e6, rel=0.01, abs=0.3)


def test_nothing_noted() -> None:
    nothing = StageSummary(0, 0.0, None, None, None, None, None)
    summary = Latency().summary()
    assert [summary.stage(name) for name in STAGES] == [nothing] * 3


def test_percentiles_look_back_a_window_and_counts_to_the_start() -> None:
    clock = Clock()
    latency = Latency(40, clock=clock)
    latency.acked(1.0)
    latency.drain()
    clock.now += 29.9
    latency.acked(0.001)
    assert latency.summary().ack.max == pytest.approx(1e6, rel=0.01)
    clock.now += 10.2
    ack = latency.summary().ack
    assert ack.max == pytest.approx(1000, rel=0.01)  # the slow one is 40 s ago
    assert (ack.count, round(ack.total)) == (2, 1_001_000)
    clock.now += 1e6
    ack = latency.summary().ack
    assert ack.max is None
    assert ack.count == 2
    latency.acked(0.002)
    assert latency.summary().ack.p50 == pytest.approx(2000, rel=0.01)


def test_what_clocks_do_is_no_error() -> None:
    latency = Latency()
    latency.note((2.0, 1.0, math.nextafter(1.0, 2.0)))
    latency.acked(1e9)
    summary = latency.summary()
    assert summary.build.max is not None
    assert summary.build.max < 0.2  # backwards: nothing
    assert summary.ack.max == pytest.approx(120e6, rel=0.01)  # the most that is told apart


def test_memory_is_flat() -> None:
    clock = Clock()
    latency = Latency(clock=clock)

    def periods(n: int) -> None:
        for _ in range(n):
            for i in range(100):
                latency.note((0.0, 1e-6 * i, 3e-6 * i))
                latency.acked(1e-4 * i)
            clock.now += 7
            latency.summary()

    periods(20)
    gc.disable()  # as some bots do
    tracemalloc.start()
    try:
        periods(20)
        before, _ = tracemalloc.get_traced_memory()
        periods(100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 32 * 1024


def test_without_a_drain_the_last_ones_are_kept() -> None:
    latency = Latency()
    for _ in range(5):
        latency.acked(1.0)
    for _ in range(8192):
        latency.acked(0.001)
        latency.note((0.0, 1.0, 2.0))
    latency.note((0.0, 1.0, 2.0))
    ack = latency.summary().ack
    assert ack.count == 8192
    assert ack.max == pytest.approx(1000, rel=0.01)


def test_threads_note_and_drain_at_once() -> None:
    latency = Latency()
    each, threads = 2000, 4
    done = threading.Event()

    def send() -> None:
        for _ in range(each):
            latency.note((0.0, 1e-5, 3e-5))
            latency.acked(1e-2)

    def ask() -> None:
        while not done.is_set():
            latency.summary()

    senders = [threading.Thread(target=send) for _ in range(threads)]
    asker = threading.Thread(target=ask)
    for thread in (*senders, asker):
        thread.start()
    for thread in senders:
        thread.join()
    done.set()
    asker.join()
    summary = latency.summary()
    assert [summary.stage(name).count for name in STAGES] == [each * threads] * 3


def test_a_histogram_can_be_taken_elsewhere() -> None:
    from hdrh.histogram import HdrHistogram

    latency = Latency()
    for us in (10, 20, 30):
        latency.acked(us * 1e-6)
    copy = latency.histogram("ack")
    latency.acked(1.0)
    again = HdrHistogram.decode(copy.encode())
    assert again.get_total_count() == 3
    assert again.get_max_value() == pytest.approx(30_000, rel=0.01)
    with pytest.raises(InvalidRequest, match="stage"):
        latency.histogram("read")  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [0, 0.5, -1, 86_401, float("nan"), True, "60", None])
def test_a_wrong_window(window: object) -> None:
    with pytest.raises(InvalidRequest, match="window"):
        Latency(window)  # type: ignore[arg-type]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    with pytest.raises(ImportError, match=r"pacifica-fast\[metrics\]"):
        Latency()


def test_the_library_is_asked_for_late() -> None:
    code = "import sys, pacifica_fast.status; assert 'hdrh' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
