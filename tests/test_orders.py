# SPDX-License-Identifier: MIT
"""The order tracker by itself: whatever arrives, in whatever order."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast.orders import ACK_TIMEOUT, OrderTracker, TrackedOrder
from pacifica_fast.session import Lane, Pending, Session

ACCOUNT = "42trU9A5hQzQmn1nCN8TwFS4qDsBhRFvK5kHkEVXcrQT"


class Desk:
    """A tracker, its lanes, and what it armed and sent."""

    def __init__(self) -> None:
        self.session: Session[Pending] = Session(Pending, timeout=5.0)
        self.armed: set[int] = set()
        self.tracker = OrderTracker(ACCOUNT, self.arm, self.armed.discard, lambda pending: None)

    def arm(self, order: TrackedOrder) -> int:
        assert order.order_id not in self.armed
        self.armed.add(order.order_id)
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

    def snapshot(self, lane: Lane[Pending], *order_ids: int, now: float = 0.0) -> None:
        data = [{"i": order_id, "s": "BTC", "p": "1", "a": "1", "f": "0"} for order_id in order_ids]
        self.tracker.message(lane, {"channel": "account_orders", "data": data}, now)

    def update(self, lane: Lane[Pending], order_id: int, status: str, sequence: int) -> None:
        entry = {"i": order_id, "s": "BTC", "u": ACCOUNT, "os": status, "ot": "limit", "li": sequence}
        self.tracker.message(lane, {"channel": "account_order_updates", "data": [entry]}, 0.0)


def live() -> tuple[Desk, Lane[Pending]]:
    desk = Desk()
    lane = desk.lane()
    desk.acknowledge(lane)
    desk.snapshot(lane)
    desk.tracker.outbox.clear()
    return desk, lane


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


def test_what_changes_while_no_snapshot_is_awaited_is_not_kept() -> None:
    desk, lane = live()
    for order_id in range(100):
        desk.update(lane, order_id, "open", 1)
        desk.update(lane, order_id, "cancelled", 2)
    assert desk.tracker._touched == set()


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
