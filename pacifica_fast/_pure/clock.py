# SPDX-License-Identifier: MIT
"""What timestamps are made of: see ``csrc/pf_clock.h``."""

from __future__ import annotations

import time
from typing import Any

from pacifica_fast._pure.memory import C, Code

__all__ = ["now", "pf_clock_correct", "pf_clock_correction", "stamp"]


def now() -> int:
    """The wall clock in ms since 1970, uncorrected."""
    return time.time_ns() // 1_000_000


def stamp(clock: Any, timestamp: int) -> int:
    """``timestamp``, or the corrected clock when it is 0."""
    if timestamp < 0:
        raise Code(C.PF_ERR_ARGUMENT)
    stamped: int = timestamp or now() + (clock.correction if clock else 0)
    if stamped < 0:
        raise Code(C.PF_ERR_CLOCK)
    return stamped


def pf_clock_correct(clock: Any, ms: int) -> int:
    if abs(ms) > C.PF_CORRECTION_MAX:
        return int(C.PF_ERR_ARGUMENT)
    clock.correction = ms
    return 0


def pf_clock_correction(clock: Any) -> int:
    return int(clock.correction)
