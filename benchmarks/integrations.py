# SPDX-License-Identifier: MIT
"""What ``pacifica_fast.integrations`` saves: one cancel's request, before and after, by the same library.

``python -m benchmarks.integrations``, and ``pacifica-fast bench --integrations``: each library as it
comes and accelerated take turns in one process, in short blocks, GC frozen; hot is one call after another,
cold one call after 2 ms of rest. Whoever is not installed is left out: in a checkout ``make integrations``
installs them, and hummingbot's source, which is found with ``PYTHONPATH=.venv/hummingbot``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson

from pacifica_fast import sdk
from pacifica_fast.integrations import ccxt, hummingbot, pacifica_python_sdk, pacifica_sdk

from . import cases, peers
from .measure import REST, Ratio, frozen_gc, in_turn, ratio, timed_block
from .sample import ACCOUNT, ORDER_ID, PAYLOAD, is_body, is_request

__all__ = ["Row", "main", "measure"]

ROUNDS, HOT_CALLS, COLD_CALLS = 100, 20, 5
TITLE = "one cancel, from arguments to the bytes sent"
PREPARED = 1_024  # nonces: far more than a block uses


def nothing() -> None:
    """There is nothing to do first."""


@dataclass(frozen=True)
class Way:
    """One library in one state: ``ready`` puts it there, untimed, before every block."""

    run: Callable[[], Any]
    is_right: Callable[[Any], bool]
    ready: Callable[[], None] = nothing


@dataclass(frozen=True)
class Row:
    """Medians in µs, and how many times longer it took before, by rounds."""

    name: str
    how: str
    before: float
    after: float
    ratio: Ratio


Pair = tuple[str, Way, Way]


def official_sdk() -> Iterator[Pair]:
    """``sign_message`` with solders' Keypair, and a request around it."""

    def way(sign: Any) -> Way:
        return Way(lambda: cases.sdk_request(sign, cases.SOLDERS, ACCOUNT), is_request)

    yield "official SDK, pacifica_fast.sdk", way(cases.sdk_sign_message), way(sdk.sign_message)


def ccxt_pro() -> Iterator[Pair]:
    """What ``cancel_order_ws`` does before it sends, and the JSON that its connection writes."""

    def way(exchange: Any) -> Way:
        def run() -> str:
            request = exchange.cancel_order_request(str(ORDER_ID), peers.MARKET)
            return orjson.dumps(exchange.wrap_as_post_action("cancel_order", request)).decode()

        return Way(run, is_request)

    plain = way(peers.ccxt_exchange())
    yield "ccxt", plain, way(ccxt.accelerate(peers.ccxt_exchange()))

    exchange = ccxt.accelerate(peers.ccxt_exchange(), prepared=PREPARED)
    signer = vars(exchange)["_pacifica_fast"].signer(exchange.privateKey)

    def wait() -> None:
        while signer.stats.ready < PREPARED:
            time.sleep(0.0005)

    prepared = way(exchange)
    yield "ccxt, prepared", plain, Way(prepared.run, prepared.is_right, wait)
    ccxt.restore(exchange)


def from_the_index() -> Iterator[Pair]:
    """What the two SDKs on the index do before they send."""
    switches: dict[str, Any] = {peers.SDK: pacifica_sdk, peers.PYTHON_SDK: pacifica_python_sdk}
    for case in peers.requests():
        if switch := switches.get(case.name):
            before = Way(case.run, case.is_right, switch.restore)
            yield case.name, before, Way(case.run, case.is_right, switch.accelerate)
            switch.restore()


def hummingbots() -> Iterator[Pair]:
    """What its auth object does with a request."""
    try:
        factory, logger = logging.getLogRecordFactory(), logging.getLoggerClass()
        auth_module = peers.load("hummingbot.connector.derivative.pacifica_perpetual.pacifica_perpetual_auth")
        types = peers.load("hummingbot.core.web_assistant.connections.data_types")
        logging.setLogRecordFactory(factory)
        logging.setLoggerClass(logger)
    except ImportError:
        return
    auth = auth_module.PacificaPerpetualAuth(ACCOUNT, cases.SOLDERS_TEXT, ACCOUNT)
    data = json.dumps({"type": "cancel_order", **PAYLOAD})

    def run() -> str:
        request = types.RESTRequest(method=types.RESTMethod.POST, url="/x", data=data)
        coroutine = auth.rest_authenticate(request)
        with suppress(StopIteration):
            coroutine.send(None)
        body: str = request.data
        return body

    def is_right(body: str) -> bool:
        return is_body(json.loads(body))

    before = Way(run, is_right, hummingbot.restore)
    yield "hummingbot's auth object", before, Way(run, is_right, hummingbot.accelerate)
    hummingbot.restore()


def pairs() -> Iterator[Pair]:
    """Every library that is here, as it comes and accelerated."""
    yield from official_sdk()
    if peers.CCXT in peers.versions():
        yield from ccxt_pro()
    yield from from_the_index()
    yield from hummingbots()


def measure(name: str, before: Way, after: Way, rounds: int = ROUNDS) -> Iterator[Row]:
    """Both, in turn. Raises :class:`ValueError` if one of them signs wrongly."""
    for way in (before, after):
        way.ready()
        if not way.is_right(way.run()):
            raise ValueError(f"{name}: the signature does not verify")
    for how, calls, rest in (("hot", HOT_CALLS, 0.0), ("cold", COLD_CALLS, REST)):
        took: dict[int, list[Sequence[float]]] = {0: [], 1: []}
        with frozen_gc():
            for number in range(rounds):
                for index, way in in_turn([(0, before), (1, after)], number):
                    way.ready()
                    way.run()  # what changed hands is warm again
                    took[index].append(timed_block(way.run, calls, rest))
        slow, fast = (median(one for block in took[index] for one in block) / 1000 for index in (0, 1))
        yield Row(name, how, slow, fast, ratio(took[0], took[1]))


def _as_text(row: Row) -> str:
    spread = f"{row.ratio.median:5.2f} ({row.ratio.low:.2f} to {row.ratio.high:.2f})"
    return f"{row.name:37} {row.how:6}  {row.before:9.1f}  {row.after:8.1f}  {spread}"


def _as_dict(row: Row) -> dict[str, Any]:
    ratio = {"ratio": row.ratio.median, "quartiles": [row.ratio.low, row.ratio.high]}
    return {"name": row.name, "how": row.how, "before_us": row.before, "after_us": row.after, **ratio}


def main(arguments: Sequence[str] | None = None, prog: str = "python -m benchmarks.integrations") -> int:
    """The command. The exit status is 0: whatever signs wrongly raises."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of both, in turn (%(default)s)")
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only libraries with this in their name"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON instead")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for pair in pairs():
        if options.only and not any(word in pair[0] for word in options.only):
            continue
        for row in measure(*pair, rounds=options.rounds):
            if not options.json:
                title = "" if rows else f"{TITLE:44}  before µs  after µs  ratio (quartiles)\n"
                print(title + _as_text(row), flush=True)
            rows.append(row)
    if not rows:
        parser.exit(2, f"{prog}: no library that is installed has that in its name\n")
    if options.json:
        print(json.dumps({"ok": True, "integrations": [_as_dict(row) for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
