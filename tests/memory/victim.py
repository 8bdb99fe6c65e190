# SPDX-License-Identifier: MIT
"""A bot that is handed a key, signs, and stops where the tests want to look at its memory.

    python -m memory.victim WAY MOMENT FD

The key is read from the descriptor. A line of JSON on standard output tells what it did; then it
waits for a line on standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pacifica_fast import InvalidRequest, Keypair, Signer

SIGNATURES = 8  # of each kind
POOL = 4


def from_bytearray(fd: int) -> Keypair:
    secret = bytearray(64)
    size = os.readv(fd, [secret])
    return Keypair.from_bytes(memoryview(secret)[:size], wipe=True)


def from_string(fd: int) -> Keypair:
    return Keypair.from_base58_string(os.read(fd, 100).decode())


WAYS: dict[str, Callable[[int], Keypair]] = {
    "from_fd": Keypair.from_fd,
    "from_file": lambda fd: Keypair.from_file(f"/dev/fd/{fd}"),
    "from_json_file": lambda fd: Keypair.from_json_file(f"/dev/fd/{fd}"),
    "from_bytes": from_bytearray,
    "from_base58_string": from_string,
}


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)
    sys.stdin.readline()


def fill(signer: Signer) -> None:
    while signer.stats.ready < POOL:
        time.sleep(0.001)


@contextmanager
def prepared(key: Keypair) -> Iterator[Signer]:
    with Signer(key, prepared=POOL) as signer:
        fill(signer)
        yield signer


def sign_all(key: Keypair) -> list[tuple[str, str]]:
    """Deterministic signatures, then as many prepared ones."""
    signed = []
    with Signer(key) as plain, prepared(key) as quick:
        for signer in (plain, quick):
            for number in range(SIGNATURES):
                one = signer.sign("x", {"number": number})
                signed.append((one.message, one.signature))
                if signer is quick:
                    fill(signer)
        assert quick.stats.prepared == SIGNATURES
    return signed


def stay_open(key: Keypair) -> None:
    tell(signed=sign_all(key))


def have_nonces_ready(key: Keypair) -> None:
    """Stops with a full pool, and again when all that was in it has been used."""
    with prepared(key) as signer:
        tell()
        ones = [signer.sign("x", {"number": number}) for number in range(POOL)]
        tell(signed=[(one.message, one.signature) for one in ones])


def close(key: Keypair) -> None:
    signed = sign_all(key)
    key.close()
    tell(signed=signed)


def fail(key: Keypair) -> None:
    """Calls that raise, whose errors are kept with their tracebacks, as a logger would."""
    kept: list[BaseException] = []
    calls: list[Callable[[Signer], object]] = [
        lambda signer: signer.sign("x", {"number": object()}),
        lambda signer: signer.sign("\ud800", {}),
        lambda signer: signer.sign("x", {"deep": [[[[float("nan")]]]]}),
        lambda signer: signer.cancel_order("BTC"),  # type: ignore[call-overload]
        lambda signer: signer.cancel_order("BTC", order_id=-1),
        lambda signer: key.sign_message("text"),  # type: ignore[arg-type]
    ]
    signed = sign_all(key)
    with Signer(key) as plain, prepared(key) as quick:
        for call in calls:
            for signer in (plain, quick):
                try:
                    call(signer)
                except Exception as error:
                    kept.append(error)
        key.close()
        for signer in (plain, quick):
            try:
                signer.sign("x", {})
            except Exception as error:
                kept.append(error)
    tell(signed=signed, errors=len(kept), expected=2 * len(calls) + 2)


def leave_all_open(key: Keypair) -> None:
    """Ends in the middle of things: a refill is due, nothing is closed."""
    signer = Signer(key, prepared=POOL)
    fill(signer)
    tell(signed=sign_all(key))
    signer.sign("x", {})


def leave_by_exception(key: Keypair) -> None:
    leave_all_open(key)
    raise RuntimeError("nobody catches this")


def dump_core(key: Keypair) -> None:
    with prepared(key):
        tell(signed=sign_all(key))
        os.abort()


MOMENTS = {
    moment.__name__: moment
    for moment in (
        stay_open,
        have_nonces_ready,
        close,
        fail,
        leave_all_open,
        leave_by_exception,
        dump_core,
    )
}


def main() -> None:
    way, moment, fd = sys.argv[1:]
    planted = bytearray(sys.stdin.buffer.readline())
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(planted))  # and nobody takes it back: it outlives Python
    kept: InvalidRequest | None = None  # as a logger would keep it, traceback and all
    try:
        key = WAYS[way](int(fd))
    except InvalidRequest as error:
        kept = error
    if kept is not None:
        tell(refused=str(kept))
        return
    MOMENTS[moment](key)


if __name__ == "__main__":
    main()
