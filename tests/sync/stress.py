# SPDX-License-Identifier: MIT
"""TLS 1.3 in both directions at once: many threads send while market data floods in.

An ``SSLSocket`` shared like that dies of bad record MACs within seconds. Here nothing may
be lost: every request gets the reply that carries its id, every flooded message arrives.

    python tests/sync/stress.py --seconds 60

The exchange is a process of its own, so that both ends truly run at the same time.
``--without-turns`` lets everybody in at any time, to see that this would notice: it must fail.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import orjson
from links_of import sync_link_of

from pacifica_fast import Keypair, NotSent, OutcomeUnknown, Rejected, Signer
from pacifica_fast.mock_exchange import MockExchange, Received
from pacifica_fast.session import Lane
from pacifica_fast.sync import Client, connect

THREADS = 6
WINDOW = 8  # requests of one thread in flight
FLOOD = 12  # messages that follow each request's reply
SIZES = (40, *[300] * 30, *[2_000] * 5, 20_000)  # bytes; the last takes two TLS records
PATIENCE = 60.0  # s for what was flooded last to arrive


@dataclass
class Counts:
    """What happened. ``lost`` tells why requests ended without a reply, and how many of each."""

    sent: int = 0
    answered: int = 0
    verified: int = 0
    flooded: int = 0
    received: int = 0
    not_ready: int = 0  # refused, because earlier data was waiting for the socket
    protocol: str | None = None
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True if there was something to lose, in either direction, and none of it was lost."""
        return (
            self.protocol == "TLSv1.3"
            and 0 < self.sent == self.answered == self.verified
            and 0 < self.flooded == self.received
            and not self.lost
        )


def serve(pipe: Connection) -> None:
    """The exchange, in its process: answers each request with its reply and a flood."""
    dice = random.Random(1)
    texts = [orjson.dumps({"channel": "book", "data": "x" * dice.choice(SIZES)}).decode() for _ in range(997)]
    flooded = 0

    def flood(received: Received) -> None:
        nonlocal flooded
        for _ in range(FLOOD):
            exchange.faults.send_raw(texts[flooded % len(texts)])
            flooded += 1

    exchange = MockExchange(tls=True, quota=None, history=1, on_message=flood)
    with exchange.in_thread():
        pipe.send((exchange.url, exchange.authority_pem))
        pipe.recv()  # all requests are answered, or never will be
        _ = exchange.connections  # asks in its event loop, behind the last flood
        pipe.send((exchange.verified, flooded))
        pipe.recv()  # all of the flood has arrived, or never will


class Everybodys(list[None]):
    """In place of the turn: there for everybody, always."""

    def __delitem__(self, _: object) -> None:
        pass

    def append(self, _: None) -> None:
        pass


def stress(seconds: float, *, turns: bool = True) -> Counts:
    """Send from many threads for so many seconds, and count."""
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    process = spawn.Process(target=serve, args=(other,), daemon=True)
    process.start()
    url, authority = pipe.recv()
    counts = Counts()
    context = ssl.create_default_context(cadata=authority)
    with connect(Signer(Keypair.generate()), url=url, ssl=context) as client:
        count_received(client, counts)
        if not turns:
            client._turn.free = Everybodys([None])
        end = time.monotonic() + seconds
        own = [Counts() for _ in range(THREADS)]
        threads = [threading.Thread(target=send, args=(client, end, count)) for count in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for count in own:
            counts.sent += count.sent
            counts.answered += count.answered
            counts.not_ready += count.not_ready
            for reason, number in count.lost.items():
                counts.lost[reason] = counts.lost.get(reason, 0) + number
        tls = sync_link_of(client)._tls
        assert tls is not None
        counts.protocol = tls.version()
        pipe.send("answered")
        counts.verified, counts.flooded = pipe.recv()
        give_up = time.monotonic() + PATIENCE
        while counts.received < counts.flooded and client.connected and time.monotonic() < give_up:
            time.sleep(0.01)
    pipe.send("arrived")
    process.join(PATIENCE)
    return counts


def count_received(client: Client, counts: Counts) -> None:
    """Have the messages counted that are for a channel."""
    session = client._session
    receive = session.receive

    def counting(lane: Lane[Any], text: bytes, now: float) -> dict[str, Any] | None:
        message = receive(lane, text, now)
        if message is not None:
            counts.received += 1
        return message

    session.receive = counting  # type: ignore[method-assign]


def send(client: Client, end: float, counts: Counts) -> None:
    """One thread: a few requests in flight at a time, each answered with its own id."""
    while time.monotonic() < end:
        pendings = []
        for order_id in range(WINDOW):
            try:
                pendings.append(client.cancel_order_nowait("BTC", order_id=order_id))
            except NotSent as error:
                if "waiting for the socket" not in error.reason:
                    counts.lost[error.reason] = counts.lost.get(error.reason, 0) + 1
                    end = 0.0
                    break
                counts.not_ready += 1
        counts.sent += len(pendings)
        for pending in pendings:
            try:
                pending.result()
            except Rejected as error:  # there is no such order
                counts.answered += error.request_id == pending.id
            except (OutcomeUnknown, NotSent) as error:
                counts.lost[error.reason] = counts.lost.get(error.reason, 0) + 1
                end = 0.0


def main() -> int:
    """The command line; the exit status is 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--without-turns", action="store_true")
    arguments = parser.parse_args()
    counts = stress(arguments.seconds, turns=not arguments.without_turns)
    for name, value in asdict(counts).items():
        sys.stdout.write(f"{name:10}{value}\n")
    return 0 if counts.complete else 1


if __name__ == "__main__":
    sys.exit(main())
