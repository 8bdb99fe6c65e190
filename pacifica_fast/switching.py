# SPDX-License-Identifier: MIT
"""Python's switch interval: how long another thread keeps the GIL once it has it.

Python's TLS gives the GIL up to encrypt, before anything is on the wire. With another busy Python
thread, getting it back takes the switch interval, 5 ms by default (docs.python.org,
``sys.setswitchinterval``). Building and handing to the socket keep it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SwitchAdvice", "eager_switching"]

logger: logging.Logger = logging.getLogger("pacifica_fast")

EAGER = 1e-5  # s
ADVISABLE = 1e-3  # s; from here on a busy thread costs more than everything else together

_lock = threading.Lock()
_depth = 0
_before = 0.0


@contextmanager
def eager_switching() -> Iterator[None]:
    """Inside, no thread waits long for the GIL: for the moment in which many cancels leave.

    The interval is one for the whole process, so it is put back as soon as the last is out.
    """
    global _depth, _before
    with _lock:
        if _depth == 0:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(EAGER, _before))
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                sys.setswitchinterval(_before)


class SwitchAdvice:
    """Warns, once, when another thread has been seen to make us wait for the GIL.

    Threads that only wait, as most of those of a bot do, are not warned of, nor is a machine busy with other
    processes (then this one does nothing meanwhile), nor a single hiccup: it takes two looks in a row.
    """

    __slots__ = ("_given", "_met")

    def __init__(self) -> None:
        self._given = False
        self._met = False

    def look(self) -> None:
        """Call it now and then: 2 µs, or one switch interval if a busy thread is there."""
        interval = sys.getswitchinterval()
        if self._given or interval < ADVISABLE or threading.active_count() == 1:
            return
        start, worked = time.perf_counter(), time.process_time()
        time.sleep(0)  # gives the GIL up, as encrypting does
        waited, worked = time.perf_counter() - start, time.process_time() - worked
        met_before, self._met = self._met, waited >= interval and worked >= interval / 2
        if self._met and met_before:
            self._given = True
            logger.warning(
                "another Python thread is busy: TLS gives the GIL up, and getting it back took %.1f ms, "
                "the switch interval; sys.setswitchinterval(1e-4) makes that 0.1 ms",
                waited * 1e3,
            )
