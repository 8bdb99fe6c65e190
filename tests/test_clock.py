# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pacifica_fast import InvalidRequest, Keypair, Signer
from pacifica_fast.clock import ExchangeClock
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.sync import connect

START = 1_749_223_343_149.25  # our Unix ms when the monotonic clock is 0
DAY = 86_400_000  # ms
FLOAT = 0.001  # ms: what the simulation itself loses
KEYPAIR = Keypair.from_seed(bytes(range(32)))


class World(NamedTuple):
    """Two clocks: ours, exact, and a server's that is off and drifts."""

    offset: float = 0.0  # ms at monotonic 0
    drift: float = 0.0  # ms a second
    start: float = START

    def wall(self, at: float) -> float:
        return self.start + at * 1_000

    def true_offset(self, at: float) -> float:
        return self.offset + self.drift * at

    def server(self, at: float) -> float:
        return self.wall(at) + self.true_offset(at)

    def exchange(self, clock: ExchangeClock, sent_at: float, out: float, back: float) -> float:
        """One request and its reply, ``out`` and ``back`` s on their way; when the reply arrived."""
        received_at = sent_at + out + back
        t = int(self.server(sent_at + out))
        clock.sample(t, sent_at, received_at, self.wall(received_at))
        return received_at


def check_bound(clock: ExchangeClock, world: World, now: float) -> None:
    offset, error, correction = clock.offset, clock.error, clock.correction(now)
    assert offset is not None
    assert error is not None
    error_now = clock.error
    assert error_now is not None
    assert error_now >= error
    assert abs(world.true_offset(now) - offset) <= error_now + FLOAT
    stamp = int(world.wall(now)) + correction  # as the core stamps
    assert stamp <= world.server(now) + FLOAT


delays = st.one_of(st.floats(0, 0.002), st.floats(0, 0.3), st.just(0.0), st.floats(0, 5))
gaps = st.one_of(st.floats(0, 0.01), st.floats(0, 20), st.floats(0, 4_000))


@given(
    offset=st.one_of(st.floats(-20, 20), st.floats(-4_000, 4_000)),
    drift=st.floats(-0.015, 0.015),
    steps=st.lists(st.tuples(gaps, delays, delays, gaps), min_size=1, max_size=40),
)
# Both drift while the reply is on its way back.
@example(offset=0.0, drift=0.0066, steps=[(0.0, 0.0, 3.691687561877062, 0.0), (0.0, 0.0, 3.0, 0.0)])
@example(offset=0.0, drift=0.015, steps=[(0.0, 0.0, 5.0, 0.0)])
def test_true_offset_is_within_the_error(
    offset: float, drift: float, steps: list[tuple[float, float, float, float]]
) -> None:
    world, clock, now = World(offset, drift), ExchangeClock(correct=True, cap=DAY), 5.0
    for gap, out, back, later in steps:
        now = world.exchange(clock, now + gap, out, back)
        check_bound(clock, world, now)
        now += later
        check_bound(clock, world, now)


@given(
    jitters=st.lists(st.tuples(st.floats(0, 49), delays, delays), min_size=1, max_size=30),
    offset=st.floats(-4_000, 4_000),
)
def test_wall_clock_read_late_leads_into_no_future(
    jitters: list[tuple[float, float, float]], offset: float
) -> None:
    """The thread lost its turn between the monotonic and the wall clock."""
    world, clock, now = World(offset), ExchangeClock(correct=True, cap=DAY), 5.0
    for late, out, back in jitters:
        received_at = now + out + back
        clock.sample(int(world.server(now + out)), now, received_at, world.wall(received_at) + late)
        now = received_at + 1
        assert int(world.wall(now)) + clock.correction(now) <= world.server(now) + FLOAT


@given(
    offset=st.floats(-1_000, 1_000),
    steps=st.lists(st.tuples(st.floats(-49, 49), delays, delays), min_size=1, max_size=20),
)
def test_small_steps_of_our_clock_count_as_error(
    offset: float, steps: list[tuple[float, float, float]]
) -> None:
    world, clock, now = World(offset), ExchangeClock(correct=True, cap=DAY), 5.0
    for step, out, back in steps:
        now = world.exchange(clock, now + 0.5, out, back)
        check_bound(clock, world, now)
        world = World(world.offset - step, start=world.start + step)
        clock.tick(now, world.wall(now))
        check_bound(clock, world, now)


def test_the_correction_is_what_is_certain() -> None:
    """Whole ms, and never rounded up: here the exchange is at least -0.3 ms ahead."""
    clock = ExchangeClock(correct=True)
    clock.sample(1_000, 1.0, 1.0, 1_000.3)
    assert clock.offset == pytest.approx(0.2)
    assert clock.correction() == -1


def test_nothing_is_known_before_the_first_sample() -> None:
    clock = ExchangeClock(correct=True)
    assert (clock.offset, clock.error, clock.round_trip) == (None, None, None)
    assert clock.correction() == clock.correction(5.0) == 0
    clock.check(1, 5.0)
    clock.tick(6.0, START)
    assert clock.offset is None


def test_the_least_delay_counts() -> None:
    world, clock = World(offset=100.5), ExchangeClock(correct=True)
    world.exchange(clock, 0, 0.200, 0.040)
    assert clock.round_trip == pytest.approx(240)
    world.exchange(clock, 1, 0.001, 0.001)
    assert clock.round_trip == pytest.approx(2)
    assert clock.error == pytest.approx(1.5, abs=0.02)
    for late in range(2, 50):  # a burst of slow ones does not push it out
        world.exchange(clock, late / 10, 0.200, 0.040)
    assert clock.round_trip == pytest.approx(2)
    assert clock.correction() in (98, 99, 100)


def test_old_samples_give_way() -> None:
    """Eight stages of 8 s: what is older than that is gone, however good."""
    world, clock = World(), ExchangeClock()
    world.exchange(clock, 0, 0.001, 0.001)
    for stage in range(1, 8):
        world.exchange(clock, stage * 9, 0.1, 0.1)
        assert clock.round_trip == pytest.approx(2)
    world.exchange(clock, 72, 0.1, 0.1)
    assert clock.round_trip == pytest.approx(200)


def test_an_old_sample_becomes_less_certain() -> None:
    world, clock = World(), ExchangeClock(correct=True)
    now = world.exchange(clock, 0, 0.010, 0.010)
    fresh = clock.error
    assert fresh is not None
    assert fresh == pytest.approx(10.5, abs=0.02)
    at_once = clock.correction(now)
    assert clock.correction(now + 10_000) == pytest.approx(at_once - 150, abs=1)
    assert clock.error == pytest.approx(fresh + 150, abs=0.02)
    assert clock.correction(now) == clock.correction()  # time does not go back
    world.exchange(clock, 10_001, 0.060, 0.060)  # slower, but younger
    assert clock.round_trip == pytest.approx(120)


def test_nothing_is_corrected_unless_wanted() -> None:
    world, clock = World(offset=1_000), ExchangeClock()
    now = world.exchange(clock, 0, 0.001, 0.001)
    assert clock.correction(now) == 0
    assert clock.offset == pytest.approx(1_000, abs=2)


@pytest.mark.parametrize("step", [-3_600_000.0, -60.0, 60.0, 1_500.0, 10e9])
def test_our_clock_is_set(step: float, caplog: pytest.LogCaptureFixture) -> None:
    before, after = World(offset=700), World(offset=700 - step, start=START + step)
    clock = ExchangeClock(correct=True)
    now = before.exchange(clock, 0, 0.001, 0.001)
    assert clock.correction() in (697, 698, 699)
    with caplog.at_level(logging.WARNING, "pacifica_fast.clock"):
        clock.tick(now + 1, after.wall(now + 1))
        clock.tick(now + 1.1, after.wall(now + 1.1))  # a step ahead is believed when it is read again
    assert "our clock was set" in caplog.text
    assert (clock.offset, clock.correction()) == (None, 0)
    now = after.exchange(clock, now + 2, 0.1, 0.1)  # worse than what was thrown away
    assert clock.round_trip == pytest.approx(200)
    if abs(700 - step) < 4_000:
        check_bound(clock, after, now)


def test_machine_was_asleep() -> None:
    """The monotonic clock stood still, the wall clock is right again: seen with the next two replies."""
    world, clock = World(offset=700), ExchangeClock(correct=True)
    now = world.exchange(clock, 0, 0.001, 0.001)
    awake = World(offset=700, start=START + 60_000)
    now = awake.exchange(clock, now + 1, 0.001, 0.001)
    now = awake.exchange(clock, now + 1, 0.020, 0.020)
    assert clock.round_trip == pytest.approx(40)
    check_bound(clock, awake, now)


@pytest.mark.parametrize("late", [0.06, 0.3, 5.0])
def test_a_wall_clock_read_late_is_no_step(late: float, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that loses its turn between the two readings, twice on end and not for equally long."""
    world, clock = World(offset=700), ExchangeClock(correct=True)
    now = world.exchange(clock, 0, 0.001, 0.001)
    known = clock.correction()
    with caplog.at_level(logging.WARNING, "pacifica_fast.clock"):
        clock.tick(now, world.wall(now + late))
        clock.sample(int(world.wall(now)) + 700, now, now + 0.002, world.wall(now + 0.002 + 2 * late))
        assert clock.correction() == known
        clock.tick(now + 1, world.wall(now + 1))
    assert not caplog.records
    assert clock.correction() in (known - 1, known)


def test_the_servers_clock_is_set() -> None:
    """One reply may be a mistake, two that agree are not."""
    world, later, clock = World(), World(offset=2_000), ExchangeClock(correct=True)
    now = world.exchange(clock, 0, 0.001, 0.001)
    now = later.exchange(clock, now, 0.001, 0.001)
    assert clock.offset == pytest.approx(0, abs=2)
    now = later.exchange(clock, now, 0.002, 0.002)
    assert clock.offset == pytest.approx(2_000, abs=3)
    check_bound(clock, later, now)


def test_one_stray_sample_moves_nothing() -> None:
    world, clock, now = World(), ExchangeClock(correct=True), 0.0
    for stray in (-3_000.0, 800.0, 800.0, 86_400_000.0, 86_400_000.0, -1e12):
        now = world.exchange(clock, now, 0.001, 0.001)
        now = World(offset=stray).exchange(clock, now, 0.001, 0.001)
        check_bound(clock, world, now)
        now = world.exchange(clock, now, 0.001, 0.001)
    assert clock.offset == pytest.approx(0, abs=2)


anything = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**64),
    st.integers(-10_000, 10_000).map(lambda off: int(START) + off),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)


@given(ts=st.lists(st.tuples(anything, delays), max_size=30), cap=st.integers(0, 10_000))
def test_a_server_sends_anything(ts: list[tuple[Any, float]], cap: int) -> None:
    """No exception, no correction beyond the cap; and once it is honest again, the truth."""
    world, clock, now = World(offset=500_000_000.0), ExchangeClock(correct=True, cap=cap), 5.0
    for t, delay in ts:
        clock.sample(t, now, now + delay, world.wall(now + delay))
        now += delay + 0.5
        assert -cap <= clock.correction(now) <= cap
        clock.check(5_000, now)
        assert (clock.offset is None) == (clock.error is None) == (clock.round_trip is None)
    if any(type(t) is int and abs(t - world.server(0)) < 1_000_000 for t, _ in ts):
        return  # a lie too small to tell from the truth
    for _ in range(2):
        now = world.exchange(clock, now, 0.004, 0.001)
    assert clock.offset == pytest.approx(500_000_000, abs=4)


@pytest.mark.parametrize("t", [True, False, -1, 1.5, None, "1749223343149", [], {}, 2**50, 2**64, 10**400])
def test_what_is_no_time_is_ignored(t: Any) -> None:
    clock = ExchangeClock()
    clock.sample(t, 0.0, 0.1, START)
    assert clock.offset is None


@pytest.mark.parametrize(
    ("sent_at", "received_at", "wall"),
    [
        (1.0, 0.5, START),
        (float("nan"), 0.5, START),
        (0.0, float("inf"), START),
        (float("-inf"), 0.5, START),
        (0.0, float("nan"), START),
        (0.0, 0.5, float("nan")),
        (0.0, 4_000.0, START),
    ],
)
def test_impossible_times_are_ignored(sent_at: float, received_at: float, wall: float) -> None:
    clock = ExchangeClock()
    clock.sample(int(START), sent_at, received_at, wall)
    clock.tick(received_at, wall)
    assert clock.offset is None
    assert clock.correction(float("nan")) == 0


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.name == "pacifica_fast.clock"]
    caplog.clear()
    return texts


def test_warns_once_and_again_after_recovery(caplog: pytest.LogCaptureFixture) -> None:
    clock, now = ExchangeClock(), 0.0
    for _ in range(2):
        for _ in range(3):
            now = World(offset=1_500).exchange(clock, now, 0.001, 0.001)
            clock.check(5_000, now)
        (text,) = warnings_of(caplog)
        assert "expiry_window of 5000 ms" in text
        assert "-150" in text or "-149" in text  # ours is behind
        assert "chrony" in text
        assert "correct_clock=True" in text
        for _ in range(3):
            now = World(offset=700).exchange(clock, now, 0.001, 0.001)  # not yet down to half
            clock.check(5_000, now)
        now = World(offset=1_500).exchange(clock, now, 0.001, 0.001)
        now = World(offset=1_500).exchange(clock, now, 0.001, 0.001)
        clock.check(5_000, now)
        assert warnings_of(caplog) == []
        for _ in range(2):
            now = World(offset=100).exchange(clock, now, 0.001, 0.001)
            clock.check(5_000, now)
        assert warnings_of(caplog) == []


def test_corrected_offset_costs_nothing_of_the_window(caplog: pytest.LogCaptureFixture) -> None:
    clock = ExchangeClock(correct=True, share=0.2)
    now = World(offset=1_500).exchange(clock, 0, 0.001, 0.001)
    clock.check(5_000, now)
    assert warnings_of(caplog) == []
    now = World(offset=1_500).exchange(ExchangeClock(), now, 0.001, 0.001)
    clock.check(5_000, now + 80_000)  # a day without a reply: 1.2 s of drift
    (text,) = warnings_of(caplog)
    assert "correct_clock" not in text


def test_slow_replies_are_told_from_a_wrong_clock(caplog: pytest.LogCaptureFixture) -> None:
    clock = ExchangeClock()
    now = World().exchange(clock, 0, 1.1, 1.1)
    clock.check(5_000, now)
    (text,) = warnings_of(caplog)
    assert "Replies are slow" in text


def test_share_is_configurable(caplog: pytest.LogCaptureFixture) -> None:
    for share, warned in ((0.1, True), (0.5, False), (1, False)):
        clock = ExchangeClock(share=share)
        now = World(offset=1_500).exchange(clock, 0, 0.001, 0.001)
        clock.check(5_000, now)
        assert bool(warnings_of(caplog)) is warned


def test_beyond_the_cap_nothing_is_applied(caplog: pytest.LogCaptureFixture) -> None:
    clock, now = ExchangeClock(correct=True, cap=1_000), 0.0
    for offset in (1_500, -1_500):
        for _ in range(2):
            now = World(offset=offset).exchange(clock, now, 0.001, 0.001)
        assert clock.correction(now) == clock.correction(now) == 0
        (text,) = warnings_of(caplog)
        assert "1000 ms" in text
        for _ in range(2):
            now = World(offset=300).exchange(clock, now, 0.001, 0.001)
        assert 296 <= clock.correction(now) <= 300
        assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"correct": 1}, "correct"),
        ({"cap": -1}, "cap"),
        ({"cap": True}, "cap"),
        ({"cap": 1.5}, "cap"),
        ({"cap": 86_400_001}, "cap"),
        ({"share": 0}, "share"),
        ({"share": 1.01}, "share"),
        ({"share": float("nan")}, "share"),
        ({"share": "0.2"}, "share"),
        ({"share": True}, "share"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field}:"):
        ExchangeClock(**arguments)


@pytest.mark.parametrize("offset", [-3_000, 3_000])
def test_against_a_real_exchange_with_another_clock(offset: int) -> None:
    """Over sockets: what it estimates is what the exchange was set to, and what is signed then fits."""
    clock, signer = ExchangeClock(correct=True), Signer(KEYPAIR)
    with MockExchange().in_thread() as exchange:
        exchange.clock_offset = offset
        with connect(signer, url=exchange.url) as client:
            for _ in range(5):
                sent_at = time.monotonic()
                ack = client.cancel_all_orders()
                received_at, wall = time.monotonic(), time.time() * 1_000
                assert ack.timestamp is not None
                clock.sample(ack.timestamp, sent_at, received_at, wall)
                signer.clock_correction = clock.correction(time.monotonic())
                exchange.future_tolerance = 0
        assert clock.offset is not None
        assert clock.error is not None
        assert abs(clock.offset - offset) <= clock.error
        stamp = signer.cancel_order("BTC", order_id=1).timestamp
        assert stamp <= time.time() * 1_000 + offset
