# SPDX-License-Identifier: MIT
"""The goals, and whether what was measured reaches them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import cases, crowd, process
from .building import QUIET, REFILLING
from .measure import Ratio, quantile, ratio, spread
from .results import Results
from .ways import ARMED, ASYNCIO, BLOCKING, FLOOR, PREPARED, SDK, UVLOOP, row

__all__ = ["GOALS", "Goal", "Verdict", "judge"]

HOT, COLD = "whole cancel request, hot", "whole cancel request, one per loop wake"
SWITCH_INTERVAL = 5.0  # ms, Python's own
Find = Callable[[Results], Ratio]


@dataclass(frozen=True)
class Goal:
    """Something to reach. ``at_least``: the more the better; else the less."""

    group: str
    what: str
    limit: float
    unit: str
    find: Find
    at_least: bool = False

    def says(self, value: float) -> bool:
        """Whether the value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured; ``nan`` where nothing was."""

    goal: Goal
    value: Ratio

    @property
    def word(self) -> str:
        """Met, not met, or not measured."""
        if math.isnan(self.value.median):
            return "not measured"
        return "met" if self.goal.says(self.value.median) else "not met"


def judge(results: Results) -> list[Verdict]:
    """Every goal, in order."""
    return [Verdict(goal, goal.find(results)) for goal in GOALS]


# What is compared. A result says NaN for what was not measured.

NOTHING = Ratio(math.nan, math.nan, math.nan)


def _of_all(rounds: Iterable[list[float]]) -> list[float]:
    return [value for calls in rounds for value in calls]


def _times(experiment: str, slow: str, *fast: str) -> Find:
    """How many times longer ``slow`` takes, than the fastest of the others if they are several."""

    def find(results: Results) -> Ratio:
        base = results.row(experiment, slow)
        return max((ratio(base, results.row(experiment, name)) for name in fast), key=_known)

    return find


def _known(value: Ratio) -> float:
    return -1.0 if math.isnan(value.median) else value.median


def _over(experiment: str, name: str, base: str) -> Find:
    """How many times longer ``name`` takes than ``base``: the quotient of goals with an upper limit."""
    return lambda results: ratio(results.row(experiment, name), results.row(experiment, base))


def _adds(experiment: str, name: str, base: str, ns: float) -> Find:
    """By how much ``name`` takes longer than ``base``, in units of so many ns."""

    def find(results: Results) -> Ratio:
        rounds = zip(results.row(experiment, name), results.row(experiment, base), strict=True)
        return spread([(statistics.median(a) - statistics.median(b)) / ns for a, b in rounds if a and b])

    return find


def _median(experiment: str, name: str, divisor: float) -> Find:
    def find(results: Results) -> Ratio:
        return spread(
            [statistics.median(calls) / divisor for calls in results.row(experiment, name) if calls]
        )

    return find


def _tail(experiment: str, name: str, q: float, base: str, base_q: float) -> Find:
    """A quantile over a quantile, each of all rounds together: one round has too few calls for it."""

    def find(results: Results) -> Ratio:
        above, below = _of_all(results.row(experiment, name)), _of_all(results.row(experiment, base))
        if not above or not below:
            return NOTHING
        value = quantile(above, q) / quantile(below, base_q)
        return Ratio(value, value, value)

    return find


def _wire(experiment: str, client: str, armed: float, prepared: float) -> list[Goal]:
    floor = row(client, FLOOR)
    return [
        Goal(
            f"to the wire, {experiment.removeprefix('wire, ')}",
            f"{client}, {speed}, over its floor",
            limit,
            "×",
            _over(experiment, row(client, speed), floor),
        )
        for speed, limit in ((ARMED, armed), (PREPARED, prepared))
    ]


def _against_sdk(experiment: str, armed: float, prepared: float, fastest: float) -> list[Goal]:
    group = f"to the wire, {experiment.removeprefix('wire, ')}, against the SDK's way on a kept connection"
    fastest_rows = [row(client, ARMED) for client in (ASYNCIO, BLOCKING)]
    return [
        Goal(
            group, "asyncio, armed", armed, "×", _times(experiment, SDK, row(ASYNCIO, ARMED)), at_least=True
        ),
        Goal(
            group,
            "asyncio, prepared",
            prepared,
            "×",
            _times(experiment, SDK, row(ASYNCIO, PREPARED)),
            at_least=True,
        ),
        Goal(
            group,
            "our fastest client, armed",
            fastest,
            "×",
            _times(experiment, SDK, *fastest_rows),
            at_least=True,
        ),
    ]


PULL_100 = row(ASYNCIO, crowd.PULL.format(100))
SDK_100 = crowd.SDK_PULL.format(100)

GOALS: list[Goal] = [
    Goal(
        "building a whole request, prepared",
        "times quicker than the SDK's, hot",
        45,
        "×",
        _times(HOT, "SDK, as its example", cases.PREPARED_REQUEST),
        at_least=True,
    ),
    Goal("building a whole request, prepared", "hot", 3.5, "µs", _median(HOT, cases.PREPARED_REQUEST, 1e3)),
    Goal(
        "building a whole request, prepared",
        "cold, one per loop wake",
        9,
        "µs",
        _median(COLD, cases.PREPARED_REQUEST, 1e3),
    ),
    Goal(
        "building a whole request, prepared",
        "p90 beside one busy Python thread, over the median alone",
        4,
        "×",
        _tail("busy, building", "prepared, beside it", 0.9, "prepared, alone", 0.5),
    ),
    Goal(
        "building a whole request, prepared",
        "p99.9 while the pool refills, over without",
        2,
        "×",
        _tail("refill", REFILLING, 0.999, QUIET, 0.999),
    ),
    Goal(
        "drop-in",
        "sdk.sign_message over crypto_sign of the same message",
        1.25,
        "×",
        _over("drop-in sign_message, hot", cases.DROP_IN, cases.CRYPTO_SIGN),
    ),
    *_wire("wire, TLS", ASYNCIO, 1.1, 1.3),
    *_wire("wire, TLS", BLOCKING, 1.25, 1.45),
    *_wire("wire, uvloop, TLS", UVLOOP, 1.15, 1.45),
    *_wire("wire, plain", ASYNCIO, 1.1, 1.4),
    Goal(
        "to the wire, plain",
        "asyncio, armed, adds to its floor",
        3,
        "µs",
        _adds("wire, plain", row(ASYNCIO, ARMED), row(ASYNCIO, FLOOR), 1e3),
    ),
    Goal(
        "to the wire, plain",
        "asyncio, prepared, adds to its floor",
        9,
        "µs",
        _adds("wire, plain", row(ASYNCIO, PREPARED), row(ASYNCIO, FLOOR), 1e3),
    ),
    *_wire("wire, plain", BLOCKING, 1.15, 1.45),
    *_wire("wire, uvloop, plain", UVLOOP, 1.15, 1.45),
    *_against_sdk("wire, TLS", 5.8, 4.8, 9),
    *_against_sdk("wire, plain", 8.5, 6.5, 16),
    Goal(
        "many at once",
        "pull of 100 armed, asyncio TLS, times quicker than the SDK's way",
        40,
        "×",
        _times("pull", SDK_100, PULL_100),
        at_least=True,
    ),
    Goal(
        "many at once",
        "the same beside a busy thread: what it loses",
        SWITCH_INTERVAL,
        "ms",
        _adds("pull", PULL_100 + crowd.BESIDE, PULL_100, 1e6),
    ),
    Goal(
        "many at once",
        "sign_many, 2 threads: its speed over that of two processes",
        0.95,
        "×",
        _times("sign_many", crowd.SIGN_PROCESSES, crowd.SIGN_TWO),
        at_least=True,
    ),
    Goal(
        "the process",
        "growth of resident memory",
        1.0,
        "MiB",
        _median("memory", "prepared", 2**20),
    ),
    Goal(
        "the process",
        "import pacifica_fast over importing its dependencies",
        1.5,
        "×",
        _over("import", process.OURS, process.DEPENDENCIES),
    ),
]
