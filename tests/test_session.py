# SPDX-License-Identifier: MIT
"""The session, driven by a clock that the tests turn by hand."""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import ids
from pacifica_fast.errors import KeyClosed, NotSent, OutcomeUnknown, RateLimited, Rejected, SignatureRejected
from pacifica_fast.replies import BatchAck, CancelAck, CancelAllAck, read_credits
from pacifica_fast.session import FateCounts, Lane, Pending, Session, Truth, _Remembered


class OneLane(Session[Pending]):
    """A session with one connection, from the start."""

    def __init__(self, timeout: float, heartbeat: float) -> None:
        super().__init__(Pending, timeout=timeout, heartbeat=heartbeat)
        self.lane = self.open_lane(0.0)

    def heard(self, text: bytes, now: float) -> dict[str, Any] | None:
        return self.receive(self.lane, text, now)


def new_session(timeout: float = 5.0, heartbeat: float = 30.0) -> OneLane:
    return OneLane(timeout, heartbeat)


def send(session: OneLane, now: float = 0.0, operation: str = "cancel_order", actions: int = 0) -> Pending:
    pending = session.take()
    pending.operation, pending.actions = operation, actions
    session.lane.sent(pending, now)
    session.refill()
    return pending


def reply(pending: Pending, **fields: Any) -> bytes:
    return orjson.dumps({"id": pending.id, "type": pending.operation, "t": 1749223343610} | fields)


def test_every_request_has_an_id_of_its_own() -> None:
    session = new_session()
    seen = {send(session).id for _ in range(1000)}
    assert len(seen) == 1000
    assert all(len(request_id) == 36 for request_id in seen)


def test_requests_are_made_ahead() -> None:
    session = new_session()
    for _ in range(2):
        ahead = list(session._ring)
        assert ahead
        assert [session.take() for _ in ahead] == ahead
        session.refill()


def test_what_is_taken_is_the_takers_alone() -> None:
    """More than were made ahead, by many threads, while others make more."""
    session = new_session()

    def take(number: int) -> list[str]:
        taken = []
        for _ in range(500):
            if number % 2:
                session.refill()
            taken.append(session.take().id)
        return taken

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            taken = [request_id for ids in threads.map(take, range(16)) for request_id in ids]
    finally:
        sys.setswitchinterval(before)
    assert len(set(taken)) == 8000
    assert session.in_flight() == []


def test_documented_cancel_reply() -> None:
    """docs.pacifica.fi, websocket cancel order: the response example."""
    session = new_session()
    pending = send(session)
    client_order_id = "79f948fd-7556-4066-a128-083f3ea49322"
    text = reply(pending, code=200, data={"I": client_order_id, "i": None, "s": "BTC"})
    assert session.heard(text, 0.5) is None
    ack = pending.outcome()
    assert ack == CancelAck(
        pending.id,
        "cancel_order",
        1749223343610,
        {"I": client_order_id, "i": None, "s": "BTC"},
        None,
        "BTC",
        None,
        client_order_id,
    )
    assert (pending.sent_at, pending.settled_at) == (0.0, 0.5)
    assert session.in_flight() == []


def test_cancel_all_reply() -> None:
    session = new_session()
    pending = send(session, operation="cancel_all_orders")
    session.heard(reply(pending, code=200, data={"cancelled_count": 10}), 0.1)
    ack = pending.outcome()
    assert isinstance(ack, CancelAllAck)
    assert ack.cancelled_count == 10


def test_batch_reply_tells_each_action() -> None:
    session = new_session()
    pending = send(session, operation="batch_orders", actions=2)
    results = [
        {"success": True, "order_id": 7, "symbol": "BTC"},
        {"success": False, "error": "Order not found"},
    ]
    session.heard(reply(pending, code=200, data={"results": results}), 0.1)
    ack = pending.outcome()
    assert isinstance(ack, BatchAck)
    assert [(result.success, result.order_id, result.error) for result in ack.results] == [
        (True, 7, None),
        (False, None, "Order not found"),
    ]


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        [{"success": True}],
        [{"success": True}] * 3,
        [{"success": True}, {"success": "yes"}],
        [{"success": True}, 5],
        {"0": {"success": True}},
    ],
)
def test_batch_reply_that_does_not_tell_each_action(results: Any) -> None:
    session = new_session()
    pending = send(session, operation="batch_orders", actions=2)
    session.heard(reply(pending, code=200, data={"results": results}), 0.1)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


@pytest.mark.parametrize("code", [400, 401, 402, 403, 420, 429, 500, 999])
@pytest.mark.parametrize("field", ["err", "error"])
def test_rejections(code: int, field: str) -> None:
    session = new_session()
    pending = send(session)
    rl = {"r": 1245, "q": 1250, "t": 56}
    session.heard(reply(pending, code=code, rl=rl, **{field: "Failed to cancel order"}), 0.1)
    with pytest.raises(Rejected) as caught:
        pending.outcome()
    error = caught.value
    assert (error.code, error.message, error.request_id) == (code, "Failed to cancel order", pending.id)
    assert str(error) == f"{code}: Failed to cancel order"
    assert isinstance(error, SignatureRejected) == (code in (401, 402))
    assert isinstance(error, RateLimited) == (code == 429)
    if isinstance(error, RateLimited):
        assert error.retry_after == 56


def test_credits_are_a_tenth_of_what_is_on_the_wire() -> None:
    session = new_session()
    pending = send(session)
    session.heard(reply(pending, code=200, data={}, rl={"r": 1245, "q": 1250, "t": 56}), 0.1)
    limit = pending.outcome().credits
    assert (limit.remaining, limit.quota, limit.refresh) == (124.5, 125.0, 56.0)


@pytest.mark.parametrize("code", [None, "200", 200.0, True, [200]])
def test_a_reply_without_a_proper_code_says_nothing(code: Any) -> None:
    session = new_session()
    pending = send(session)
    session.heard(reply(pending, code=code, data={}), 0.1)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


def test_a_reply_of_another_type_is_no_answer() -> None:
    session = new_session()
    pending = send(session)
    session.heard(orjson.dumps({"id": pending.id, "code": 200, "type": "create_order", "data": {}}), 0.1)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


STRANGE = [
    b"",
    b"not json",
    b"\xff\xfe",
    b"[]",
    b"5",
    b'{"id":null,"code":200}',
    b'{"id":5,"code":200}',
    b'{"id":["x"],"code":200}',
    b'{"id":"00000000-0000-4000-8000-000000000001","code":200}',
    b'{"code":401,"err":"Invalid message"}',
    b'{"channel":"pong"}',
    b'{"channel":5}',
    b"{}",
]


@pytest.mark.parametrize("text", STRANGE)
def test_strange_messages_reach_no_request(text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    session = new_session()
    pending = send(session)
    with caplog.at_level(logging.WARNING):
        session.heard(text, 0.1)
    assert not pending.done
    assert bool(caplog.records) == (text not in (b'{"channel":"pong"}', b'{"channel":5}', b"{}"))


def test_a_channel_message_is_handed_on() -> None:
    message = {"channel": "account_order_updates", "data": []}
    assert new_session().heard(orjson.dumps(message), 0.0) == message


def test_a_second_reply_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    session = new_session()
    pending = send(session)
    session.heard(reply(pending, code=200, data={"s": "BTC"}), 0.1)
    first = pending.outcome()
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.2)
    assert pending.outcome() is first
    assert "another reply" in caplog.text


def test_a_reply_to_a_request_that_was_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    session = new_session()
    waiting = session.take()
    session.heard(orjson.dumps({"id": waiting.id, "code": 200, "data": {}}), 0.1)
    assert not waiting.done
    assert "no request in flight" in caplog.text
    session.lane.sent(waiting, 1.0)
    session.heard(reply(waiting, code=200, data={}), 1.1)
    assert waiting.done


def test_timeouts_end_only_what_has_waited_long_enough() -> None:
    session = new_session(timeout=5.0)
    early, late = send(session, now=0.0), send(session, now=3.0)
    session.tick(4.9)
    assert not early.done
    session.tick(5.0)
    assert early.done
    assert not late.done
    with pytest.raises(OutcomeUnknown, match=r"no reply within 5 s$") as caught:
        early.outcome()
    assert caught.value.request_id == early.id
    session.tick(8.0)
    assert late.done


def test_a_timeout_tells_of_an_error_without_id() -> None:
    session = new_session()
    pending = send(session, now=1.0)
    session.heard(b'{"code":401,"err":"Invalid message"}', 1.0)
    session.tick(6.0)
    with pytest.raises(OutcomeUnknown, match="401: Invalid message"):
        pending.outcome()
    # but not of one from before the request
    later = send(session, now=7.0)
    session.tick(12.0)
    with pytest.raises(OutcomeUnknown) as caught:
        later.outcome()
    assert "Invalid message" not in str(caught.value)


def test_a_late_reply_settles_nothing() -> None:
    session = new_session()
    pending = send(session)
    session.tick(5.0)
    session.heard(reply(pending, code=200, data={}), 5.1)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


def test_a_request_whose_renewal_was_interrupted_still_ends() -> None:
    session = new_session(timeout=5.0)
    pending = send(session, now=1.0)

    def renew(it: Pending) -> bool:
        session.renumber(it)
        raise KeyboardInterrupt

    pending.renew = renew
    with pytest.raises(KeyboardInterrupt):
        session.heard(reply(pending, code=400, error="Invalid message"), 2.0)
    assert not pending.done
    session.tick(7.0)
    with pytest.raises(OutcomeUnknown, match="no reply within 5 s"):
        pending.outcome()


def test_a_lost_connection_ends_everything_in_flight() -> None:
    session = new_session()
    pendings = [send(session) for _ in range(100)]
    answered = pendings[7]
    session.heard(reply(answered, code=200, data={}), 0.1)
    session.lost(session.lane, "connection lost: reset by peer", 0.2)
    for pending in pendings:
        assert pending.done
        if pending is not answered:
            with pytest.raises(OutcomeUnknown, match="reset by peer"):
                pending.outcome()
    assert isinstance(answered.outcome(), CancelAck)
    assert session.in_flight() == []


def test_heartbeat_counts_from_the_last_message_sent() -> None:
    session = new_session(heartbeat=30.0)
    lane = session.lane
    assert not lane.wants_ping(29.9)
    assert lane.wants_ping(30.0)
    lane.pinged(30.0)
    session.heard(b'{"channel":"pong"}', 30.1)
    assert not lane.wants_ping(59.9)
    send(session, now=59.9)
    session.tick(60.0)
    assert not lane.wants_ping(60.0)
    session.heard(b'{"channel":"pong"}', 60.1)
    assert lane.wants_ping(89.9)


# One request, one lane, and what is counted.


def test_a_request_says_how_it_stands() -> None:
    session = new_session()
    fresh = session.take()
    assert (fresh.operation, fresh.order, fresh.actions, fresh.renew) == ("cancel_order", None, 0, None)
    assert fresh.began == fresh.built == fresh.sent_at == fresh.settled_at == 0.0
    pending, refused = send(session), send(session)
    assert (pending.done, pending.settled) == (False, None)
    assert repr(pending) == f"<Pending cancel_order {pending.id} in flight>"
    with pytest.raises(RuntimeError, match=f"^cancel_order {pending.id} has not ended yet$"):
        pending.outcome()
    session.heard(reply(pending, code=200, data={}), 0.1)
    assert (pending.done, pending.settled) == (True, Truth.CANCELLED)
    assert repr(pending) == f"<Pending cancel_order {pending.id} CancelAck>"
    session.heard(reply(refused, code=420, err="Failed to cancel order"), 0.1)
    assert refused.settled is None
    refused._truth = Truth.GONE  # by a tracker
    assert refused.settled is Truth.GONE


def test_a_lane_that_owes_an_answer_is_asked_and_then_dead() -> None:
    session: Session[Pending] = Session(Pending, timeout=5.0, heartbeat=30.0, pong_timeout=2.0)
    lane = session.open_lane(0.0)
    assert not lane.wants_ping(29.9)
    lane.sent(session.take(), 10.0)
    session.tick(10.0)
    assert not lane.wants_ping(11.9)
    assert lane.wants_ping(12.0)
    lane.pinged(12.0)
    assert not lane.wants_ping(12.0)
    assert not lane.is_dead(13.9)
    lane.pinged(13.0)  # that puts nothing off
    assert lane.is_dead(14.0)
    session.receive(lane, b'{"channel":"pong"}', 14.0)
    assert not lane.is_dead(1e9)
    assert not lane.wants_ping(42.9)
    assert lane.wants_ping(43.0)


def test_what_is_noted_out_of_turn_is_counted_from_the_first_and_the_last() -> None:
    session: Session[Pending] = Session(Pending, timeout=5.0, heartbeat=30.0, pong_timeout=2.0)
    lane = session.open_lane(0.0)
    lane.asked(50.0)
    lane.asked(45.0)
    assert lane.wants_ping(47.0)
    lane.heard()
    assert not lane.wants_ping(79.9)
    assert lane.wants_ping(80.0)


def test_every_fate_is_counted() -> None:
    session = new_session()
    for number in range(4):
        for pending in [send(session) for _ in range(number + 1)]:
            if number == 0:
                session.heard(reply(pending, code=200, data={}), 0.1)
            elif number == 1:
                session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.1)
            elif number == 2:
                session.lane.unsent([pending], "the kernel took nothing", 0.1)
    session.tick(5.0)
    assert session.fates == FateCounts(acked=1, rejected=2, not_sent=3, unknown=4)
    assert session.in_flight_count == 0


def test_how_many_are_on_their_way() -> None:
    session = new_session()
    waiting, sent = session.take(), session.take()
    session.park(waiting, lambda number: b"frame", "not connected", 3.0)
    session.lane.sent(sent, 1.0)
    assert session.in_flight_count == 2
    assert session.in_flight() == [sent]
    assert session.in_flight_count == 2
    assert session.next_deadline() == 3.0
    session.tick(3.0)
    assert session.next_deadline() == 6.0
    session.tick(6.0)
    assert session.next_deadline() == float("inf")


def test_a_request_ends_once() -> None:
    session = new_session()
    pending = send(session)
    assert session.settle(pending, OutcomeUnknown("for a test", pending.id), 0.1)
    assert not session.settle(pending, NotSent("again", pending.id), 0.2)
    session.lane.unsent([pending], "again", 0.2)
    with pytest.raises(OutcomeUnknown, match="for a test"):
        pending.outcome()
    assert (session.fates.unknown, session.fates.not_sent, pending.settled_at) == (1, 0, 0.1)


def test_ended_requests_are_known_so_many_and_so_long() -> None:
    ended: _Remembered[Pending] = _Remembered(2)
    first, second, third, fourth = (Pending(number) for number in ids.reserve(4))
    for pending in (first, second, third):
        ended.add(pending, 0.0)
    assert [ended.get(one.id) for one in (first, second, third)] == [None, second, third]
    ended = _Remembered(10)
    ended.add(first, 0.0)
    ended.add(second, 60.0)
    assert ended.get(first.id) is first
    ended.add(third, 60.5)
    assert [ended.get(one.id) for one in (first, second, third, fourth)] == [None, second, third, None]


def test_what_ended_without_an_acknowledgement_is_kept_for_a_tracker() -> None:
    session = new_session()
    session.heard(reply(send(session), code=420, err="Failed to cancel order"), 0.1)
    assert not session.open
    session.keep_open = True
    acked, refused, unknown = (send(session) for _ in range(3))
    session.heard(reply(acked, code=200, data={}), 0.1)
    session.heard(reply(refused, code=420, err="Failed to cancel order"), 0.1)
    session.tick(5.0)
    assert list(session.open) == [refused, unknown]


def test_latencies_are_noted_of_what_was_timed() -> None:
    noted: list[Any] = []
    acked: list[float] = []
    latency: Any = SimpleNamespace(note=noted.append, acked=acked.append)
    session: Session[Pending] = Session(Pending, timeout=5.0, latency=latency)
    lane = session.open_lane(0.0)
    for code in (200, 420, None):
        timed, untimed = session.take(), session.take()
        timed.began, timed.built = 1.0, 1.5
        lane.sent(timed, 2.0)
        lane.sent(untimed, 2.0)
        session.receive(lane, reply(untimed, code=200, data={}), 2.5)
        if code is not None:
            session.receive(lane, reply(timed, code=code, data={}), 2.5 + code)
    session.tick(7.0)
    assert noted == [(1.0, 1.5, 2.0)] * 3
    assert acked == [200.5, 420.5]


def test_the_exchanges_clock_is_read_now_and_then() -> None:
    samples: list[Any] = []
    clock: Any = SimpleNamespace(sample=lambda *sample: samples.append(sample))
    session: Session[Pending] = Session(Pending, timeout=5.0, clock=clock)
    lane = session.open_lane(0.0)
    for now in (0.5, 0.5 + 1 / 128, 0.5 + 1 / 64):
        pending = session.take()
        lane.sent(pending, now - 0.5)
        session.receive(lane, reply(pending, code=200, data={}), now)
    assert [sample[:3] for sample in samples] == [
        (1749223343610, 0.0, 0.5),
        (1749223343610, 1 / 64, 0.5 + 1 / 64),
    ]
    assert all(abs(sample[3] / 1000 - time.time()) < 3600 for sample in samples)


# Credits.


def budgeted(lanes: int) -> tuple[Session[Pending], list[Lane[Pending]]]:
    session: Session[Pending] = Session(Pending, timeout=5.0)
    return session, [session.open_lane(0.0) for _ in range(lanes)]


def test_each_copy_of_a_cancel_costs_credits() -> None:
    session, lanes = budgeted(2)
    pending = session.take()
    for lane in lanes:
        lane.sent(pending, 0.0)
    session.book(pending, 0.0)  # cancels need not ask
    assert session.budget.spent_total == 0.0
    session.tick(0.0)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 1.0)
    session.receive(lanes[0], reply(pending, code=200, data={}), 0.1)
    session.tick(0.2)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 0.0)


def test_what_was_booked_is_spent_by_sending_or_given_back() -> None:
    session, lanes = budgeted(3)
    pending = session.take()
    pending.operation = "create_order"
    session.book(pending, 0.0)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 1.0)
    lanes[0].sent(pending, 0.0)
    session.tick(0.0)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 1.0)
    session.receive(lanes[0], reply(pending, code=420, err="no"), 0.1)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 0.0)
    unsent = session.take()
    unsent.operation = "create_order"
    session.book(unsent, 0.2)
    for _ in range(2):
        session.unbook(unsent)
        assert (session.budget.spent_total, session.budget.books().outstanding) == (1.0, 0.0)


def test_copies_on_lanes_that_came_since_are_spent_too() -> None:
    session, lanes = budgeted(2)
    pending = session.take()
    pending.operation = "create_order"
    session.book(pending, 0.0)
    for lane in (*lanes, session.open_lane(0.0)):
        lane.sent(pending, 0.0)
    session.tick(0.0)
    session.receive(lanes[0], reply(pending, code=200, data={}), 0.1)
    assert (session.budget.spent_total, session.budget.books().outstanding) == (3.0, 0.0)


def test_without_a_connection_one_copy_is_booked() -> None:
    session, _ = budgeted(0)
    pending = session.take()
    pending.operation = "create_order"
    session.book(pending, 0.0)
    assert session.budget.spent_total == 1.0


def test_replies_tell_what_is_left() -> None:
    session = new_session()

    def told(remaining: int, t: object, now: float) -> float | None:
        limit = {"r": remaining, "q": 1250, "t": 30}
        session.heard(reply(send(session), code=200, data={}, rl=limit, t=t), now)
        return session.budget.available(now)

    assert told(1000, 1005, 0.1) == 100.0
    assert told(1100, 1000, 0.2) == 100.0  # it was overtaken
    assert told(900, "soon", 0.3) == 90.0
    assert told(890, 1006, 0.4) == 89.0
    session.heard(reply(send(session, operation="create_order"), code=200, data={}, rl={"r": 880}), 0.5)
    assert session.budget.state(0.5).per_cancel == 1.0


@pytest.mark.parametrize(("limit", "wait"), [({}, None), ({"rl": {"r": 0, "q": 1250, "t": 56}}, 56.0)])
def test_a_refusal_for_want_of_credits_stops_what_is_no_cancel(
    limit: dict[str, Any], wait: float | None
) -> None:
    session = new_session()
    session.heard(reply(send(session), code=420, err="no"), 0.1)
    assert session.budget.available(0.1) is None
    session.heard(reply(send(session), code=429, err="Out of credits", **limit), 0.2)
    assert session.budget.available(0.2) == 0.0
    if wait is not None:
        assert session.budget.state(0.2).refresh == wait
        assert session.budget.available(0.2 + wait) == 125.0


# On two lanes.


def send_on_both(session: OneLane, now: float = 0.0) -> tuple[Pending, Lane[Pending]]:
    other = session.open_lane(now)
    pending = session.take()
    session.lane.sent(pending, now)
    other.sent(pending, now)
    return pending, other


def test_the_first_acknowledgement_counts_and_the_second_reply_is_absorbed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.receive(other, reply(pending, code=200, data={"s": "BTC"}), 0.1)
    assert isinstance(pending.outcome(), CancelAck)
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.2)
    assert isinstance(pending.outcome(), CancelAck)
    assert not session.late
    assert not caplog.records


def test_a_rejection_waits_for_the_other_copy() -> None:
    """The copy that came second is refused because of the first, and may be answered before it."""
    session = new_session()
    pending, other = send_on_both(session)
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.1)
    assert not pending.done
    session.receive(other, reply(pending, code=200, data={}), 0.2)
    assert isinstance(pending.outcome(), CancelAck)
    assert session.fates.acked == 1


@pytest.mark.parametrize("end", ["rejected too", "lost", "timeout", "unsent"])
def test_a_rejection_counts_if_the_other_copy_brings_nothing_better(end: str) -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.1)
    if end == "rejected too":
        session.receive(other, reply(pending, code=429, err="Out of credits"), 0.2)
    elif end == "lost":
        session.lost(other, "reset by peer", 0.2)
    elif end == "timeout":
        session.tick(5.0)
    else:
        other.unsent([pending], "the kernel took nothing", 0.2)
    with pytest.raises(Rejected, match="420"):
        pending.outcome()
    if end == "timeout":  # then an acknowledgement is news
        session.receive(other, reply(pending, code=200, data={}), 6.0)
        [(late, outcome)] = session.late
        assert late is pending
        assert isinstance(outcome, CancelAck)


def test_that_there_is_no_such_order_counts_also_if_the_other_copy_was_lost_before() -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.lost(other, "reset by peer", 0.1)
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.2)
    with pytest.raises(Rejected, match="420"):
        pending.outcome()


@pytest.mark.parametrize("end", ["lost", "timeout", "close"])
@pytest.mark.parametrize("code", [400, 401, 403, 429, 500])
def test_a_refusal_of_one_copy_says_nothing_of_the_other(code: int, end: str) -> None:
    """The slow one's window was over, say, when the other had been carried out."""
    session = new_session()
    pending, other = send_on_both(session)
    session.heard(reply(pending, code=code, err="Refused"), 0.1)
    if end == "lost":
        session.lost(other, "reset by peer", 0.2)
    elif end == "timeout":
        session.tick(5.0)
    else:
        session.close("closed", 0.2)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


@pytest.mark.parametrize(("code", "error"), [(429, RateLimited), (401, SignatureRejected), (500, Rejected)])
def test_one_copy_was_refused_and_the_other_not_sent(code: int, error: type[Rejected]) -> None:
    session = new_session()
    pending, other = send_on_both(session)
    other.unsent([pending], "the kernel took nothing", 0.1)
    session.heard(reply(pending, code=code, err="Refused"), 0.2)
    with pytest.raises(error):
        pending.outcome()


def test_what_has_ended_is_forgotten_also_if_nothing_follows() -> None:
    session = new_session()
    for code in (200, 0):
        pending = send(session)
        pending.renew = lambda it: False
        if code:
            session.heard(reply(pending, code=code, data={}), 0.1)
        session.tick(5.0)
        assert pending.done
        assert pending.renew is None
    assert [bool(kept._by_id) for kept in (session._answered, session._unknown)] == [True, True]
    session.tick(66.0)
    assert [bool(kept._by_id) for kept in (session._answered, session._unknown)] == [False, False]


def test_unknown_only_when_both_links_are() -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.lost(session.lane, "reset by peer", 0.1)
    assert not pending.done
    session.lost(other, "closed", 0.2)
    with pytest.raises(OutcomeUnknown, match="reset by peer"):
        pending.outcome()


def test_not_sent_only_when_it_left_by_neither() -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.lane.unsent([pending], "the kernel took nothing", 0.1)
    assert not pending.done
    other.unsent([pending], "the kernel took nothing", 0.1)
    with pytest.raises(NotSent):
        pending.outcome()
    pending, other = send_on_both(session)
    session.lane.unsent([pending], "the kernel took nothing", 0.2)
    session.lost(other, "reset by peer", 0.3)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


@pytest.mark.parametrize("end", ["timeout", "close"])
def test_a_copy_that_was_not_sent_says_nothing_of_the_other(end: str) -> None:
    session = new_session()
    pending, _ = send_on_both(session)
    session.lane.unsent([pending], "the kernel took nothing", 0.1)
    if end == "timeout":
        session.tick(5.0)
    else:
        session.close("closed", 1.0)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


def test_nothing_is_signed_afresh_in_the_end() -> None:
    session = new_session()
    pending, _ = send_on_both(session)
    pending.renew = lambda it: pytest.fail("closed")
    session.heard(reply(pending, code=400, err="Invalid message"), 0.1)
    session.close("closed", 1.0)
    with pytest.raises(OutcomeUnknown, match="closed"):
        pending.outcome()


def test_time_is_up_in_the_order_of_sending_whatever_the_lane() -> None:
    session = new_session()
    other = session.open_lane(0.0)
    late, early = session.take(), session.take()
    session.lane.sent(late, 2.0)
    other.sent(early, 1.0)
    assert session.next_deadline() == float("inf")
    session.tick(2.0)
    assert session.next_deadline() == 6.0
    session.tick(6.0)
    assert (early.done, late.done) == (True, False)


def test_a_lane_is_lost_once_and_its_place_is_taken_again() -> None:
    session = new_session()
    second, third = session.open_lane(0.0), session.open_lane(0.0)
    assert [lane.bit for lane in (session.lane, second, third)] == [1, 2, 4]
    pending = session.take()
    third.sent(pending, 0.0)
    assert (session.in_flight(second), session.in_flight(third)) == ([], [pending])
    for _ in range(2):
        session.lost(second, "reset by peer", 0.1)
    assert not pending.done
    assert session.open_lane(0.2).bit == 2
    second.unsent([pending], "it never was there", 0.2)
    session.lost(third, "reset by peer", 0.3)
    with pytest.raises(OutcomeUnknown, match="reset by peer"):
        pending.outcome()


def test_a_signature_is_renewed_when_no_copy_can_be_accepted_any_more() -> None:
    session = new_session()
    pending, other = send_on_both(session)
    renewed = []

    def renew(it: Pending) -> bool:
        renewed.append(it.id)
        session.renumber(it)
        session.lane.sent(it, 0.3)
        return True

    pending.renew = renew
    first_id = pending.id
    session.heard(reply(pending, code=400, err="Invalid message"), 0.1)
    assert renewed == []
    session.receive(other, reply(pending, code=400, err="Invalid message"), 0.2)
    assert renewed == [first_id]
    assert pending.id != first_id
    session.heard(reply(pending, code=200, data={}), 0.4)
    assert isinstance(pending.outcome(), CancelAck)


@pytest.mark.parametrize("code", [420, 400])
def test_what_cannot_be_renewed_ends_as_it_was_refused(code: int) -> None:
    """Because it is not about the signature, or because there is nobody to sign."""
    session = new_session()
    pending = send(session)
    asked: list[Pending] = []

    def renew(it: Pending) -> bool:
        asked.append(it)
        return False

    pending.renew = renew
    session.heard(reply(pending, code=code, err="Invalid message" if code == 400 else "Too late"), 0.1)
    assert asked == [pending] * (code == 400)
    with pytest.raises(Rejected, match=str(code)):
        pending.outcome()
    assert session.in_flight() == []


def test_what_was_renewed_is_only_where_it_was_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    session = new_session()
    pending = send(session)
    other = session.open_lane(0.0)

    def renew(it: Pending) -> bool:
        session.renumber(it)
        other.sent(it, 0.3)
        return True

    pending.renew = renew
    session.heard(reply(pending, code=400, err="Invalid message"), 0.1)
    assert "signing it afresh" in caplog.text
    session.lost(other, "reset by peer", 0.4)
    with pytest.raises(OutcomeUnknown, match="reset by peer"):
        pending.outcome()


def test_a_signature_is_renewed_once() -> None:
    session = new_session()
    pending = send(session)
    old = pending.id

    def renew(it: Pending) -> bool:
        session.renumber(it)
        session.lane.sent(it, 0.3)
        return True

    pending.renew = renew
    session.heard(reply(pending, code=400, err="Invalid message"), 0.1)
    assert session.in_flight() == [pending]
    session.heard(orjson.dumps({"id": old, "code": 200, "type": "cancel_order", "data": {}}), 0.2)
    assert not pending.done
    session.heard(reply(pending, code=400, err="Invalid message"), 0.4)
    with pytest.raises(Rejected, match="400"):
        pending.outcome()


def test_closing_ends_a_request_whose_renewal_was_interrupted() -> None:
    session = new_session()
    pending = send(session)

    def renew(it: Pending) -> bool:
        session.renumber(it)
        raise KeyboardInterrupt

    pending.renew = renew
    with pytest.raises(KeyboardInterrupt):
        session.heard(reply(pending, code=400, error="Invalid message"), 2.0)
    session.close("closed", 3.0)
    with pytest.raises(OutcomeUnknown, match=r"^closed"):
        pending.outcome()


def test_a_renewed_request_has_no_more_time_than_others() -> None:
    session = new_session(timeout=5.0)
    pending = send(session)

    def renew(it: Pending) -> bool:
        session.renumber(it)
        session.lane.sent(it, 4.0)
        return True

    pending.renew = renew
    session.heard(reply(pending, code=400, err="Invalid message"), 4.0)
    session.tick(4.9)
    assert not pending.done
    session.tick(5.0)
    assert pending.done


# Late.


def test_a_late_reply_is_reported_once() -> None:
    session = new_session()
    pending = send(session)
    session.tick(5.0)
    for _ in range(2):
        session.heard(reply(pending, code=200, data={}), 6.0)
    [(late, outcome)] = session.late
    assert late is pending
    assert isinstance(outcome, CancelAck)
    assert (session.fates.unknown, session.fates.late) == (1, 1)


def test_a_late_reply_that_says_nothing_is_no_news() -> None:
    session = new_session()
    pending = send(session)
    session.tick(5.0)
    session.heard(reply(pending, data={}), 6.0)
    assert not session.late


def test_of_two_refusals_the_second_is_no_news() -> None:
    session = new_session()
    pending, other = send_on_both(session)
    session.heard(reply(pending, code=420, err="Failed to cancel order"), 0.1)
    session.tick(5.0)
    session.receive(other, reply(pending, code=429, err="Out of credits"), 6.0)
    assert (list(session.late), session.fates.late) == ([], 0)


# Waiting for a connection.


def test_what_waits_is_signed_when_there_is_a_connection() -> None:
    session = new_session()
    pending = session.take()
    session.park(pending, lambda number: b"frame %d" % number, "not connected", 3.0)
    assert session.in_flight_count == 1
    frames = []

    def put(pending: Pending, frame: bytes) -> None:
        frames.append(frame)
        session.lane.sent(pending, 2.0)

    session.unparked(put, 2.0)
    session.unparked(put, 2.0)
    assert frames == [b"frame %d" % pending.number]
    session.tick(6.9)  # its time began when it was sent
    assert not pending.done
    session.tick(7.0)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


@pytest.mark.parametrize("how", ["tick", "connection", "close"])
def test_what_waits_for_too_long_was_not_sent(how: str) -> None:
    session = new_session()
    pending = session.take()
    session.park(pending, lambda number: b"frame", "not connected", 3.0)
    assert session.next_deadline() == 3.0
    if how == "tick":
        session.tick(3.0)
    elif how == "connection":
        session.unparked(lambda pending, frame: pytest.fail("sent too late"), 3.0)
    else:
        session.close("not connected: closed", 1.0)
    with pytest.raises(NotSent, match="not connected"):
        pending.outcome()
    assert session.fates.not_sent == 1


def test_what_still_cannot_be_sent_waits_on_in_its_order() -> None:
    session = new_session()
    first, second = session.take(), session.take()
    for pending in (first, second):
        session.park(pending, lambda number: b"frame", "not connected", 3.0)

    def full(pending: Pending, frame: bytes) -> None:
        raise NotSent("the socket is full")

    session.unparked(full, 1.0)
    assert session.in_flight_count == 2
    sent: list[Pending] = []
    session.unparked(lambda pending, frame: sent.append(pending), 1.0)
    assert sent == [first, second]


def test_what_is_too_late_does_not_hold_up_the_rest() -> None:
    session = new_session()
    late, early = session.take(), session.take()
    session.park(late, lambda number: b"frame", "not connected", 3.0)
    session.park(early, lambda number: b"frame", "not connected", 3.5)
    sent: list[Pending] = []
    session.unparked(lambda pending, frame: sent.append(pending), 3.0)
    assert (sent, late.done, session.in_flight_count) == ([early], True, 0)


def test_a_key_that_was_closed_meanwhile() -> None:
    session = new_session()
    first, second = session.take(), session.take()

    def closed(number: int) -> bytes:
        raise KeyClosed("closed")

    session.park(first, closed, "not connected", 3.0)
    session.park(second, lambda number: b"frame", "not connected", 3.0)
    session.unparked(lambda pending, frame: session.lane.sent(pending, 1.0), 1.0)
    with pytest.raises(NotSent, match="closed"):
        first.outcome()
    assert session.in_flight() == [second]


def test_interrupted_while_sending_what_waited() -> None:
    session = new_session()
    pending = session.take()
    session.park(pending, lambda number: b"frame", "not connected", 3.0)

    def interrupted(pending: Pending, frame: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.unparked(interrupted, 1.0)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()
    session.unparked(lambda pending, frame: pytest.fail("sent twice"), 1.0)


def test_nothing_is_kept_of_requests_that_ended() -> None:
    session = new_session()
    for turn in range(5000):
        pending = send(session, now=float(turn))
        session.heard(reply(pending, code=200, data={}), float(turn))
    assert session.in_flight() == []
    assert len(session._ring) <= 32


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
reply_fields = st.dictionaries(
    st.sampled_from(["code", "data", "t", "type", "err", "error", "rl", "channel"]),
    json_values | st.sampled_from([200, 420, "cancel_order", {"r": 1, "q": 2, "t": 3}]),
)


@given(reply_fields, st.booleans())
def test_no_reply_breaks_the_session_or_invents_a_fate(fields: dict[str, Any], with_id: bool) -> None:
    session = new_session()
    pending, other = send(session), send(session)
    message = fields | ({"id": pending.id} if with_id else {})
    try:
        text = orjson.dumps(message)
    except orjson.JSONEncodeError:  # an int of more than 64 bits, or a lone surrogate
        return
    session.heard(text, 0.1)
    assert not other.done
    assert pending.done == with_id
    if with_id and not isinstance(pending._outcome, Exception):
        assert fields["code"] == 200
    if isinstance(pending._outcome, Rejected):
        assert fields["code"] == pending._outcome.code


def test_of_an_error_without_an_id_a_reason_holds_only_the_beginning() -> None:
    session = new_session()
    pending = send(session, now=1.0)
    session.heard(orjson.dumps({"code": 400, "err": "no! " * 250_000}), 2.0)
    session.tick(6.0)
    with pytest.raises(OutcomeUnknown, match="400: no!") as caught:
        pending.outcome()
    assert len(caught.value.reason) < 400


def test_a_parked_cancel_whose_signing_is_interrupted_waits_on() -> None:
    session = new_session()
    pending = session.take()

    def interrupted(_: int) -> bytes:
        raise KeyboardInterrupt

    session.park(pending, interrupted, "not connected", 5.0)
    with pytest.raises(KeyboardInterrupt):
        session.unparked(lambda pending, frame: pytest.fail("sent"), 1.0)
    session.tick(5.0)
    with pytest.raises(NotSent, match="not connected"):
        pending.outcome()


def test_credits_of_any_size_are_no_reason_to_fail() -> None:
    assert read_credits({"rl": {"r": 10**400, "q": 1250, "t": 60}}) is None
