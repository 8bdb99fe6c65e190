# SPDX-License-Identifier: MIT
"""Experiments with many orders, and with many threads."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any

from pacifica_fast import Keypair, Signer
from pacifica_fast.armed import Armed
from pacifica_fast.asyncio import Client

from . import cases
from .experiment import Experiment, Recorder
from .measure import REST, busy_thread, frozen_gc, in_turn, timed_block
from .results import Round
from .sample import MESSAGE_BYTES, ORDER_ID, SEED, SIGNATURE_TEXT, SYMBOL
from .ways import ASYNCIO, Ways, opened, row, sdk_request

PULLS = (1, 10, 100)
PULL, SDK_PULL = "pull of {} armed", "SDK: {} cancels"
BESIDE = ", beside a busy thread"


def _pulls(recorder: Recorder) -> None:
    asyncio.run(_measure_pulls(recorder))


async def _measure_pulls(recorder: Recorder) -> None:
    async with opened(recorder, (Ways.ours, Ways.blocking, Ways.sdk), tls=True) as ways:
        pulls = ways.clients
        order_ids = itertools.count(ORDER_ID)

        async def pull(client: Any, count: int, *, busy: bool = False) -> float:
            armed = [client.arm(SYMBOL, order_id=next(order_ids)) for _ in range(count)]
            await asyncio.sleep(REST)
            if busy:
                with busy_thread():
                    await asyncio.sleep(REST)
                    return await fired(client, armed)
            return await fired(client, armed)

        async def fired(client: Any, armed: list[Any]) -> float:
            start = perf_counter_ns()
            pendings = client.pull(armed)
            taken = perf_counter_ns() - start
            for pending in pendings:
                await pending if client is ways.clients[ASYNCIO] else pending.result()
            return taken

        async def sdk(count: int) -> float:
            """One after the other on the kept connection; the replies are read by websockets meanwhile."""
            await asyncio.sleep(REST)
            start = perf_counter_ns()
            for _ in range(count):
                await ways.sdk_connection.send(sdk_request())
            return perf_counter_ns() - start

        for number in recorder.rounds():
            samples: Round = {}
            for count in in_turn(PULLS, number):
                ways.exchange.received()
                samples[SDK_PULL.format(count)] = [await sdk(count)]
                for _ in range(count):
                    await ways.sdk_connection.recv()
                ways.check([SDK_PULL.format(count)] * count)
                for name, client in pulls.items():
                    label = row(name, PULL.format(count))
                    samples[label] = [await pull(client, count)]
                    ways.check([label] * count)
                    samples[label + BESIDE] = [await pull(client, count, busy=True)]
                    ways.check([label + BESIDE] * count)
            recorder.save(samples)


CROWDS = (10, 100, 1_000, 10_000)
CALLS = 4


def _armed(recorder: Recorder) -> None:
    asyncio.run(_measure_armed(recorder))


async def _measure_armed(recorder: Recorder) -> None:
    """A client for every size of crowd, and all of them there all the time; the eldest is fired."""
    async with opened(recorder, (), tls=True) as ways, AsyncExitStack() as stack:
        order_ids = itertools.count(ORDER_ID)
        crowds: dict[int, tuple[Client, deque[Armed[Any]]]] = {}
        for size in CROWDS:
            client = await stack.enter_async_context(ways.client(ways.deterministic))
            armed = deque(client.arm(SYMBOL, order_id=next(order_ids)) for _ in range(size))
            crowds[size] = client, armed
        for number in recorder.rounds():
            ways.exchange.received()
            samples: Round = {}
            for size in in_turn(CROWDS, number):
                client, armed = crowds[size]
                label = f"one of {size:,} armed"
                samples[label] = []
                for _ in range(CALLS):
                    fire = armed.popleft().fire
                    await asyncio.sleep(REST)
                    start = perf_counter_ns()
                    pending = fire()
                    samples[label].append(perf_counter_ns() - start)
                    await pending
                ways.check([label] * CALLS)
                armed.extend(client.arm(SYMBOL, order_id=next(order_ids)) for _ in range(CALLS))
            recorder.save(samples)


MANY = 4_096  # messages


def _sign_many(recorder: Recorder) -> None:
    """The same messages by one thread, by two, and by two processes, half of them each.

    The processes have their messages already and keep their signatures: no Python could be faster.
    """
    signer = Signer(cases.OURS)
    messages = [MESSAGE_BYTES] * MANY
    if signer.sign_many(messages[:100], threads=2) != [SIGNATURE_TEXT] * 100:
        recorder.wrong("sign_many, 2 threads")
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=_worker, args=(far,), daemon=True) for _, far in pipes]
    for worker, (_, far) in zip(workers, pipes, strict=True):
        worker.start()
        far.close()  # so that its end is heard
    ends = [near for near, _ in pipes]
    for end in ends:
        end.recv()  # it is up

    def processes() -> None:
        for end in ends:
            end.send(MANY // 2)
        for end in ends:
            end.recv()

    runs: dict[str, Callable[[], Any]] = {
        SIGN_ONE: lambda: signer.sign_many(messages, threads=1),
        SIGN_TWO: lambda: signer.sign_many(messages, threads=2),
        SIGN_PROCESSES: processes,
        SIGN_LOOP: lambda: [cases.SOLDERS.sign_message(message) for message in messages],
    }
    try:
        with frozen_gc():
            for number in recorder.rounds():
                samples: Round = {}
                for name, run in in_turn(list(runs.items()), number):
                    samples[name] = [ns / MANY for ns in timed_block(run, 1)]
                recorder.save(samples)
    finally:
        for end in ends:
            end.send(0)
        for worker in workers:
            worker.join()


SIGN_ONE, SIGN_TWO, SIGN_PROCESSES = (
    "sign_many, 1 thread",
    "sign_many, 2 threads",
    "two processes, sign_many each",
)
SIGN_LOOP = "solders sign_message in a loop, not encoded"


def _worker(pipe: Connection) -> None:
    signer = Signer(Keypair.from_seed(SEED))
    pipe.send(None)
    while count := pipe.recv():
        signatures = signer.sign_many([MESSAGE_BYTES] * count, threads=1)
        pipe.send(len(signatures))


def experiments() -> list[Experiment]:
    """All of this file."""
    return [
        Experiment(
            "pull",
            "pulling many orders at once, TLS",
            "All on the wire: armed cancels in one encryption and one write, against the SDK's algorithm and "
            "ws.send() for one after the other on a kept connection. Cold.",
            25,
            0.8,
            _pulls,
            SDK_PULL.format(100),
        ),
        Experiment(
            "armed",
            "fire() against the number of armed orders, TLS",
            f"After {REST * 1e3:g} ms of rest, the one armed longest. The background thread signs them all "
            "anew meanwhile, every third of their window.",
            20,
            0.5,
            _armed,
        ),
        Experiment(
            "sign_many",
            "signing many messages, for each of them",
            f"{MANY:,} messages of one cancel's size.",
            25,
            1.0,
            _sign_many,
            SIGN_PROCESSES,
        ),
    ]
