# SPDX-License-Identifier: MIT
"""From a lost connection to the next cancel the exchange accepts.

``python -m benchmarks.reconnecting``: a client cancels an order every 2 ms, over TLS, at a mock exchange in
a process of its own, which cuts the oldest connection again and again; both clients, one link and two. What
is told is the time from the cut to the first acknowledgement of a cancel sent after it, in ms, and the
fates of all. Both processes read one clock, ``CLOCK_MONOTONIC``.

A connection that was steady is opened again at once. Here none lives for longer than a moment, and the client
would wait longer and longer; so its pauses are set to almost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Any

from pacifica_fast import Keypair, Signer, sync
from pacifica_fast import asyncio as aio
from pacifica_fast._elsewhere import play_elsewhere
from pacifica_fast.errors import NotSent, PacificaError
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.session import Pending

CUTS = 100
BETWEEN = 0.002  # s, between two cancels
BATCH = 250  # orders rested at once
AFTER = 10  # cancels acknowledged since a cut, before the next


def serve(pipe: Connection) -> None:
    """The exchange, in its process: it rests orders for an account, and cuts when it is told to."""
    play_elsewhere()
    logging.disable(logging.CRITICAL)
    exchange = MockExchange(tls=True, quota=None, history=1)
    with exchange.in_thread():
        pipe.send((exchange.url, exchange.authority_pem))
        while (wish := pipe.recv()) is not None:
            if wish == "cut":
                exchange.faults.disconnect(0)
                pipe.send(time.monotonic())
            else:
                pipe.send([exchange.place(wish).order_id for _ in range(BATCH)])


class Run:
    """What one client went through. Cancels that it could not send count as ``NotSent``."""

    def __init__(self, pipe: Connection, account: str, cancel: Callable[[int], Pending]) -> None:
        self._pipe, self._account, self._cancel = pipe, account, cancel
        self._orders: list[int] = []
        self._under_way: list[tuple[float, Pending]] = []
        self._cut_at: float | None = None
        self._calm = 0
        self.took: list[float] = []
        self.fates: Counter[str] = Counter()

    def steps(self) -> Iterator[None]:
        """Send one cancel, look at what came back, and let the caller wait; until all cuts are made."""
        while len(self.took) < CUTS:
            self._send()
            yield
            self._look()
            if self._cut_at is None and self._calm >= AFTER:
                self._pipe.send("cut")
                self._cut_at = self._pipe.recv()
                self._calm = 0

    def _send(self) -> None:
        if not self._orders:
            self._pipe.send(self._account)
            self._orders = self._pipe.recv()
        at = time.monotonic()
        try:
            self._under_way.append((at, self._cancel(self._orders.pop())))
        except NotSent:
            self.fates["NotSent"] += 1

    def _look(self) -> None:
        for sent_at, pending in [entry for entry in self._under_way if entry[1].done]:
            self._under_way.remove((sent_at, pending))
            try:
                pending.outcome()
            except PacificaError as error:
                self.fates[type(error).__name__] += 1
                continue
            self.fates["Ack"] += 1
            self._calm += 1
            if self._cut_at is not None and sent_at > self._cut_at:
                self.took.append(1000 * (pending.settled_at - self._cut_at))
                self._cut_at = None


async def asynchronous(pipe: Connection, signer: Signer, url: str, settings: dict[str, Any]) -> Run:
    async with aio.connect(signer, url=url, **settings) as client:
        run = Run(pipe, signer.account, lambda order: client.cancel_order_nowait("BTC", order_id=order))
        for _ in run.steps():
            await asyncio.sleep(BETWEEN)
        return run


def blocking(pipe: Connection, signer: Signer, url: str, settings: dict[str, Any]) -> Run:
    with sync.connect(signer, url=url, **settings) as client:
        run = Run(pipe, signer.account, lambda order: client.cancel_order_nowait("BTC", order_id=order))
        for _ in run.steps():
            time.sleep(BETWEEN)
        return run


def main() -> int:
    logging.disable(logging.CRITICAL)
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    process = spawn.Process(target=serve, args=(other,), daemon=True)
    process.start()
    url, authority = pipe.recv()
    context = ssl.create_default_context(cadata=authority)
    print(f"{CUTS} cuts each: ms from the cut to the next accepted cancel's acknowledgement, and all fates")
    for links in (1, 2):
        settings: dict[str, Any] = {"links": links, "ssl": context, "backoff": 1e-3, "backoff_max": 1e-3}
        for name in ("asyncio", "blocking"):
            signer = Signer(Keypair.generate())
            if name == "asyncio":
                run = asyncio.run(asynchronous(pipe, signer, url, settings))
            else:
                run = blocking(pipe, signer, url, settings)
            p90 = quantiles(run.took, n=10)[-1]
            print(
                f"{name:8} {links} link(s): median {median(run.took):6.2f}, p90 {p90:6.2f}, "
                f"longest {max(run.took):6.2f}; {dict(run.fates)}"
            )
    pipe.send(None)
    process.join(10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
