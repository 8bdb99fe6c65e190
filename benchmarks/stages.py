# SPDX-License-Identifier: MIT
"""Where the time of one cancel goes: the SDK's steps, each timed, and ours."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from itertools import pairwise
from time import perf_counter_ns

import base58
from websockets.asyncio.client import ClientConnection

from pacifica_fast import reference

from . import cases
from .experiment import Experiment, Recorder
from .measure import REST, in_turn
from .results import Round
from .sample import ACCOUNT, ORDER_ID, SYMBOL
from .ways import ARMED, ASYNCIO, FLOOR, PREPARED, Ways, opened, row

SDK_STAGES = ("canonical JSON", "Ed25519 (solders)", "base58", "request: uuid4, dict, JSON", "ws.send()")
BUILD = "build and sign"
CALLS = 6


async def _sdk(connection: ClientConnection) -> list[int]:
    """One cancel in the steps of the SDK's example; the durations of :data:`SDK_STAGES`."""
    await asyncio.sleep(REST)
    times = [perf_counter_ns()]
    timestamp = int(time.time() * 1_000)
    header = {"timestamp": timestamp, "expiry_window": 5_000, "type": "cancel_order"}
    payload = {"symbol": SYMBOL, "order_id": ORDER_ID}
    message = reference.prepare_message(header, payload).encode()
    times.append(perf_counter_ns())
    signature = cases.SOLDERS.sign_message(message)
    times.append(perf_counter_ns())
    encoded = base58.b58encode(bytes(signature)).decode("ascii")
    times.append(perf_counter_ns())
    fields = {
        "account": ACCOUNT,
        "signature": encoded,
        "timestamp": timestamp,
        "expiry_window": 5_000,
        **payload,
    }
    text = json.dumps({"id": str(uuid.uuid4()), "params": {"cancel_order": fields}})
    times.append(perf_counter_ns())
    await connection.send(text)
    times.append(perf_counter_ns())
    await connection.recv()
    return [end - start for start, end in pairwise(times)]


async def _measure(recorder: Recorder) -> None:
    async with opened(recorder, (Ways.floor, Ways.ours, Ways.sdk), tls=True) as ways:
        names = [row(ASYNCIO, speed) for speed in (FLOOR, ARMED, PREPARED)]
        names = [name for name in names if name in ways.sends]
        for number in recorder.rounds():
            samples: Round = {f"SDK: {stage}": [] for stage in SDK_STAGES}
            samples |= {name: [] for name in (BUILD, *names)}
            ways.prepared.wait()
            ways.exchange.received()
            for call in range(CALLS):
                for name in in_turn(("SDK", BUILD, *names), number + call):
                    if name == "SDK":
                        for stage, ns in zip(SDK_STAGES, await _sdk(ways.sdk_connection), strict=True):
                            samples[f"SDK: {stage}"].append(ns)
                    elif name == BUILD:
                        samples[BUILD].append(await _build(ways))
                    else:
                        samples[name].append(await ways.sends[name]())
            recorder.save(samples)


async def _build(ways: Ways) -> int:
    await asyncio.sleep(REST)
    start = perf_counter_ns()
    ways.prepared.cancel_order(SYMBOL, order_id=ORDER_ID)
    return perf_counter_ns() - start


def experiments() -> list[Experiment]:
    """All of this file."""
    return [
        Experiment(
            "stages",
            "where the time of one cancel goes, TLS, cold",
            "The SDK's steps one by one; of ours the whole call, building alone, and the write of a prebuilt "
            "frame.",
            40,
            0.25,
            lambda recorder: asyncio.run(_measure(recorder)),
            "SDK: Ed25519 (solders)",
        )
    ]
