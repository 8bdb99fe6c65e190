# SPDX-License-Identifier: MIT
"""The links of a client, driven by a clock that the tests turn by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pacifica_fast import links as links_module
from pacifica_fast._sodium import ffi, lib
from pacifica_fast.endpoint import Endpoint
from pacifica_fast.errors import ConnectionFailed, NotSent, OutcomeUnknown
from pacifica_fast.links import ConnectionEvent, Links, LinkState, Pair, Unsent
from pacifica_fast.sending import Sending
from pacifica_fast.session import PING, Lane, Pending, Session
from pacifica_fast.websocket import frame_of, masked_anew

DAY = 86_400.0


class FakeLink:
    """A link that writes down what is done to it."""

    def __init__(self, lane: Lane[Pending]) -> None:
        self.lane = lane
        self.ready = True
        self.frames: list[bytes] = []
        self.pings = 0
        self.closing = False
        self.aborted = ""
        self.refuses = False
        self.takes_nothing = False
        self.silent = False

    def why_not_ready(self) -> str:
        return "busy"

    def put(self, frame: bytes, pending: Pending) -> None:
        if self.refuses:
            raise NotSent("refused")
        self.frames.append(frame)
        self.lane.sent(pending, 0.0)

    def put_many(self, frames: bytes, pendings: list[Any], starts: list[int]) -> Unsent[Pending]:
        if self.refuses:
            raise NotSent("refused")
        self.frames.append(frames)
        for pending in pendings:
            self.lane.sent(pending, 0.0)
        return [(self.lane, pendings)] if self.takes_nothing else []

    def say(self, text: bytes) -> None:
        assert text == PING
        self.pings += 1
        if not self.silent:
            self.lane.heard()

    def close(self) -> None:
        self.closing = True
        self.ready = False

    def abort(self, reason: str) -> None:
        self.aborted = reason
        self.ready = False


class Driver:
    """What a driver does, without sockets: opening takes as long as the test wants."""

    def __init__(self, **settings: Any) -> None:
        self.endpoint = Endpoint.checked("ws://127.0.0.1/ws", **settings)
        self.session: Session[Pending] = Session(
            Pending,
            timeout=self.endpoint.timeout,
            heartbeat=self.endpoint.heartbeat,
            pong_timeout=self.endpoint.pong_timeout,
        )
        self.opening: list[int] = []
        self.events: list[ConnectionEvent] = []
        self.links: Links[FakeLink] = Links(
            self.session, self.endpoint, self.opening.append, random.Random(7)
        )
        self.links.listeners.append(self.events.append)

    def open(self, index: int, now: float) -> FakeLink:
        self.opening.remove(index)
        link = FakeLink(self.session.open_lane(now))
        self.links.opened(index, link, now)
        return link

    def fail(self, index: int, now: float, status: int | None = None) -> None:
        self.opening.remove(index)
        self.links.failed(index, ConnectionFailed("upgrade", "no", status), now)

    def run(self, start: float, end: float, step: float = 0.01) -> float:
        """Tick until something is being opened, or ``end``; when that is."""
        now = start
        while now < end and not self.opening:
            self.links.tick(now)
            now += step
        return now


def opened(**settings: Any) -> tuple[Driver, FakeLink]:
    driver = Driver(**settings)
    driver.links.start(0.0)
    return driver, driver.open(0, 0.0)


def test_what_is_to_be_opened_again_is_never_closed_in_passing() -> None:
    """Threads look at any time: a cancel that may wait would not, and events would end."""
    seen: list[LinkState] = []

    class Dice(random.Random):
        """Asked for the pause, when the link is gone and nothing is decided yet."""

        def uniform(self, a: float, b: float) -> float:
            seen.append(driver.links.state)
            assert not driver.links.closed
            return super().uniform(a, b)

    driver, link = opened()
    driver.links._random = Dice(7)
    driver.links.lost(link, "gone", 0.1)
    driver.run(0.1, 10.0)
    driver.fail(0, 0.5)
    driver.run(0.5, 10.0)
    assert driver.open(0, 1.0).ready
    assert seen[:2] == [LinkState.WAITING] * 2
    assert driver.links.state is LinkState.OPEN


def test_a_link_that_held_is_opened_again_at_once() -> None:
    driver, link = opened()
    assert driver.links.use is link
    assert driver.links.state is LinkState.OPEN
    driver.links.lost(link, "reset by peer", 100.0)
    assert driver.opening == [0]
    assert driver.links.use is None
    assert "reset by peer" in driver.links.why_not_ready()
    again = driver.open(0, 100.1)
    assert driver.links.use is again
    assert driver.links.reconnects == 1
    assert [event.state for event in driver.events] == ["connecting", "open", "waiting", "connecting", "open"]
    assert (driver.events[2].reason, driver.events[2].retry_in) == ("reset by peer", 0.0)


def test_one_that_did_not_hold_counts_as_a_failure() -> None:
    driver, link = opened()
    driver.links.lost(link, "reset by peer", 0.5)
    assert driver.opening == []
    assert driver.links.state is LinkState.WAITING
    assert driver.run(0.5, 2.0) < 0.5 + driver.endpoint.backoff + 0.02


def test_pauses_have_full_jitter_and_a_ceiling() -> None:
    driver, link = opened(backoff=0.1, backoff_max=5.0)
    driver.links.lost(link, "gone", 100.0)
    now, pauses = 100.0, []
    for _ in range(400):
        driver.fail(0, now)
        pauses.append(driver.events[-1].retry_in or 0.0)
        now = driver.run(now, now + 10.0)
        assert driver.opening == [0], "it never gives up by itself"
    for failures, pause in enumerate(pauses):
        assert 0 <= pause <= min(5.0, 0.1 * 2**failures)
    settled = sorted(pauses[10:])
    assert settled[0] < 0.2  # full jitter: from nothing ...
    assert settled[-1] > 4.8  # ... to the ceiling
    assert 2.0 < sum(settled) / len(settled) < 3.0


def test_too_many_connections_mean_a_long_pause() -> None:
    driver, link = opened(backoff_max=30.0)
    driver.links.lost(link, "gone", 100.0)
    driver.fail(0, 100.0, status=429)
    event = driver.events[-1]
    assert (event.stage, event.status) == ("upgrade", 429)
    assert event.retry_in is not None
    assert 15.0 <= event.retry_in <= 30.0


@pytest.mark.parametrize(("limit", "tries"), [(0, 0), (1, 1), (3, 3)])
def test_a_limit_of_attempts(limit: int, tries: int) -> None:
    driver, link = opened(reconnect_attempts=limit)
    driver.links.lost(link, "gone", 100.0)
    now = 100.0
    for _ in range(tries):
        now = driver.run(now, now + 60.0)
        driver.fail(0, now)
    driver.run(now, now + 120.0)
    assert driver.opening == []
    assert driver.links.state is LinkState.CLOSED
    assert driver.links.closed
    assert driver.events[-1].state is LinkState.CLOSED


def test_a_link_is_replaced_before_it_is_too_old_and_nobody_notices() -> None:
    driver, old = opened()
    began = driver.run(0.0, DAY, step=10.0)
    assert driver.endpoint.rotate_after * 0.9 <= began <= driver.endpoint.rotate_after + 10.0 < DAY
    assert driver.links.use is old  # make before break
    assert old.ready
    pending = driver.session.take()
    old.lane.sent(pending, began)
    new = driver.open(0, began + 1.0)
    assert driver.links.use is new
    driver.links.tick(began + 2.0)
    assert not old.closing  # a reply may still come
    driver.session.receive(old.lane, b'{"id":"%s","code":200,"data":{}}' % pending.id.encode(), began + 2.1)
    assert pending.done
    driver.links.tick(began + 2.2)
    assert old.closing
    driver.links.tick(began + 2.2 + 2.0)
    assert old.aborted  # it did not finish the closing handshake
    driver.links.lost(old, "closed", began + 5.0)
    assert driver.links.all() == [new]
    assert [event.state for event in driver.events] == ["connecting", "open", "open"]


def test_a_successor_that_does_not_come_is_tried_again_while_the_old_one_serves() -> None:
    driver, old = opened()
    now = driver.run(0.0, DAY, step=10.0)
    for _ in range(5):
        driver.fail(0, now)
        assert driver.links.use is old
        assert driver.links.state is LinkState.OPEN
        now = driver.run(now, now + 60.0)
        assert driver.opening == [0]
    driver.links.lost(old, "the exchange closed it", now)
    assert driver.opening == [0]  # not a second one for the same place
    new = driver.open(0, now)
    assert driver.links.use is new


def test_what_a_leaving_link_owes_it_owes_for_the_timeout_and_no_longer() -> None:
    driver, old = opened(timeout=5.0)
    now = driver.run(0.0, DAY, step=10.0)
    pending = driver.session.take()
    old.lane.sent(pending, now)
    driver.open(0, now)
    driver.links.tick(now + 4.9)
    assert not old.closing
    driver.links.tick(now + 5.1)
    assert old.closing


def test_rotation_has_jitter() -> None:
    moments = set()
    for seed in range(20):
        driver = Driver()
        driver.links._random.seed(seed)
        driver.links.start(0.0)
        driver.open(0, 0.0)
        moments.add(round(driver.links.next_event()))
    assert len(moments) > 15


def test_a_silent_link_is_pinged_and_then_given_up() -> None:
    driver, link = opened(heartbeat=30.0, pong_timeout=5.0)
    link.silent = True
    now = 0.0
    while not link.aborted and now < 100.0:
        driver.links.tick(now)
        now += 0.1
    assert link.pings == 1
    assert 35.0 <= now <= 35.3
    assert "ping" in link.aborted


def test_a_link_that_answers_pings_is_kept() -> None:
    driver, link = opened(heartbeat=30.0, pong_timeout=5.0)
    for second in range(300):
        driver.links.tick(float(second))
    assert link.pings == 9
    assert not link.aborted


def test_a_link_that_owes_an_answer_is_pinged_early() -> None:
    driver, link = opened(heartbeat=30.0, pong_timeout=2.0, timeout=60.0)
    link.silent = True
    link.lane.sent(driver.session.take(), 10.0)
    now = 10.0
    while not link.aborted and now < 100.0:
        driver.session.tick(now)
        driver.links.tick(now)
        now += 0.1
    assert link.pings == 1
    assert 14.0 <= now <= 14.4


def test_closing_opens_nothing_any_more() -> None:
    driver, link = opened(links=2)
    driver.links.close("the client was closed", 1.0)
    assert link.closing
    assert driver.links.use is None
    late = driver.open(1, 1.1)
    assert late.aborted == "the client was closed"
    assert [(event.link, event.state) for event in driver.events[-1:]] == [(1, LinkState.CLOSED)]
    driver.links.lost(link, "closed", 1.2)
    assert driver.opening == []
    assert driver.links.state is LinkState.CLOSED


# Two links.


def test_two_links_are_used_as_one() -> None:
    driver, first = opened(links=2)
    assert driver.links.use is first
    second = driver.open(1, 0.1)
    pair = driver.links.use
    assert isinstance(pair, Pair)
    assert pair.links == (first, second)
    pending = driver.session.take()
    pair.put(frame_of(b"{}"), pending)
    assert len(first.frames) == len(second.frames) == 1
    assert first.frames != second.frames  # a mask key is used once
    driver.links.lost(first, "gone", 50.0)
    assert driver.links.use is second
    assert not pending.done
    driver.links.lost(second, "gone too", 50.1)
    assert pending.done
    assert driver.links.use is None


@pytest.mark.parametrize("trouble", ["not ready", "refuses"])
@pytest.mark.parametrize("which", [0, 1])
def test_one_of_two_links_is_enough(trouble: str, which: int) -> None:
    driver, first = opened(links=2)
    second = driver.open(1, 0.1)
    pair = driver.links.use
    assert isinstance(pair, Pair)
    bad, good = (first, second) if which == 0 else (second, first)
    if trouble == "refuses":
        bad.refuses = True
    else:
        bad.ready = False
    pending = driver.session.take()
    pair.put(frame_of(b"{}"), pending)
    pair.put_many(frame_of(b"{}"), [driver.session.take()], [0])
    assert (len(bad.frames), len(good.frames)) == (0, 2)
    driver.links.lost(good, "gone", 50.0)
    assert pending.done


def test_many_are_masked_once_for_each_link(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[bytes] = []

    def noted(frames: bytes) -> bytes:
        masked.append(masked_anew(frames))
        return masked[-1]

    monkeypatch.setattr(links_module, "masked_anew", noted)
    driver, first = opened(links=2)
    second = driver.open(1, 0.1)
    pair = driver.links.use
    assert isinstance(pair, Pair)
    frames = frame_of(b'{"method":"ping"}') * 2
    pair.put_many(frames, [driver.session.take(), driver.session.take()], [0, len(frames) // 2])
    assert first.frames == [frames]
    assert second.frames == masked
    assert len(masked) == 1
    assert masked[0] != frames
    first.ready = False
    pair.put_many(frames, [driver.session.take(), driver.session.take()], [0, len(frames) // 2])
    assert second.frames[1:] == [frames]
    assert len(masked) == 1


def test_two_links_that_both_refuse() -> None:
    driver, first = opened(links=2)
    second = driver.open(1, 0.1)
    first.refuses = second.refuses = True
    pair = driver.links.use
    assert isinstance(pair, Pair)
    with pytest.raises(NotSent):
        pair.put(frame_of(b"{}"), driver.session.take())
    with pytest.raises(NotSent):
        pair.put_many(frame_of(b"{}"), [driver.session.take()], [0])
    assert driver.session.in_flight() == []


@pytest.mark.parametrize("which", [0, 1])
def test_what_one_link_did_not_take_may_have_left_by_the_other(which: int) -> None:
    driver, first = opened(links=2)
    second = driver.open(1, 0.1)
    pair = driver.links.use
    assert isinstance(pair, Pair)
    bad, good = (first, second) if which == 0 else (second, first)
    bad.takes_nothing = True
    pending = driver.session.take()
    Sending._put_many(pair, frame_of(b"{}"), [pending], [0])
    driver.links.lost(bad, "only a part", 0.2)
    assert len(good.frames) == 1
    assert not pending.done
    driver.links.lost(good, "gone", 0.3)
    with pytest.raises(OutcomeUnknown):
        pending.outcome()


def test_what_must_not_be_done_twice_goes_out_on_one_that_is_ready() -> None:
    driver, first = opened(links=2)
    second = driver.open(1, 0.1)
    pair = driver.links.use
    assert isinstance(pair, Pair)
    assert pair.one is first
    first.ready = False
    assert pair.one is second


def test_what_neither_link_took_was_not_sent() -> None:
    driver, first = opened(links=2)
    first.takes_nothing = driver.open(1, 0.1).takes_nothing = True
    pair, pending = driver.links.use, driver.session.take()
    assert isinstance(pair, Pair)
    Sending._put_many(pair, frame_of(b"{}"), [pending], [0])
    with pytest.raises(NotSent, match="only a part"):
        pending.outcome()


def test_only_whole_frames_are_masked_anew() -> None:
    frames = frame_of(b"x" * 5) + frame_of(b"y" * 300) + frame_of(b"z" * 70_000)
    assert len(masked_anew(frames)) == len(frames)
    for broken in (frames[:-1], frames[1:], b"\x81\x05hello"):
        with pytest.raises(RuntimeError):
            masked_anew(broken)
    out = ffi.new("char[]", 4)
    assert lib.pf_frame_again(out, 4, frames, len(frames)) == lib.PF_ERR_CAPACITY
