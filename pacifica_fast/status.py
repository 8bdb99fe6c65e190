# SPDX-License-Identifier: MIT
"""What a client says about itself: plain values, for exporters, monitors and logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from pacifica_fast.latency import LatencySummary

__all__ = [
    "LINK_STATES",
    "ClockStatus",
    "CreditStatus",
    "Fates",
    "LinkStatus",
    "Observable",
    "OrderStatus",
    "Status",
]

LINK_STATES: Final = ("connecting", "open", "draining", "waiting", "closed")
"""In the handshake; taking requests; replaced, and finishing what it has; between two attempts; gone."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One connection. ``state`` is one of :data:`LINK_STATES`, ``since`` is Unix seconds."""

    name: str
    state: str
    since: float


@dataclass(frozen=True, slots=True)
class Fates:
    """How requests have ended since the client was made; each is counted once.

    ``late`` counts replies that came after their request had ended, and is no fate of its own.
    """

    acked: int = 0
    rejected: int = 0
    unknown: int = 0
    not_sent: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class CreditStatus:
    """The rate limit in credits. ``refresh`` is in seconds; ``per_cancel`` is None until observed."""

    remaining: float
    quota: float
    refresh: float
    per_cancel: float | None = None


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """The exchange's clock seen from ours, in ms. ``offset`` is positive if the exchange's is ahead."""

    offset: float
    error: float
    round_trip: float


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """Resting orders: how many are known, and how many of them have a cancel ready to fire."""

    tracked: int
    armed: int


@dataclass(frozen=True, slots=True)
class Status:
    """A client at one moment. ``opened`` is Unix seconds: since when there is this client.

    What it does not do, or does not know yet, is None.
    """

    account: str
    opened: float
    links: tuple[LinkStatus, ...]
    in_flight: int
    fates: Fates
    reconnects: int = 0
    credits: CreditStatus | None = None
    clock: ClockStatus | None = None
    latency: LatencySummary | None = None
    orders: OrderStatus | None = None


class Observable(Protocol):
    """Whatever can be asked how it is; a client, or several behind one face."""

    def status(self) -> Status:
        """How it is now. From any thread, without waiting for the exchange."""
