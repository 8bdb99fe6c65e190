# SPDX-License-Identifier: MIT
"""The report as one HTML page that needs nothing else: no script, no asset, no network."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from . import crowd, draw, stages, tables
from .axis import digits, quantity
from .cases import CRYPTO_SIGN
from .draw import Bar, Line, Row
from .experiment import Experiment
from .goals import Verdict
from .measure import quantile
from .results import Results
from .tables import QUANTILES, Figures, figures
from .ways import ARMED, ASYNCIO, BLOCKING, FLOOR, PREPARED, SDK, row

STYLE = Path(__file__).with_name("page.css")
Picture = Callable[[Results, Experiment, list[Figures]], str]

FAMILIES = {"ours": "pacifica_fast", "sdk": "the official SDK's way", "floor": "floor", "peer": "others"}
OURS = re.compile(
    r"ours|pacifica_fast|asyncio|uvloop|blocking|prepared|deterministic|sign_many|one of|build"
    r"|import pacifica|collector|after gc"
)


def family(name: str) -> str:
    """Which of the four colours."""
    if FLOOR in name or name == CRYPTO_SIGN:
        return "floor"
    if name.startswith("SDK"):
        return "sdk"
    return "ours" if OURS.match(name) else "peer"


def page(
    results: Results, experiments: Sequence[Experiment], verdicts: Sequence[Verdict], missing: Sequence[str]
) -> str:
    """All of it."""
    sections = "".join(_section(results, experiment) for experiment in experiments)
    keys = "".join(f'<span class="key {name}"><i></i>{told}</span>' for name, told in FAMILIES.items())
    warning = (
        f'<p class="warning">Incomplete. Not, or not wholly, measured: {escape("; ".join(missing))}.</p>'
        if missing
        else ""
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>pacifica_fast: the report</title>'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body><main>"
        "<header><h1>From <em>decide</em> to <em>on the wire</em></h1>"
        "<p>What it costs to cancel an order on Pacifica from Python, with pacifica_fast and without. "
        "<i>Hot</i> is a tight loop; <i>cold</i> is one call after a rest of 2 ms. To the wire there are two "
        "manners: the loop wakes for a reply and sends the next, or it rests 2 ms before. "
        "All that is compared took turns in one process, and every output was checked. "
        "A machine drifts: believe the ratios.</p>"
        f'{warning}{_tiles(results)}<div class="keys families">{keys}</div></header>'
        f"<section><h2>One cancel</h2>{_summary(results)}</section>"
        f"<section><h2>Goals</h2>{_goals(verdicts)}</section>{sections}"
        f"<section><h2>Measured on</h2>{_machine(results)}</section>"
        "</main></body></html>\n"
    )


# The top.

TILES = (
    ("a cancel to the wire over TLS, armed", "wire, TLS", row(ASYNCIO, ARMED), SDK),
    ("the same, signed on the spot with a prepared nonce", "wire, TLS", row(ASYNCIO, PREPARED), SDK),
    ("the same, armed, with the blocking client", "wire, TLS", row(BLOCKING, ARMED), SDK),
    ("a whole signed request, hot", tables.BUILD_HOT, "ours, prepared", "SDK, as its example"),
    (
        "100 orders pulled, all on the wire",
        "pull",
        row(ASYNCIO, crowd.PULL.format(100)),
        crowd.SDK_PULL.format(100),
    ),
)


def _tiles(results: Results) -> str:
    tiles = []
    for what, experiment, ours, theirs in TILES:
        values = [[v for calls in results.row(experiment, name) for v in calls] for name in (ours, theirs)]
        if all(values):
            fast, slow = (quantity(statistics.median(value)) for value in values)
            tiles.append(
                f'<div class="tile"><b>{fast}</b><span>{what}</span>'
                f"<small>the SDK's way: {slow}</small></div>"
            )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(head: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cells(cells: Sequence[str], kind: str = "") -> str:
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _summary(results: Results) -> str:
    rows = []
    for way, cells in tables.summary(results):
        name = escape(way).replace("`", "")
        rows.append(_cells([name.strip("*"), *cells], "strong" if "*" in way else ""))
    return _table(["median", *(title for title, _, _ in tables.COLUMNS)], rows, "summary")


def _goals(verdicts: Sequence[Verdict]) -> str:
    rows, group = [], ""
    for verdict in verdicts:
        goal, value = verdict.goal, verdict.value
        if goal.group != group:
            group = goal.group
            rows.append(f'<tr class="group"><th colspan="4">{escape(group)}</th></tr>')
        measured = f"<b>{digits(value.median)} {goal.unit}</b>"
        if value.low != value.high:
            measured += f" <small>{digits(value.low)}–{digits(value.high)}</small>"
        limit = f"{'≥' if goal.at_least else '≤'} {goal.limit:g} {goal.unit}"
        chip = f'<span class="chip {verdict.word.replace(" ", "-")}">{verdict.word}</span>'
        rows.append(_cells([escape(goal.what), limit, measured, chip]))
    met = sum(verdict.word == "met" for verdict in verdicts)
    return f"<p>{met} of {len(verdicts)} met.</p>" + _table(
        ["", "goal", "measured, quartiles of rounds", ""], rows, "goals"
    )


def _machine(results: Results) -> str:
    told = dict(results.header)
    told["libraries"] = ", ".join(f"{name} {version}" for name, version in told["libraries"].items())
    return _table(
        ["", ""], [_cells([escape(name), escape(str(value))]) for name, value in told.items()], "machine"
    )


# An experiment.


def _section(results: Results, experiment: Experiment) -> str:
    rows = figures(results, experiment)
    notes = _notes(results, experiment)
    if not rows and not notes:
        return ""
    title = experiment.title[0].upper() + experiment.title[1:]
    inner = ""
    if rows:
        picture = PICTURES.get(experiment.key, _ridges)
        inner = picture(results, experiment, rows) + _details(results, experiment, rows)
    return f"<section><h2>{escape(title)}</h2><p>{escape(experiment.how)}</p>{inner}{notes}</section>"


def _details(results: Results, experiment: Experiment, rows: Sequence[Figures]) -> str:
    base = tables.baseline(results, experiment)
    head = ["", *(name for _, name in QUANTILES), "calls", f"times quicker than: {escape(base)}"]
    body = [
        _cells(
            [
                f'<i class="dot {family(row.name)}"></i>{escape(row.name)}'
                + (f' <span class="chip not-met">wrong: {escape(row.wrong)}</span>' if row.wrong else ""),
                *(row.quantile(q, experiment.unit) for q, _ in QUANTILES),
                f"{len(row.samples):,}",
                f"<b>{digits(row.times.median)}</b> "
                f"<small>{digits(row.times.low)}–{digits(row.times.high)}</small>",
            ]
        )
        for row in rows
    ]
    return f"<details><summary>The figures</summary>{_table(head, body, 'figures')}</details>"


def _notes(results: Results, experiment: Experiment) -> str:
    told = [f"{name}: {text}" for name, text in results.notes(experiment.key, "facts").items()]
    for kind, word in (("skipped", "not measured"), ("wrong", "wrong"), ("failed", "failed")):
        told += [f"{name}: {word}, {text}" for name, text in results.notes(experiment.key, kind).items()]
    return f'<p class="notes">{"<br>".join(escape(line) for line in told)}</p>' if told else ""


# Its picture.


def _ridges(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    """The quickest first."""
    return _ridges_in_order(results, experiment, sorted(rows, key=lambda row: row.median))


def _ridges_in_order(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    """As they come, where neighbours belong together."""
    return draw.ridges([Row(row.name, family(row.name), row.samples) for row in rows], experiment.unit)


def _medians(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    colours = {"ours": 7, "sdk": 2, "peer": 3, "floor": 5}
    return draw.bars(
        [Bar(row.name, [("", row.median, colours[family(row.name)])]) for row in rows], experiment.unit
    )


def _none(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    return ""


def _wire(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    """Ridges, and how far the tails of a few reach."""
    named = {row.name: row.samples for row in rows}
    chosen = (
        (SDK, 0),
        (row(ASYNCIO, PREPARED), 2),
        (row(ASYNCIO, ARMED), 0),
        (row(BLOCKING, ARMED), 1),
        (row(ASYNCIO, FLOOR), 0),
    )
    tails = [Line(name, family(name), _tail(named[name]), style) for name, style in chosen if name in named]
    deepest = min((max(x for x, _ in line.points) for line in tails), default=0)
    ticks = {2.0: "median", 10.0: "p90", 100.0: "p99", 1000.0: "p99.9"}
    ticks = {x: text for x, text in ticks.items() if x <= deepest}
    picture = _ridges(results, experiment, rows)
    if len(ticks) > 1:
        tails = [
            Line(line.name, line.family, [p for p in line.points if p[0] <= max(ticks)], line.style)
            for line in tails
        ]
        picture += "<h3>The tails</h3>" + draw.lines(tails, "quantile of all calls", ticks)
    return picture


def _tail(samples: Sequence[float]) -> list[draw.Point]:
    """One in 2, in 10, in 1000 calls takes at least so long."""
    ordered = sorted(samples)
    points, odds = [], 2.0
    while odds <= len(ordered):
        points.append((odds, ordered[min(int(len(ordered) * (1 - 1 / odds)), len(ordered) - 1)]))
        odds *= 10 ** (1 / 12)
    decades = [10.0**n for n in (1, 2, 3) if 10**n <= len(ordered)]
    return sorted([*points, *((odds, quantile(samples, 1 - 1 / odds)) for odds in decades)])


def _number(name: str) -> float:
    found = re.search(r"\d[\d,]*", name)
    return float(found[0].replace(",", "")) if found else 0.0


def _against(x_name: str, *chosen: tuple[str, str, int]) -> Picture:
    """Medians against the number in a row's name: ``chosen`` are the patterns of rows, told as, and style."""

    def picture(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
        series = []
        for pattern, told, style in chosen:
            found = [row for row in rows if re.fullmatch(pattern, row.name)]
            if found:
                points = sorted((_number(row.name), row.median) for row in found)
                series.append(Line(told, family(found[0].name), points, style))
        ticks = {x: f"{x:,.0f}" for line in series for x, _ in line.points}
        return draw.lines(series, x_name, dict(sorted(ticks.items()))) if len(ticks) > 1 else ""

    return picture


def _armed(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    points = [(_number(row.name), row) for row in rows]
    series = [
        Line(told, "ours", [(x, quantile(row.samples, q)) for x, row in points], style)
        for told, q, style in (("median", 0.5, 0), ("p90", 0.9, 1))
    ]
    return draw.lines(series, "armed orders", {x: f"{x:,.0f}" for x, _ in points})


def _stages(results: Results, experiment: Experiment, rows: list[Figures]) -> str:
    """The SDK's steps end to end; ours as the write, building, and what the client adds to both."""
    named = {row.name: row.median for row in rows}
    whole = []
    sdk = [
        (stage, named[f"SDK: {stage}"], number)
        for number, stage in enumerate(stages.SDK_STAGES, 1)
        if f"SDK: {stage}" in named
    ]
    if sdk:
        whole.append(Bar("the official SDK's way, key and connection kept", sdk))
    write, build = named.get(row(ASYNCIO, FLOOR), 0.0), named.get(stages.BUILD, 0.0)
    for speed, built in ((PREPARED, build), (ARMED, 0.0)):
        total = named.get(row(ASYNCIO, speed), 0.0)
        written = min(write, max(total - built, 0.0))  # measured on its own, it may be noisier than the whole
        parts = [
            (stages.BUILD, built, 7),
            ("write of a finished frame, asyncio's own", written, 5),
            ("the client around it", total - built - written, 6),
        ]
        if total > built:
            whole.append(Bar(f"ours, asyncio, {speed}", [part for part in parts if part[1] > 0]))
    return draw.bars(whole, note="Medians, one linear scale; the parts of ours are measured each on its own.")


PICTURES: dict[str, Picture] = {
    "busy, sending": _ridges_in_order,
    "busy, building": _ridges_in_order,
    "idle": _ridges_in_order,
    "stages": _stages,
    "wire, TLS": _wire,
    "wire, plain": _wire,
    "wire, TLS, rested": _wire,
    "wire, plain, rested": _wire,
    "armed": _armed,
    "pull": _against(
        "orders pulled at once",
        (r"SDK: \d+ cancels", "the SDK's way, one after the other", 0),
        (r"asyncio: pull of \d+ armed", "pull, asyncio", 0),
        (r"blocking: pull of \d+ armed", "pull, blocking", 1),
        (r"asyncio: pull of \d+ armed, beside a busy thread", "pull, asyncio, beside a busy thread", 2),
    ),
    "payload size": _against(
        "bytes of canonical JSON", (r"SDK, .*", "the SDK's way", 0), (r"ours, .*", "Signer.sign", 0)
    ),
    "sign_many": _medians,
    "import": _medians,
    "memory": _none,
}
