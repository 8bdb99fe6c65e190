# SPDX-License-Identifier: MIT
"""What was measured as rows of figures, and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import cases
from .axis import digits, quantity
from .experiment import Experiment
from .goals import Verdict
from .measure import Ratio, quantile, ratio
from .results import Results
from .ways import (
    ARMED,
    ASYNCIO,
    BLOCKING,
    CCXT,
    DETERMINISTIC,
    FLOOR,
    PREPARED,
    SDK,
    SDK_EXAMPLE,
    row,
)

MISSING = "–"


@dataclass(frozen=True)
class Figures:
    """A row: its quantiles, and how many times quicker than the baseline it is."""

    name: str
    samples: list[float]
    times: Ratio
    wrong: str
    """What was wrong with its output; empty if nothing was."""

    def quantile(self, q: float, unit: str) -> str:
        """Where so few calls can say it: there must be ten beyond a quantile far out."""
        if q > 0.9 and len(self.samples) * (1 - q) < 1:
            return MISSING
        return quantity(quantile(self.samples, q), unit)

    @property
    def median(self) -> float:
        """By nearest rank."""
        return quantile(self.samples, 0.5)

    @property
    def told(self) -> str:
        """The ratio and its quartiles."""
        return f"{digits(self.times.median)} × [{digits(self.times.low)}–{digits(self.times.high)}]"


QUANTILES = ((0.5, "median"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"))


def figures(results: Results, experiment: Experiment) -> list[Figures]:
    """Of every row that was measured."""
    names = results.row_names(experiment.key)
    if not names:
        return []
    base = results.row(experiment.key, baseline(results, experiment))
    wrong = results.notes(experiment.key, "wrong")
    rows = []
    for name in names:
        rounds = results.row(experiment.key, name)
        samples = [value for calls in rounds for value in calls]
        if samples:
            rows.append(Figures(name, samples, ratio(base, rounds), wrong.get(name, "")))
    return rows


def baseline(results: Results, experiment: Experiment) -> str:
    """The row against which the others are told."""
    names = results.row_names(experiment.key)
    return experiment.baseline if experiment.baseline in names else names[0]


# One table for the hurried: ways to cancel, and where they are measured.

BUILD_HOT, BUILD_COLD = "whole cancel request, hot", "whole cancel request, cold"
COLUMNS = (
    ("built, hot", BUILD_HOT, 0),
    ("built after 2 ms of rest", BUILD_COLD, 0),
    ("to the wire, TLS", "wire, TLS", 1),
    ("after 2 ms of rest", "wire, TLS, rested", 1),
    ("to the wire, plain", "wire, plain", 1),
)
WAYS = (
    ("official SDK, as its example", "SDK, as its example", SDK_EXAMPLE),
    ("official SDK, key and connection kept", "SDK, key and account kept", SDK),
    ("ccxt", "ccxt", CCXT),
    ("**ours, deterministic**", cases.DETERMINISTIC_REQUEST, row(ASYNCIO, DETERMINISTIC)),
    ("**ours, prepared**", cases.PREPARED_REQUEST, row(ASYNCIO, PREPARED)),
    ("**ours, armed**", "", row(ASYNCIO, ARMED)),
    ("**ours, armed, blocking client**", "", row(BLOCKING, ARMED)),
    ("floor: `crypto_sign`; asyncio's `write` of a finished frame", cases.CRYPTO_SIGN, row(ASYNCIO, FLOOR)),
)


def summary(results: Results) -> list[tuple[str, list[str]]]:
    """Of every way the medians, in the order of :data:`COLUMNS`."""

    def cell(experiment: str, name: str) -> str:
        samples = [value for calls in results.row(experiment, name) for value in calls]
        return quantity(statistics.median(samples)) if samples else MISSING

    return [(way, [cell(key, names[which]) for _, key, which in COLUMNS]) for way, *names in WAYS]


# Markdown.


def markdown(
    results: Results, experiments: Sequence[Experiment], verdicts: Sequence[Verdict], missing: Sequence[str]
) -> str:
    """All of it, the hurried first."""
    parts = [_machine(results, missing), _summary(results), _goals(verdicts)]
    parts += [_experiment(results, experiment) for experiment in experiments]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(results: Results, missing: Sequence[str]) -> str:
    told = results.header
    libraries = ", ".join(f"{name} {version}" for name, version in told["libraries"].items())
    return (
        f"{told['processor']}, {told['cores']} cores, {told['system']}, {told['python']}; {libraries}; "
        f"commit {told['commit']}, {told['date']}, {told['scale']} run"
        f"{', **incomplete**' if missing else ''}."
    )


def _summary(results: Results) -> str:
    head = ["one cancel, median", *(title for title, _, _ in COLUMNS)]
    return _table(head, [[way, *cells] for way, cells in summary(results)])


def _goals(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        goal, value = verdict.goal, verdict.value
        limit = f"{'≥' if goal.at_least else '≤'} {goal.limit:g} {goal.unit}"
        measured = f"{digits(value.median)} [{digits(value.low)}–{digits(value.high)}]"
        rows.append([f"{goal.group}: {goal.what}", limit, measured, verdict.word])
    return _table(["goal", "limit", "measured [quartiles]", ""], rows)


def _experiment(results: Results, experiment: Experiment) -> str:
    rows = figures(results, experiment)
    if not rows:
        return ""
    head = [experiment.title, *(name for _, name in QUANTILES)]
    head.append(f"times quicker than: {baseline(results, experiment)} [quartiles]")
    return _table(
        head,
        [
            [
                f"{row.name} (WRONG: {row.wrong})" if row.wrong else row.name,
                *(row.quantile(q, experiment.unit) for q, _ in QUANTILES),
                row.told,
            ]
            for row in rows
        ],
    )
