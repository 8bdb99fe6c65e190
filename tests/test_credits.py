# SPDX-License-Identifier: MIT
"""The budget of credits, by itself."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast.credits import WINDOW, Budget, cost_of, is_cancel, shared_budget
from pacifica_fast.errors import CreditsReserved, NotSent
from pacifica_fast.replies import Credits
from pacifica_fast.session import Lane, Pending, Session


def told(remaining: float, quota: float = 125.0, refresh: float = 30.0) -> Credits:
    return Credits(remaining, quota, refresh)


def test_nothing_is_known_and_nothing_refused() -> None:
    budget = Budget(reserve=10.0)
    budget.book(1.0, 0.0)
    state = budget.state(0.0)
    assert (state.remaining, state.quota, state.refresh, state.per_cancel) == (None, None, None, None)
    assert state.reserve == 10.0


def test_what_is_not_answered_yet_counts() -> None:
    budget = Budget()
    budget.replied(told(100.0), 0.0, 1000)
    budget.spent(1.0)
    budget.spent(0.5)
    assert budget.available(0.0) == 98.5
    budget.replied(told(99.0), 0.1, 1001, "create_order")
    budget.settled(1.0, 0.1)
    assert budget.available(0.1) == 98.5
    budget.elsewhere = 10.0
    assert budget.available(0.1) == 88.5
    assert budget.spent_total == 1.5


def test_a_reply_that_was_overtaken_is_no_news() -> None:
    budget = Budget()
    budget.replied(told(90.0), 0.0, 1005)
    budget.replied(told(95.0), 0.0, 1000)
    assert budget.available(0.0) == 90.0
    budget.replied(told(89.0), 0.0, 1005)  # of the same millisecond: the less counts
    budget.replied(told(89.5), 0.0, 1005)
    assert budget.available(0.0) == 89.0


def test_a_stamp_that_went_astray_counts_for_one_window() -> None:
    budget = Budget()
    budget.replied(told(90.0, refresh=30.0), 0.0, 10**15)
    budget.replied(told(3.0, refresh=1.0), 29.0, 1000)
    assert budget.available(29.0) == 90.0
    budget.replied(told(2.0, refresh=60.0), 30.0, 1001)
    assert budget.available(30.0) == 2.0


def test_what_ended_without_a_reply_that_told_was_spent() -> None:
    budget = Budget(reserve=10.0)
    budget.replied(told(13.0, refresh=30.0), 0.0, 1000)
    budget.book(1.0, 1.0)
    budget.settled(1.0, 1.1)  # its link was lost, or its reply had no rl
    assert budget.available(1.1) == 12.0
    budget.spent(1.0)  # two copies of a cancel
    budget.replied(told(11.5, refresh=29.0), 1.2, 1001)  # of the first
    budget.settled(1.0, 1.2)
    assert budget.available(1.2) == 11.0
    budget.book(1.0, 1.3)
    budget.settled(1.0, 1.4)
    with pytest.raises(CreditsReserved):
        budget.book(1.0, 1.5)


def test_in_a_window_of_which_nobody_has_told_it_was_spent_too() -> None:
    budget = Budget(reserve=10.0)
    budget.replied(told(20.0, refresh=30.0), 0.0, 1000)
    for ordered in range(115):
        budget.book(1.0, 30.0)
        budget.settled(1.0, 30.0)
        assert budget.available(30.0) == 124.0 - ordered
    with pytest.raises(CreditsReserved) as caught:
        budget.book(1.0, 31.0)
    assert caught.value.wait == WINDOW - 1.0
    budget.replied(told(50.0, refresh=29.0), 31.0, 999)
    assert budget.available(31.0) == 50.0


def test_a_link_that_is_lost_again_and_again_does_not_eat_the_reserve() -> None:
    session: Session[Pending] = Session(Pending, timeout=5.0, budget=Budget(reserve=10.0))
    session.budget.replied(told(30.0), 0.0, 1)
    ordered = 0
    for _ in range(3):
        lane = session.open_lane(0.0)
        with suppress(CreditsReserved):
            while True:
                order(session, lane)
                ordered += 1
        session.lost(lane, "connection lost", 0.0)
    assert ordered == 20
    assert session.budget.books().outstanding == 0.0


def test_replies_that_do_not_tell_credits_give_none_back() -> None:
    session: Session[Pending] = Session(Pending, timeout=5.0, budget=Budget(reserve=10.0))
    session.budget.replied(told(30.0), 0.0, 1)
    lane = session.open_lane(0.0)
    for _ in range(20):
        pending = order(session, lane)
        session.receive(lane, orjson.dumps({"id": pending.id, "code": 200, "data": {}}), 0.0)
    with pytest.raises(CreditsReserved):
        order(session, lane)


def test_what_was_not_sent_is_there_again() -> None:
    session: Session[Pending] = Session(Pending, timeout=5.0, budget=Budget())
    session.budget.replied(told(30.0), 0.0, 1)
    lane = session.open_lane(0.0)
    pending = order(session, lane)
    lane.unsent([pending], "the kernel took nothing", 0.0)
    assert session.budget.available(0.0) == 30.0
    assert session.budget.spent_total == 0.0


def order(session: Session[Pending], lane: Lane[Pending]) -> Pending:
    pending = session.take()
    pending.operation = "create_order"
    session.book(pending, 0.0)
    lane.sent(pending, 0.0)
    return pending


def test_all_comes_back_when_it_is_due() -> None:
    budget = Budget()
    budget.replied(told(1.0, refresh=30.0), 100.0, 1000)
    assert budget.available(129.9) == 1.0
    assert budget.available(130.0) == 125.0


def test_a_reserve() -> None:
    budget = Budget(reserve=10.0)
    budget.replied(told(11.0, refresh=30.0), 0.0, 1000)
    budget.book(1.0, 0.0)
    with pytest.raises(CreditsReserved) as caught:
        budget.book(1.0, 0.0)
    error = caught.value
    assert isinstance(error, NotSent)
    assert (error.remaining, error.reserve, error.wait) == (10.0, 10.0, 30.0)
    assert "10 of them are kept for cancels" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.remaining, again.reserve, again.wait) == (10.0, 10.0, 30.0)


def test_what_was_booked_and_not_sent_is_there_again() -> None:
    budget = Budget(reserve=10.0)
    budget.replied(told(12.0), 0.0, 1000)
    books = budget.books()
    budget.allow(1.0, books)
    budget.book(1.0, 0.0)
    with pytest.raises(CreditsReserved):
        budget.book(1.0, 0.0)
    budget.unbook(1.0)
    assert budget.available(0.0) == 12.0
    assert budget.spent_total == 0.0
    budget.book(1.0, 0.0)


@pytest.mark.parametrize(("wait", "expected"), [(12.0, 12.0), (None, 1.0)])
def test_a_429_refuses_all_but_cancels_for_as_long_as_it_told(wait: float | None, expected: float) -> None:
    budget = Budget()
    budget.limited(wait, 100.0)
    with pytest.raises(CreditsReserved) as caught:
        budget.book(1.0, 100.0)
    assert caught.value.wait == expected
    budget.book(1.0, 100.0 + expected)


def test_what_a_cancel_was_seen_to_cost() -> None:
    budget = Budget()
    for stamp, remaining in enumerate([100.0, 99.5, 98.0, 97.5]):
        budget.replied(told(remaining), 0.0, stamp)
    assert budget.state(0.0).per_cancel == 0.5
    other = Budget()
    for stamp, remaining in enumerate([100.0, 99.0]):
        other.replied(told(remaining), 0.0, stamp, "create_order")
    assert other.state(0.0).per_cancel is None


def test_costs() -> None:
    assert cost_of("cancel_order") == cost_of("cancel_all_orders") == 0.5
    assert cost_of("create_order") == cost_of("batch_orders") == 1.0
    assert is_cancel("cancel_order")
    assert not is_cancel("batch_orders")


def test_one_budget_for_a_group() -> None:
    one = shared_budget("exchange.test", 443, "key a", 5.0)
    assert shared_budget("exchange.test", 443, "key a", 7.0) is one
    assert one.reserve == 7.0
    assert shared_budget("exchange.test", 443, "key b", 5.0) is not one
    assert shared_budget("other.test", 443, "key a", 5.0) is not one
    one.spent(3.0)
    del one
    gc.collect()
    assert shared_budget("exchange.test", 443, "key a", 5.0).spent_total == 0.0


def test_a_fork_in_the_middle() -> None:
    budget = shared_budget("exchange.test", 443, "forked", 5.0)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with budget._lock:
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        budget.spent(1.0)  # would wait for ever
        os._exit(0 if shared_budget("exchange.test", 443, "forked", 5.0) is not budget else 1)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


events = st.sampled_from(["cancel", "cancel", "other", "other", "answer", "answer", "link lost", "window"])


@given(st.lists(st.tuples(events, st.integers(0, 5)), max_size=60))
def test_it_never_says_more_than_there_is(events: list[tuple[str, int]]) -> None:
    """A model of the exchange's counter; replies come late and out of order."""
    quota = left = 20.0
    budget = Budget(reserve=5.0)
    now, refresh_at, stamp = 0.0, 60.0, 0
    in_flight: list[tuple[float, Credits, int]] = []  # processed, the reply is on its way
    for event, pick in events:
        stamp += 1
        if event in ("cancel", "other"):
            cost = 0.5 if event == "cancel" else 1.0
            if event == "other":
                try:
                    budget.book(cost, now)
                except CreditsReserved:
                    continue
            else:
                budget.spent(cost)
            left = max(0.0, left - cost)
            in_flight.append((cost, Credits(left, quota, refresh_at - now), stamp))
        elif event == "answer" and in_flight:
            cost, credits_then, at = in_flight.pop(pick % len(in_flight))
            budget.replied(credits_then, now, at, "cancel_order" if cost == 0.5 else "create_order")
            budget.settled(cost, now)
        elif event == "link lost":
            while in_flight:
                budget.settled(in_flight.pop()[0], now)
        elif event == "window" and not in_flight:
            now, refresh_at, left = refresh_at, refresh_at + 60.0, quota
        available = budget.available(now)
        if available is not None and left > 0:
            assert available <= left
