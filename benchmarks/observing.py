# SPDX-License-Identifier: MIT
"""What latency histograms cost a cancel, cold: ``python -m benchmarks.observing``.

A model of ``cancel_order_nowait``, prepared signature and a write to a socket pair: without any hook,
with the hook of :mod:`pacifica_fast.latency` switched off, and on in two ways: the three times kept
with the request and noted when it is registered, or noted at once. One call after 2 ms of rest, the
ways in random order, and the median of the differences to the way without, in the same round.
"""

from __future__ import annotations

import random
import socket
import statistics
import sys
import time
from collections.abc import Callable
from time import monotonic, perf_counter_ns

from pacifica_fast import Keypair, Signer, ids
from pacifica_fast.latency import Latency
from pacifica_fast.session import Pending

_REST = 0.002  # s


class _Cancels:
    """The hot path of a client, and the same with a hook."""

    def __init__(self, signer: Signer, write: Callable[[bytes], int], latency: Latency | None) -> None:
        self._signer = signer
        self._write = write
        self._timed = latency is not None
        self._note = latency.note if latency is not None else None
        self.pending = Pending(next(iter(ids.reserve(1))))
        self.sent: list[Pending] = []

    def plain(self) -> None:
        pending = self.pending
        self._write(self._signer.cancel_order_frame("BTC", 42069, None, None, None, pending.number))
        pending.sent_at = monotonic()
        self.sent.append(pending)

    def kept(self) -> None:
        timed = self._timed
        if timed:
            began = monotonic()
        pending = self.pending
        frame = self._signer.cancel_order_frame("BTC", 42069, None, None, None, pending.number)
        if timed:
            pending.began = began
            pending.built = monotonic()
        self._write(frame)
        pending.sent_at = monotonic()
        self.sent.append(pending)

    def noted(self) -> None:
        note = self._note
        if note is not None:
            began = monotonic()
        pending = self.pending
        frame = self._signer.cancel_order_frame("BTC", 42069, None, None, None, pending.number)
        if note is not None:
            built = monotonic()
        self._write(frame)
        written = pending.sent_at = monotonic()
        self.sent.append(pending)
        if note is not None:
            note((began, built, written))


def main(rounds: int) -> None:
    signer = Signer(Keypair.generate(), prepared=256)
    reader, writer = socket.socketpair()
    off, on = (_Cancels(signer, writer.send, latency) for latency in (None, Latency()))
    ways = {
        "without": (off, off.plain),
        "off": (off, off.kept),
        "on, kept with the request": (on, on.kept),
        "on, noted at once": (on, on.noted),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number in ids.reserve(rounds):
        random.shuffle(order)
        for name in order:
            cancels, call = ways[name]
            cancels.pending = Pending(number)
            time.sleep(_REST)
            start = perf_counter_ns()
            call()
            took[name].append((perf_counter_ns() - start) / 1e3)
            cancels.sent.clear()
            reader.recv(4096)
    for name, times in took.items():
        more = statistics.median(a - b for a, b in zip(times, took["without"], strict=True))
        print(f"{name:<28} median {statistics.median(times):6.2f} µs   difference {more:+.2f} µs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
