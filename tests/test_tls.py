# SPDX-License-Identifier: MIT
"""TLS against a real server side, in memory: one end is ours, the other is ``ssl`` itself."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica_fast._certificate import Certificate, issue
from pacifica_fast.tls import TLS

CERTIFICATE: Certificate = issue()


class Server:
    """The other end: ``SSLObject`` as a server."""

    def __init__(self, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = CERTIFICATE.server_context()
        context.maximum_version = maximum
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def handshake(self, data: bytes) -> bytes:
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
        return self.outgoing.read()

    def send(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self.object.write(view) :]
        return self.outgoing.read()

    def read(self, data: bytes) -> bytes:
        self.incoming.write(data)
        pieces: list[bytes] = []
        while True:
            try:
                piece = self.object.read(1 << 20)
            except ssl.SSLWantReadError:
                return b"".join(pieces)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def connected(maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[TLS, Server]:
    client, server = TLS(CERTIFICATE.client_context(), "localhost"), Server(maximum)
    to_server = client.start()
    for _ in range(4):
        to_client = server.handshake(to_server)
        plain, to_server = client.receive(to_client)
        assert plain == b""
        if client.established and not to_server:
            break
    assert client.established
    return client, server


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ways(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    assert client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert server.read(client.encrypt(b"to the server")) == b"to the server"
    assert client.receive(server.send(b"to the client"))[0] == b"to the client"


@given(st.binary(max_size=50_000), st.lists(st.integers(1, 5000), min_size=1, max_size=20))
@settings(max_examples=30)
def test_records_cut_anywhere(message: bytes, cuts: list[int]) -> None:
    client, server = connected()
    wire = server.send(message) if message else b""
    received, start = b"", 0
    for size in cuts:
        received += client.receive(wire[start : start + size])[0]
        start += size
    received += client.receive(wire[start:])[0]
    assert received == message


def test_more_than_one_record() -> None:
    client, server = connected()
    message = bytes(range(256)) * 1024
    assert server.read(client.encrypt(message)) == message
    assert client.receive(server.send(message))[0] == message


def test_an_untrusted_certificate_is_refused() -> None:
    client, server = TLS(ssl.create_default_context(), "localhost"), Server()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.receive(server.handshake(client.start()))
    assert not client.established


def test_another_host_name_is_refused() -> None:
    client, server = TLS(CERTIFICATE.client_context(), "ws.pacifica.fi"), Server()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.receive(server.handshake(client.start()))


def test_garbage_instead_of_a_handshake() -> None:
    client = TLS(CERTIFICATE.client_context(), "localhost")
    client.start()
    with pytest.raises(ssl.SSLError):
        client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_changed_record_is_refused() -> None:
    client, server = connected()
    wire = bytearray(server.send(b"code 200"))
    wire[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        client.receive(bytes(wire))


def test_the_peers_goodbye_is_told_from_a_cut() -> None:
    client, server = connected()
    assert not client.closed_by_peer
    with contextlib.suppress(ssl.SSLWantReadError):
        server.object.unwrap()
    client.receive(server.outgoing.read())
    assert client.closed_by_peer


def test_our_goodbye() -> None:
    client, server = connected()
    assert server.read(client.close()) == b""
