# SPDX-License-Identifier: MIT
"""Names, addresses and deadlines, on loopback and with a resolver that does as it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pacifica_fast import ConnectionFailed, Keypair, Signer
from pacifica_fast.sync import connect
from pacifica_fast.sync.dial import dial, milliseconds_until

PATIENCE = 30.0  # s
SLOW = ("192.0.2.1", 443)  # TEST-NET-1 (RFC 5737): nobody answers


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def answers(*where: tuple[str, int]) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in where]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *where: tuple[str, int]) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        return (
            answers(*where)
            if host == "exchange.test" and "flags" not in options
            else real(host, port, **options)
        )

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def refusing() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: tuple[str, int] = server.getsockname()
        return address


def soon() -> float:
    return time.monotonic() + PATIENCE


def test_an_address(server: socket.socket) -> None:
    host, port = server.getsockname()
    with dial(host, port, soon()) as sock:
        assert sock.getpeername() == (host, port)
        assert not sock.getblocking()


def test_a_name(server: socket.socket) -> None:
    with dial("localhost", server.getsockname()[1], soon()) as sock:
        assert sock.getpeername() == server.getsockname()


def test_the_next_address_when_one_refuses(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, refusing(), refusing(), server.getsockname())
    with dial("exchange.test", 443, soon()) as sock:
        assert sock.getpeername() == server.getsockname()


def test_the_next_address_when_one_does_not_answer(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that swallows everything (or has no route here) does not use up the deadline."""
    resolve_to(monkeypatch, SLOW, server.getsockname())
    with dial("exchange.test", 443, soon()) as sock:
        assert sock.getpeername() == server.getsockname()


def test_all_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, refusing(), refusing())
    with pytest.raises(OSError, match="refused"):
        dial("exchange.test", 443, soon())


def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch)
    with pytest.raises(OSError, match="no address"):
        dial("exchange.test", 443, soon())


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    class Recorder(socket.socket):
        def connect_ex(self, address: Any) -> int:
            tried.append(address[0])
            return 111

    v6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"::{n}", 1, 0, 0)) for n in (1, 2, 3)]
    v4 = answers(("127.0.0.1", 1))
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **options: real(*a, **options) if "flags" in options else v6 + v4
    )
    monkeypatch.setattr(socket, "socket", Recorder)
    with pytest.raises(OSError, match="refused"):
        dial("exchange.test", 443, soon())
    assert tried == ["::1", "127.0.0.1", "::2", "::3"]


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectionFailed, match="not known") as caught:
        connect(Signer(Keypair.generate()), url="wss://exchange.test/ws")
    assert caught.value.stage == "dns"


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is one for everything, and name resolution cannot be interrupted."""
    answer = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if "flags" in options:
            return real(host, port, **options)
        answer.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectionFailed, match=r"not open within 0\.1 s") as caught:
        connect(Signer(Keypair.generate()), url="wss://exchange.test/ws", open_timeout=0.1)
    assert caught.value.stage == "timeout"
    (resolver,) = [thread for thread in threading.enumerate() if "resolver" in thread.name]
    answer.set()
    resolver.join(PATIENCE)
    assert not resolver.is_alive()


def test_a_deadline_that_has_passed(server: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        dial("127.0.0.1", server.getsockname()[1], time.monotonic() - 1.0)


def test_poll_never_wakes_too_early() -> None:
    now = time.monotonic()
    assert milliseconds_until(now - 5.0) == 0
    assert 900_000 < milliseconds_until(now + 1000.0) <= 1_000_000
