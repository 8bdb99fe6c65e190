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
from time import perf_counter_ns, sleep
from typing import Any

from benchmarks.cases import Case

REST = 0.002  # s before a cold call, as a bot rests between decisions


@dataclass
class Timing:
    """Durations of single calls, in ns, by round."""

    rounds: list[list[int]] = field(default_factory=list)
    work: int = 1

    def quantile_us(self, q: float) -> float:
        """A quantile over all calls, per unit of work, in µs."""
        calls = sorted(ns for block in self.rounds for ns in block)
        return calls[min(int(q * len(calls)), len(calls) - 1)] / 1e3 / self.work

    def share_over_ms(self, limit: float) -> float:
        """The share of calls that took more than ``limit`` ms."""
        calls = [ns for block in self.rounds for ns in block]
        return sum(ns > limit * 1e6 for ns in calls) / len(calls)

    def medians(self) -> list[float]:
        """The median of every round, per unit of work, in ns."""
        return [statistics.median(block) / self.work for block in self.rounds]


@dataclass(frozen=True)
class Ratio:
    """How many times longer one thing takes than another: median and quartiles of the rounds' ratios."""

    median: float
    low: float
    high: float


def ratio(slow: Timing, fast: Timing) -> Ratio:
    """How many times longer ``slow`` takes, each round compared with itself."""
    ratios = [a / b for a, b in zip(slow.medians(), fast.medians(), strict=True)]
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0])
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)


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


def timed_block(run: Callable[[], Any], calls: int, rest: float = 0.0) -> list[int]:
    """So many calls, each timed: in a row (hot), or after ``rest`` seconds of sleep each (cold)."""
    durations = []
    for _ in range(calls):
        if rest:
            sleep(rest)
        start = perf_counter_ns()
        run()
        durations.append(perf_counter_ns() - start)
    return durations


def interleaved(
    cases: Sequence[Case],
    rounds: int,
    calls: int,
    progress: Callable[[], None] = lambda: None,
    rest: float = 0.0,
) -> list[Timing]:
    """Blocks of every case in turn, in every second round from the other end."""
    timings = [Timing(work=case.work) for case in cases]
    with frozen_gc():
        for case in cases:
            timed_block(case.run, calls)
        for number in range(rounds):
            order = range(len(cases)) if number % 2 == 0 else reversed(range(len(cases)))
            for index in order:
                timings[index].rounds.append(timed_block(cases[index].run, calls, rest))
            progress()
    return timings


@contextmanager
def busy_thread() -> Iterator[None]:
    """Another thread that only computes, in pure Python, and never gives the GIL up by itself.

    It is at it, and has had the GIL, when the block begins.
    """
    stop = False
    running = threading.Event()

    def spin() -> None:
        count = 0
        running.set()
        while not stop:
            count += 1

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    running.wait()
    try:
        yield
    finally:
        stop = True
        thread.join()


def idle_and_busy(
    run: Callable[[], Any], rounds: int, calls: int, progress: Callable[[], None] = lambda: None
) -> tuple[Timing, Timing]:
    """The same calls alone, and beside a busy thread, in turn: one at a time, after a rest.

    As in a bot, which sleeps until something happens: by then the busy thread has the GIL and
    wants it back. Calls in a row would mostly have the switch interval of 5 ms to themselves,
    and what giving the GIL up costs would not show. The wait for the GIL after the sleep is not
    timed: it is there whatever is called next.
    """
    idle, busy = Timing(), Timing()
    with frozen_gc():
        timed_block(run, calls)
        for _ in range(rounds):
            idle.rounds.append(timed_block(run, calls, REST))
            with busy_thread():
                busy.rounds.append(timed_block(run, calls, REST))
            progress()
    return idle, busy
