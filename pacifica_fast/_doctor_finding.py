# SPDX-License-Identifier: MIT
"""What :mod:`pacifica_fast.doctor` finds, for itself and for those that look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Status"]

Status = Literal["ok", "info", "unknown", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    section: str
    """``versions``, ``signing``, ``memory``, ``clock``, ``python`` or ``machine``."""
    name: str
    status: Status
    """``warn`` costs time or safety, ``bad`` does not work; ``unknown``: nothing here can tell."""
    value: str
    """What was found."""
    cost: str
    """What a bad value costs, and what to do about it."""
    number: float | None = None
    """The value as a number, where it is one, in ``unit``."""
    unit: str | None = None
