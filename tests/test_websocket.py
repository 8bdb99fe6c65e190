# SPDX-License-Identifier: MIT
"""The websocket without I/O, against websockets' own server side, in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from pacifica_fast.websocket import WebSocket, frame_of

URI = parse_uri("ws://localhost/ws")


def connected(max_size: int = 1 << 20) -> tuple[WebSocket, ServerProtocol, Request]:
    client, server = WebSocket(URI, {"PF-API-KEY": "k1"}, max_size), ServerProtocol()
    server.receive_data(client.to_send())
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    assert client.receive(b"".join(server.data_to_send())) == []
    assert client.open
    return client, server, request


def test_compression_is_never_offered() -> None:
    _, _, request = connected()
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert request.headers["PF-API-KEY"] == "k1"


def test_compression_that_the_server_insists_on_is_refused() -> None:
    client, server = WebSocket(URI, {}, 1 << 20), ServerProtocol()
    server.receive_data(client.to_send())
    (request,) = server.events_received()
    assert isinstance(request, Request)
    response = server.accept(request)
    response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
    server.send_response(response)
    client.receive(b"".join(server.data_to_send()))
    assert not client.open
    assert client.refusal is not None


def test_texts_both_ways() -> None:
    client, server, _ = connected()
    server.receive_data(frame_of(b'{"method":"ping"}'))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, b'{"method":"ping"}', True)
    server.send_text(b'{"channel":"pong"}')
    assert client.receive(b"".join(server.data_to_send())) == [b'{"channel":"pong"}']


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_text_of_any_length_is_one_frame(size: int) -> None:
    _, server, _ = connected()
    text = b"{}" * (size // 2) + b" " * (size % 2)
    server.receive_data(frame_of(text))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, text, True)


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 64))
def test_whole_messages_from_wire_cut_anywhere(texts: list[bytes], size: int) -> None:
    client, server, _ = connected()
    for text in texts:
        server.send_text(text)
    wire = b"".join(server.data_to_send())
    received = []
    for start in range(0, len(wire), size):
        received += client.receive(wire[start : start + size])
    assert received == texts


def test_a_fragmented_message_is_put_together() -> None:
    client, server, _ = connected()
    server.send_text(b'{"chan', fin=False)
    server.send_ping(b"between")
    server.send_continuation(b"", fin=False)
    server.send_continuation(b'nel":"pong"}', fin=True)
    server.send_text(b"next")
    assert client.receive(b"".join(server.data_to_send())) == [b'{"channel":"pong"}', b"next"]
    assert client.to_send() != b""  # the pong


def test_empty_fragments_do_not_pile_up() -> None:
    client, server, _ = connected()
    server.send_text(b"", fin=False)
    for _ in range(1000):
        server.send_continuation(b"", fin=False)
    assert client.receive(b"".join(server.data_to_send())) == []
    assert len(client._parts) == 0


@pytest.mark.parametrize("pieces", [[b"x" * 2000], [b"x" * 600, b"x" * 600]])
def test_a_message_that_is_too_big_ends_the_connection(pieces: list[bytes]) -> None:
    client, server, _ = connected(max_size=1000)
    for index, piece in enumerate(pieces):
        fin = index == len(pieces) - 1
        if index == 0:
            server.send_text(piece, fin=fin)
        else:
            server.send_continuation(piece, fin=fin)
    assert client.receive(b"".join(server.data_to_send())) == []
    assert not client.open
    assert "protocol error" in client.why_over()


def test_close_by_the_server() -> None:
    client, server, _ = connected()
    server.send_close(1001, "maintenance")
    client.receive(b"".join(server.data_to_send()))
    assert not client.open
    assert "maintenance" in client.why_over()


def test_end_of_stream() -> None:
    client, _, _ = connected()
    client.receive_eof()
    assert not client.open
    assert client.why_over() == "connection lost"
    assert client.why_over("broken pipe") == "connection lost: broken pipe"
