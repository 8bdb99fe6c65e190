# SPDX-License-Identifier: MIT
"""A bot's day, shortened: many cancels a second through random faults, links replaced all the time.

``python tests/soak.py --minutes 30`` sends 2 000 cancels a second to a mock exchange in a process of its
own and prints, minute by minute, what became of them, what sending one took, and how much memory the
process holds. It fails if memory grew by more than 1 MiB after the first minutes.
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
from contextlib import suppress
from multiprocessing.connection import Connection
from statistics import quantiles
from typing import Any

from pacifica_fast import Keypair, NotSent, Signer
from pacifica_fast import asyncio as aio
from pacifica_fast.errors import PacificaError
from pacifica_fast.mock_exchange import MockExchange, Weather

PER_BATCH = 10
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


def percentiles(values: list[float]) -> str:
    cuts = quantiles(values, n=1000)
    return " ".join(f"{1e6 * cuts[at]:7.1f}" for at in (499, 899, 989, 998))


async def soak(url: str, authority: str, minutes: int, rate: int, links: int) -> int:
    context = ssl.create_default_context(cadata=authority)
    settings: dict[str, Any] = {"timeout": 1.0, "links": links, "rotate_after": 60.0, "backoff": 0.01}
    first = last = 0
    medians: list[float] = []
    print("minute  acked rejected unknown not_sent late reconnects | µs to send: p50 p90 p99 p99.9 | KiB")
    with Signer(Keypair.generate(), prepared=1024) as signer:
        async with aio.connect(signer, url=url, ssl=context, **settings) as client:
            armed = client.arm("BTC", order_id=7)
            for minute in range(minutes):
                took: list[float] = []
                refused = 0
                end = time.monotonic() + 60
                due = time.monotonic()
                while (now := time.monotonic()) < end:
                    for n in range(PER_BATCH):
                        start = time.perf_counter()
                        try:
                            client.cancel_order_nowait("BTC", order_id=n)
                        except NotSent:
                            refused += 1
                        else:
                            took.append(time.perf_counter() - start)
                    with suppress(PacificaError):
                        armed.fire()
                        armed = client.arm("BTC", order_id=7)
                    due += PER_BATCH / rate
                    await asyncio.sleep(max(0.0, due - now))
                fates, status = client.fates, client.status()
                medians.append(sorted(took)[len(took) // 2])
                gc.collect()
                last = resident()
                if minute == WARM_UP - 1:
                    first = last
                counts = (
                    f"{fates.acked:6d} {fates.rejected:8d} {fates.unknown:6d} {fates.not_sent + refused:7d}"
                )
                print(
                    f"{minute + 1:6d} {counts} {fates.late:5d} {status.reconnects:5d} | "
                    f"{percentiles(took)} | {last}",
                    flush=True,
                )
        tasks = len(asyncio.all_tasks())
    threads = [t.name for t in threading.enumerate() if "pacifica_fast" in t.name]
    print(f"grew by {last - first} KiB after minute {WARM_UP}; left behind: {tasks - 1} tasks, {threads}")
    print(f"median of the last minute over that of the first: {medians[-1] / medians[0]:.2f}")
    return int(minutes > WARM_UP and last - first > GROWTH_MAX)


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
