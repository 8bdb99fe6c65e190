# SPDX-License-Identifier: MIT
"""Measuring so that a drifting clock and busy neighbours hit everything that is compared alike.

What is compared takes turns in one process, in short blocks, with the garbage collector out of
the way. Every call is timed on its own. Ratios are taken within a round, and then their median.
"""

from __future__ import annotations

import gc
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns, sleep
from typing import Any, TypeVar

REST = 0.002  # s before a cold call, as a bot rests between decisions

T = TypeVar("T")


def quantile(samples: Sequence[float], q: float) -> float:
    """By nearest rank: a value that was measured, not one between two."""
    ordered = sorted(samples)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True)
class Ratio:
    """How many times more one thing takes than another: median and quartiles of the rounds' ratios."""

    median: float
    low: float
    high: float


def ratio(slow: Sequence[Sequence[float]], fast: Sequence[Sequence[float]]) -> Ratio:
    """How many times longer ``slow`` takes: lists of rounds, each compared with its counterpart."""
    ratios = [
        statistics.median(a) / statistics.median(b)
        for a, b in zip(slow, fast, strict=True)
        if a and b and statistics.median(b)
    ]
    return spread(ratios)


def spread(values: Sequence[float]) -> Ratio:
    """Median and quartiles; NaN of nothing."""
    if len(values) < 2:
        only = values[0] if values else float("nan")
        return Ratio(only, only, only)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
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


@contextmanager
def switch_interval(seconds: float) -> Iterator[None]:
    """``sys.setswitchinterval`` for a while."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


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


def timed_block(run: Callable[[], Any], calls: int, rest: float = 0.0) -> list[int]:
    """So many calls, each timed, in ns: in a row (hot), or after ``rest`` seconds of sleep each (cold)."""
    durations = []
    for _ in range(calls):
        if rest:
            sleep(rest)
        start = perf_counter_ns()
        run()
        durations.append(perf_counter_ns() - start)
    return durations


def in_turn(things: Sequence[T], number: int) -> Sequence[T]:
    """In every second round from the other end, so that no neighbour is always the same one."""
    return things if number % 2 == 0 else things[::-1]
