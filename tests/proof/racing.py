# SPDX-License-Identifier: MIT
"""What happens at the same time as something that ends it. Each runs in a process of its own:

    python -m proof.racing SCENARIO SECONDS

It prints, as JSON, how many calls gave a signature that verifies and how many were refused. It fails if a
call ended in any other way, if a signature does not verify, or if one of them came from wiped memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from nacl.signing import SigningKey, VerifyKey

from pacifica_fast import KeyClosed, Keypair, NotSent, OutcomeUnknown, Rejected, Signer, b58decode, reference

SEED = bytes(range(32))
PUBKEY = bytes(SigningKey(SEED).verify_key)
THREADS = 4
MESSAGES = [f"message {number}".encode() for number in range(16)]
LONGEST_LIFE = 0.003  # s, of a key that is closed under its users
BETWEEN_SIGNALS = 0.001  # s
SWITCH_INTERVAL = 1e-4  # s: threads take turns 50 times as often as they would
PATIENCE = 30.0  # s

Signatures = list[tuple[bytes, str]]
Call = Callable[[Signer], Signatures]


@dataclass
class Tally:
    """How the calls ended."""

    signed: int = 0
    refused: int = 0
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)

    def verify(self, signatures: Signatures) -> None:
        key = VerifyKey(PUBKEY)
        for message, signature in signatures:
            key.verify(message, b58decode(signature))
        self.signed += len(signatures)


def _of_request(text: bytes) -> Signatures:
    """The signature of a request, and the message it should be of, put together again from its fields."""
    ((operation, body),) = json.loads(text)["params"].items()
    signature = body.pop("signature")
    del body["account"]
    header = {name: body.pop(name) for name in ("timestamp", "expiry_window")} | {"type": operation}
    return [(reference.prepare_message(header, body).encode(), signature)]


def sign(signer: Signer) -> Signatures:
    one = signer.sign("create_order", {"symbol": "BTC"})
    return [(one.message.encode(), one.signature)]


def cancel(signer: Signer) -> Signatures:
    return _of_request(signer.cancel_order("BTC", order_id=7).text)


def cancel_all(signer: Signer) -> Signatures:
    return _of_request(signer.cancel_all_orders().text)


def many(signer: Signer) -> Signatures:
    return list(zip(MESSAGES, signer.sign_many(MESSAGES, threads=2), strict=True))


CALLS: tuple[Call, ...] = (sign, cancel, cancel_all, many)


def use_until_closed(signer: Signer, call: Call, tally: Tally, done: Signatures) -> None:
    """What a thread does. A call signs, or says that the key is closed."""
    try:
        while True:
            done += call(signer)
    except KeyClosed:
        tally.refused += 1
    except Exception as error:
        tally.wrong.append(f"{call.__name__}: {error!r}")


def closing(seconds: float, tally: Tally) -> None:
    """A key, and in every other round its signer's pool before it, is closed under every kind of call."""
    dice = random.Random(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        keypair = Keypair.from_seed(SEED)
        signer = Signer(keypair, prepared=dice.choice((1, 8, 64)))
        done: Signatures = []
        threads = [
            threading.Thread(target=use_until_closed, args=(signer, call, tally, done)) for call in CALLS
        ]
        for thread in threads:
            thread.start()
        time.sleep(dice.random() * LONGEST_LIFE)
        if tally.rounds % 2:
            signer.close()
        keypair.close()
        for thread in threads:
            thread.join(PATIENCE)
        if any(thread.is_alive() for thread in threads):
            tally.wrong.append("a call never came back")
        tally.verify(done)
        tally.rounds += 1


def child_of(signer: Signer) -> int:
    """What a child finds: no key that it could sign with, and its own works. Its exit status."""
    for call in CALLS:
        try:
            call(signer)
        except KeyClosed:
            continue
        return 1
    with Keypair.from_seed(SEED) as own, Signer(own, prepared=4) as its:
        Tally().verify([one for call in CALLS for one in call(its)])
    return 0


def have_a_child(signer: Signer, tally: Tally) -> None:
    """Fork here and now, and wait for what the child has to say."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        status = 2
        try:
            status = child_of(signer)
        finally:
            os._exit(status)
    if (status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) != 0:
        tally.wrong.append(f"a child ended with {status}")
    tally.refused += len(CALLS)


def forking(seconds: float, tally: Tally) -> None:
    """The process forks while threads are in the middle of every kind of call, and a pool is refilled."""
    end = time.monotonic() + seconds
    stop = threading.Event()
    done: Signatures = []

    def use(signer: Signer, call: Call) -> None:
        while not stop.is_set():
            done.extend(call(signer))

    with Keypair.from_seed(SEED) as keypair, Signer(keypair, prepared=16) as signer:
        threads = [threading.Thread(target=use, args=(signer, call)) for call in CALLS]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            have_a_child(signer, tally)
            tally.rounds += 1
        stop.set()
        for thread in threads:
            thread.join()
    tally.verify(done)


def signals(seconds: float, tally: Tally) -> None:
    """A handler runs in the middle of calls, each ms: it signs, opens and closes keys, and forks."""
    end = time.monotonic() + seconds
    done: Signatures = []
    with Keypair.from_seed(SEED) as keypair, Signer(keypair, prepared=16) as signer:

        def handle(*_: object) -> None:  # the timer waits for it, for handlers would pile up
            tally.rounds += 1
            done.extend(CALLS[tally.rounds % len(CALLS)](signer))
            with Keypair.from_seed(SEED) as own, Signer(own, prepared=1) as its:
                done.extend(cancel(its))
            if tally.rounds % 50 == 0:
                have_a_child(signer, tally)
            signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS)
        while time.monotonic() < end:
            for call in CALLS:
                done += call(signer)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    tally.verify(done)


def fate_of(wait: Callable[[], Any], tally: Tally) -> None:
    """There is no such order, so that 420 is what a request gets that arrived."""
    try:
        wait()
    except Rejected:
        tally.signed += 1
    except (NotSent, OutcomeUnknown, KeyClosed):
        tally.refused += 1
    except Exception as error:
        tally.wrong.append(repr(error))


def use_client(client: Any, number: int, tally: Tally) -> None:
    """What a thread does with a blocking client until that is closed: every way to send, by turns."""
    while True:
        try:
            if number % 3 == 0:
                pendings = [client.cancel_order_nowait("BTC", order_id=number) for _ in range(5)]
            elif number % 3 == 1:
                pendings = [client.arm("BTC", order_id=number).fire()]
            else:
                pendings = client.pull([client.arm("BTC", order_id=1000 + each) for each in range(5)])
        except (NotSent, KeyClosed) as error:
            tally.refused += 1
            if "closed" in str(error):
                return
            continue
        except Exception as error:
            tally.wrong.append(repr(error))
            return
        for pending in pendings:
            fate_of(lambda pending=pending: pending.result(PATIENCE), tally)  # type: ignore[misc]


def closing_blocking(seconds: float, tally: Tally) -> None:
    """A blocking client is closed while threads send, arm, fire and pull."""
    from pacifica_fast.mock_exchange import MockExchange
    from pacifica_fast.sync import connect

    dice = random.Random(1)
    end = time.monotonic() + seconds
    with MockExchange(tls=True, quota=None).in_thread() as exchange, Keypair.from_seed(SEED) as keypair:
        context = exchange.client_ssl_context()
        while time.monotonic() < end:
            client = connect(Signer(keypair), url=exchange.url, ssl=context)
            threads = [
                threading.Thread(target=use_client, args=(client, n, tally)) for n in range(1, 1 + THREADS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(dice.random() * 0.05)
            client.close()
            for thread in threads:
                thread.join(PATIENCE)
            if any(thread.is_alive() for thread in threads):
                tally.wrong.append("a request never got its fate")
                return
            tally.rounds += 1


async def _use_asyncio_client(client: Any, number: int, tally: Tally) -> None:
    while True:
        try:
            pendings = client.pull([client.arm("BTC", order_id=number), client.arm("ETH", order_id=number)])
            pendings.append(client.cancel_order_nowait("BTC", order_id=number))
        except (NotSent, KeyClosed) as error:
            tally.refused += 1
            if "closed" in str(error):
                return
            await asyncio.sleep(0)
            continue
        for pending in pendings:
            try:
                await asyncio.wait_for(pending, PATIENCE)
            except Rejected:
                tally.signed += 1
            except (NotSent, OutcomeUnknown):
                tally.refused += 1


async def _closing_asyncio(seconds: float, tally: Tally) -> None:
    from pacifica_fast.asyncio import connect
    from pacifica_fast.mock_exchange import MockExchange

    dice = random.Random(1)
    end = time.monotonic() + seconds
    with Keypair.from_seed(SEED) as keypair:
        async with MockExchange(tls=True, quota=None) as exchange:
            context = exchange.client_ssl_context()
            while time.monotonic() < end:
                client = await connect(Signer(keypair), url=exchange.url, ssl=context)
                users = [
                    asyncio.create_task(_use_asyncio_client(client, n, tally)) for n in range(1, 1 + THREADS)
                ]
                await asyncio.sleep(dice.random() * 0.05)
                await client.close()
                await asyncio.wait_for(asyncio.gather(*users), PATIENCE)
                tally.rounds += 1


def closing_asyncio(seconds: float, tally: Tally) -> None:
    """An asyncio client is closed while tasks send, arm and pull."""
    asyncio.run(_closing_asyncio(seconds, tally))


SCENARIOS: dict[str, Callable[[float, Tally], None]] = {
    "closing": closing,
    "forking": forking,
    "signals": signals,
    "closing blocking": closing_blocking,
    "closing asyncio": closing_asyncio,
}


def main() -> int:
    scenario, seconds = sys.argv[1:]
    logging.disable()  # a client that closes may say that a reply came too late
    sys.setswitchinterval(SWITCH_INTERVAL)
    tally = Tally()
    SCENARIOS[scenario](float(seconds), tally)
    print(json.dumps(asdict(tally)))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
