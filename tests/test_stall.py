# SPDX-License-Identifier: MIT
"""What came while the process stood still counts, whatever the clock says."""

from __future__ import annotations

import subprocess
import sys
import time
from math import inf

import pytest

from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.stall import AGAIN, CATCH_UP, KEEP_UP, LITTLE, QUIET, STOOD_STILL, Stall
from pacifica_fast.tcp import RECEIVE_SIZE


class Reading:
    def __init__(self) -> None:
        self.received = 0


def test_in_time_and_nothing_left_to_read() -> None:
    stall, link = Stall(), Reading()
    assert not stall.goes_on(1.0, inf, [link])
    link.received = RECEIVE_SIZE - 1
    assert not stall.goes_on(1.0, 1.0 - STOOD_STILL / 2, [link])
    assert link.received == 0


def test_after_a_stall_it_has_to_be_quiet() -> None:
    """What the receive buffer had no room for comes after the first reads, and in bursts."""
    stall, links = Stall(), [Reading(), Reading()]
    assert stall.goes_on(10.0, 1.0, links)
    assert stall.goes_on(10.0 + QUIET * 0.9, 10.0, links)
    links[1].received = LITTLE
    assert stall.goes_on(10.0 + QUIET * 1.1, 10.0, links)
    assert stall.goes_on(10.0 + QUIET * 2, 10.0, links)
    links[0].received = LITTLE - 1  # what comes anyway
    assert not stall.goes_on(10.0 + QUIET * 2.2, 10.0, links)
    assert stall.goes_on(20.0, 11.0, [])  # the next one


def test_standing_still_again_begins_anew_but_not_for_ever() -> None:
    stall = Stall()
    for n in range(AGAIN):
        assert stall.goes_on(10.0 * n, 10.0 * n - STOOD_STILL * 2, [])
    assert not stall.goes_on(10.0 * AGAIN, 10.0 * AGAIN - STOOD_STILL * 2, [])
    assert stall.goes_on(1000.0, 0.0, [])


@pytest.mark.parametrize(("late", "most"), [(1.0, CATCH_UP), (0.0, KEEP_UP)])
def test_as_long_as_something_is_left_but_not_for_ever(late: float, most: float) -> None:
    stall, links = Stall(), [Reading(), Reading()]
    now = 10.0
    while now < 10.0 + most:
        links[1].received = RECEIVE_SIZE
        assert stall.goes_on(now, now - late, links)
        late = 0.0
        assert links[1].received == 0
        now += most / 64
    links[0].received = RECEIVE_SIZE
    assert not stall.goes_on(now, now, links)


def test_flooded_no_longer() -> None:
    stall, link = Stall(), Reading()
    link.received = RECEIVE_SIZE
    assert stall.goes_on(10.0, 10.0, [link])
    link.received = RECEIVE_SIZE - 1
    assert not stall.goes_on(10.001, 10.001, [link])


# A child sends cancels and then does nothing at all, not even let the reader run, for longer than it gives a
# reply; meanwhile all of them come. However slow the machine: it is told when to go on.

CANCELS = 4000  # more replies than a receive buffer holds: the rest waits on the other side
TIMEOUT = 2.0  # s
STILL = "ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)"  # with the GIL, until stdin ends

ASYNCIO = f"""
import asyncio, ctypes, sys
from pacifica_fast import Keypair, Signer
from pacifica_fast.asyncio import connect

async def main():
    signer = Signer(Keypair.generate())
    async with connect(signer, url=sys.argv[1], timeout={TIMEOUT}, pong_timeout=0.2) as client:
        pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range({CANCELS})]
        {STILL}
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

with connect(Signer(Keypair.generate()), url=sys.argv[1], timeout={TIMEOUT}, pong_timeout=0.2) as client:
    pendings = [client.cancel_order_nowait("BTC", order_id=n) for n in range({CANCELS})]
    {STILL}
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
        command = [sys.executable, "-c", RUN[client], exchange.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            while exchange.verified < CANCELS and child.poll() is None:
                time.sleep(0.01)
            time.sleep(1.25 * TIMEOUT)
            printed, _ = child.communicate()
        assert exchange.verified == CANCELS
    rejected, unknown, reconnects = map(int, printed.split())
    assert (rejected, unknown, reconnects) == (CANCELS, 0, 0)
