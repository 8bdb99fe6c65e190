# SPDX-License-Identifier: MIT
"""Random schedules against the session: every request has one fate, in time, and a true one.

The exchange here is a model: it may process what was written to a lane or lose it, answer or not,
late, twice and out of order, and lanes may be cut at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pacifica_fast.errors import NotSent, OutcomeUnknown, Rejected
from pacifica_fast.replies import Ack
from pacifica_fast.session import Lane, Pending, Session

TIMEOUT = 5.0
PATIENCE = 3.0  # of what waits for a connection
TICK = 0.01


class Counted(Pending):
    """A request that knows how often it was told its fate."""

    __slots__ = ("fates",)

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.fates: list[Ack | Exception] = []

    def _settle(self, outcome: Ack | Exception, now: float) -> None:
        self.fates.append(outcome)
        super()._settle(outcome, now)


@dataclass
class Wire:
    """One lane, and what the exchange has of it."""

    lane: Lane[Counted]
    arrived: list[Counted] = field(default_factory=list)  # not processed yet
    replies: list[bytes] = field(default_factory=list)  # not delivered yet


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.session: Session[Counted] = Session(Counted, timeout=TIMEOUT)
        self.wires: list[Wire] = []
        self.requests: list[Counted] = []
        self.answers: dict[str, set[int]] = {}  # codes the exchange gave, by request id
        self.left: set[str] = set()  # those of which a byte may have left
        self.parked_until: dict[str, float] = {}

    @initialize(count=st.integers(0, 3))
    def connect(self, count: int) -> None:
        for _ in range(count):
            self.open_lane()

    @precondition(lambda self: len(self.wires) < 4)
    @rule()
    def open_lane(self) -> None:
        self.wires.append(Wire(self.session.open_lane(self.now)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), arrives=st.lists(st.booleans(), min_size=4, max_size=4))
    def send(self, data: st.DataObject, arrives: list[bool]) -> None:
        """On any number of lanes at once; on each it may get lost on the way."""
        chosen = data.draw(st.lists(st.sampled_from(self.wires), min_size=1, max_size=2, unique_by=id))
        pending = self.session.take()
        self.requests.append(pending)
        self.left.add(pending.id)
        for wire, arrived in zip(chosen, arrives, strict=False):
            wire.lane.sent(pending, self.now)
            if arrived:
                wire.arrived.append(pending)
        if data.draw(st.booleans()):
            self.session.refill()

    @precondition(lambda self: self.wires)
    @rule(data=st.data())
    def send_in_vain(self, data: st.DataObject) -> None:
        """Counted as sent, and then found never to have left."""
        wire = data.draw(st.sampled_from(self.wires))
        pending = self.session.take()
        self.requests.append(pending)
        wire.lane.sent(pending, self.now)
        self.session.unsent(wire.lane, [pending], "the kernel took nothing", self.now)

    @rule()
    def park(self) -> None:
        pending = self.session.take()
        self.requests.append(pending)
        self.parked_until[pending.id] = self.now + PATIENCE
        self.session.park(pending, lambda number: b"frame", "not connected", self.now + PATIENCE)

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), refuses=st.booleans())
    def send_parked(self, data: st.DataObject, refuses: bool) -> None:
        wire = data.draw(st.sampled_from(self.wires))

        def send(pending: Counted, frame: bytes) -> None:
            if refuses:
                raise NotSent("not ready after all")
            self.parked_until.pop(pending.id)
            self.left.add(pending.id)
            wire.lane.sent(pending, self.now)
            wire.arrived.append(pending)

        self.session.unparked(send, self.now)

    @precondition(lambda self: any(wire.arrived for wire in self.wires))
    @rule(data=st.data(), code=st.sampled_from([200, 200, 420, 429, 500]), copies=st.integers(0, 2))
    def process(self, data: st.DataObject, code: int, copies: int) -> None:
        """The exchange does one, and answers never, once or twice."""
        wire = data.draw(st.sampled_from([wire for wire in self.wires if wire.arrived]))
        pending = wire.arrived.pop(data.draw(st.integers(0, len(wire.arrived) - 1)))
        if 200 in self.answers.get(pending.id, ()):
            code = 420  # an order can be cancelled once
        self.answers.setdefault(pending.id, set()).add(code)
        reply: dict[str, Any] = {"id": pending.id, "code": code, "type": "cancel_order"}
        reply["data" if code == 200 else "err"] = {} if code == 200 else "no"
        wire.replies += [orjson.dumps(reply)] * copies

    @precondition(lambda self: any(wire.replies for wire in self.wires))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        wire = data.draw(st.sampled_from([wire for wire in self.wires if wire.replies]))
        text = wire.replies.pop(data.draw(st.integers(0, len(wire.replies) - 1)))
        assert self.session.receive(wire.lane, text, self.now) is None

    @precondition(lambda self: self.wires)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        self.wires.remove(wire)
        self.session.lost(wire.lane, "cut", self.now)

    @rule(seconds=st.floats(TICK, 3.0))
    def wait(self, seconds: float) -> None:
        """As drivers do: a tick whenever something is due."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, max(self.now + TICK, self.session.next_deadline()))
            self.session.tick(self.now)

    @invariant()
    def one_fate_each_in_time_and_true(self) -> None:
        in_flight = {pending.id for pending in self.session.in_flight()}
        for pending in self.requests:
            assert len(pending.fates) <= 1
            if not pending.fates:
                parked = pending.id in self.parked_until
                if parked:
                    assert self.now < self.parked_until[pending.id] + TICK
                else:
                    assert pending.id in in_flight
                    assert self.now - pending._since < TIMEOUT + TICK
                continue
            assert pending.id not in in_flight
            fate, answers = pending.fates[0], self.answers.get(pending.id, set())
            if isinstance(fate, Ack):
                assert 200 in answers
            elif isinstance(fate, Rejected):
                assert fate.code in answers
            elif isinstance(fate, NotSent):
                assert pending.id not in self.left
            else:
                assert isinstance(fate, OutcomeUnknown)
                assert pending.id in self.left
                assert pending.settled_at - pending._since < TIMEOUT + TICK
        fates = self.session.fates
        ended = fates.acked + fates.rejected + fates.unknown + fates.not_sent
        assert ended == sum(len(pending.fates) for pending in self.requests)

    @invariant()
    def late_replies_tell_more_than_the_end_did(self) -> None:
        while self.session.late:
            pending, outcome = self.session.late.popleft()
            assert not isinstance(pending.fates[0], Ack)
            assert isinstance(outcome, Ack | Rejected)
            assert (200 if isinstance(outcome, Ack) else outcome.code) in self.answers[pending.id]

    def teardown(self) -> None:
        self.session.close("the client was closed", self.now)
        assert all(len(pending.fates) == 1 for pending in self.requests)
        self.parked_until.clear()
        self.one_fate_each_in_time_and_true()
        assert self.session.in_flight_count == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=60)
