# SPDX-License-Identifier: MIT
"""What a second link costs: microseconds of a send, and credits of a cancel.

``python -m benchmarks.two_links``: two clients in one process, one with one link and one with two, take
turns, over TLS, to a mock exchange in a process of its own. One send after 2 ms of rest, GC frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import ssl
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter_ns

from pacifica_fast import Keypair, Rejected, Signer
from pacifica_fast._elsewhere import play_elsewhere
from pacifica_fast.asyncio import Client, connect
from pacifica_fast.mock_exchange import MockExchange

ROUNDS = 1500
REST = 0.002  # s
QUOTA = 10_000_000  # tenths of a credit


def serve(pipe: Connection) -> None:
    """The exchange, in its process."""
    play_elsewhere()
    exchange = MockExchange(tls=True, quota=QUOTA, rate_window=86_400.0, history=1)
    with exchange.in_thread():
        pipe.send((exchange.url, exchange.authority_pem))
        pipe.recv()


async def send(client: Client, armed: bool) -> float:
    """Microseconds of one send."""
    shot = client.arm("BTC", order_id=1) if armed else None
    await asyncio.sleep(REST)
    start = perf_counter_ns()
    pending = shot.fire() if shot is not None else client.cancel_order_nowait("BTC", order_id=1)
    took = perf_counter_ns() - start
    with suppress(Rejected):  # there is no such order
        await pending
    return took / 1000


async def measure(url: str, authority: str) -> None:
    context = ssl.create_default_context(cadata=authority)
    signer = Signer(Keypair.generate(), prepared=256)
    one = await connect(signer, url=url, ssl=context)
    two = await connect(signer, url=url, ssl=context, links=2, credit_group="two")
    for armed in (False, True):
        took: dict[str, list[float]] = {"one": [], "two": []}
        gc.collect()
        gc.freeze()
        gc.disable()
        for _ in range(ROUNDS):
            took["one"].append(await send(one, armed))
            took["two"].append(await send(two, armed))
        gc.enable()
        ratio = median(b / a for a, b in zip(took["one"], took["two"], strict=True))
        for links, values in took.items():
            p99 = quantiles(values, n=100)[98]
            name = "armed" if armed else "prepared"
            print(f"{name:9} {links} link(s): {median(values):6.1f} µs, p99 {p99:6.1f}")
        print(f"{'':9} two over one, median of pairs: {ratio:.2f}")
    await one.close()
    await two.close()


async def credits_of_one(url: str, authority: str, links: int) -> float:
    """What a cancel takes from the quota."""
    context = ssl.create_default_context(cadata=authority)
    async with connect(Signer(Keypair.generate()), url=url, ssl=context, links=links) as client:
        remaining = []
        for _ in range(11):
            with contextlib.suppress(Rejected):
                await client.cancel_order("BTC", order_id=1)
            await asyncio.sleep(0.01)
            remaining.append(client.credits.remaining or 0.0)
        return (remaining[0] - remaining[-1]) / 10


async def run(url: str, authority: str) -> None:
    await measure(url, authority)
    for links in (1, 2):
        print(f"credits of a cancel on {links} link(s): {await credits_of_one(url, authority, links):g}")


def main() -> int:
    logging.disable(logging.CRITICAL)
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    process = spawn.Process(target=serve, args=(other,), daemon=True)
    process.start()
    url, authority = pipe.recv()
    asyncio.run(run(url, authority))
    pipe.send(None)
    process.join(10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
