# SPDX-License-Identifier: MIT
"""How far the exchange's clock is from ours, and what to add to our timestamps because of it.

The exchange has no time service, but every reply carries ``t``, its clock in ms. A request is
refused once that clock is past ``timestamp + expiry_window`` (docs.pacifica.fi, signing, error
handling), and what becomes of timestamps from the future is not documented. So what is found out
here comes with a bound for its error, and a correction never leads into the exchange's future.

No I/O, and no clock: a driver gives the times. Not for several threads at once.
"""

from __future__ import annotations

import logging
from collections import deque
from math import floor, isfinite
from typing import NamedTuple

from pacifica_fast.errors import InvalidRequest

__all__ = ["ExchangeClock"]

logger: logging.Logger = logging.getLogger("pacifica_fast.clock")

_STAGES = 8
"""Samples that are kept: NSTAGE of RFC 5905, section 10."""

_STAGE_S = 8.0
"""NTP's samples are at least 8 s apart (MINPOLL), replies come by the thousand. A stage holds the
best of so many seconds, else one burst of slow replies would push out all that was known."""

_DRIFT = 0.015
"""ms by which two clocks may part in a second: 15 ppm, PHI of RFC 5905."""

_PRECISION = 0.01
"""ms: what a float makes of Unix ms, and sums of them."""

_STEP = 50.0
"""ms by which the wall clock may leave the monotonic one between two samples; more is a step: it
was set, or the machine was asleep. Less, for instance a thread that lost its turn between the
reading of the two, counts as error. A thread that lost it for longer reads the wall late, never early:
a step ahead counts when the next two readings agree."""

_ROUND_TRIP_MAX = 3_600.0
"""s: nobody waits that long for a reply."""

_T_MAX = 1 << 50
"""ms: the year 37 000. Beyond it floats lose milliseconds."""


class _Sample(NamedTuple):
    offset: float  # ms; the middle of what is possible
    error: float  # ms; half of what is possible
    round_trip: float  # ms
    at: float  # monotonic s
    wall_ahead: float  # ms, of the monotonic clock


class ExchangeClock:
    """The exchange's clock beside ours, from the ``t`` of replies (the clock filter of RFC 5905).

    The reading of ``t`` lies between sending and receiving, so it bounds the offset to an interval
    as wide as the round trip and the millisecond that ``t`` is cut to. Of the last 8 samples, each
    the best of 8 s, the one with the smallest bound now counts; the bound grows by 15 ppm of its age,
    which begins when the request is sent.

    A server may send anything. What is no ``int``, negative or beyond the year 37 000 is ignored.
    Anything else is evidence: but a sample that no drift can bring into agreement with the estimate
    replaces it only if the next one says the same, so one stray ``t`` moves nothing. If our own
    wall clock steps, all samples are thrown away.

    ``correct``: whether :meth:`correction` is to be anything but 0. ``cap``, in ms: an offset that
    needs a larger correction is not believed; nothing is applied then, and a warning is logged.
    ``share``, 0 to 1: how much of an expiry window may be lost before :meth:`check` warns. Raises
    :class:`InvalidRequest` for anything else.
    """

    def __init__(self, *, correct: bool = False, cap: int = 5_000, share: float = 0.2) -> None:
        if type(correct) is not bool:
            raise InvalidRequest(f"correct: expected bool, got {type(correct).__name__}")
        if type(cap) is not int or not 0 <= cap <= 86_400_000:
            raise InvalidRequest("cap: expected 0 to 86 400 000 ms")
        if type(share) not in (int, float) or not 0 < share <= 1:
            raise InvalidRequest("share: expected a part of the window, more than 0 and at most 1")
        self._correct = correct
        self._cap = cap
        self._share = share
        self._now = float("-inf")
        self._wall_ahead: float | None = None
        self._further_ahead: float | None = None  # as it was once; perhaps only read late
        self._samples: deque[_Sample] = deque(maxlen=_STAGES)
        self._stage_began = 0.0
        self._doubt: _Sample | None = None
        self._warned_window = False
        self._warned_cap = False

    # What is given.

    def sample(self, t: object, sent_at: float, received_at: float, wall: float) -> None:
        """A reply came: ``t`` as it stands there, anything that JSON can hold.

        ``sent_at`` and ``received_at`` are monotonic s, read before the request was written and after
        the reply arrived: if ``sent_at`` was read after the write, :attr:`error` is too small by what
        the write took, and the correction as good as ever. ``wall`` is our Unix time in ms, without
        any correction, read right after ``received_at``: if the thread loses its turn between the
        two, the correction gets smaller.
        """
        if type(t) is not int or not 0 <= t < _T_MAX:
            return
        if not (isfinite(wall) and isfinite(received_at) and 0 <= received_at - sent_at < _ROUND_TRIP_MAX):
            return
        if not self._read_together(received_at, wall):
            return
        round_trip = (received_at - sent_at) * 1_000
        # The exchange read its clock in [t, t + 1), when ours showed wall - round_trip to wall.
        half = (round_trip + 1) / 2
        ahead = wall - received_at * 1_000
        # And since it did, the two have drifted.
        error = half + _PRECISION + _DRIFT * (received_at - sent_at)
        fresh = _Sample(t - wall + half, error, round_trip, received_at, ahead)
        best = self._best()
        if best is None or self._agree(best, fresh):
            self._doubt = None
        elif self._doubt is None or not self._agree(self._doubt, fresh):
            self._doubt = fresh
            return
        else:
            self._forget()
        self._keep(fresh)

    def tick(self, now: float, wall: float) -> None:
        """Time has passed: monotonic s and, read with it, Unix ms. Notices that the clock was set."""
        if isfinite(now) and isfinite(wall):
            self._read_together(now, wall)

    # What is known, as of the latest time that was given.

    @property
    def offset(self) -> float | None:
        """ms by which the exchange's clock is ahead of ours; None before the first sample."""
        best = self._best()
        return None if best is None else best.offset

    @property
    def error(self) -> float | None:
        """ms: the true offset lies no further than this from :attr:`offset`, either way."""
        best = self._best()
        return None if best is None else self._error_of(best)

    @property
    def round_trip(self) -> float | None:
        """ms from sending to receiving, of the sample that counts."""
        best = self._best()
        return None if best is None else best.round_trip

    def correction(self, now: float | None = None) -> int:
        """ms to add to our timestamps: what the exchange's clock is ahead by for certain.

        It is less than 0 where the exchange may be behind us. ``now`` is monotonic s: the longer ago
        the last sample, the less is certain. 0 before the first, without ``correct``, and beyond ``cap``.
        """
        self._pass(now)
        best = self._best()
        if best is None or not self._correct:
            return 0
        certain = floor(best.offset - self._error_of(best))
        if abs(certain) <= self._cap:
            self._warned_cap = self._warned_cap and abs(certain) > self._cap / 2
            return certain
        if not self._warned_cap:
            self._warned_cap = True
            logger.warning(
                "the exchange's clock differs from ours by %+.0f ms (error at most %.0f ms), more than the"
                " %d ms that are corrected: timestamps stay as they are. If our clock is wrong, set it"
                " (chrony or NTP)",
                best.offset,
                self._error_of(best),
                self._cap,
            )
        return 0

    def check(self, expiry_window: int, now: float) -> None:
        """Warn if what is left of the offset, and the error, eat too much of ``expiry_window`` (ms).

        Once, and again only after it was down to half of that. ``now`` is monotonic s.
        """
        correction = self.correction(now)
        best = self._best()
        if best is None:
            return
        error = self._error_of(best)
        lost = abs(best.offset - correction) + error
        limit = self._share * expiry_window
        if lost <= limit:
            self._warned_window = self._warned_window and lost > limit / 2
        elif not self._warned_window:
            self._warned_window = True
            logger.warning(
                "timestamps may be %.0f ms off the exchange's clock, of an expiry_window of %d ms: ours is"
                " %+.0f ms off it, with an error of at most %.0f ms and a correction of %d ms. %s",
                lost,
                expiry_window,
                -best.offset,
                error,
                correction,
                self._advice(best, error),
            )

    # Inside.

    def _read_together(self, now: float, wall: float) -> bool:
        """Whether the two were, as far as can be said; if so, what is known is as of now."""
        self._now = max(self._now, now)
        ahead = wall - now * 1_000
        step = 0.0 if self._wall_ahead is None else ahead - self._wall_ahead
        if step > _STEP and (self._further_ahead is None or abs(ahead - self._further_ahead) > _STEP):
            self._further_ahead = ahead
            return False
        if abs(step) > _STEP:
            logger.warning("our clock was set by %+.0f ms: measuring anew", step)
            self._forget()
        self._wall_ahead, self._further_ahead = ahead, None
        return True

    def _advice(self, best: _Sample, error: float) -> str:
        if error > abs(best.offset):
            return "Replies are slow: use a larger expiry_window, or a machine nearer to the exchange"
        advice = "Keep the clock of this machine right with chrony or another NTP client"
        return advice if self._correct else f"{advice}, or use correct_clock=True"

    def _pass(self, now: float | None) -> None:
        if now is not None and isfinite(now):
            self._now = max(self._now, now)

    def _error_of(self, sample: _Sample) -> float:
        """As of now: drift since, and what our own clocks have parted by."""
        wall_ahead = sample.wall_ahead if self._wall_ahead is None else self._wall_ahead
        drifted = _DRIFT * (self._now - sample.at)
        return sample.error + drifted + abs(wall_ahead - sample.wall_ahead)

    def _best(self) -> _Sample | None:
        return min(self._samples, key=self._error_of, default=None)

    def _agree(self, one: _Sample, other: _Sample) -> bool:
        return abs(one.offset - other.offset) <= self._error_of(one) + self._error_of(other)

    def _keep(self, fresh: _Sample) -> None:
        if not self._samples or fresh.at - self._stage_began >= _STAGE_S:
            self._stage_began = fresh.at
            self._samples.append(fresh)
        elif self._error_of(fresh) <= self._error_of(self._samples[-1]):
            self._samples[-1] = fresh

    def _forget(self) -> None:
        self._samples.clear()
        self._doubt = None
