# SPDX-License-Identifier: MIT
"""Cancels through a hostile exchange: has each one fate, in time, and a true one?

Run by itself for the long version: ``python tests/storm.py 200000`` sends as many cancels through bad
weather, a quarter each by the asyncio and the blocking client with one and with two links, and prints
what became of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pacifica_fast import Keypair, NotSent, OutcomeUnknown, Rejected, Signer, sync
from pacifica_fast import asyncio as aio
from pacifica_fast.errors import PacificaError
from pacifica_fast.mock_exchange import MockExchange, Weather
from pacifica_fast.replies import CancelAck
from pacifica_fast.session import Pending

TIMEOUT = 0.5  # s
WITHIN = 0.05  # s; by which a fate may come after its time
BURST = 20  # cancels that are sent in one go
IN_FLIGHT = 200

BAD = Weather(
    drop_before=0.005,
    drop_after=0.005,
    abort_before=0.0001,
    abort_after=0.0001,
    half_open=0.00003,
    slow_read=0.0005,
    rate_limit=0.01,
    delay=0.05,
    reorder=0.02,
    duplicate=0.02,
    without_id=0.005,
    garbage=0.01,
    oversized=0.00005,
    fragment=0.02,
    refuse_handshake=0.2,
    stall_handshake=0.05,
    delay_s=0.05,
    slow_s=0.05,
    stall_s=0.3,
)

SETTINGS: dict[str, Any] = {
    "timeout": TIMEOUT,
    "pong_timeout": 0.25,
    "heartbeat": 0.5,
    "open_timeout": 0.5,
    "backoff": 0.01,
    "backoff_max": 0.1,
    "retry_within": 0.3,
}


@dataclass
class Outcome:
    """What became of the cancels of one run, and what is wrong with that."""

    fates: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latest: float = 0.0  # s that a fate came after its time, at most
    late: int = 0
    met: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    seconds: float = 0.0

    def judge(self, pending: Pending, order_id: int, exchange: MockExchange, resting: set[int]) -> None:
        """Is its fate what the exchange did?"""
        if not pending.done:
            self.wrong.append(f"{pending.id} has no fate")
            return
        codes = exchange._journal.get(pending.id, [])
        try:
            outcome = pending.outcome()
        except PacificaError as error:
            outcome = error
        self.fates[type(outcome).__name__] += 1
        if isinstance(outcome, CancelAck):
            true = 200 in codes and order_id not in resting
        elif isinstance(outcome, Rejected):
            true = outcome.code in codes
        elif isinstance(outcome, NotSent):
            true = not codes and order_id in resting
        else:
            true = isinstance(outcome, OutcomeUnknown)
        if not true:
            self.wrong.append(f"{pending.id} ended as {outcome!r}; the exchange did {codes}")
        if pending.sent_at:
            self.latest = max(self.latest, pending.settled_at - pending.sent_at - TIMEOUT)

    def judge_refused(self, order_id: int, resting: set[int]) -> None:
        """Raised at once as not sent: the order is still there."""
        self.fates["NotSent, at once"] += 1
        if order_id not in resting:
            self.wrong.append(f"order {order_id} is gone, and its cancel was not sent")


def orders_of(exchange: MockExchange, signer: Signer, count: int) -> list[int]:
    def some() -> list[int]:
        return [exchange.place(signer.account).order_id for _ in range(500)]

    order_ids: list[int] = []
    while len(order_ids) < count:  # no call into the exchange's thread takes long
        order_ids += exchange._on_loop(some)
    return order_ids[:count]


def left_behind() -> tuple[int, list[str]]:
    """Open descriptors and threads."""
    gc.collect()
    threads = [thread.name for thread in threading.enumerate() if "pacifica_fast" in thread.name]
    return len(os.listdir("/proc/self/fd")), threads


def run(cancels: int, *, kind: str, links: int, retry: bool, seed: int, tls: bool = True) -> Outcome:
    """So many cancels through bad weather; what became of them."""
    outcome = Outcome()
    before = left_behind()
    gc.disable()  # bot, exchange and its journal are one process: a collection takes up to 75 ms here
    try:
        _run(outcome, cancels, kind=kind, links=links, retry=retry, seed=seed, tls=tls)
    finally:
        gc.enable()
    after = left_behind()
    if after[0] > before[0] or after[1] != before[1]:
        outcome.wrong.append(f"left behind: {before} before, {after} after")
    return outcome


def _run(outcome: Outcome, cancels: int, *, kind: str, links: int, retry: bool, seed: int, tls: bool) -> None:
    started = time.monotonic()
    exchange = MockExchange(tls=tls, quota=None, history=1, journal=2 * cancels + 1000)
    with exchange.in_thread(), Signer(Keypair.generate()) as signer:
        order_ids = orders_of(exchange, signer, cancels)
        settings = SETTINGS | {"links": links, "on_disconnect": "retry" if retry else "fail"}
        where = {"url": exchange.url, "ssl": exchange.client_ssl_context() if tls else None}
        calm = Weather()

        def weather(on: bool) -> None:
            outcome.met += exchange.faults.happened
            exchange._on_loop(lambda: exchange.faults.random(seed, BAD if on else calm))

        send = _asyncio if kind == "asyncio" else _blocking
        sent, refused = send(signer, order_ids, where | settings, weather, outcome)
        resting = {order.order_id for order in exchange.orders(signer.account)}
        for pending, order_id in sent:
            outcome.judge(pending, order_id, exchange, resting)
        for order_id in refused:
            outcome.judge_refused(order_id, resting)
        if len(sent) + len(refused) != cancels:
            outcome.wrong.append(f"{cancels - len(sent) - len(refused)} cancels are lost")
    outcome.seconds = time.monotonic() - started


Sent = list[tuple[Any, int]]


def _asyncio(
    signer: Signer,
    order_ids: list[int],
    settings: dict[str, Any],
    weather: Callable[[bool], None],
    outcome: Outcome,
) -> tuple[Sent, list[int]]:
    sent: Sent = []
    refused: list[int] = []

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with aio.connect(signer, **settings) as client:
            weather(True)
            for n, order_id in enumerate(order_ids):
                try:
                    if n % 7 == 3:
                        pending = client.arm("BTC", order_id=order_id).fire()
                    else:
                        pending = client.cancel_order_nowait("BTC", order_id=order_id)
                    sent.append((pending, order_id))
                except NotSent:
                    refused.append(order_id)
                    await asyncio.sleep(0.002)
                while client._session.in_flight_count > IN_FLIGHT:
                    await asyncio.sleep(0.001)
                if n % BURST == 0:
                    await asyncio.sleep(0)
            for pending, _ in sent[-IN_FLIGHT:]:
                await asyncio.wait([asyncio.ensure_future(_quietly(pending))])
            outcome.late, outcome.reconnects = client.fates.late, client._links.reconnects
            weather(False)
        tasks = asyncio.all_tasks()
        if len(tasks) != 1 or complaints:
            outcome.wrong.append(f"left behind: {tasks} {complaints}")

    asyncio.run(main())
    return sent, refused


async def _quietly(pending: aio.Pending[Any]) -> None:
    with suppress(PacificaError):
        await pending


def _blocking(
    signer: Signer,
    order_ids: list[int],
    settings: dict[str, Any],
    weather: Callable[[bool], None],
    outcome: Outcome,
) -> tuple[Sent, list[int]]:
    sent: Sent = []
    refused: list[int] = []
    threads = 2

    def cancel(client: sync.Client, mine: list[int]) -> None:
        for n, order_id in enumerate(mine):
            try:
                if n % 7 == 3:
                    pending = client.arm("BTC", order_id=order_id).fire()
                else:
                    pending = client.cancel_order_nowait("BTC", order_id=order_id)
                sent.append((pending, order_id))
            except NotSent:
                refused.append(order_id)
                time.sleep(0.002)
            while client._session.in_flight_count > IN_FLIGHT:
                time.sleep(0.001)

    with sync.connect(signer, **settings) as client:
        weather(True)
        workers = [
            threading.Thread(target=cancel, args=(client, order_ids[n::threads])) for n in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for pending, _ in sent[-2 * IN_FLIGHT :]:
            with suppress(PacificaError):
                pending.result()
        outcome.late, outcome.reconnects = client.fates.late, client._links.reconnects
        weather(False)
    return sent, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cancels", type=int, nargs="?", default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # links are lost all the time
    failed = False
    for number, (kind, links) in enumerate(
        [("asyncio", 1), ("asyncio", 2), ("blocking", 1), ("blocking", 2)]
    ):
        outcome = run(
            arguments.cancels // 4, kind=kind, links=links, retry=links == 1, seed=arguments.seed + number
        )
        print(f"{kind}, {links} link(s): {sum(outcome.fates.values())} cancels in {outcome.seconds:.0f} s")
        print(f"  fates       {json.dumps(outcome.fates)}, {outcome.late} late replies")
        print(f"  weather     {json.dumps(outcome.met)}, {outcome.reconnects} reconnects")
        print(f"  latest fate {1e3 * outcome.latest:.1f} ms after its deadline (limit {1e3 * WITHIN:g} ms)")
        for wrong in outcome.wrong[:10]:
            print(f"  WRONG       {wrong}")
        failed = failed or bool(outcome.wrong) or outcome.latest > WITHIN
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
