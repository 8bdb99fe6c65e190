# SPDX-License-Identifier: MIT
"""The resting orders of an account, without I/O: kept from its updates, armed, and the truth of a cancel.

Sources: docs.pacifica.fi, websocket subscriptions ``account_order_updates`` (events, in real time, no
snapshot) and ``account_orders`` (a snapshot when subscribed; may lag under load). A bad subscription
gets no answer at all, so each one is asked for again until it is acknowledged.

After a link is opened the tracker subscribes on it and asks for a snapshot. That an order is not in one
suggests that it ended, and no more: it counts if all news of the order are older than a snapshot may lag,
and whatever tells later that the order rests takes it back. What an update tells of an end is final.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pacifica_fast import _json
from pacifica_fast.errors import OutcomeUnknown, Rejected
from pacifica_fast.replies import ENGINE_ERROR
from pacifica_fast.session import Lane, Pending, Truth

__all__ = ["TRACK_TIMEOUT", "OrderTracker", "TrackedOrder"]

logger: logging.Logger = logging.getLogger("pacifica_fast.orders")

UPDATES = "account_order_updates"
SNAPSHOT = "account_orders"
ACK_TIMEOUT = 3.0  # s; then a subscription is asked for again
TRACK_TIMEOUT = 5.0  # s
SNAPSHOT_EVERY = 0.5  # s; snapshots are asked for no more often
SNAPSHOT_LAG = 2.0  # s; how old a snapshot may be when it is asked for

_ENDED_KEPT = 16_384
_WAITING_MAX = 16_384
_RESTING = ("open", "partially_filled")
_INFERRED = (Truth.GONE, Truth.NEVER_EXISTED)
_REVISED_MAX = 64  # pendings of one order that are told if it rests after all

AnyLane = Lane[Any]


@dataclass(slots=True, eq=False)
class TrackedOrder:
    """An order that rests, as the last news told it; price and amounts are decimal strings."""

    order_id: int
    client_order_id: str | None
    symbol: str
    side: str
    price: str
    amount: str
    filled: str
    sequence: int = field(default=-1, repr=False)
    heard: float = field(default=-inf, repr=False)
    armed: Any = field(default=None, repr=False)


@dataclass(slots=True)
class _Feed:
    """The subscriptions on one lane."""

    lane: AnyLane
    asked_at: float
    acknowledged: bool = False


@dataclass(slots=True)
class _Ended:
    truth: Truth
    at: float
    told: list[Pending]


class OrderTracker:
    """Keeps the resting orders of ``account``; made by ``client.track``.

    ``arm`` arms an order that rests, ``disarm`` what that returned when it ends; :attr:`outbox` is
    for the driver to send: texts, and the lane they are for.
    """

    def __init__(
        self,
        account: str,
        arm: Callable[[TrackedOrder], Any] | None,
        disarm: Callable[[Any], None],
        on_truth: Callable[[Pending], None],
    ) -> None:
        self.account = account
        self.orders: dict[int, TrackedOrder] = {}
        """What rests, by order id. The blocking client changes it in another thread: walk over a ``list``."""
        self.outbox: list[tuple[AnyLane, bytes]] = []
        self._arm = arm
        self._disarm = disarm
        self._on_truth = on_truth
        self._feeds: dict[AnyLane, _Feed] = {}
        self._by_client_order_id: dict[str, int] = {}
        self._ended: OrderedDict[int | str, _Ended] = OrderedDict()
        self._waiting: OrderedDict[int | str, list[Pending]] = OrderedDict()
        self._snapshot_lane: AnyLane | None = None
        self._snapshot_at = -inf  # when the last one was asked for, for the first time
        self._asked_at = -inf  # for the last time
        self._due_at = -inf
        self._reconciled = False
        self._gap = False  # were there moments in which nobody listened?

    @property
    def live(self) -> bool:
        """True while updates arrive, and the orders from before are known."""
        return self._reconciled and any(feed.acknowledged for feed in self._feeds.values())

    def find(self, reference: int | str) -> TrackedOrder | None:
        """The resting order with that order id or client order id."""
        order_id = self._by_client_order_id.get(reference) if isinstance(reference, str) else reference
        return None if order_id is None else self.orders.get(order_id)

    # Lanes.

    def opened(self, lane: AnyLane, now: float) -> None:
        """Listen there too."""
        self._feeds[lane] = _Feed(lane, now)
        self._ask(lane, "subscribe", UPDATES)

    def lost(self, lane: AnyLane) -> None:
        """One feed less; with the last one, news may be missed."""
        self._feeds.pop(lane, None)
        if lane is self._snapshot_lane:
            self._snapshot_lane, self._due_at = None, -inf
        if not any(feed.acknowledged for feed in self._feeds.values()):
            self._gap = self._gap or self._reconciled
            self._reconciled = False
            self._due_at = -inf

    def tick(self, now: float) -> None:
        """Ask again for what was not acknowledged; ask for a snapshot if one is due."""
        for feed in self._feeds.values():
            if not feed.acknowledged and now - feed.asked_at >= ACK_TIMEOUT:
                logger.warning("subscription to %s not acknowledged: asking again", UPDATES)
                feed.asked_at = now
                self._ask(feed.lane, "subscribe", UPDATES)
        if self._snapshot_lane is None:
            if now >= self._due_at and now - self._asked_at >= SNAPSHOT_EVERY:
                self._ask_for_snapshot(now)
        elif now - self._asked_at >= ACK_TIMEOUT:
            logger.warning("no snapshot of %s: asking again", SNAPSHOT)
            self._asked_at = now  # what comes may yet be the answer to the first time
            self._ask(self._snapshot_lane, "subscribe", SNAPSHOT)

    def _ask_for_snapshot(self, now: float) -> None:
        lane = next((feed.lane for feed in self._feeds.values() if feed.acknowledged), None)
        if lane is not None:
            self._snapshot_lane, self._due_at = lane, inf
            self._snapshot_at = self._asked_at = now
            self._ask(lane, "subscribe", SNAPSHOT)

    def _ask(self, lane: AnyLane, method: str, source: str) -> None:
        params = {"source": source, "account": self.account}
        self.outbox.append((lane, _json.dumps({"method": method, "params": params})))

    # Messages.

    def message(self, lane: AnyLane, message: dict[str, Any], now: float) -> None:
        """Take a message of a channel; those of others are ignored, and malformed ones logged."""
        channel, data = message.get("channel"), message.get("data")
        if channel == "subscribe" and isinstance(data, dict):
            self._acknowledged(lane, data, now)
        elif channel == UPDATES and isinstance(data, list):
            for update in data:
                self._update(update, now)
        elif channel == SNAPSHOT and isinstance(data, list) and lane is self._snapshot_lane:
            self._snapshot_lane = None
            self._ask(lane, "unsubscribe", SNAPSHOT)
            self._reconcile(data)

    def _acknowledged(self, lane: AnyLane, data: dict[str, Any], now: float) -> None:
        feed = self._feeds.get(lane)
        if feed is not None and data.get("source") == UPDATES and data.get("account") == self.account:
            feed.acknowledged = True
            if not self._reconciled and self._snapshot_lane is None:
                self._ask_for_snapshot(now)

    def _update(self, update: Any, now: float) -> None:
        if not _is_order(update) or update.get("u") not in (None, self.account):
            logger.warning("an order update that cannot be read")
            return
        order_id, sequence, status = update["i"], _sequence(update), update.get("os")
        known = self.orders.get(order_id)
        if self._told_end(order_id) is not None or (known is not None and sequence < known.sequence):
            return  # from another link, later
        if status in _RESTING:
            if update.get("ot") in (None, "limit"):  # stop orders are cancelled in another way
                self._rests(update, update.get("ip"), sequence, now)
        elif status in ("filled", "cancelled", "rejected"):
            truth = Truth.FILLED if status == "filled" else Truth.CANCELLED
            self._ends(order_id, update.get("I"), truth, now)

    def _reconcile(self, snapshot: list[Any]) -> None:
        """Believe a snapshot, but for what it may be too old to know."""
        asked, known_by = self._snapshot_at, self._snapshot_at - SNAPSHOT_LAG
        doubt = not self._reconciled  # what happened while nobody listened is not in it, perhaps
        resting = {entry["i"]: entry for entry in snapshot if _is_order(entry)}
        for order_id, entry in resting.items():
            order = self.orders.get(order_id)
            if self._told_end(order_id) is None and (order is None or order.heard <= known_by):
                self._rests(entry, entry.get("p"), _sequence(entry), asked)
        for order_id, order in list(self.orders.items()):
            if order_id not in resting and order.heard < asked:
                doubt = True
                if order.heard <= known_by:
                    self._ends(order_id, order.client_order_id, Truth.GONE, asked)
        for reference, pendings in list(self._waiting.items()):
            order = self.find(reference)
            if order is None:
                doubt = self._is_missing(reference, pendings, known_by) or doubt
            elif order.order_id in resting or order.heard >= asked:
                self._settle(pendings, Truth.OPEN)
        if doubt:
            self._due_at = min(self._due_at, asked + SNAPSHOT_LAG)
        self._reconciled = True  # not before: another thread may wait for it, and pull what is armed

    def _is_missing(self, reference: int | str, pendings: list[Pending], known_by: float) -> bool:
        """Nobody knows it. Return whether there are cancels so young that their order may yet turn up."""
        old = [pending for pending in pendings if pending.settled_at <= known_by]
        young = [pending for pending in pendings if pending.settled_at > known_by]
        if old:
            ended = self._ended.get(reference)
            was_there = self._gap or (ended is not None and ended.truth is Truth.GONE)
            truth = Truth.GONE if was_there else Truth.NEVER_EXISTED
            self._conclude(reference, truth, [*(ended.told if ended else ()), *old], known_by)
        if young:
            self._waiting[reference] = young
        else:
            del self._waiting[reference]
        return bool(young)

    def _rests(self, entry: dict[str, Any], price: Any, sequence: int, at: float) -> None:
        order_id, client_order_id = entry["i"], entry.get("I")
        order = self.orders.get(order_id)
        if order is None:
            order = TrackedOrder(
                order_id,
                client_order_id if isinstance(client_order_id, str) else None,
                entry["s"],
                str(entry.get("d")),
                str(price),
                str(entry.get("a")),
                str(entry.get("f")),
            )
            if self._arm is not None:
                order.armed = self._arm(order)  # before another thread can see it
            self.orders[order_id] = order
            if order.client_order_id is not None:
                self._by_client_order_id[order.client_order_id] = order_id
            self._reopen(order_id, at)
            if order.client_order_id is not None:
                self._reopen(order.client_order_id, at)
        order.amount, order.filled = str(entry.get("a")), str(entry.get("f"))
        order.sequence = max(order.sequence, sequence)
        order.heard = at

    def _ends(self, order_id: int, client_order_id: Any, truth: Truth, now: float) -> None:
        order = self.orders.pop(order_id, None)
        references: list[int | str] = [order_id]
        if order is not None:
            client_order_id = order.client_order_id
            if order.armed is not None:
                self._disarm(order.armed)
        # After an edit another order has the client order id, and may have been told first.
        if (
            isinstance(client_order_id, str)
            and self._by_client_order_id.get(client_order_id, order_id) == order_id
        ):
            self._by_client_order_id.pop(client_order_id, None)
            references.append(client_order_id)
        for reference in references:
            self._conclude(reference, truth, self._concerned(reference, now), now)

    # The truth of a cancel.

    def outcome(self, pending: Pending) -> None:
        """A cancel ended without telling what became of the order: find out."""
        error, reference = pending._outcome, pending.order
        if reference is None or not isinstance(error, OutcomeUnknown | Rejected):
            return
        if isinstance(error, Rejected) and error.code != ENGINE_ERROR:
            return
        ended = self._told_end(reference)
        if ended is not None:
            self._conclude(reference, ended.truth, [*ended.told, pending], ended.at)
            return
        self._waiting.setdefault(reference, []).append(pending)
        self._due_at = -inf
        while len(self._waiting) > _WAITING_MAX:
            self._waiting.popitem(last=False)

    def _told_end(self, reference: int | str) -> _Ended | None:
        """How it ended, if an update said so."""
        ended = self._ended.get(reference)
        return None if ended is None or ended.truth in _INFERRED else ended

    def _concerned(self, reference: int | str, now: float) -> list[Pending]:
        """Those who wait, and those who were told what was wrong."""
        told: list[Pending] = []
        ended = self._ended.get(reference)
        # If a client order id rests again at once, the end just told was one half of an edit.
        if ended is not None and (ended.truth in _INFERRED or now - ended.at < SNAPSHOT_LAG):
            told = ended.told
        return [*told, *self._waiting.pop(reference, ())]

    def _reopen(self, reference: int | str, now: float) -> None:
        """It rests, whatever was thought before. That very cancel may end it yet."""
        pendings = self._concerned(reference, now)
        self._ended.pop(reference, None)
        if pendings:
            self._waiting[reference] = pendings
            self._settle(pendings, Truth.OPEN)

    def _conclude(self, reference: int | str, truth: Truth, pendings: list[Pending], now: float) -> None:
        self._ended[reference] = _Ended(truth, now, pendings[-_REVISED_MAX:])
        self._ended.move_to_end(reference)
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        self._settle(pendings, truth)

    def _settle(self, pendings: list[Pending], truth: Truth) -> None:
        for pending in pendings:
            if pending.settled is not truth:
                pending._truth = truth
                self._on_truth(pending)


def _is_order(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("i")) is int and type(entry.get("s")) is str


def _sequence(entry: dict[str, Any]) -> int:
    """``li``: grows with each event of one order, and is compared within that order only."""
    sequence = entry.get("li")
    return sequence if type(sequence) is int else -1
