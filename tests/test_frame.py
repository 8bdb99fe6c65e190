# SPDX-License-Identifier: MIT
"""The websocket frame in C, against websockets' own frames, and cancels in it against the requests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.uri import parse_uri

from pacifica_fast import Keypair, Signer, reference
from pacifica_fast._sodium import ffi, lib

HEADER_MAX = 14
BOUNDARIES = [0, 1, 2, 3, 4, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 65_537]
CLIENT_ID = "79f948fd-7556-4066-a128-083f3ea49322"
TIMESTAMP = 1_749_223_343_149

signer = Signer(Keypair.from_seed(bytes(range(1, 33))))


def framed(text: bytes) -> bytes:
    out = ffi.new("char[]", len(text) + HEADER_MAX)
    size = lib.pf_frame_text(out, len(out), text, len(text))
    assert size > 0, ffi.string(lib.pf_error_text(size))
    return bytes(ffi.buffer(out, size))


def parsed(wire: bytes) -> Frame:
    """What websockets, as a server, makes of exactly these bytes."""
    reader = StreamReader()
    reader.feed_data(wire)
    reader.feed_eof()
    parser: Generator[None, None, Frame] = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as done:
        next(parser)
    at_end: Generator[None, None, bool] = reader.at_eof()
    with pytest.raises(StopIteration) as rest:
        next(at_end)
    assert rest.value.value is True  # nothing is left over
    frame = done.value.value
    assert isinstance(frame, Frame)
    return frame


def mask_key(wire: bytes) -> bytes:
    start = {126: 4, 127: 10}.get(wire[1] & 0x7F, 2)
    return wire[start : start + 4]


def check_text(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = framed(text)
    frame = parsed(wire)
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, text)
    assert (frame.rsv1, frame.rsv2, frame.rsv3) == (False, False, False)
    # And the other way: websockets writes the same bytes, given the same mask key.
    with monkeypatch.context() as patch:
        patch.setattr("websockets.frames.secrets.token_bytes", lambda size: mask_key(wire))
        assert Frame(Opcode.TEXT, text).serialize(mask=True) == wire


@pytest.mark.parametrize("length", BOUNDARIES)
def test_lengths_at_the_edges_of_the_three_forms(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_text((b"Grenze " * (length // 7 + 1))[:length], monkeypatch)


@settings(max_examples=200)
@given(data=st.data(), length=st.integers(0, 70_000))
def test_any_text_as_websockets_writes_and_reads_it(data: st.DataObject, length: int) -> None:
    pattern = data.draw(st.binary(min_size=1, max_size=64))
    text = (pattern * (length // len(pattern) + 1))[:length]
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_text(text, monkeypatch)


def test_a_server_connection_takes_many_in_one_read() -> None:
    texts = [b'{"n":%d}' % n + b" " * (n * 37) for n in range(200)]
    client, server = ClientProtocol(parse_uri("ws://localhost/ws")), ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    server.receive_data(b"".join(framed(text) for text in texts))
    received = server.events_received()
    assert [frame.data for frame in received if isinstance(frame, Frame)] == texts


def test_capacity() -> None:
    for length in BOUNDARIES:
        needed = length + (14 if length > 65_535 else 8)
        text = b"x" * length
        out = ffi.new("char[]", needed + 1)
        ffi.buffer(out)[:] = b"Z" * (needed + 1)
        for capacity in {0, 1, 7, needed - 1}:
            assert lib.pf_frame_text(out, min(capacity, needed - 1), text, length) == lib.PF_ERR_CAPACITY
        assert ffi.buffer(out)[:] == b"Z" * (needed + 1)
        assert lib.pf_frame_text(out, needed, text, length) > 0
        assert out[needed] == b"Z"


def test_masks_are_unpredictable_and_fresh() -> None:
    keys = [mask_key(framed(b"the same text")) for _ in range(1000)]
    # 1000 of 2^32: a pair by chance in one run of 8600; two pairs in none.
    assert len(set(keys)) >= 999
    ones = sum(bin(byte).count("1") for key in keys for byte in key)
    assert abs(ones - 16_000) < 900  # ten standard deviations of 89


# Cancels.


@pytest.fixture
def template() -> Any:
    t = ffi.new("pf_template *")
    account, symbol = signer.account.encode(), b"BTC"
    code = lib.pf_template_make(
        t,
        lib.PF_CANCEL_ORDER,
        signer.keypair._key,
        ffi.NULL,
        account,
        len(account),
        b"",
        0,
        symbol,
        3,
        0,
        5000,
    )
    assert code == 0
    return t


def blank(template: Any, out: Any) -> Any:
    return ffi.new("pf_blank *", (template, out, len(out)))


def test_a_cancel_by_order_id_is_the_request(template: Any) -> None:
    out = ffi.new("char[]", lib.PF_FRAME_MAX)
    number = lib.pf_id_take(1)
    size = lib.pf_frame_cancel_order_id(blank(template, out), 2**64 - 1, TIMESTAMP, number)
    expected = signer.cancel_order("BTC", order_id=2**64 - 1, timestamp=TIMESTAMP, request_id=id_text(number))
    assert parsed(bytes(ffi.buffer(out, size))).data == expected.text


def test_a_cancel_by_client_order_id_is_the_request(template: Any) -> None:
    out = ffi.new("char[]", lib.PF_FRAME_MAX)
    number = lib.pf_id_take(1)
    order = CLIENT_ID.encode()
    size = lib.pf_frame_cancel_client_order_id(blank(template, out), order, 36, TIMESTAMP, number)
    expected = signer.cancel_order(
        "BTC", client_order_id=CLIENT_ID, timestamp=TIMESTAMP, request_id=id_text(number)
    )
    assert parsed(bytes(ffi.buffer(out, size))).data == expected.text


def id_text(number: int) -> str:
    out = ffi.new("char[36]")
    assert lib.pf_id_text(out, 36, number) == 36
    return bytes(ffi.buffer(out)).decode()


def test_the_longest_cancel_fits() -> None:
    account = reference.b58encode(b"\xff" * 32).encode()
    symbol = b"S" * 32
    t = ffi.new("pf_template *")
    key = signer.keypair._key
    code = lib.pf_template_make(
        t, lib.PF_CANCEL_ORDER, key, ffi.NULL, account, 44, account, 44, symbol, 32, 0, 2**63 - 1
    )
    assert code == 0
    out = ffi.new("char[]", lib.PF_FRAME_MAX)
    order = CLIENT_ID.encode()
    assert lib.pf_frame_cancel_client_order_id(blank(t, out), order, 36, 2**63 - 1, 0) > 0
    assert lib.pf_frame_cancel_order_id(blank(t, out), 2**64 - 1, 2**63 - 1, 0) > 0
