# SPDX-License-Identifier: MIT
"""How long cancels take, stage by stage: build, write, ack.

Between a decision and the wire the clock is read, and the time kept with the request: a few tenths of
a µs, cold (``python -m benchmarks.observing``). :attr:`Latency.note` and :attr:`Latency.acked` are one
append each, for when the request is settled; the histograms are fed by :meth:`Latency.drain`, when
nothing hurries. They are HdrHistogram's (extra ``metrics``), of a fixed size, so that a client that
runs for a month needs no more memory than one that runs for a minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Final, Literal

from pacifica_fast.errors import InvalidRequest

__all__ = ["STAGES", "Latency", "LatencySummary", "Stage", "StageSummary"]

Stage = Literal["build", "write", "ack"]
STAGES: Final[tuple[Stage, ...]] = ("build", "write", "ack")

_LEAST = 100  # ns, the finest that is told apart
_MOST = 120_000_000_000  # ns; what takes longer counts as this
_DIGITS = 2  # every percentile is within 1 % of the truth
_SLICES = 4  # of the window; the oldest is dropped whole
_ROOM = 8192  # cancels between two drains


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One stage in µs. ``count`` and ``total`` are since the start, the rest is of the window.

    Percentiles and ``max`` are within 1 % of the truth, and None if the window has no cancel.
    """

    count: int
    total: float
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """``build``: until the signed frame is there. ``write``: until the kernel has it. ``ack``: from
    there until the reply was read. ``window`` is in seconds: what the percentiles cover."""

    window: float
    build: StageSummary
    write: StageSummary
    ack: StageSummary

    def stage(self, name: Stage) -> StageSummary:
        """One of the three by its name."""
        summary: StageSummary = getattr(self, name)
        return summary


class Latency:
    """Histograms of the three stages, over the last ``window`` seconds (60; between 1 and 86 400).

    When a request ends, whoever sent it calls :attr:`note` and, if a reply ended it, :attr:`acked`; now
    and then somebody calls :meth:`drain`. Between two drains the last 8192 cancels are kept. Everything
    may be called from any thread.

    Raises :class:`InvalidRequest` for a wrong window, and ``ImportError`` without the extra.
    """

    def __init__(self, window: float = 60.0, *, clock: Callable[[], float] = monotonic) -> None:
        if isinstance(window, bool) or not isinstance(window, int | float) or not 1 <= window <= 86_400:
            raise InvalidRequest("window: expected a number of seconds, from 1 to 86400")
        new = _histogram_class()
        self.window: float = float(window)
        self._clock = clock
        self._lock = Lock()
        self._sent: deque[tuple[float, float, float]] = deque(maxlen=_ROOM)
        self._acks: deque[float] = deque(maxlen=_ROOM)
        # Not methods of ours: they are called while somebody waits for a reply.
        self.note: Callable[[tuple[float, float, float]], None] = self._sent.append
        """``note((began, built, written))``, in monotonic seconds: a cancel went to the wire."""
        self.acked: Callable[[float], None] = self._acks.append
        """``acked(settled_at - sent_at)``, in seconds: the exchange has answered."""
        self._stages = {name: _Recent(new) for name in STAGES}
        self._slice_ends = clock() + self.window / _SLICES

    def drain(self) -> None:
        """Put what was noted into the histograms: 4 to 8 µs a cancel. Call it once a second, say.

        What is drained counts as of now, so a window is as sharp as the drains are frequent.
        """
        with self._lock:
            self._drain()

    def summary(self) -> LatencySummary:
        """Drain, and say how long things took. Takes about 1 ms."""
        with self._lock:
            self._drain()
            return LatencySummary(self.window, *(self._stages[name].summary() for name in STAGES))

    def histogram(self, stage: Stage) -> Any:
        """A copy of a stage's window, as ``hdrh.histogram.HdrHistogram`` of ns: to encode, to merge."""
        if stage not in STAGES:
            raise InvalidRequest(f"stage: expected one of {', '.join(STAGES)}")
        with self._lock:
            self._drain()
            return self._stages[stage].copy()

    def _drain(self) -> None:
        self._turn(self._clock())
        build, write, ack = (self._stages[name].record for name in STAGES)
        # As many as there are now: another thread may never stop noting.
        for _ in range(len(self._sent)):
            began, built, written = self._sent.popleft()
            build(built - began)
            write(written - built)
        for _ in range(len(self._acks)):
            ack(self._acks.popleft())

    def _turn(self, now: float) -> None:
        """Begin as many slices as time has passed for."""
        if now < self._slice_ends:
            return
        length = self.window / _SLICES
        passed = 1 + int((now - self._slice_ends) / length)
        self._slice_ends += passed * length
        for stage in self._stages.values():
            stage.turn(min(passed, _SLICES))


class _Recent:
    """One stage: a histogram for each slice of the window, the newest last.

    All are made once and used again: they are reference cycles, and a bot may have no garbage collector.
    """

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new
        self._slices: deque[Any] = deque(new() for _ in range(_SLICES))
        self._scratch = new()
        self._count = 0
        self._total = 0.0  # s

    def record(self, seconds: float) -> None:
        seconds = max(seconds, 0.0)
        self._slices[-1].record_value(min(int(seconds * 1e9), _MOST))
        self._count += 1
        self._total += seconds

    def turn(self, slices: int) -> None:
        for _ in range(slices):
            self._slices.rotate(-1)
            self._slices[-1].reset()

    def copy(self) -> Any:
        return self._merge_into(self._new())

    def _merge_into(self, merged: Any) -> Any:
        for part in self._slices:
            if part.get_total_count():
                merged.add(part)
        return merged

    def summary(self) -> StageSummary:
        self._scratch.reset()
        merged = self._merge_into(self._scratch)
        total = self._total * 1e6
        if not merged.get_total_count():
            return StageSummary(self._count, total, None, None, None, None, None)
        at = merged.get_percentile_to_value_dict([50, 90, 99, 99.9])
        return StageSummary(
            self._count,
            total,
            p50=at[50] / 1e3,
            p90=at[90] / 1e3,
            p99=at[99] / 1e3,
            p999=at[99.9] / 1e3,
            max=merged.get_max_value() / 1e3,
        )


def _histogram_class() -> Callable[[], Any]:
    """What makes an empty histogram; the library is only asked for by who wants latencies."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError as error:
        raise ImportError("latency needs HdrHistogram: pip install 'pacifica-fast[metrics]'") from error
    return lambda: HdrHistogram(_LEAST, _MOST, _DIGITS)
