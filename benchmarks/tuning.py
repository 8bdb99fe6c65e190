# SPDX-License-Identifier: MIT
"""What the settings of a process and of its machine do to a cancel: ``python -m benchmarks.tuning``.

One armed cancel over TLS after 2 ms of rest, asyncio client, GC frozen, the exchange in a process of its
own. What is compared takes turns, send by send. ``--quick``: a tenth of the rounds. The tables of
docs/tuning.md are its output (``--into``). Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import multiprocessing
import os
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

from pacifica_fast import Keypair, Rejected, Signer
from pacifica_fast._elsewhere import play_elsewhere
from pacifica_fast.asyncio import Client, connect
from pacifica_fast.mock_exchange import MockExchange

from . import machine
from .axis import quantity
from .experiment import Scale
from .measure import REST, busy_thread, frozen_gc, in_turn, quantile, switch_interval

ROUNDS = 1000
BUSY_ROUNDS = 300  # each takes the switch interval
COLLECTIONS = 30
OBJECTS = (0, 100_000, 1_000_000)
INTERVALS = (5e-3, 1e-3, 1e-4)  # s; the first is Python's default

Samples = dict[str, list[int]]  # ns

FIRST, LAST = "<!-- python -m benchmarks.tuning -->", "<!-- until here -->"


def serve(pipe: Connection) -> None:
    """The exchange, in its process."""
    play_elsewhere()
    exchange = MockExchange(tls=True, quota=None, history=1)
    with exchange.in_thread():
        pipe.send((exchange.url, exchange.authority_pem))
        pipe.recv()


def spin() -> None:
    """Another program that computes."""
    while True:
        pass


@contextmanager
def process(target: Callable[..., None], *args: object) -> Iterator[Any]:
    """A process, killed when this is left."""
    started = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    started.start()
    try:
        yield started
    finally:
        started.kill()
        started.join()


async def send(client: Client) -> int:
    """Nanoseconds until an armed cancel is with the kernel."""
    armed = client.arm("BTC", order_id=1)
    await asyncio.sleep(REST)
    start = perf_counter_ns()
    pending = armed.fire()
    took = perf_counter_ns() - start
    with suppress(Rejected):  # there is no such order
        await pending
    return took


def client_of(url: str, authority: str) -> Any:
    """What connects."""
    return connect(Signer(Keypair.generate()), url=url, ssl=ssl.create_default_context(cadata=authority))


def table(title: str, samples: Samples) -> str:
    """Markdown: median and p99 of each, and how often the first one's median goes into it."""
    first = median(next(iter(samples.values())))
    rows = [f"| {title} | median | p99 | × |", "|---|---:|---:|---:|"]
    for name, values in samples.items():
        middle, slow = quantity(median(values)), quantity(quantile(values, 0.99))
        rows.append(f"| {name} | {middle} | {slow} | {median(values) / first:.2f} |")
    return "\n".join(rows)


def put_into(page: Path, text: str) -> None:
    """Replace what is between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(FIRST)
    _, mark, after = rest.partition(LAST)
    if not mark:
        raise SystemExit(f"{page}: no {FIRST} and {LAST}")
    page.write_text(f"{before}{FIRST}\n\n{text}\n\n{LAST}{after}", encoding="utf-8")


async def intervals(url: str, authority: str, rounds: int) -> Samples:
    """Sending beside a busy Python thread, at several switch intervals."""
    names = {interval: f"beside a busy thread, interval {interval * 1e3:g} ms" for interval in INTERVALS}
    samples: Samples = {"alone": [], **{name: [] for name in names.values()}}
    async with client_of(url, authority) as client:
        for number in range(rounds):
            samples["alone"].append(await send(client))
            for interval in in_turn(INTERVALS, number):
                with switch_interval(interval), busy_thread():
                    samples[names[interval]].append(await send(client))
    return samples


async def cores(url: str, authority: str, exchange: int, busy: int, rounds: int) -> Samples:
    """Sending from wherever the kernel puts us, and from a core of our own, beside a busy process."""
    everywhere = os.sched_getaffinity(0)
    *others, ours = sorted(everywhere)
    ways: dict[str, tuple[set[int], set[int]]] = {
        "wherever the kernel likes": (everywhere, everywhere),
        "on a core that nobody else uses": ({ours}, set(others)),
    }
    samples: Samples = {name: [] for name in ways}
    async with client_of(url, authority) as client:
        for number in range(rounds):
            for name in in_turn(list(ways), number):
                here, there = ways[name]
                os.sched_setaffinity(0, here)
                for pid in (exchange, busy):
                    os.sched_setaffinity(pid, there)
                samples[name].append(await send(client))
    os.sched_setaffinity(0, everywhere)
    os.sched_setaffinity(exchange, everywhere)
    return samples


def loops(url: str, authority: str, rounds: int) -> Samples:
    """Two event loops, run by turns in one thread."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {"asyncio": None}
    with suppress(ImportError):
        import uvloop

        factories[f"uvloop {version('uvloop')}"] = uvloop.new_event_loop
    samples: Samples = {name: [] for name in factories}
    runners = {name: asyncio.Runner(loop_factory=factory) for name, factory in factories.items()}

    async def opened() -> Client:
        client: Client = await client_of(url, authority)
        return client

    clients = {name: runner.run(opened()) for name, runner in runners.items()}
    for number in range(rounds):
        for name in in_turn(list(runners), number):
            samples[name].append(runners[name].run(send(clients[name])))
    for name, runner in runners.items():
        runner.run(clients[name].close())
        runner.close()
    return samples


def collections(rounds: int) -> Samples:
    """A full garbage collection beside so many objects of the bot's: it stands still meanwhile."""
    samples: Samples = {}
    for count in OBJECTS:
        alive = [[number] for number in range(count)]  # a list is looked at, whatever it holds
        samples[f"{count:,} objects of the bot's"] = [collected() for _ in range(rounds)]
        gc.freeze()
        samples[f"{count:,} objects of the bot's, frozen"] = [collected() for _ in range(rounds)]
        gc.unfreeze()
        del alive
    return samples


def collected() -> int:
    """What a full collection takes, in ns."""
    start = perf_counter_ns()
    gc.collect()
    return perf_counter_ns() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the tables into docs/tuning.md, say")
    options = parser.parse_args(arguments)
    fewer = 10 if options.quick else 1
    logging.disable(logging.CRITICAL)
    pipe, other = multiprocessing.get_context("spawn").Pipe()
    tables = []
    with process(serve, other) as exchange:
        url, authority = pipe.recv()
        with frozen_gc():
            beside = asyncio.run(intervals(url, authority, BUSY_ROUNDS // fewer))
            tables.append(table("switch interval", beside))
            tables.append(table("event loop", loops(url, authority, ROUNDS // fewer)))
            if len(os.sched_getaffinity(0)) > 1:
                with process(spin) as busy:
                    where = asyncio.run(cores(url, authority, exchange.pid, busy.pid, ROUNDS // fewer))
                    tables.append(table("beside a busy process", where))
    tables.append(table("full garbage collection", collections(max(COLLECTIONS // fewer, 5))))
    about = machine.header(Scale(quick=options.quick))
    where_and_when = ("processor", "cores", "system", "python", "load", "date")
    told = ", ".join(f"{name} {about[name]}" for name in where_and_when)
    text = "\n\n".join([f"Measured on: {told}.", *tables])
    print(text)
    if options.into is not None:
        put_into(options.into, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
