# SPDX-License-Identifier: MIT
"""Measuring so that a drifting clock and busy neighbours hit everything that is compared alike.

Cases take turns in one process, in short blocks, with the garbage collector out of the way. Every
call is timed on its own. Ratios are taken within a round and then their median.
"""

from __future__ import annotations

import gc
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from benchmarks.cases import Case


@dataclass
class Timing:
    """Durations of single calls, in ns, by round."""

    rounds: list[list[int]] = field(default_factory=list)
    work: int = 1

    def quantile_us(self, q: float) -> float:
        """A quantile over all calls, per unit of work, in µs."""
        calls = sorted(ns for block in self.rounds for ns in block)
        return calls[min(int(q * len(calls)), len(calls) - 1)] / 1e3 / self.work

    def medians(self) -> list[float]:
        """The median of every round, per unit of work, in ns."""
        return [statistics.median(block) / self.work for block in self.rounds]


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times longer ``slow`` takes: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(slow.medians(), fast.medians(), strict=True))


@contextmanager
def frozen_gc() -> Iterator[None]:
    """No garbage collection inside."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def timed_block(run: Callable[[], Any], calls: int) -> list[int]:
    """So many calls in a row, each timed."""
    durations = []
    for _ in range(calls):
        start = perf_counter_ns()
        run()
        durations.append(perf_counter_ns() - start)
    return durations


def interleaved(
    cases: Sequence[Case], rounds: int, calls: int, progress: Callable[[], None] = lambda: None
) -> list[Timing]:
    """Blocks of every case in turn, in every second round from the other end."""
    timings = [Timing(work=case.work) for case in cases]
    with frozen_gc():
        for case in cases:
            timed_block(case.run, calls)
        for number in range(rounds):
            order = range(len(cases)) if number % 2 == 0 else reversed(range(len(cases)))
            for index in order:
                timings[index].rounds.append(timed_block(cases[index].run, calls))
            progress()
    return timings


@contextmanager
def busy_thread() -> Iterator[None]:
    """Another thread that only computes, in pure Python, and never gives the GIL up by itself."""
    stop = False

    def spin() -> None:
        count = 0
        while not stop:
            count += 1

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()


def idle_and_busy(
    run: Callable[[], Any], rounds: int, calls: int, progress: Callable[[], None] = lambda: None
) -> tuple[Timing, Timing]:
    """The same calls alone, and beside a busy thread, in turn."""
    idle, busy = Timing(), Timing()
    with frozen_gc():
        timed_block(run, calls)
        for _ in range(rounds):
            idle.rounds.append(timed_block(run, calls))
            with busy_thread():
                busy.rounds.append(timed_block(run, calls))
            progress()
    return idle, busy
