# SPDX-License-Identifier: MIT
"""What the monitor shows: what it has seen of a bot so far, and that as lines of text. No I/O."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from pacifica_fast._cli_terminal import Terminal, count, printable
from pacifica_fast.latency import STAGES, LatencySummary, StageSummary
from pacifica_fast.status import CreditStatus, Fates, LinkStatus, Status

__all__ = ["Line", "Span", "View", "as_json", "draw", "painted"]

_MINUTE: Final = 60.0  # s
_RATE_OVER: Final = 10.0  # s
_EVENTS: Final = 100
_FATES: Final = (
    ("acked", "acked", "green"),
    ("rejected", "rejected", "red"),
    ("unknown", "unknown", "yellow"),
    ("not_sent", "not sent", "yellow"),
    ("late", "late replies", "dim"),
)
_STATE_COLOURS: Final = {"open": "green", "draining": "dim", "closed": "red"}
_SCALE: Final = (1.0, 1e7)  # µs: where bars begin and end, on a logarithmic scale


class Span(NamedTuple):
    """Text in one colour; None is the terminal's own."""

    text: str
    colour: str | None = None


Line = list[Span]


class Event(NamedTuple):
    at: float
    text: str
    colour: str | None


@dataclass
class Seen:
    """One client of the bot: its last status, and what the last minute's rates are made of."""

    status: Status
    fates: deque[tuple[float, Fates]] = field(default_factory=deque)

    def note(self, status: Status, now: float) -> None:
        self.status = status
        self.fates.append((now, status.fates))
        # One reading older than a minute is what the minute is counted from.
        while len(self.fates) > 2 and self.fates[1][0] <= now - _MINUTE:
            self.fates.popleft()

    def gained(self, fate: str, seconds: float) -> tuple[int, float]:
        """By how much a count rose in the last seconds, and how many seconds that really were."""
        now, newest = self.fates[-1]
        then, oldest = next(
            (reading for reading in self.fates if reading[0] >= now - seconds), self.fates[-1]
        )
        return getattr(newest, fate) - getattr(oldest, fate), now - then

    def rate(self, fate: str) -> float | None:
        """Per second, or None before there are two readings."""
        gained, seconds = self.gained(fate, _RATE_OVER)
        return gained / seconds if seconds > 0 else None

    def per_reading(self, fate: str) -> list[int]:
        counts = [getattr(fates, fate) for _, fates in self.fates]
        return [later - earlier for earlier, later in pairwise(counts)]


class View:
    """A bot as the monitor has seen it: :meth:`answered` and :meth:`missed` tell what a scrape gave.

    Times are Unix seconds.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.clients: list[Seen] = []
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self.answered_at: float | None = None
        self.missing_since: float | None = None
        self.why_missing = ""

    def answered(self, statuses: tuple[Status, ...], now: float) -> None:
        """The bot was there."""
        if self.missing_since is not None:
            self._event(now, f"the bot answers again, after {_age(now - self.missing_since)}", "green")
            self.missing_since = None
        known = {self._key(seen.status): seen for seen in self.clients}
        clients = []
        for status in statuses:
            seen = known.get(self._key(status))
            if seen is None:
                seen = Seen(status)
                if self.answered_at is not None:
                    self._event(now, f"a client of {_short(status.account)} began", None)
            else:
                self._compare(seen.status, status, now)
            seen.note(status, now)
            clients.append(seen)
        for key in known.keys() - {self._key(status) for status in statuses}:
            self._event(now, f"a client of {_short(key[0])} is gone", "yellow")
        self.clients = clients
        self.answered_at = now

    def missed(self, why: str, now: float) -> None:
        """It was not, or what it said could not be understood."""
        if self.missing_since is None:
            self.missing_since = now
            self._event(now, f"no answer from the bot: {printable(why)}", "red")
        self.why_missing = printable(why)

    @staticmethod
    def _key(status: Status) -> tuple[str, float]:
        return status.account, status.opened  # a client that was made anew is another

    def _event(self, now: float, text: str, colour: str | None) -> None:
        self.events.append(Event(now, text, colour))

    def _compare(self, old: Status, new: Status, now: float) -> None:
        before = {link.name: link.state for link in old.links}
        for link in new.links:
            was = before.pop(link.name, None)
            if was != link.state:
                change = link.state if was is None else f"{was}, now {link.state}"
                self._event(
                    now,
                    f"link {printable(link.name, 20)}: {printable(change, 60)}",
                    _state_colour(link.state),
                )
        for name in before:
            self._event(now, f"link {printable(name, 20)}: gone", "dim")
        if new.reconnects > old.reconnects:
            self._event(now, count(new.reconnects - old.reconnects, "reconnect"), "yellow")
        for fate, name, colour in _FATES[1:]:
            more = getattr(new.fates, fate) - getattr(old.fates, fate)
            if more > 0:
                self._event(now, f"{more} {name}", colour)


# --------------------------------------------------------------------------- drawing


class _Glyphs(NamedTuple):
    full: str
    middle: str
    light: str
    empty: str
    spark: str
    dot: str
    micro: str
    plus_minus: str
    more: str


_UNICODE: Final = _Glyphs("█", "▒", "░", " ", " ▁▂▃▄▅▆▇█", "●", "µ", "±", "…")
_ASCII: Final = _Glyphs("#", "=", "-", " ", " .:-=+*#@", "*", "u", "+-", "~")


def draw(view: View, width: int, height: int | None, now: float, *, unicode: bool = True) -> list[Line]:
    """The whole screen, of at most ``height`` lines; None: as many as there are. ``now`` is Unix seconds."""
    glyphs = _UNICODE if unicode else _ASCII
    lines = [_title(view, width, now)]
    if view.missing_since is not None:
        lines.append(_missing(view, now))
    for seen in view.clients:
        lines.append([])
        lines.extend(_client(seen, width, now, glyphs))
    room = len(view.events) if height is None else height - len(lines) - 2
    if view.events and room > 0:
        lines += [[], [Span("events", "bold")]]
        recent = list(view.events)[-room:]
        lines += [
            [Span(f"  {_clock(event.at)}  ", "dim"), Span(event.text, event.colour)] for event in recent
        ]
    if height is not None and len(lines) > height:
        lines[max(height - 1, 0) :] = [[Span(f"{glyphs.more} the window is too low for the rest", "dim")]]
    return [_cut(line, width) for line in lines[:height]]


def painted(line: Line, terminal: Terminal) -> str:
    """A line as the terminal gets it."""
    return "".join(
        terminal.paint(span.text, span.colour) if span.colour and span.text else span.text for span in line
    )


def as_json(view: View, now: float) -> dict[str, Any]:
    """The same for a program: one object a refresh."""
    clients = [
        {
            **asdict(seen.status),
            "per_second": {fate: seen.rate(fate) for fate, _, _ in _FATES},
        }
        for seen in view.clients
    ]
    missing = view.missing_since is not None
    return {
        "time": now,
        "url": view.source,
        "error": view.why_missing if missing else None,
        "clients": [] if missing else clients,
    }


def _title(view: View, width: int, now: float) -> Line:
    left, clock = f"pacifica-fast monitor  {view.source}", _clock(now)
    room = max(width - len(clock) - 1, 0)
    return [Span(left[:room].ljust(room), "bold"), Span(f" {clock}")]


def _missing(view: View, now: float) -> Line:
    since = _age(now - (view.missing_since or now))
    last = "" if view.answered_at is None else f"; below is what was at {_clock(view.answered_at)}"
    return [Span(f"no answer for {since}{last}: {view.why_missing}", "red")]


def _client(seen: Seen, width: int, now: float, glyphs: _Glyphs) -> Iterator[Line]:
    status = seen.status
    yield [
        Span("account   ", "bold"),
        Span(printable(status.account, 44)),
    ]
    yield [
        Span("client    ", "bold"),
        Span(f"up {_age(now - status.opened)}   in flight {status.in_flight}   "),
        Span(count(status.reconnects, "reconnect"), "yellow" if status.reconnects else None),
        *_orders(status),
    ]
    yield [Span("links     ", "bold"), *_links(status.links, now, glyphs)]
    if status.clock is not None:
        clock = status.clock
        yield [
            Span("clock     ", "bold"),
            Span(f"{clock.offset:+.1f} ms {glyphs.plus_minus} {clock.error:.1f}"),
            Span(f"   round trip {clock.round_trip:.1f} ms", "dim"),
        ]
    if status.credits is not None:
        yield _credits(status.credits, width, glyphs)
    yield []
    yield from _fates(seen, width, glyphs)
    if status.latency is not None:
        yield []
        yield from _latency(status.latency, width, glyphs)


def _orders(status: Status) -> Line:
    if status.orders is None:
        return []
    return [Span(f"   {count(status.orders.tracked, 'order')}, {status.orders.armed} armed")]


def _links(links: tuple[LinkStatus, ...], now: float, glyphs: _Glyphs) -> Iterator[Span]:
    if not links:
        yield Span("none", "red")
    for link in links:
        state = f"{glyphs.dot} {printable(link.name, 20)} {printable(link.state, 20)}"
        yield Span(state, _state_colour(link.state))
        yield Span(f" {_age(now - link.since)}   ", "dim")


def _credits(have: CreditStatus, width: int, glyphs: _Glyphs) -> Line:
    share = have.remaining / have.quota if have.quota > 0 else 0.0
    share = min(max(share, 0.0), 1.0)
    cells = min(20, max(width - 60, 4))
    full = round(share * cells)
    colour = "red" if share < 0.1 else "yellow" if share < 0.3 else "green"
    text = f" {have.remaining:.1f} of {have.quota:g}"
    if have.per_cancel:
        text += f", {count(math.floor(max(have.remaining, 0.0) / have.per_cancel), 'cancel')}"
    return [
        Span("credits   ", "bold"),
        Span(glyphs.full * full, colour),
        Span(glyphs.light * (cells - full), "dim"),
        Span(text),
        Span(f", full in {have.refresh:.0f} s", "dim"),
    ]


def _fates(seen: Seen, width: int, glyphs: _Glyphs) -> Iterator[Line]:
    yield [Span("fates           ", "bold"), Span(f"{'total':>12}{'/s':>9}{'last minute':>14}", "dim")]
    for fate, name, colour in _FATES:
        total = getattr(seen.status.fates, fate)
        rate = seen.rate(fate)
        recent, _ = seen.gained(fate, _MINUTE)
        numbers = f"{total:>12,}{'-' if rate is None else f'{rate:.1f}':>9}{recent:>14,}"
        alive = colour if total else "dim"
        yield [
            Span(f"  {name:<14}", alive),
            Span(numbers, alive if recent else None if total else "dim"),
            Span("  " + _spark(seen.per_reading(fate), width - 53, glyphs), alive),
        ]


def _spark(values: list[int], room: int, glyphs: _Glyphs) -> str:
    """The last values as little columns; whatever is more than nothing can be seen."""
    values = [max(value, 0) for value in values[-room:]] if room > 0 else []
    most = max(values, default=0)
    steps = len(glyphs.spark) - 1
    return "".join(glyphs.spark[math.ceil(value / most * steps) if most else 0] for value in values)


def _latency(latency: LatencySummary, width: int, glyphs: _Glyphs) -> Iterator[Line]:
    bar = max(width - 58, 0)
    title = f"latency, {latency.window:g} s"
    heads = "".join(f"{head:>8}" for head in ("p50", "p90", "p99", "p99.9", "max"))
    yield [Span(f"{title:<16}", "bold"), Span(heads, "dim"), *_scale(bar, glyphs)]
    for name in STAGES:
        stage = latency.stage(name)
        values = (stage.p50, stage.p90, stage.p99, stage.p999, stage.max)
        numbers = "".join(f"{_duration(value, glyphs):>8}" for value in values)
        yield [
            Span(f"  {name:<14}"),
            Span(numbers, None if stage.max is not None else "dim"),
            *_bar(stage, bar, glyphs),
        ]


def _scale(room: int, glyphs: _Glyphs) -> Line:
    """The marks above the bars, where they fall."""
    marks = [" "] * room
    for value, text in ((1.0, f"1{glyphs.micro}s"), (1e3, "1ms"), (1e6, "1s")):
        at = _cells(value, room)
        if at + len(text) <= room:
            marks[at : at + len(text)] = text
    return [Span("  " + "".join(marks), "dim")]


def _bar(stage: StageSummary, room: int, glyphs: _Glyphs) -> Line:
    """Solid to the median, then to the 99th percentile, then to the slowest."""
    if stage.p50 is None or stage.p99 is None or stage.max is None:
        return []
    half, most, all_ = (_cells(value, room) for value in (stage.p50, stage.p99, stage.max))
    return [
        Span("  "),
        Span(glyphs.full * half, "green"),
        Span(glyphs.middle * (most - half), "yellow"),
        Span(glyphs.light * (all_ - most), "red"),
    ]


def _cells(us: float, room: int) -> int:
    low, high = _SCALE
    us = min(max(us, low), high)
    return round(math.log(us / low) / math.log(high / low) * room)


def _cut(line: Line, width: int) -> Line:
    kept, room = [], width
    for span in line:
        if room <= 0:
            break
        kept.append(Span(span.text[:room], span.colour))
        room -= len(span.text)
    return kept


def _state_colour(state: str) -> str:
    return _STATE_COLOURS.get(state, "yellow")


def _short(account: str) -> str:
    account = printable(account, 44)
    return account if len(account) <= 12 else f"{account[:4]}..{account[-4:]}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _age(seconds: float) -> str:
    """As long as a person would say it: 42 s, 12 min 05 s, 3 h 07 min, 12 d 4 h."""
    whole = max(int(seconds), 0)
    minutes, s = divmod(whole, 60)
    hours, min_ = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{h} h {min_:02} min"
    return f"{min_} min {s:02} s" if minutes else f"{s} s"


def _duration(us: float | None, glyphs: _Glyphs) -> str:
    """Three digits, in the unit that suits."""
    if us is None:
        return "-"
    for limit, unit, size in ((999.5, f"{glyphs.micro}s", 1.0), (999.5e3, "ms", 1e3), (math.inf, "s", 1e6)):
        if us < limit:
            value = us / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return "-"
