# SPDX-License-Identifier: MIT
"""From the decision to the kernel: sending to a mock exchange in another process, over TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import perf_counter_ns

from benchmarks import cases
from benchmarks.measure import REST, Timing, busy_thread, frozen_gc
from pacifica_fast import Keypair, Rejected, Signer
from pacifica_fast.asyncio import connect
from pacifica_fast.demo import PythonWay, exchange_process


async def _measure(rounds: int, calls: int, progress: Callable[[], None]) -> dict[str, Timing]:
    timings = {name: Timing() for name in ("build", "ours", "ours busy", "sdk")}
    signer = Signer(cases.OURS)
    with exchange_process(signer.account, Keypair.generate().pubkey()) as exchange:
        async with (
            connect(signer, url=exchange.url, ssl=exchange.ssl_context()) as client,
            PythonWay.connected(exchange) as connection,
        ):

            async def build() -> int:
                start = perf_counter_ns()
                signer.cancel_order(cases.SYMBOL, order_id=cases.ORDER_ID)
                return perf_counter_ns() - start

            async def ours() -> int:
                start = perf_counter_ns()
                pending = client.cancel_order_nowait(cases.SYMBOL, order_id=cases.ORDER_ID)
                taken = perf_counter_ns() - start
                with contextlib.suppress(Rejected):  # there is no such order
                    await pending
                return taken

            async def sdk() -> int:
                start = perf_counter_ns()
                await connection.send(cases.sdk_request(cases.sdk_sign_message, cases.SOLDERS, cases.ACCOUNT))
                taken = perf_counter_ns() - start
                await connection.recv()
                return taken

            with frozen_gc():
                for _ in range(rounds):
                    for name, one in (("build", build), ("ours", ours), ("sdk", sdk)):
                        block = []
                        for _ in range(calls):
                            await asyncio.sleep(REST)
                            block.append(await one())
                        timings[name].rounds.append(block)
                    with busy_thread():
                        timings["ours busy"].rounds.append([await ours() for _ in range(max(calls // 4, 1))])
                    progress()
    return timings


def measure(rounds: int, calls: int, progress: Callable[[], None]) -> dict[str, Timing]:
    """Time of building alone, of our nowait call, idle and beside a busy thread, and of the SDK's way."""
    return asyncio.run(_measure(rounds, calls, progress))
