# SPDX-License-Identifier: MIT
"""A process that plays the exchange beside the bot, as if it were on another machine."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["play_elsewhere"]


def play_elsewhere() -> None:
    """Have this process woken without pushing aside whoever wakes it (SCHED_BATCH, sched(7)).

    Linux lets a process that slept take the processor of the bot whose ``send`` woke it, at once: the
    bot's ``send`` then seems to take as long as the exchange's work, 0.4 ms instead of 0.05.
    Nothing happens on other systems.
    """
    if sys.platform == "linux":
        with suppress(PermissionError):  # not in every sandbox
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
