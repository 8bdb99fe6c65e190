# SPDX-License-Identifier: MIT
"""Pictures: inline SVG that stretches to the width of the page, with its text beside it in HTML.

Text within an SVG would shrink with it on a phone. So the SVG has the shapes only, drawn in a
box of 1000 by 100 without a fixed aspect; strokes keep their width (``non-scaling-stroke``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .axis import LogAxis, quantity, tick
from .measure import quantile

WIDTH, HEIGHT, BINS = 1000, 100, 250
Point = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """Something measured, of a family that has a colour of its own."""

    name: str
    family: str
    samples: Sequence[float]


@dataclass(frozen=True)
class Line:
    """Points to connect; ``style`` 1 and 2 are dashed."""

    name: str
    family: str
    points: Sequence[Point]
    style: int = 0


@dataclass(frozen=True)
class Bar:
    """Parts laid end to end: their name, their length, and their colour's number."""

    name: str
    parts: Sequence[tuple[str, float, int]]


# Ridges.


def ridges(rows: Sequence[Row], unit: str = "ns") -> str:
    """Of every row how often which duration was measured, on one logarithmic axis."""
    axis = LogAxis.around((quantile(row.samples, q) for row in rows for q in (0.01, 0.99)), 1.25)
    lanes = "".join(_lane(row, axis, unit) for row in rows)
    return _figure("ridges", lanes + _ticks_below(axis, unit), "Logarithmic axis. " + RIDGES)


RIDGES = "The stroke in a ridge is its median; the line below reaches from p1 to p99.9, with a tick at p99."


def _lane(row: Row, axis: LogAxis, unit: str) -> str:
    marks = [f'<path class="grid" d="{_verticals([axis.at(value) for value in axis.ticks()], 0, HEIGHT)}"/>']
    heights = _density(row.samples, axis)
    outline = " ".join(
        f"{WIDTH * (n + 0.5) / BINS:.0f},{HEIGHT - 4 - (HEIGHT - 12) * height:.1f}"
        for n, height in enumerate(heights)
        if height > 0.001 or any(near > 0.001 for near in heights[max(n - 1, 0) : n + 2])
    )
    if outline:
        first, last = outline.split(" ")[0].split(",")[0], outline.split(" ")[-1].split(",")[0]
        ground = HEIGHT - 4
        marks.append(f'<path class="ridge" d="M{first},{ground} L{outline} L{last},{ground} Z"/>')
    places = {q: min(max(axis.at(quantile(row.samples, q)), 0), 1) for q in (0.01, 0.5, 0.99, 0.999)}
    ends = " L".join(f"{WIDTH * places[q]:.0f},{HEIGHT - 4}" for q in (0.01, 0.999))
    marks.append(f'<path class="whisker" d="M{ends} {_verticals([places[0.99]], HEIGHT - 14, HEIGHT)}"/>')
    marks.append(f'<path class="median" d="{_verticals([places[0.5]], 2, HEIGHT)}"/>')
    median = quantity(quantile(row.samples, 0.5), unit)
    p99 = f"p99 {quantity(quantile(row.samples, 0.99), unit)}" if len(row.samples) >= 100 else ""
    return (
        f'<div class="lane {row.family}"><span class="name">{escape(row.name)}</span>'
        f'<span class="value"><b>{median}</b> <small>{p99}</small></span>{_svg("".join(marks))}</div>'
    )


def _density(samples: Sequence[float], axis: LogAxis) -> list[float]:
    """Smoothed counts along the axis; the highest is 1."""
    places = [place for place in (axis.at(sample) for sample in samples) if 0 <= place < 1]
    if not places:
        return [0.0] * BINS
    counts = [0] * BINS
    for place in places:
        counts[int(place * BINS)] += 1
    # Silverman's rule; but never so narrow that the bins show, nor so wide that two humps are one.
    low, _, high = statistics.quantiles(places, n=4) if len(places) > 1 else (0.0, 0.0, 0.0)
    width = min(max(0.9 * (high - low) / 1.34 * len(places) ** -0.2 * BINS, 1.0), BINS / 30)
    reach = math.ceil(3 * width)
    kernel = [math.exp(-0.5 * (n / width) ** 2) for n in range(-reach, reach + 1)]
    smooth = [
        sum(counts[n + k - reach] * weight for k, weight in enumerate(kernel) if 0 <= n + k - reach < BINS)
        for n in range(BINS)
    ]
    peak = max(smooth)
    return [value / peak for value in smooth]


# Lines.


def lines(
    series: Sequence[Line], x_name: str, x_ticks: Mapping[float, str], unit: str = "ns", note: str = ""
) -> str:
    """Costs against something, both logarithmic."""
    across = LogAxis(min(x_ticks), max(x_ticks))
    up = LogAxis.around((y for line in series for _, y in line.points), 1.3)
    marks = [
        f'<path class="grid" d="{_horizontals([up.at(value) for value in up.ticks()])} '
        f'{_verticals([across.at(value) for value in x_ticks], 0, HEIGHT)}"/>'
    ]
    for line in series:
        places = [(WIDTH * across.at(x), HEIGHT * (1 - up.at(y))) for x, y in line.points]
        path = " L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        # A line of no length with round ends is a dot, and stays round when the picture is stretched.
        dots = " ".join(f"M{x:.1f},{y:.1f} h0" for x, y in places) if len(places) < 8 else ""
        marks.append(
            f'<g class="{line.family} style{line.style}"><path class="line" d="M{path}"/>'
            f'<path class="dots" d="{dots}"/></g>'
        )
    y_labels = "".join(
        f'<span style="top:{100 * (1 - up.at(value)):.1f}%">{tick(value, unit)}</span>'
        for value in up.ticks()
    )
    x_labels = "".join(_label(across.at(value), text) for value, text in x_ticks.items())
    keys = "".join(
        f'<span class="key {line.family} style{line.style}">'
        f'<svg viewBox="0 0 30 10" aria-hidden="true"><path class="line" d="M0,5 H30"/></svg>'
        f"{escape(line.name)}</span>"
        for line in series
    )
    return _figure(
        "lines",
        f'<div class="up">{y_labels}</div>{_svg("".join(marks))}'
        f'<div class="axis">{x_labels}</div><div class="across">{escape(x_name)}</div>'
        f'<div class="keys">{keys}</div>',
        f"Both axes are logarithmic. {note}".strip(),
    )


# Bars.


def bars(whole: Sequence[Bar], unit: str = "ns", note: str = "") -> str:
    """One below the other, on one linear scale from zero."""
    longest = max(sum(length for _, length, _ in bar.parts) for bar in whole)
    return _figure("bars", "".join(_bar(bar, longest, unit) for bar in whole), note)


def _bar(bar: Bar, longest: float, unit: str) -> str:
    total, start = sum(length for _, length, _ in bar.parts), 0.0
    marks, keys = [], []
    for name, length, colour in bar.parts:
        width = WIDTH * length / longest
        marks.append(f'<rect class="part{colour}" x="{start:.1f}" y="0" width="{width:.1f}" height="100"/>')
        keys.append(
            f'<span class="key part{colour}"><i></i>{escape(name)} <b>{quantity(length, unit)}</b></span>'
        )
        start += width
    named = f'<div class="keys">{"".join(keys)}</div>' if len(keys) > 1 else ""
    return (
        f'<div class="bar"><span class="name">{escape(bar.name)}</span>'
        f'<span class="value"><b>{quantity(total, unit)}</b></span>{_svg("".join(marks))}{named}</div>'
    )


# Common.


def _svg(shapes: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'


def _figure(kind: str, inner: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{inner}{below}</figure>'


def _verticals(places: Sequence[float], top: float, bottom: float) -> str:
    return " ".join(f"M{WIDTH * place:.1f},{top:g} V{bottom:g}" for place in places)


def _horizontals(places: Sequence[float]) -> str:
    return " ".join(f"M0,{HEIGHT * (1 - place):.1f} H{WIDTH}" for place in places)


def _ticks_below(axis: LogAxis, unit: str) -> str:
    labels = "".join(_label(axis.at(value), tick(value, unit)) for value in axis.ticks())
    return f'<div class="axis">{labels}</div>'


def _label(place: float, text: str) -> str:
    edge = " first" if place < 0.04 else " last" if place > 0.96 else ""
    return f'<span class="tick{edge}" style="left:{100 * place:.1f}%">{escape(text)}</span>'
