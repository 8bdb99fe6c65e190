# SPDX-License-Identifier: MIT
"""What a :class:`~pacifica_fast.mock_exchange.MockExchange` does wrong, on purpose.

Two ways: told what to do with what comes next (:meth:`Faults.drop_replies` and its like), or by
chance (:meth:`Faults.random`), from a seed: the same requests in the same order meet the same faults.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum, auto
from typing import Final, Self

from pacifica_fast._mock_rules import Condition, Refusal

__all__ = ["FAULTS", "Before", "Faults", "Reply", "Weather"]

_REORDERED_BY: Final = 0.02  # seconds: what comes next overtakes


@dataclass(frozen=True, slots=True)
class Weather:
    """How often what goes wrong: a probability for each message, or each handshake.

    With a message, before it is dealt with: ``drop_before`` (it is forgotten), ``abort_before`` (the
    connection is cut), ``half_open`` (the connection stays, and nothing is read or written any more),
    ``slow_read`` (nothing is read for ``slow_s`` seconds), ``rate_limit`` (429), ``batch_failure`` (for
    each action of a batch).

    With its reply: ``drop_after`` (none), ``abort_after`` (none, and the connection is cut), ``delay``
    (by up to ``delay_s`` seconds), ``reorder``, ``duplicate``, ``without_id``, ``garbage`` (something
    senseless comes first), ``oversized`` (2 MiB come first), ``fragment`` (into many frames).

    With a handshake: ``refuse_handshake`` (429 or 503), ``stall_handshake`` (no answer for ``stall_s``
    seconds).
    """

    drop_before: float = 0.0
    abort_before: float = 0.0
    half_open: float = 0.0
    slow_read: float = 0.0
    rate_limit: float = 0.0
    batch_failure: float = 0.0
    drop_after: float = 0.0
    abort_after: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    without_id: float = 0.0
    garbage: float = 0.0
    oversized: float = 0.0
    fragment: float = 0.0
    refuse_handshake: float = 0.0
    stall_handshake: float = 0.0
    delay_s: float = 0.05
    slow_s: float = 0.2
    stall_s: float = 2.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            most = 3600.0 if item.name.endswith("_s") else 1.0
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                kind = "seconds" if most > 1 else "a probability"
                raise ValueError(f"{item.name}: expected {kind}, 0 to {most:g}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """``drop_after=0.01,delay=0.1``; raises :class:`ValueError`, which names what is wrong."""
        known, given = {item.name for item in fields(cls)}, {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in known:
                raise ValueError(f"{name}: no such fault (there are {', '.join(sorted(known))})")
            try:
                given[name] = float(value)
            except ValueError:
                raise ValueError(f"{name}: expected a number") from None
        return cls(**given)


FAULTS: Final = tuple(sorted(item.name for item in fields(Weather) if not item.name.endswith("_s")))
"""The names of all that can go wrong by chance."""


class Before(Enum):
    """What happens to a request before it is carried out."""

    NOTHING = auto()
    DROP = auto()
    ABORT = auto()
    HALF_OPEN = auto()
    SLOW_READ = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """How a reply is sent: ``at`` are the moments, in seconds from now, of each time it is."""

    at: tuple[float, ...] = (0.0,)
    abort: bool = False
    without_id: bool = False
    first: bytes | str | None = None
    fragment: bool = False


class Faults:
    """What to do wrong. All but :meth:`send_raw`, :meth:`disconnect`, :meth:`refuse_handshakes`,
    :meth:`next` and :meth:`random` concern replies to trading requests, and wait for those that come next.
    """

    def __init__(
        self, send_raw: Callable[[str | bytes], None], disconnect: Callable[[int | None], None]
    ) -> None:
        self._send_raw = send_raw
        self._disconnect = disconnect
        self.clear()

    def clear(self) -> None:
        """Behave again."""
        self._drop = 0
        self._twice = 0
        self._delay = 0.0
        self._rejections: deque[Refusal] = deque()
        self._refusals: deque[int] = deque()
        self._silent_subscriptions = 0
        self._updates_lost = 0
        self._due: Counter[str] = Counter()
        self._weather = Weather()
        self._random = random.Random(0)  # noqa: S311  # faults, no secrets
        self.happened: Counter[str] = Counter()
        """How often which fault of :meth:`random` and :meth:`next` was met."""

    # Told what to do.

    def drop_replies(self, n: int = 1) -> None:
        """Do what the next ``n`` requests ask, and do not answer."""
        self._drop = n

    def reply_twice(self, n: int = 1) -> None:
        """Send the next ``n`` replies twice."""
        self._twice = n

    def delay_replies(self, seconds: float) -> None:
        """Hold back every reply from now on for that long; 0 ends it."""
        self._delay = seconds

    def reject_next(self, code: int, text: str, n: int = 1) -> None:
        """Answer the next ``n`` requests with this error, and do nothing."""
        self._rejections.extend(Refusal(code, text) for _ in range(n))

    def refuse_handshakes(self, status: int, n: int = 1) -> None:
        """Answer the next ``n`` upgrades with this HTTP status, 429 or 503 say."""
        self._refusals.extend([status] * n)

    def ignore_subscriptions(self, n: int = 1) -> None:
        """Neither acknowledge nor heed the next ``n`` subscriptions: the exchange's way with bad ones."""
        self._silent_subscriptions = n

    def lose_updates(self, n: int = 1) -> None:
        """Do not send the next ``n`` messages of order updates."""
        self._updates_lost = n

    def send_raw(self, message: str | bytes) -> None:
        """Send ``message`` to every connection as it is; bytes as a binary message."""
        self._send_raw(message)

    def disconnect(self, index: int | None = None) -> None:
        """Cut every connection, or only that of ``index``, oldest first, without a closing handshake.

        Raises :class:`IndexError` if there are not so many.
        """
        self._disconnect(index)

    def next(self, fault: str, n: int = 1) -> None:
        """Have the next ``n`` messages or handshakes that can meet a fault of :class:`Weather` meet it.

        Raises :class:`ValueError` if there is no such fault.
        """
        if fault not in FAULTS:
            raise ValueError(f"fault: expected one of {', '.join(FAULTS)}")
        self._due[fault] = n

    def random(self, seed: int, weather: Weather | None = None, **probabilities: float) -> None:
        """From now on, by chance: a :class:`Weather`, or its fields. With neither: all is well."""
        if weather is not None and probabilities:
            raise ValueError("a weather or its fields, not both")
        self._weather = weather or Weather(**probabilities)
        self._random = random.Random(seed)  # noqa: S311
        self.happened.clear()

    # For the exchange.

    def before(self) -> Before:
        """What happens to the request at hand first."""
        weather = self._weather
        if self._met("abort_before", weather.abort_before):
            return Before.ABORT
        if self._met("half_open", weather.half_open):
            return Before.HALF_OPEN
        if self._met("drop_before", weather.drop_before):
            return Before.DROP
        if self._met("slow_read", weather.slow_read):
            return Before.SLOW_READ
        return Before.NOTHING

    @property
    def slow_s(self) -> float:
        """How long :attr:`Before.SLOW_READ` lasts."""
        return self._weather.slow_s

    def rejection(self) -> Refusal | None:
        """The error that the request at hand gets instead of being carried out."""
        if self._rejections:
            return self._rejections.popleft()
        if self._met("rate_limit", self._weather.rate_limit):
            return Condition.RATE_LIMITED.refusal()
        return None

    def action_fails(self) -> bool:
        """True if the action at hand, of a batch, fails."""
        return self._met("batch_failure", self._weather.batch_failure)

    def reply(self) -> Reply:
        """How the reply at hand is sent."""
        weather = self._weather
        if self._drop > 0:
            self._drop -= 1
            return Reply(())
        if self._twice > 0:
            self._twice -= 1
            return Reply((self._delay, self._delay))
        if self._met("abort_after", weather.abort_after):
            return Reply((), abort=True)
        if self._met("drop_after", weather.drop_after):
            return Reply(())
        at = self._delay
        if self._met("delay", weather.delay):
            at += self._random.uniform(0.0, weather.delay_s)
        if self._met("reorder", weather.reorder):
            at += _REORDERED_BY
        first: bytes | str | None = None
        if self._met("garbage", weather.garbage):
            first = self._random.choice(_GARBAGE)
        if self._met("oversized", weather.oversized):
            first = "x" * (2 << 20)
        return Reply(
            (at, at) if self._met("duplicate", weather.duplicate) else (at,),
            without_id=self._met("without_id", weather.without_id),
            first=first,
            fragment=self._met("fragment", weather.fragment),
        )

    def handshake(self) -> tuple[int | None, float]:
        """The HTTP status that an upgrade is refused with, or None, and how long it waits for that."""
        weather = self._weather
        stall = weather.stall_s if self._met("stall_handshake", weather.stall_handshake) else 0.0
        if self._refusals:
            return self._refusals.popleft(), stall
        if self._met("refuse_handshake", weather.refuse_handshake):
            return self._random.choice((429, 503)), stall
        return None, stall

    def subscription_ignored(self) -> bool:
        """True if the subscription at hand gets no answer."""
        self._silent_subscriptions -= 1
        return self._silent_subscriptions >= 0

    def update_lost(self) -> bool:
        """True if the order update at hand is not sent."""
        self._updates_lost -= 1
        return self._updates_lost >= 0

    def _met(self, name: str, probability: float) -> bool:
        if self._due[name] > 0:
            self._due[name] -= 1
        elif not probability or self._random.random() >= probability:
            return False
        self.happened[name] += 1
        return True


_GARBAGE: Final = (
    "not json",
    "[]",
    '"a string"',
    "{}",
    '{"id":7,"code":"200"}',
    '{"code":500,"err":"whose?"}',
    '{"channel":"nobody asked","data":{}}',
    b"\x00\xff\xfe",
)
