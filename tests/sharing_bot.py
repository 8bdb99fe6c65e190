# SPDX-License-Identifier: MIT
"""A bot in a process of its own, for test_credits_redis: it orders as much as it may, and cancels it all.

Its settings are one line of JSON on stdin; "ready" goes out when it knows its credits, and it begins at the
next line. What became of everything is one line of JSON on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import nullcontext, suppress
from typing import Any
from unittest import mock

from pacifica_fast import CreditsReserved, Keypair, RateLimited, Rejected, Signer, credits_redis
from pacifica_fast.asyncio import connect
from pacifica_fast.credits_redis import RedisShare
from pacifica_fast.sync import connect as connect_blocking

BURST = 60  # orders at once
ORDER = {
    "symbol": "BTC",
    "price": "50000",
    "amount": "0.01",
    "side": "bid",
    "tif": "ALO",
    "reduce_only": False,
}


class Count:
    """What became of all that was tried."""

    def __init__(self) -> None:
        self.found = dict.fromkeys(("created", "held_back", "refused", "cancelled", "cancels_refused"), 0)
        self.resting: list[int] = []

    def order(self, outcome: Any) -> None:
        if isinstance(outcome, CreditsReserved):
            self.found["held_back"] += 1
        elif isinstance(outcome, RateLimited):
            self.found["refused"] += 1
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            self.found["created"] += 1
            self.resting.append(outcome.data["i"])

    def cancel(self, outcome: Any) -> None:
        if isinstance(outcome, RateLimited):
            self.found["cancels_refused"] += 1
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            self.found["cancelled"] += 1


def wait_to_begin(share: RedisShare | None, budget: Any) -> None:
    while share is not None and budget.books().allowance is None:
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.readline()


async def asynchronous(signer: Signer, settings: dict[str, Any], count: Count) -> None:
    """All orders at once, then all cancels at once, again and again."""
    async with connect(signer, url=settings["url"], timeout=60, credit_reserve=settings["reserve"]) as client:
        budget = client.budget
        with share_of(budget, settings) as share:
            with suppress(Rejected):  # but then it is known what is left
                await client.cancel_order("BTC", order_id=1)
            await asyncio.to_thread(wait_to_begin, share, budget)
            end = time.monotonic() + settings["seconds"]
            while True:
                orders = [client.request("create_order", ORDER) for _ in range(BURST)]
                for outcome in await asyncio.gather(*orders, return_exceptions=True):
                    count.order(outcome)
                pendings = [client.cancel_order_nowait("BTC", order_id=order) for order in count.resting]
                count.resting.clear()
                for outcome in await asyncio.gather(*pendings, return_exceptions=True):
                    count.cancel(outcome)
                if time.monotonic() >= end:
                    return
                await asyncio.sleep(0.02)


def blocking(signer: Signer, settings: dict[str, Any], count: Count) -> None:
    """One after the other."""
    with connect_blocking(
        signer, url=settings["url"], timeout=60, credit_reserve=settings["reserve"]
    ) as client:
        budget = client.budget
        with share_of(budget, settings) as share:
            with suppress(Rejected):
                client.cancel_order("BTC", order_id=1)
            wait_to_begin(share, budget)
            end = time.monotonic() + settings["seconds"]
            while True:
                for _ in range(BURST):
                    try:
                        count.order(client.request("create_order", ORDER))
                    except (CreditsReserved, RateLimited) as error:
                        count.order(error)
                for order in count.resting:
                    try:
                        count.cancel(client.cancel_order("BTC", order_id=order))
                    except RateLimited as error:
                        count.cancel(error)
                count.resting.clear()
                if time.monotonic() >= end:
                    return
                time.sleep(0.02)


def share_of(budget: Any, settings: dict[str, Any]) -> Any:
    """The share that the settings ask for, or nothing."""
    redis = settings["redis"]
    # Nobody is to be taken for dead because the machine stood still.
    script = credits_redis._SCRIPT.replace("LOST, SETTLING, KEPT = 10000,", "LOST, SETTLING, KEPT = 3600000,")
    with mock.patch.object(credits_redis, "_SCRIPT", script):
        return nullcontext() if redis is None else RedisShare(budget, redis, "desk 1", timeout=5)


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    count = Count()
    with Keypair.generate() as keypair:
        signer = Signer(keypair, expiry_window=60_000)
        if settings["kind"] == "asyncio":
            asyncio.run(asynchronous(signer, settings, count))
        else:
            blocking(signer, settings, count)
    print(json.dumps(count.found))


if __name__ == "__main__":
    main()
