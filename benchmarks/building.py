# SPDX-License-Identifier: MIT
"""Experiments without a network: what a stage, and what a whole request costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

import orjson

from pacifica_fast import Signer
from pacifica_fast._sodium import ffi, lib

from . import cases, peers, server
from .cases import PREPARED, PreparedSigner
from .experiment import Experiment, Recorder
from .measure import REST, busy_thread, frozen_gc, in_turn, timed_block
from .results import Round
from .sample import MESSAGE_BYTES, ORDER_ID, SYMBOL, Case

HOT_CALLS = 40  # in a row: the first few after a change are not hot yet
COLD_CALLS = 5


def measure_cases(recorder: Recorder, group: list[Case], calls: int, rest: float = 0.0) -> None:
    """Blocks of every case in turn, outputs checked first."""
    for case in group:
        if not case.is_right(case.run()):
            recorder.wrong(case.name)
    with frozen_gc():
        for case in group:
            timed_block(case.run, calls)
        for number in recorder.rounds():
            samples: Round = {case.name: [] for case in group}
            for case in in_turn(group, number):
                if case.ready is not None:
                    case.ready()
                samples[case.name] = [ns / case.work for ns in timed_block(case.run, calls, rest)]
            recorder.save(samples)


def _group(make: Callable[[], list[Case]], calls: int, rest: float) -> Callable[[Recorder], None]:
    def measure(recorder: Recorder) -> None:
        if make is cases.whole_request:
            for name, why in peers.missing().items():
                if name in peers.REQUESTS:
                    recorder.skip(name, why)
        measure_cases(recorder, make(), calls, rest)

    return measure


def _busy(recorder: Recorder) -> None:
    """One call at a time, after a rest, alone and beside a busy thread, in turn.

    As in a bot, which sleeps until something happens: by then the busy thread has the GIL and
    wants it back. Calls in a row would mostly have the switch interval of 5 ms to themselves,
    and what giving the GIL up costs would not show. The wait for the GIL after the sleep is not
    timed: it is there whatever is called next.
    """
    prepared, deterministic = PreparedSigner(), Signer(cases.OURS)
    out = ffi.new("char[64]")
    key, message = cases.OURS._key, MESSAGE_BYTES
    runs: dict[str, Callable[[], Any]] = {
        "prepared": lambda: prepared.cancel_order(SYMBOL, order_id=ORDER_ID),
        "deterministic": lambda: deterministic.cancel_order(SYMBOL, order_id=ORDER_ID),
        "a signature, GIL given up as cffi does": lambda: lib.pf_key_sign_bytes_detached(
            out, 64, key, message, len(message)
        ),
    }
    with frozen_gc():
        for number in recorder.rounds():
            samples: Round = {}
            for name, run in in_turn(list(runs.items()), number):
                prepared.wait()
                samples[f"{name}, alone"] = [*timed_block(run, 10, REST)]
                with busy_thread():
                    samples[f"{name}, beside it"] = [*timed_block(run, 10, REST)]
            recorder.save(samples)
    prepared.close()


REFILL_BLOCK = 200
REFILL_REST = 0.03  # s
WARMING = 20  # calls
QUIET, REFILLING = "prepared, pool full and left alone", "prepared, pool being refilled"


def _refill(recorder: Recorder) -> None:
    """Hot blocks with the refilling thread at work all the time, and without it having run at all.

    Which of the two a block was, the counts tell; a block that was neither is measured again.
    """
    signer = PreparedSigner(8 * PREPARED)

    def call() -> Any:
        return signer.cancel_order(SYMBOL, order_id=ORDER_ID)

    def block(refilled_wanted: bool) -> list[float]:
        for _ in range(1000):
            signer.wait()
            if refilled_wanted:  # it looks every 8 ms at most; from then on it has much to do
                for _ in range(2 * PREPARED):
                    call()
                seen = signer.stats.refilled
                while signer.stats.refilled == seen:
                    pass
            else:  # the longer the pool stays full, the less often it looks
                rested = perf_counter() + REFILL_REST
                while perf_counter() < rested:
                    pass
                for _ in range(WARMING):
                    call()
            before = signer.stats
            calls = timed_block(call, REFILL_BLOCK)
            after = signer.stats
            all_prepared = after.prepared - before.prepared == REFILL_BLOCK
            refilled = after.refilled - before.refilled
            if all_prepared and (refilled > 0 and after.ready < 8 * PREPARED) == refilled_wanted:
                return [*calls]
        raise RuntimeError("the refilling thread never does what is to be measured")

    with frozen_gc():
        for number in recorder.rounds():
            samples: Round = {}
            for row in in_turn((QUIET, REFILLING), number):
                samples[row] = block(row == REFILLING)
            recorder.save(samples)
    signer.close()


def _fields(size: int) -> dict[str, Any]:
    """A payload whose canonical message is about so many bytes: a batch of orders is such a thing."""
    entry = {"amount": "0.001", "price": "87768.5", "side": "bid", "symbol": "BTC"}
    return {"orders": [entry] * max((size - 80) // 67, 1)}


SIZES = (150, 1_000, 4_000, 15_000)  # bytes; longer ones give the GIL up


def _sizes(recorder: Recorder) -> None:
    """Messages of several sizes, signed: ours and the SDK's."""
    signer = Signer(cases.OURS)
    runs: dict[str, Callable[[], Any]] = {}
    for size in SIZES:
        data = _fields(size)
        header = {"timestamp": 1_748_970_123_456, "expiry_window": 5_000, "type": "batch_orders"}
        message = cases.sdk_sign_message(header, data, cases.SOLDERS)
        signed = signer.sign("batch_orders", data, timestamp=header["timestamp"])  # type: ignore[arg-type]
        if (signed.message, signed.signature) != message:
            recorder.wrong(f"ours, {len(message[0])} bytes")

        def ours(data: dict[str, Any] = data) -> Any:
            return signer.sign("batch_orders", data)

        def sdk(header: dict[str, Any] = header, data: dict[str, Any] = data) -> Any:
            return cases.sdk_sign_message(header, data, cases.SOLDERS)

        runs[f"ours, {len(message[0]):,} bytes"] = ours
        runs[f"SDK, {len(message[0]):,} bytes"] = sdk
    with frozen_gc():
        for number in recorder.rounds():
            samples: Round = {row: [] for row in runs}
            for row, run in in_turn(list(runs.items()), number):
                samples[row] = [*timed_block(run, 10)]
            recorder.save(samples)


OBJECTS = 300_000


def _collector(recorder: Recorder) -> None:
    """A bot's turn: read a message, keep it, cancel; with many objects alive.

    Timed is the whole turn: the collector runs when objects are made, wherever that is.
    """
    import gc

    signer = PreparedSigner()
    kept: deque[Any] = deque(maxlen=20_000)
    heap = [{"price": str(n), "levels": [n]} for n in range(OBJECTS // 2)]

    def turn() -> None:
        kept.append(orjson.loads(server.BOOK))
        signer.cancel_order(SYMBOL, order_id=ORDER_ID)

    def usual() -> list[float]:
        return [*timed_block(turn, 500)]

    def frozen() -> list[float]:
        gc.collect()
        gc.freeze()
        try:
            return [*timed_block(turn, 500)]
        finally:
            gc.unfreeze()

    for number in recorder.rounds():
        samples: Round = {}
        rows = (("collector as it is", usual), ("after gc.freeze()", frozen))
        for row, block in in_turn(rows, number):
            signer.wait()
            samples[row] = block()
        recorder.save(samples)
    recorder.fact("objects", f"{len(heap) * 3:,} objects that stay alive")
    signer.close()


def experiments() -> list[Experiment]:
    """All of this file."""
    hot = [
        Experiment(
            f"{title}, hot",
            f"{title}, hot",
            f"Calls in a row, blocks of {HOT_CALLS}, everything in the caches.",
            100,
            0.16 if make is cases.whole_request else 0.01,
            _group(make, HOT_CALLS, 0.0),
        )
        for title, make in cases.GROUPS.items()
    ]
    return [
        *hot,
        Experiment(
            "whole cancel request, cold",
            "whole cancel request, cold",
            f"One call after {REST * 1e3:g} ms of sleep each, as in a bot.",
            60,
            0.2,
            _group(cases.whole_request, COLD_CALLS, REST),
        ),
        Experiment(
            "busy, building",
            "building beside a busy Python thread, cold",
            "One call after a rest, alone and beside a thread that only computes in Python. A call that "
            "gives the GIL up may wait a switch interval, 5 ms, to get it back; whether it must is a race.",
            40,
            0.35,
            _busy,
        ),
        Experiment(
            "refill",
            "the hot call while the pool of nonces refills",
            f"Blocks of {REFILL_BLOCK} calls in a row; the counts of the pool tell what happened meanwhile.",
            100,
            0.3,
            _refill,
        ),
        Experiment(
            "payload size",
            "cost against the size of the payload",
            "sign(type, data): canonical JSON, Ed25519, base58; hot.",
            60,
            0.03,
            _sizes,
        ),
        Experiment(
            "collector",
            "a bot's turn and the garbage collector",
            "Parse a market message, keep it, build a prepared cancel, with many objects alive.",
            30,
            0.3,
            _collector,
        ),
    ]
