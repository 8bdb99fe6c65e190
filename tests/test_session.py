# SPDX-License-Identifier: MIT
"""The session, driven by a clock that the tests turn by hand."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast.errors import KeyClosed, NotSent, OutcomeUnknown, RateLimited, Rejected, SignatureRejected
from pacifica_fast.replies import BatchAck, CancelAck, CancelAllAck
from pacifica_fast.session import Lane, Pending, Session


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
    with pytest.raises(OutcomeUnknown, match=r"no reply within 5 s") as caught:
        early.outcome()
    assert caught.value.request_id == early.id
    session.tick(8.0)
    assert late.done


def test_a_timeout_tells_of_an_error_without_id() -> None:
    session = new_session()
    pending = send(session, now=1.0)
    session.heard(b'{"code":401,"err":"Invalid message"}', 1.5)
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
