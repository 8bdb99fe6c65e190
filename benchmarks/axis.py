# SPDX-License-Identifier: MIT
"""Numbers for people: units, and logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

UNITS = {
    "ns": ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")),
    "bytes": ((1.0, "bytes"), (2.0**10, "KiB"), (2.0**20, "MiB")),
}
TICKS = 6  # as many labels as a phone has room for


def quantity(value: float, unit: str = "ns") -> str:
    """Three digits and the unit that makes them short: ``3.41 µs``."""
    size, name = next(
        ((size, name) for size, name in reversed(UNITS[unit]) if abs(value) >= size), UNITS[unit][0]
    )
    return f"{digits(value / size)} {name}"


def tick(value: float, unit: str = "ns") -> str:
    """A round number, without zeros that say nothing: ``30 µs``."""
    number, _, name = quantity(value, unit).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {name}"


def digits(value: float) -> str:
    """Three digits that count, or all those before the point."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


@dataclass(frozen=True)
class LogAxis:
    """From ``low`` to ``high``, as 0 to 1."""

    low: float
    high: float

    @staticmethod
    def around(values: Iterable[float], margin: float = 1.12) -> LogAxis:
        """With room on both sides."""
        known = [value for value in values if value > 0]
        low, high = min(known, default=1.0), max(known, default=10.0)
        while high / low < 2:  # a quarter of a microsecond is not to look like a mountain
            low, high = low / margin, high * margin
        return LogAxis(low / margin, high * margin)

    def at(self, value: float) -> float:
        """Where a value is."""
        return math.log(max(value, 1e-9) / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Round numbers, at most :data:`TICKS`."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for steps in ((1, 1.2, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [s * 10.0**d for d in decades for s in steps if self.low <= s * 10.0**d <= self.high]
            if len(found) <= TICKS:
                return found
        return found[:: math.ceil(len(found) / TICKS)]
