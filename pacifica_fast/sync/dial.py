# SPDX-License-Identifier: MIT
"""A TCP connection within a deadline, whatever it is that takes so long.

Addresses are tried as RFC 8305 (Happy Eyeballs) has it: the families in turn, the next
address after a quarter of a second or as soon as one fails, and the first to answer wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import deque
from collections.abc import Iterable
from itertools import chain, zip_longest
from math import ceil
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

__all__ = ["dial", "milliseconds_until"]

ATTEMPT_DELAY = 0.25  # s (RFC 8305, section 5)
GIVEN_UP = "given up"

_LOOK_UP = 0.05  # s; how soon whoever waits for a name notices that he need not

Address = tuple[Any, ...]
"""One answer of ``socket.getaddrinfo``."""


def dial(host: str, port: int, deadline: float, stop: socket.socket | None = None) -> socket.socket:
    """Connect; the socket is non-blocking.

    ``deadline`` is in seconds of ``time.monotonic``; something to read from ``stop`` ends the
    attempt. Raises ``TimeoutError`` when the time is up, ``socket.gaierror`` when the name has no
    address, and ``OSError`` when none of them answers.
    """
    return _first_to_answer(_families_in_turn(_resolved(host, port, deadline, stop)), deadline, stop)


def milliseconds_until(moment: float) -> int:
    """How long ``poll`` is to wait, rounded up so that it does not come back too early."""
    return max(0, ceil((moment - monotonic()) * 1000))


def _resolved(host: str, port: int, deadline: float, stop: socket.socket | None) -> list[Address]:
    with contextlib.suppress(socket.gaierror):  # an address needs no name server
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    # The system's resolver knows no deadline and cannot be interrupted: a thread waits for it.
    answers: SimpleQueue[list[Address] | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            answers.put(error)

    Thread(target=resolve, name="pacifica_fast resolver", daemon=True).start()
    answer = _answer(answers, deadline, stop)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(
    answers: SimpleQueue[list[Address] | Exception], deadline: float, stop: socket.socket | None
) -> list[Address] | Exception:
    while (left := deadline - monotonic()) > 0:
        with contextlib.suppress(Empty):
            return answers.get(timeout=min(left, _LOOK_UP))
        if stop is not None and select.select([stop], [], [], 0)[0]:
            raise OSError(GIVEN_UP)
    raise TimeoutError("the name was not resolved in time")


def _families_in_turn(addresses: Iterable[Address]) -> list[Address]:
    by_family: dict[int, list[Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*by_family.values())) if address]


def _first_to_answer(
    addresses: Iterable[Address], deadline: float, stop: socket.socket | None
) -> socket.socket:
    untried = deque(addresses)
    attempts: dict[int, socket.socket] = {}
    errors: list[OSError] = []
    poller = select.poll()
    next_attempt = 0.0
    if stop is not None:
        poller.register(stop, select.POLLIN)
    try:
        while untried or attempts:
            now = monotonic()
            if now >= deadline:
                raise TimeoutError("no address answered in time")
            if untried and (now >= next_attempt or not attempts):
                try:
                    sock = _begin(untried.popleft())
                except OSError as error:
                    errors.append(error)
                    continue
                attempts[sock.fileno()] = sock
                poller.register(sock, select.POLLOUT)
                next_attempt = now + ATTEMPT_DELAY
            until = min(next_attempt, deadline) if untried else deadline
            for descriptor, _ in poller.poll(milliseconds_until(until)):
                if descriptor not in attempts:
                    raise OSError(GIVEN_UP)
                poller.unregister(descriptor)
                sock = attempts.pop(descriptor)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                sock.close()
                errors.append(OSError(code, os.strerror(code)))
                next_attempt = 0.0
    finally:
        for sock in attempts.values():
            sock.close()
    raise OSError("; ".join(dict.fromkeys(map(str, errors))) or "the name has no address")


def _begin(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(where)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
