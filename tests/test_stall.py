# SPDX-License-Identifier: MIT
"""What came while the process stood still counts, whatever the clock says."""

from __future__ import annotations

import subprocess
import sys
from math import inf

import pytest

from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.stall import CATCH_UP, KEEP_UP, STOOD_STILL, Stall


class Reading:
    def __init__(self, behind: bool = False) -> None:
        self.behind = behind


def test_in_time_and_nothing_left_to_read() -> None:
    stall = Stall()
    assert not stall.goes_on(1.0, inf, [Reading()])
    assert not stall.goes_on(1.0, 1.0 - STOOD_STILL / 2, [Reading()])


def test_after_a_stall_everything_is_read_once_more() -> None:
    stall = Stall()
    assert stall.goes_on(10.0, 1.0, [Reading()])
    assert not stall.goes_on(10.1, 10.0, [Reading()])  # slow, but it was read
    assert stall.goes_on(20.0, 11.0, [])  # the next one


@pytest.mark.parametrize(("late", "most"), [(1.0, CATCH_UP), (0.0, KEEP_UP)])
def test_as_long_as_something_is_left_but_not_for_ever(late: float, most: float) -> None:
    stall, links = Stall(), [Reading(), Reading()]
    now = 10.0
    while now < 10.0 + most:
        links[1].behind = True
        assert stall.goes_on(now, now - late, links)
        assert not links[1].behind
        now += most / 16
    links[0].behind = True
    assert not stall.goes_on(now, now, links)


# A child sends cancels and then does nothing at all, not even let the reader run, for three times as long as
# it gives a reply; meanwhile all of them come.

CANCELS = 1500  # more replies than one read takes

ASYNCIO = f"""
import asyncio, sys, time
from pacifica_fast import Keypair, Signer
from pacifica_fast.asyncio import connect

async def main():
    async with connect(Signer(Keypair.generate()), url=sys.argv[1], timeout=0.5, pong_timeout=0.2) as client:
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range({CANCELS})]
        time.sleep(1.5)
        await asyncio.wait([asyncio.ensure_future(wait(pending)) for pending in pendings])
        print(client.fates.rejected, client.fates.unknown, client.status().reconnects)

async def wait(pending):
    try:
        await pending
    except Exception:
        pass
"""

RUN = {
    "asyncio": ASYNCIO + "asyncio.run(main())",
    "uvloop": ASYNCIO + "import uvloop\nuvloop.run(main())",
    "blocking": f"""
import ctypes, sys
from pacifica_fast import Keypair, Signer
from pacifica_fast.sync import connect

with connect(Signer(Keypair.generate()), url=sys.argv[1], timeout=0.5, pong_timeout=0.2) as client:
    pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range({CANCELS})]
    ctypes.PyDLL(None).usleep(900_000)  # with the GIL
    ctypes.PyDLL(None).usleep(600_000)
    for pending in pendings:
        try:
            pending.result()
        except Exception:
            pass
    print(client.fates.rejected, client.fates.unknown, client.status().reconnects)
""",
}


@pytest.mark.parametrize("client", list(RUN))
def test_replies_that_waited_in_the_socket_count(client: str) -> None:
    if client == "uvloop":
        pytest.importorskip("uvloop")
    with MockExchange(quota=None).in_thread() as exchange:
        child = subprocess.run(
            [sys.executable, "-c", RUN[client], exchange.url], capture_output=True, text=True, check=True
        )
        assert exchange.verified == CANCELS
    rejected, unknown, reconnects = map(int, child.stdout.split())
    assert (rejected, unknown, reconnects) == (CANCELS, 0, 0)
