# SPDX-License-Identifier: MIT
"""A bot's day, shortened: many cancels a second through random faults, links replaced all the time.

``python tests/soak.py --minutes 30`` sends 2 000 cancels a second to a mock exchange in a process of its
own and prints, minute by minute, what became of them, what sending one took, and how much memory the
process holds. It fails if memory grew by more than 1 MiB after the first minutes.

Machines change their clock under way: so a fixed piece of work is timed beside the cancels, and what sending
takes is compared, last minute to first after warming up, in units of it too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import multiprocessing
import ssl
import sys
import threading
import time
from array import array
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import orjson

from pacifica_fast import Keypair, NotSent, Signer
from pacifica_fast import asyncio as aio
from pacifica_fast._elsewhere import play_elsewhere
from pacifica_fast.errors import PacificaError
from pacifica_fast.mock_exchange import MockExchange, Weather

PER_BATCH = 10
WORK = [{"i": n, "s": "BTC"} for n in range(20)]
PERCENTILES = (0.5, 0.9, 0.99, 0.999)
WARM_UP = 3  # minutes
GROWTH_MAX = 1024  # KiB

FAULTS = Weather(
    drop_before=0.0005,
    drop_after=0.0005,
    abort_after=0.00001,
    delay=0.01,
    reorder=0.01,
    duplicate=0.01,
    garbage=0.005,
    fragment=0.01,
    without_id=0.0005,
    rate_limit=0.002,
    delay_s=0.02,
)


def serve(pipe: Connection) -> None:
    """The exchange, in its process."""
    play_elsewhere()
    logging.disable(logging.CRITICAL)
    exchange = MockExchange(tls=True, quota=None, history=1)
    exchange.faults.random(1, FAULTS)
    with exchange.in_thread():
        pipe.send((exchange.url, exchange.authority_pem))
        pipe.recv()


def resident() -> int:
    """KiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def fixed_work() -> float:
    """Seconds for the same work each time."""
    start = time.perf_counter()
    orjson.loads(orjson.dumps(WORK))
    return time.perf_counter() - start


class Times:
    """How often something took so long, to 0.1 µs: in memory that is there from the beginning."""

    LONGEST = 200_000  # tenths of a µs; whatever took longer counts as this

    def __init__(self) -> None:
        self._counts = array("L", bytes(array("L").itemsize * (self.LONGEST + 1)))

    def clear(self) -> None:
        for at, count in enumerate(self._counts):
            if count:
                self._counts[at] = 0

    def add(self, seconds: float) -> None:
        self._counts[min(int(seconds * 1e7), self.LONGEST)] += 1

    def microseconds(self, share: float) -> float:
        """What ``share`` of all took at most."""
        left = share * sum(self._counts)
        for at, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return (at + 1) / 10
        raise ValueError("nothing was timed")


class Minute:
    """What one minute's sends and pieces of work took."""

    def __init__(self) -> None:
        self.sends, self.works, self.refused = Times(), Times(), 0

    def begin(self) -> None:
        self.sends.clear()
        self.works.clear()
        self.refused = 0

    def microseconds(self) -> list[float]:
        """At each of :data:`PERCENTILES`, and of the fixed work at the median."""
        return [self.sends.microseconds(share) for share in PERCENTILES] + [self.works.microseconds(0.5)]


async def one_minute(client: aio.Client, minute: Minute, rate: int) -> None:
    minute.begin()
    armed = client.arm("BTC", order_id=7)
    due = time.monotonic()
    end = due + 60
    while (now := time.monotonic()) < end:
        minute.works.add(fixed_work())
        for n in range(PER_BATCH):
            start = time.perf_counter()
            try:
                client.cancel_order_nowait("BTC", order_id=n)
            except NotSent:
                minute.refused += 1
            else:
                minute.sends.add(time.perf_counter() - start)
        with suppress(PacificaError):
            armed.fire()
            armed = client.arm("BTC", order_id=7)
        due += PER_BATCH / rate
        await asyncio.sleep(max(0.0, due - now))
    armed.disarm()


async def soak(url: str, authority: str, minutes: int, rate: int, links: int) -> int:
    context = ssl.create_default_context(cadata=authority)
    settings: dict[str, Any] = {"timeout": 1.0, "links": links, "rotate_after": 60.0, "backoff": 0.01}
    minute = Minute()
    resident_then: list[int] = []
    took: list[list[float]] = []
    print(
        "minute  acked rejected unknown not_sent late reconnects | µs to send: p50 p90 p99 p99.9, work | KiB"
    )
    with Signer(Keypair.generate(), prepared=1024) as signer:
        async with aio.connect(signer, url=url, ssl=context, **settings) as client:
            refused = 0
            for n in range(minutes):
                await one_minute(client, minute, rate)
                took.append(minute.microseconds())
                gc.collect()
                resident_then.append(resident())
                refused += minute.refused
                fates, status = client.fates, client.status()
                print(
                    f"{n + 1:6d} {fates.acked:6d} {fates.rejected:8d} {fates.unknown:6d} "
                    f"{fates.not_sent + refused:7d} {fates.late:5d} {status.reconnects:5d} | "
                    f"{' '.join(f'{value:7.1f}' for value in took[-1])} | {resident_then[-1]}",
                    flush=True,
                )
        tasks = len(asyncio.all_tasks()) - 1
    threads = [t.name for t in threading.enumerate() if "pacifica_fast" in t.name]
    print(f"left behind: {tasks} tasks, threads {threads}")
    if minutes <= WARM_UP:
        return int(bool(tasks or threads))
    grew = resident_then[-1] - resident_then[WARM_UP - 1]
    print(f"memory grew by {grew} KiB after minute {WARM_UP}")
    first, last = took[WARM_UP - 1], took[-1]
    slower = last[-1] / first[-1]
    for name, before, now in zip(("p50", "p90", "p99", "p99.9"), first, last, strict=False):
        ratio = now / before
        print(f"{name}: last minute over minute {WARM_UP}: {ratio:.2f}, by the work {ratio / slower:.2f}")
    return int(bool(tasks or threads) or grew > GROWTH_MAX)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=int, default=2000, help="cancels a second")
    parser.add_argument("--links", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    process = spawn.Process(target=serve, args=(other,), daemon=True)
    process.start()
    url, authority = pipe.recv()
    try:
        return asyncio.run(soak(url, authority, arguments.minutes, arguments.rate, arguments.links))
    finally:
        pipe.send(None)
        process.join(10)


if __name__ == "__main__":
    sys.exit(main())
