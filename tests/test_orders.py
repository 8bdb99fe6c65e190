# SPDX-License-Identifier: MIT
"""The order tracker by itself: whatever arrives, in whatever order."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import OutcomeUnknown, Rejected
from pacifica_fast.orders import ACK_TIMEOUT, SNAPSHOT_EVERY, SNAPSHOT_LAG, OrderTracker, TrackedOrder
from pacifica_fast.session import Lane, Pending, Session, Truth

ACCOUNT = "42trU9A5hQzQmn1nCN8TwFS4qDsBhRFvK5kHkEVXcrQT"
CLIENT_ORDER_ID = "79f948fd-7556-4066-a128-083f3ea49322"


class Desk:
    """A tracker, its lanes, and what it armed and sent."""

    def __init__(self) -> None:
        self.session: Session[Pending] = Session(Pending, timeout=5.0)
        self.armed: set[int] = set()
        self.live_while_arming: list[bool] = []
        self.tracker = OrderTracker(ACCOUNT, self.arm, self.armed.discard, lambda pending: None)

    def arm(self, order: TrackedOrder) -> int:
        assert order.order_id not in self.armed
        assert order.order_id not in self.tracker.orders  # another thread would find it unarmed
        self.armed.add(order.order_id)
        self.live_while_arming.append(self.tracker.live)
        return order.order_id

    def lane(self, now: float = 0.0) -> Lane[Pending]:
        lane = self.session.open_lane(now)
        self.tracker.opened(lane, now)
        return lane

    def sent(self) -> list[tuple[str, str]]:
        texts = [orjson.loads(text) for _, text in self.tracker.outbox]
        self.tracker.outbox.clear()
        return [(text["method"], text["params"]["source"]) for text in texts]

    def acknowledge(self, lane: Lane[Pending], now: float = 0.0) -> None:
        params = {"source": "account_order_updates", "account": ACCOUNT}
        self.tracker.message(lane, {"channel": "subscribe", "data": params}, now)

    def snapshot(
        self, lane: Lane[Pending], *order_ids: int, now: float = 0.0, client_order_id: str | None = None
    ) -> None:
        data = [
            {"i": order_id, "I": client_order_id, "s": "BTC", "p": "1", "a": "1", "f": "0"}
            for order_id in order_ids
        ]
        self.tracker.message(lane, {"channel": "account_orders", "data": data}, now)

    def update(
        self,
        lane: Lane[Pending],
        order_id: int,
        status: str,
        sequence: int,
        now: float = 0.0,
        client_order_id: str | None = None,
        filled: str = "0",
    ) -> None:
        entry = {"i": order_id, "I": client_order_id, "s": "BTC", "u": ACCOUNT, "os": status, "ot": "limit"}
        entry |= {"li": sequence, "a": "1", "f": filled}
        self.tracker.message(lane, {"channel": "account_order_updates", "data": [entry]}, now)

    def cancel(self, order: int | str, now: float, error: Exception | None = None) -> Pending:
        """One that ended without an acknowledgement."""
        pending = self.session.take()
        pending.order = order
        pending._settle(error or OutcomeUnknown("connection lost", pending.id), now)
        self.tracker.outcome(pending)
        return pending

    def refused(self, order: int | str, now: float) -> Pending:
        return self.cancel(order, now, Rejected(420, "Failed to cancel order"))

    def ask(self, now: float) -> None:
        """Time passes; a snapshot is asked for."""
        self.sent()
        self.tracker.tick(now)
        assert self.sent() == [("subscribe", "account_orders")]


def live() -> tuple[Desk, Lane[Pending]]:
    desk = Desk()
    lane = desk.lane()
    desk.acknowledge(lane)
    desk.snapshot(lane)
    desk.tracker.tick(SNAPSHOT_LAG)  # the first one is not taken at its word
    desk.snapshot(lane)
    desk.tracker.outbox.clear()
    return desk, lane


def truths(*pendings: Pending) -> list[Truth | None]:
    return [pending.settled for pending in pendings]


def test_updates_first_then_one_snapshot() -> None:
    desk = Desk()
    lane = desk.lane()
    assert desk.sent() == [("subscribe", "account_order_updates")]
    desk.snapshot(lane, 1)  # not asked for
    assert not desk.tracker.orders
    desk.acknowledge(lane)
    assert desk.sent() == [("subscribe", "account_orders")]
    desk.update(lane, 2, "open", 5)  # newer than the snapshot, and not in it
    desk.update(lane, 3, "cancelled", 6)  # in it, and over
    assert not desk.tracker.live
    desk.snapshot(lane, 1, 3)
    assert desk.tracker.live
    assert set(desk.tracker.orders) == desk.armed == {1, 2}
    assert desk.sent() == [("unsubscribe", "account_orders")]


def test_it_is_live_when_all_that_rests_is_armed() -> None:
    desk = Desk()
    lane = desk.lane()
    desk.acknowledge(lane)
    desk.snapshot(lane, 1, 2, 3)
    assert desk.live_while_arming == [False, False, False]
    assert desk.tracker.live


def test_it_asks_until_it_is_answered() -> None:
    desk = Desk()
    desk.lane()
    desk.sent()
    desk.tracker.tick(ACK_TIMEOUT - 0.1)
    assert desk.sent() == []
    desk.tracker.tick(ACK_TIMEOUT)
    assert desk.sent() == [("subscribe", "account_order_updates")]


def test_a_snapshot_that_does_not_come_is_asked_for_again() -> None:
    desk = Desk()
    lane = desk.lane()
    desk.acknowledge(lane)
    desk.sent()
    desk.tracker.tick(ACK_TIMEOUT)
    assert desk.sent() == [("subscribe", "account_orders")]


def test_what_has_lagged_is_made_good_by_a_second_snapshot() -> None:
    """A link is new: nobody knows how old the first one is."""
    desk = Desk()
    lane = desk.lane()
    desk.acknowledge(lane)
    desk.snapshot(lane, 1)
    desk.sent()
    desk.tracker.tick(SNAPSHOT_LAG - 0.1)
    assert desk.sent() == []
    desk.ask(SNAPSHOT_LAG)
    desk.snapshot(lane, 2)
    assert desk.armed == set(desk.tracker.orders) == {2}


def test_a_snapshot_that_comes_late_is_as_old_as_the_first_question() -> None:
    desk, lane = live()
    desk.update(lane, 1, "open", 1, now=20.0)
    pending = desk.cancel(1, 20.1)
    desk.ask(20.1)
    desk.ask(20.1 + ACK_TIMEOUT)
    desk.snapshot(lane)
    assert desk.armed == set(desk.tracker.orders) == {1}
    assert pending.settled is None


def test_a_snapshot_that_lags_ends_nothing() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0)
    pending = desk.cancel(7, 10.1)
    desk.ask(10.1)
    desk.snapshot(lane, now=10.2)  # of before order 7
    assert desk.armed == set(desk.tracker.orders) == {7}
    assert pending.settled is None
    desk.ask(10.1 + SNAPSHOT_LAG)
    desk.snapshot(lane, 7)
    assert desk.armed == {7}
    assert pending.settled is Truth.OPEN


def test_what_is_not_in_a_snapshot_and_not_new_is_gone() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0)
    pending = desk.cancel(7, 10.1)
    desk.ask(10.1)
    desk.snapshot(lane)
    desk.ask(10.1 + SNAPSHOT_LAG)
    desk.snapshot(lane)
    assert desk.armed == set()
    assert pending.settled is Truth.GONE
    again = desk.refused(7, 13.0)
    assert again.settled is None  # it may turn up yet
    desk.ask(13.0 + SNAPSHOT_LAG)
    desk.snapshot(lane)
    assert again.settled is Truth.GONE


@pytest.mark.parametrize("how", ["snapshot", "update"])
def test_an_order_that_was_only_missing_is_back_and_armed(how: str) -> None:
    """A snapshot lagged by more than anybody thought."""
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0, client_order_id=CLIENT_ORDER_ID)
    pendings = [desk.cancel(reference, 15.0) for reference in (7, CLIENT_ORDER_ID)]
    desk.ask(15.0)
    desk.snapshot(lane)
    assert desk.armed == set()
    assert truths(*pendings) == [Truth.GONE] * 2
    if how == "snapshot":
        desk.ask(15.0 + SNAPSHOT_LAG)
        desk.snapshot(lane, 7, client_order_id=CLIENT_ORDER_ID)
    else:
        desk.update(lane, 7, "partially_filled", 6, now=16.0, client_order_id=CLIENT_ORDER_ID)
    assert desk.armed == set(desk.tracker.orders) == {7}
    assert desk.tracker.find(CLIENT_ORDER_ID) is desk.tracker.orders[7]
    assert truths(*pendings) == [Truth.OPEN] * 2
    desk.update(lane, 7, "filled", 7, now=60.0)
    assert truths(*pendings) == [Truth.FILLED] * 2


def test_an_end_that_is_told_overrules_one_that_was_guessed() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0)
    pending = desk.cancel(7, 15.0)
    desk.ask(15.0)
    desk.snapshot(lane)
    assert truths(pending) == [Truth.GONE]
    desk.update(lane, 7, "filled", 6, now=15.1)
    assert truths(pending) == [Truth.FILLED]


def test_an_end_that_was_told_is_final() -> None:
    desk, lane = live()
    other = desk.lane()
    desk.acknowledge(other)
    desk.update(lane, 7, "open", 5, now=10.0)
    pending = desk.cancel(7, 10.1)
    desk.update(lane, 7, "cancelled", 6, now=10.2)
    desk.ask(10.2)
    desk.snapshot(lane, 7)  # of before
    desk.update(other, 7, "open", 5, now=10.3)
    desk.update(other, 7, "cancelled", 6, now=10.3)
    assert desk.armed == set(desk.tracker.orders) == set()
    assert truths(pending, desk.refused(7, 10.4)) == [Truth.CANCELLED] * 2


def test_an_order_in_its_speed_bump_is_not_one_that_never_existed() -> None:
    desk, lane = live()
    pending = desk.refused(CLIENT_ORDER_ID, 10.0)
    desk.ask(10.0)
    desk.snapshot(lane, now=10.01)
    assert pending.settled is None
    desk.update(lane, 9, "open", 3, now=10.2, client_order_id=CLIENT_ORDER_ID)
    assert pending.settled is Truth.OPEN
    desk.update(lane, 9, "cancelled", 4, now=11.0, client_order_id=CLIENT_ORDER_ID)
    assert pending.settled is Truth.CANCELLED


def test_an_order_that_never_existed_and_turns_up() -> None:
    desk, lane = live()
    first = desk.refused(9, 10.0)
    desk.ask(10.0)
    desk.snapshot(lane)
    second = desk.refused(9, 11.0)
    desk.ask(10.0 + SNAPSHOT_LAG)
    desk.snapshot(lane)
    assert truths(first, second) == [Truth.NEVER_EXISTED, None]
    desk.ask(10.0 + 2 * SNAPSHOT_LAG)
    desk.snapshot(lane)
    assert truths(first, second) == [Truth.NEVER_EXISTED] * 2
    desk.tracker.tick(60.0)
    assert desk.sent() == [("unsubscribe", "account_orders")]  # and no more questions
    desk.update(lane, 9, "open", 3, now=60.0)
    assert truths(first, second) == [Truth.OPEN] * 2


def test_a_snapshot_does_not_undo_what_an_update_told() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0)
    desk.update(lane, 7, "partially_filled", 6, now=14.0, filled="0.4")
    desk.cancel(7, 15.0)
    desk.ask(15.0)
    desk.snapshot(lane, 7)
    assert desk.tracker.orders[7].filled == "0.4"


def test_after_an_edit_the_client_order_id_is_the_new_orders() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0, client_order_id=CLIENT_ORDER_ID)
    waiting = desk.cancel(CLIENT_ORDER_ID, 10.0)
    desk.update(lane, 8, "open", 1, now=10.1, client_order_id=CLIENT_ORDER_ID)
    desk.update(lane, 7, "cancelled", 6, now=10.2, client_order_id=CLIENT_ORDER_ID)
    assert desk.tracker.find(CLIENT_ORDER_ID) is desk.tracker.orders[8]
    pendings = [waiting, desk.cancel(CLIENT_ORDER_ID, 10.3)]
    desk.ask(10.3)
    desk.snapshot(lane, 8, client_order_id=CLIENT_ORDER_ID)
    assert truths(*pendings) == [Truth.OPEN] * 2
    assert desk.cancel(7, 10.4).settled is Truth.CANCELLED


def test_an_edit_that_is_told_as_an_end_and_a_beginning() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0, client_order_id=CLIENT_ORDER_ID)
    by_order_id, before = desk.cancel(7, 10.0), desk.cancel(CLIENT_ORDER_ID, 10.0)
    desk.update(lane, 7, "cancelled", 6, now=10.1, client_order_id=CLIENT_ORDER_ID)
    after = desk.cancel(CLIENT_ORDER_ID, 10.1)
    assert truths(before, after) == [Truth.CANCELLED] * 2
    desk.update(lane, 8, "open", 1, now=10.1, client_order_id=CLIENT_ORDER_ID)
    assert truths(by_order_id, before, after) == [Truth.CANCELLED, Truth.OPEN, Truth.OPEN]


def test_a_client_order_id_that_is_used_again_tells_nothing_of_the_first_order() -> None:
    desk, lane = live()
    desk.update(lane, 7, "open", 5, now=10.0, client_order_id=CLIENT_ORDER_ID)
    pending = desk.cancel(CLIENT_ORDER_ID, 10.0)
    desk.update(lane, 7, "cancelled", 6, now=10.1, client_order_id=CLIENT_ORDER_ID)
    desk.update(lane, 8, "open", 1, now=10.1 + SNAPSHOT_LAG, client_order_id=CLIENT_ORDER_ID)
    desk.update(lane, 8, "filled", 2, now=13.0, client_order_id=CLIENT_ORDER_ID)
    assert pending.settled is Truth.CANCELLED


def test_cancels_of_one_order_without_end_are_not_kept_without_end() -> None:
    desk, lane = live()
    for turn in range(500):
        now = 10.0 + turn * SNAPSHOT_EVERY
        desk.refused(9, now)
        desk.ask(now)
        desk.snapshot(lane)
    [ended], [waiting] = desk.tracker._ended.values(), desk.tracker._waiting.values()
    assert len(ended.told) + len(waiting) < 100


def test_an_older_update_changes_nothing() -> None:
    desk, lane = live()
    other = desk.lane()
    desk.update(lane, 1, "open", 1)
    desk.update(lane, 1, "filled", 3)
    desk.update(other, 1, "open", 1)
    desk.update(other, 1, "partially_filled", 2)
    desk.update(other, 1, "filled", 3)
    assert desk.tracker.orders == {}
    assert desk.armed == set()


def test_stop_orders_are_not_ours_to_arm() -> None:
    desk, lane = live()
    entry = {"i": 1, "s": "BTC", "u": ACCOUNT, "os": "open", "ot": "stop_limit", "li": 1}
    desk.tracker.message(lane, {"channel": "account_order_updates", "data": [entry]}, 0.0)
    assert desk.tracker.orders == {}


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["open", "partially_filled", "filled", "cancelled"]),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_two_lanes_that_lag_tell_one_story(events: list[tuple[int, str, bool]], dice: Any) -> None:
    """Each lane has all updates in order; how they interleave makes no difference."""
    story, over = [], set()
    for sequence, (order_id, status, _) in enumerate(events):
        if order_id not in over:  # an order id never comes again
            story.append((order_id, status, sequence))
            if status in ("filled", "cancelled"):
                over.add(order_id)
    desk, first = live()
    second = desk.lane()
    queues = [(first, list(story)), (second, list(story))]
    while any(queue for _, queue in queues):
        lane, queue = dice.choice([entry for entry in queues if entry[1]])
        desk.update(lane, *queue.pop(0))
        assert desk.armed == set(desk.tracker.orders)
    resting = {order_id for order_id, _, _ in story} - over
    assert set(desk.tracker.orders) == resting


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "filled", "fill unheard", "cancel refused", "answer", "wait", "wait"]),
            st.integers(0, 9),
            st.floats(0.0, 1.0),
        ),
        max_size=60,
    )
)
def test_what_rests_and_was_told_is_armed(steps: list[tuple[str, int, float]]) -> None:
    """However old snapshots are, up to SNAPSHOT_LAG; and some ends are told by them alone."""
    desk, lane = live()
    now, asked, count = 10.0, -1.0, 0
    books: list[tuple[float, set[int]]] = [(0.0, set())]  # since when, what rests

    def answer(age: float) -> None:
        nonlocal asked
        of = max(0.0, asked - SNAPSHOT_LAG * age)
        book = next(book for since, book in reversed(books) if since <= of)
        desk.snapshot(lane, *book, now=now)
        asked = -1.0

    for step, pick, part in steps:
        resting = sorted(books[-1][1])
        picked = resting[pick % len(resting)] if resting else None
        if step == "open":
            count += 1
            books.append((now, {*resting, count}))
            desk.update(lane, count, "open", 1, now=now)
        elif step == "wait":
            now += part
        elif step == "answer" and asked >= 0:
            answer(part)
        elif step == "cancel refused":
            desk.refused(picked or 99, now)
        elif picked is not None and step in ("filled", "fill unheard"):
            books.append((now, {*resting} - {picked}))
            if step == "filled":
                desk.update(lane, picked, "filled", 2, now=now)
        desk.tracker.tick(now)
        if ("subscribe", "account_orders") in desk.sent() and asked < 0:
            asked = now
        assert books[-1][1] <= desk.armed == set(desk.tracker.orders)
    for _ in range(3):  # in the end snapshots are of now
        now += SNAPSHOT_LAG
        desk.refused(99, now)
        desk.tracker.tick(now)
        asked = now
        answer(0.0)
    assert books[-1][1] == desk.armed
    assert not any(pending.settled is None for told in desk.tracker._ended.values() for pending in told.told)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
entries = st.dictionaries(
    st.sampled_from(["i", "I", "s", "u", "os", "ot", "li", "p", "ip", "a", "f", "d", "oe"]),
    json_values | st.sampled_from(["open", "filled", "cancelled", "limit", ACCOUNT, 1, 2]),
)


@given(st.lists(st.tuples(st.sampled_from(["account_order_updates", "account_orders", "subscribe"]),
                          st.lists(entries, max_size=4) | json_values), max_size=8))  # fmt: skip
def test_nothing_that_arrives_breaks_it(messages: list[tuple[str, Any]]) -> None:
    desk, lane = live()
    for now, (channel, data) in enumerate(messages):
        desk.tracker.message(lane, {"channel": channel, "data": data}, float(now))
        desk.tracker.tick(float(now))
        assert desk.armed == set(desk.tracker.orders)
