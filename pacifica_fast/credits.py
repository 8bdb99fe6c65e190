# SPDX-License-Identifier: MIT
"""The rate limit, as the exchange tells it: what is left of the credits, and a reserve for cancels.

Replies carry ``rl`` (docs.pacifica.fi, rate limits; here in credits, a tenth of the wire's values). A
cancel costs 0.5 credits, everything else 1, a failed request as much as any; a batch is booked as 1, as
ccxt does, because no page tells. The window is documented as 60 s and rolling; ``rl`` has one moment at
which it is refreshed, and until then nothing is expected to come back (INFERRED). What was sent and has no
reply, or one without ``rl``, is taken to be spent until a reply tells better.

Cancels are never refused here. No I/O, no clock: times are a driver's monotonic seconds.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from pacifica_fast.errors import CreditsReserved
from pacifica_fast.replies import Credits

__all__ = ["CANCEL_COST", "WINDOW", "Books", "Budget", "CreditState", "cost_of", "is_cancel", "shared_budget"]

CANCEL_COST = 0.5
COST = 1.0
WINDOW = 60.0  # s; docs.pacifica.fi, rate limits

_UNKNOWN_WAIT = 1.0  # s; after a 429 that does not tell how long
_CANCELS = ("cancel_order", "cancel_all_orders", "cancel_stop_order", "cancel_twap_order")


def is_cancel(operation: str) -> bool:
    """True for what only ever cancels."""
    return operation in _CANCELS


def cost_of(operation: str) -> float:
    """What an operation is taken to cost, in credits."""
    return CANCEL_COST if is_cancel(operation) else COST


@dataclass(frozen=True, slots=True)
class CreditState:
    """The credits at one moment. All but ``reserve`` are None until a reply has told.

    ``remaining`` is what is left, less what was sent and not answered yet; ``refresh`` is in seconds;
    ``per_cancel`` is the least by which one cancel was seen to lower what remains.
    """

    remaining: float | None
    quota: float | None
    refresh: float | None
    reserve: float
    per_cancel: float | None


@dataclass(frozen=True, slots=True)
class Books:
    """What a sharer has to know, all of one moment. Credits; ``refresh_at`` in monotonic seconds.

    ``remaining`` and ``quota`` are as the newest reply told them, ``stamp`` is its ``t`` in ms, -1 without.
    """

    remaining: float | None
    quota: float | None
    refresh_at: float
    stamp: int
    outstanding: float
    allowance: float | None
    spent_total: float


class Budget:
    """The credits that some clients share. Safe from any thread; nobody waits in it for anything."""

    def __init__(self, reserve: float = 0.0) -> None:
        self.reserve = reserve
        """Credits that only cancels may use."""
        self.elsewhere: float = 0.0
        """Credits that others have spent since the last reply here; whoever shares them sets it."""
        self.spent_total: float = 0.0
        """All that was ever spent here."""
        self.on_news: Callable[[], None] | None = None
        """Called after each reply that told something; must not wait."""
        self._lock = threading.RLock()  # a signal handler may come in the middle
        self._remaining: float | None = None
        self._quota: float | None = None
        self._refresh_at = 0.0
        self._stamp = -1
        self._blocked_until = 0.0
        self._outstanding = 0.0
        self._told_of = 0.0  # of the outstanding, what the last word of the exchange has in it
        self._per_cancel: float | None = None
        self._cancel_told: float | None = None  # what was left, if the last reply was to a cancel
        self._allowance: float | None = None
        self._allowance_wait: float | None = None

    def spent(self, cost: float) -> None:
        """Something was sent, and is not answered yet."""
        with self._lock:
            self._outstanding += cost
            self.spent_total += cost
            if self._allowance is not None:
                self._allowance -= cost

    def settled(self, cost: float, now: float) -> None:
        """That has ended, and :meth:`replied` was told before if there was anything to tell.

        What no reply told of is spent as well: a lost link gives no credits back.
        """
        with self._lock:
            told = min(cost, self._told_of)
            self._told_of -= told
            self._outstanding = max(0.0, self._outstanding - cost)
            if told < cost and self._remaining is not None and self._quota is not None:
                if now >= self._refresh_at:  # nobody has told of this window
                    self._remaining, self._refresh_at, self._stamp = self._quota, now + WINDOW, -1
                self._remaining = max(0.0, self._remaining - (cost - told))

    def replied(
        self, told: Credits, now: float, stamp: int | None = None, operation: str = "cancel_order"
    ) -> None:
        """A reply told what is left. ``stamp`` is its ``t``: one overtaken, in its window, is no news."""
        with self._lock:
            self._told_of = min(self._outstanding, self._told_of + cost_of(operation))
            same_window = now < self._refresh_at
            if stamp is not None:
                if stamp < self._stamp and same_window:
                    return
                if stamp == self._stamp and same_window and self._remaining is not None:
                    told = Credits(min(told.remaining, self._remaining), told.quota, told.refresh)
                self._stamp = stamp
            self._observe(told, operation, same_window)
            self._remaining, self._quota = told.remaining, told.quota
            self._refresh_at = now + told.refresh
            self.elsewhere = 0.0
        if self.on_news is not None:
            self.on_news()

    def limited(self, wait: float | None, now: float) -> None:
        """The exchange refused something for want of credits; ``wait`` is in seconds, if it told."""
        with self._lock:
            self._remaining = 0.0
            self._blocked_until = now + (_UNKNOWN_WAIT if wait is None else wait)
            self._refresh_at = max(self._refresh_at, self._blocked_until)
        if self.on_news is not None:
            self.on_news()

    def available(self, now: float) -> float | None:
        """What may be spent, all that is outstanding paid; None as long as nothing is known."""
        with self._lock:
            if self._remaining is None or self._quota is None:
                return 0.0 if now < self._blocked_until else None
            left = self._remaining if now < self._refresh_at else self._quota
            return max(0.0, left - self._outstanding - self.elsewhere)

    def book(self, cost: float, now: float) -> None:
        """Spend ``cost`` on what is no cancel, before it is sent: nobody else can spend it in between.

        Raises :class:`CreditsReserved` if only a cancel may.
        """
        with self._lock:
            available = self.available(now)
            wait = max(0.0, self._refresh_at - now, self._blocked_until - now)
            if available is not None and available - cost < self.reserve:
                raise CreditsReserved(available, self.reserve, wait)
            if self._allowance is not None and self._allowance < cost:
                allowance = max(0.0, self._allowance)
                left = allowance if available is None else max(available, allowance)
                soon = self._allowance_wait
                raise CreditsReserved(left, left - allowance, wait if soon is None else soon)
            self.spent(cost)

    def unbook(self, cost: float) -> None:
        """It was not sent after all."""
        with self._lock:
            self._outstanding = max(0.0, self._outstanding - cost)
            self.spent_total -= cost
            if self._allowance is not None:
                self._allowance += cost

    def books(self) -> Books:
        """For whoever shares this budget with other processes: :meth:`allow` takes it back."""
        with self._lock:
            return Books(
                self._remaining,
                self._quota,
                self._refresh_at,
                self._stamp,
                self._outstanding,
                self._allowance,
                self.spent_total,
            )

    def allow(
        self, allowance: float | None, since: Books, *, elsewhere: float = 0.0, wait: float | None = None
    ) -> None:
        """Let what is no cancel spend so many credits, less what was spent ``since``; None: whatever is left.

        Cancels use them too, but never wait for them. ``elsewhere`` counts unless a reply came since. More
        may be allowed in ``wait`` seconds; None: when the credits are refreshed.
        """
        with self._lock:
            spent = self.spent_total - since.spent_total
            self._allowance = None if allowance is None else allowance - spent
            self._allowance_wait = wait
            if (self._stamp, self._remaining) == (since.stamp, since.remaining):
                self.elsewhere = elsewhere

    def state(self, now: float) -> CreditState:
        """All of it, to be looked at."""
        remaining = self.available(now)
        with self._lock:
            known = self._quota is not None
            refresh = max(0.0, self._refresh_at - now) if known else None
            return CreditState(remaining, self._quota, refresh, self.reserve, self._per_cancel)

    def _observe(self, told: Credits, operation: str, same_window: bool) -> None:
        cancel = is_cancel(operation)
        if cancel and self._cancel_told is not None and same_window:
            cost = self._cancel_told - told.remaining
            if cost > 0 and (self._per_cancel is None or cost < self._per_cancel):
                self._per_cancel = cost
        self._cancel_told = told.remaining if cancel else None


_shared: weakref.WeakValueDictionary[tuple[str, int, str], Budget] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_budget(host: str, port: int, group: str, reserve: float) -> Budget:
    """The one budget of this process for a quota: that of an API key, of an address, or of a group.

    It lives as long as a client has it; the largest reserve that any asked for counts.
    """
    key = host, port, hashlib.sha256(group.encode()).hexdigest()
    with _shared_lock:
        budget = _shared.get(key)
        if budget is None:
            budget = _shared[key] = Budget(reserve)
        budget.reserve = max(budget.reserve, reserve)
        return budget


def _start_afresh() -> None:
    """In a forked child: the parent's credits are not its own to count, nor its locks."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for budget in list(_shared.values()):
        budget._lock = threading.RLock()
    _shared.clear()


os.register_at_fork(after_in_child=_start_afresh)
