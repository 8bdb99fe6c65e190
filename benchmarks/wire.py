# SPDX-License-Identifier: MIT
"""Experiments to the wire: from the decision until the bytes are with the kernel, or received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from pacifica_fast import Signer

from . import cases, floors, peers, server
from .experiment import Experiment, Recorder
from .measure import REST, busy_thread, frozen_gc, in_turn, switch_interval, timed_block
from .results import Round
from .sample import ORDER_ID, SYMBOL
from .ways import (
    ASYNCIO,
    NOT_INSTALLED,
    SDK,
    SDK_PLAIN,
    UVLOOP,
    Ways,
    opened,
    row,
)

CALLS = 8
BUSY_CALLS = 4
Measure = Callable[[Recorder], Coroutine[Any, Any, None]]


def _asyncio(measure: Measure) -> Callable[[Recorder], None]:
    return lambda recorder: asyncio.run(measure(recorder))


def _uvloop(measure: Measure) -> Callable[[Recorder], None]:
    def run(recorder: Recorder) -> None:
        try:
            uvloop = peers.load("uvloop")
        except ImportError:
            recorder.skip(UVLOOP, NOT_INSTALLED)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(recorder))

    return run


def _everybody(*, tls: bool, rest: float) -> Measure:
    async def measure(recorder: Recorder) -> None:
        async with opened(recorder, tls=tls) as ways:
            await _measure(ways, recorder, rest)

    return measure


def _on_uvloop(*, tls: bool, rest: float) -> Measure:
    async def measure(recorder: Recorder) -> None:
        parts = (Ways.floor, Ways.ours, Ways.sdk)
        async with opened(recorder, parts, tls=tls, loop_name=UVLOOP) as ways:
            await _measure(ways, recorder, rest)

    return measure


async def _measure(ways: Ways, recorder: Recorder, rest: float) -> None:
    ways.rest = rest
    for number in recorder.rounds():
        recorder.save(await ways.measure(in_turn(list(ways.sends), number), CALLS))


async def _building(recorder: Recorder) -> None:
    """Requests built where a bot builds them, in an event loop that woke for a reply, but not sent."""
    group = [case for case in cases.whole_request() if case.work == 1]
    for case in group:
        if not case.is_right(case.run()):
            recorder.wrong(case.name)
    with server.running() as exchange:
        async with floors.websocket(exchange, tls=True, compression=None) as connection:
            frame = floors.masked(Signer(cases.OURS).cancel_order(SYMBOL, order_id=ORDER_ID).text)
            with frozen_gc():
                for number in recorder.rounds():
                    samples: Round = {case.name: [] for case in group}
                    for case in in_turn(group, number):
                        if case.ready is not None:
                            case.ready()
                        for _ in range(CALLS):
                            connection.transport.write(frame)
                            await connection.recv()
                            samples[case.name] += timed_block(case.run, 1)
                    exchange.received()
                    recorder.save(samples)


async def _market(recorder: Recorder) -> None:
    parts = (Ways.floor, Ways.ours, Ways.sdk, Ways.ccxt)
    async with (
        opened(recorder, parts, tls=True) as ways,
        floors.websocket(ways.exchange, tls=True, path=server.FEED, compression=None) as feed,
    ):
        reading = asyncio.ensure_future(_read(feed))
        names = [name for name in ways.sends if name != SDK_PLAIN]
        for number in recorder.rounds():
            _, receipt = await ways.measure_receipts(in_turn(names, number), CALLS)
            recorder.save(receipt)
        reading.cancel()


async def _read(feed: Any) -> None:
    """What a bot does all the time."""
    while True:
        orjson.loads(await feed.recv(decode=False))


INTERVALS = (0.005, 0.0001)  # s: the default, and the advice


async def _busy(recorder: Recorder) -> None:
    parts = (Ways.ours, Ways.blocking, Ways.sdk)
    async with opened(recorder, parts, tls=True) as ways:
        names = [name for name in ways.sends if name != SDK_PLAIN]
        for number in recorder.rounds():
            samples = {
                f"{name}, alone": calls for name, calls in (await ways.measure(names, BUSY_CALLS)).items()
            }
            for interval in in_turn(INTERVALS, number):
                with switch_interval(interval), busy_thread():
                    beside = await ways.measure(in_turn(names, number), BUSY_CALLS)
                samples |= {busy_row(name, interval): calls for name, calls in beside.items()}
            recorder.save(samples)


def busy_row(name: str, interval: float) -> str:
    """The name of a row beside a busy thread."""
    return f"{name}, beside it, switch interval {interval * 1e3:g} ms"


IDLE = 2.0  # s: an hour, scaled


async def _idle(recorder: Recorder) -> None:
    idle = 0.3 if recorder.scale.quick else IDLE
    recorder.fact("idle", f"{idle:g} s")
    async with opened(recorder, (Ways.floor, Ways.ours, Ways.warm), tls=True) as ways:
        names = list(ways.sends)
        for number in recorder.rounds():
            samples: Round = {}
            for name in in_turn(names, number):
                samples |= {f"{name}, every {REST * 1e3:g} ms": (await ways.measure([name], 4))[name]}
                ways.rest = idle
                samples |= {f"{name}, the first after {idle:g} s": (await ways.measure([name], 1))[name]}
                ways.rest = REST
            recorder.save(samples)


def experiments() -> list[Experiment]:
    """All of this file."""
    timed = "Timed is the client's call: when it returns the bytes are with the kernel. "
    checked = " Every signature is verified, by what the exchange, another process, received."
    manners = {
        "": (0.0, "The event loop, or the thread, wakes for the reply and sends the next; blocks of 8."),
        ", rested": (
            REST,
            f"Before each the loop or the thread rests {REST * 1e3:g} ms, and the ways take turns call by "
            "call: caches, branch predictor and clock speed are another's by then.",
        ),
    }
    listed = []
    for manner, (rest, how) in manners.items():
        for tls in (True, False):
            name = f"{'TLS' if tls else 'plain'}{manner}"
            listed += [
                Experiment(
                    f"wire, {name}",
                    f"to the wire, {name}",
                    timed + how + checked,
                    125,
                    0.6 if rest else 0.12,
                    _asyncio(_everybody(tls=tls, rest=rest)),
                    SDK,
                ),
                Experiment(
                    f"wire, uvloop, {name}",
                    f"to the wire, asyncio on uvloop, {name}",
                    timed + how + checked,
                    125,
                    0.25 if rest else 0.03,
                    _uvloop(_on_uvloop(tls=tls, rest=rest)),
                    SDK,
                ),
            ]
    return [
        Experiment(
            "whole cancel request, one per loop wake",
            "whole cancel request, one per loop wake",
            "An event loop wakes for a reply over TLS and builds a request, as a bot does; it is not sent.",
            60,
            0.15,
            _asyncio(_building),
            "SDK, as its example",
        ),
        *listed,
        Experiment(
            "market",
            "decision to receipt by the exchange, TLS, market data through the same loop",
            "A thousand messages of market data a second are read and parsed by the same event loop. Timed "
            "is from the decision until the exchange's process has the bytes: both read the same clock.",
            125,
            0.3,
            _asyncio(_market),
            SDK,
        ),
        Experiment(
            "busy, sending",
            "sending beside a busy Python thread, TLS",
            "Encrypting gives the GIL up, and so does Python's own writing to a socket; getting it back may "
            "take a switch interval. A way whose row has 0.1 ms called sys.setswitchinterval(1e-4).",
            20,
            1.2,
            _asyncio(_busy),
            f"{SDK}, alone",
        ),
        Experiment(
            "idle",
            "the first cancel after a pause, TLS",
            f"A pause of {IDLE:g} s stands for an hour: by then caches, branch predictor and clock speed are "
            "another's. keep_warm builds a request every 2 ms and throws it away.",
            10,
            10.5,
            _asyncio(_idle),
            row(ASYNCIO, "prepared") + f", every {REST * 1e3:g} ms",
        ),
    ]
