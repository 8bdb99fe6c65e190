# SPDX-License-Identifier: MIT
"""Statuses: made up, and as hypothesis has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pacifica_fast.latency import STAGES, LatencySummary, StageSummary
from pacifica_fast.status import (
    LINK_STATES,
    ClockStatus,
    CreditStatus,
    Fates,
    LinkStatus,
    OrderStatus,
    Status,
)

ACCOUNT = "42trU9A5hQzQmn1nCN8TwFS4qDsBhRFvK5kHkEVXcrQT"


def a_status(**changes: Any) -> Status:
    """A bot in the middle of its day."""
    usual: dict[str, Any] = {
        "account": ACCOUNT,
        "opened": 1_790_000_000.25,
        "links": (LinkStatus("0", "open", 1_790_000_001.5), LinkStatus("1", "waiting", 1_790_000_100.0)),
        "in_flight": 3,
        "fates": Fates(acked=120, rejected=4, unknown=2, not_sent=1, late=1),
        "reconnects": 2,
        "credits": CreditStatus(118.5, 125.0, 32.0, 0.5),
        "clock": ClockStatus(1.25, 0.5, 12.0),
        "latency": a_latency(),
        "orders": OrderStatus(120, 118),
    }
    return Status(**{**usual, **changes})


def a_latency() -> LatencySummary:
    build = StageSummary(121, 1210.0, 6.0, 8.5, 12.0, 16.0, 16.0)
    write = StageSummary(121, 2420.0, 21.0, 33.0, 49.0, 52.0, 52.0)
    ack = StageSummary(120, 1_440_000.0, 12_000.0, 16_800.0, 22_900.0, 24_000.0, 24_000.0)
    return LatencySummary(60.0, build, write, ack)


@dataclass
class Bot:
    """Whatever its status is set to."""

    now: Status = field(default_factory=a_status)

    def status(self) -> Status:
        return self.now


_counts = st.integers(0, 1 << 50)
# Six digits behind the point: changing units and back must not end in denormal numbers.
_numbers = st.floats(-1e12, 1e12).map(lambda x: round(x, 6))
_times = st.floats(0, 1e11).map(lambda x: round(x, 6))
_names = st.text(min_size=1, max_size=50)


def _stages() -> st.SearchStrategy[StageSummary]:
    empty = st.builds(StageSummary, _counts, _times, *[st.none()] * 5)
    return empty | st.builds(StageSummary, _counts, _times, *[_times] * 5)


statuses: st.SearchStrategy[Status] = st.builds(
    Status,
    account=_names,
    opened=_times,
    links=st.lists(
        st.builds(LinkStatus, _names, st.sampled_from(LINK_STATES) | _names, _times),
        max_size=4,
        unique_by=lambda link: link.name,
    ).map(tuple),
    in_flight=_counts,
    fates=st.builds(Fates, _counts, _counts, _counts, _counts, _counts),
    reconnects=_counts,
    credits=st.none() | st.builds(CreditStatus, _numbers, _numbers, _numbers, st.none() | _numbers),
    clock=st.none() | st.builds(ClockStatus, _numbers, _numbers, _numbers),
    latency=st.none() | st.builds(LatencySummary, _times, *[_stages()] * len(STAGES)),
    orders=st.none() | st.builds(OrderStatus, _counts, _counts),
)
