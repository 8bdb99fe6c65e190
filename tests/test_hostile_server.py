# SPDX-License-Identifier: MIT
"""Whatever the exchange sends: memory and time stay bounded, nothing crashes, no fate is made up."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

import pytest
from hostile import BINARY, CLOSE, CONTINUATION, PING, TEXT, Worst, frame, serving, upgrade

from pacifica_fast import Keypair, Signer, sync
from pacifica_fast import asyncio as aio
from pacifica_fast.errors import ConnectionFailed, InvalidRequest, OutcomeUnknown

SETTINGS: dict[str, Any] = {"timeout": 0.4, "open_timeout": 5.0}  # s
GROWTH_MAX = 96 * 1024  # KiB, whatever is sent
FOR_LONG = 0.8  # s, of sending without end


@pytest.fixture(autouse=True)
def without_logs() -> Iterator[None]:
    """pytest keeps them all in memory, and what is sent here without end is logged without end."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(Keypair.generate())


def in_asyncio(signer: Signer, url: str, **settings: Any) -> object:
    async def cancel() -> object:
        async with aio.connect(signer, url=url, **SETTINGS | settings) as client:
            return await client.cancel_order("BTC", order_id=7)

    return asyncio.run(cancel())


def blocking(signer: Signer, url: str, **settings: Any) -> object:
    with sync.connect(signer, url=url, **SETTINGS | settings) as client:
        return client.cancel_order("BTC", order_id=7)


CLIENTS = pytest.mark.parametrize("cancel", [in_asyncio, blocking])


def for_long(pieces: Iterable[bytes]) -> Iterator[bytes]:
    until = time.monotonic() + FOR_LONG
    for piece in pieces:
        if time.monotonic() > until:
            return
        yield piece


def text(payload: str | bytes) -> bytes:
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def ack(request_id: str, **more: object) -> str:
    return json.dumps({"id": request_id, "code": 200, "type": "cancel_order", "data": {"s": "BTC"}} | more)


def and_then(request_id: str, *pieces: bytes) -> Iterator[bytes]:
    """What is wrong ends the connection: the acknowledgement behind it is not read any more."""
    yield from pieces
    yield text(ack(request_id))


DEEP = "[" * 100_000
# Whatever it is, it does not say what became of the cancel.
WORST: dict[str, Worst] = {
    "brackets without end": lambda _: [text(DEEP)],
    "a reply as deep as that": lambda it: [text(ack(it)[:-1] + ',"x":' + DEEP + "}")],
    "a reply that is deep, and ends": lambda it: [
        text(ack(it, x=0).replace("0}", DEEP + "]" * 100_000 + "}"))
    ],
    "a reply that never ends": lambda it: [frame(TEXT, ack(it).encode()[:-1], said=1000)],
    "a frame of 2^62 bytes": lambda _: for_long([frame(TEXT, said=1 << 62), *repeat(b"x" * 65536, 100_000)]),
    "a frame of 2^63 bytes": lambda it: and_then(it, frame(TEXT, said=1 << 63)),
    "fragments without end": lambda _: for_long(
        [frame(TEXT, b"[", fin=False), *repeat(frame(CONTINUATION, b"0," * 500, fin=False), 100_000)]
    ),
    "empty fragments without end": lambda _: for_long(
        [frame(TEXT, b"[", fin=False), *repeat(frame(CONTINUATION, fin=False) * 1000, 100_000)]
    ),
    "compressed": lambda it: and_then(it, frame(TEXT, b"\xaa\x56\x4a", rsv=4)),
    "a reserved bit": lambda it: and_then(it, frame(TEXT, b"{}", rsv=1)),
    "a reserved opcode": lambda it: and_then(it, frame(11)),
    "a control frame in two": lambda it: and_then(it, frame(PING, b"x", fin=False)),
    "a control frame of 126 bytes": lambda it: and_then(it, frame(PING, b"x" * 126)),
    "a continuation of nothing": lambda it: and_then(it, frame(CONTINUATION, b"{}")),
    "a text inside another": lambda it: and_then(it, frame(TEXT, b"{", fin=False), text("{}")),
    "a mask": lambda it: and_then(it, b"\x81\x82\x00\x00\x00\x00{}"),
    "a close frame of one byte": lambda it: and_then(it, frame(CLOSE, b"\x03")),
    "a close code there is not": lambda it: and_then(it, frame(CLOSE, b"\x03\xed")),
    "a close reason that is no UTF-8": lambda it: and_then(it, frame(CLOSE, b"\x03\xe8\xff\xff")),
    "a reply that is no UTF-8": lambda it: [text(ack(it).encode().replace(b"BTC", b"B\xffC"))],
    "a BOM before it": lambda it: [text("\ufeff" + ack(it))],
    "pings without end": lambda _: for_long(repeat(frame(PING, b"x" * 125) * 500, 100_000)),
    "replies to others without end": lambda _: for_long(repeat(text(ack("another")) * 100, 100_000)),
    "garbage": lambda it: and_then(it, b"\xff" * 1000),
    "HTTP again": lambda it: and_then(it, b"HTTP/1.1 200 OK\r\n\r\n"),
    "its id as a number": lambda it: [text(ack(it).replace(f'"{it}"', "7"))],
    "its id in a list": lambda it: [text(ack(it).replace(f'"{it}"', f'["{it}"]'))],
    "an array of replies": lambda it: [text(f"[{ack(it)}]")],
    "two replies in one text": lambda it: [text(ack(it) * 2)],
    "a code that is text": lambda it: [text(ack(it, code="200"))],
    "a code that is true": lambda it: [text(ack(it, code=True))],
    "a code that is 200.0": lambda it: [text(ack(it, code=200.0))],
    "no code": lambda it: [text(json.dumps({"id": it, "data": {"s": "BTC"}}))],
    "another type": lambda it: [text(ack(it, type="create_order"))],
}


def resident() -> int:
    """KiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@CLIENTS
@pytest.mark.parametrize("worst", WORST.values(), ids=WORST)
def test_no_fate_is_made_up(signer: Signer, cancel: Callable[[Signer, str], object], worst: Worst) -> None:
    before = resident()
    with serving(worst) as url, pytest.raises(OutcomeUnknown):
        cancel(signer, url)
    assert resident() - before < GROWTH_MAX


@CLIENTS
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_same_server_could_have_said_yes(
    signer: Signer, cancel: Callable[[Signer, str], object], opcode: int
) -> None:
    """So what is above is not lost on the way there."""

    def yes(request_id: str) -> list[bytes]:
        reply = ack(request_id).encode()
        return [frame(opcode, reply[:9], fin=False), frame(PING), frame(CONTINUATION, reply[9:])]

    with serving(yes) as url:
        assert cancel(signer, url)


@CLIENTS
def test_who_asks_for_pongs_and_reads_none_is_left(signer: Signer, cancel: Callable[..., object]) -> None:
    with serving(lambda _: repeat(frame(PING, b"x" * 125) * 500)) as url:  # noqa: SIM117
        with pytest.raises(OutcomeUnknown, match="does not read"):
            cancel(signer, url, timeout=30.0, pong_timeout=30.0)


def never(_: str) -> list[bytes]:
    raise AssertionError("a cancel was sent to what is no exchange")


HANDSHAKES: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    **{
        f"{status} to {place}": lambda _, status=status, place=place: [  # type: ignore[misc]
            f"HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
        ]
        for status in (301, 302, 303, 307, 308)
        for place in ("ws://127.0.0.1:1/ws", "http://example.org/")
    },
    "compression that nobody offered": lambda request: [
        upgrade(request, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    ],
    "a subprotocol that nobody offered": lambda request: [upgrade(request, b"Sec-WebSocket-Protocol: x\r\n")],
    "another key's answer": lambda request: [upgrade(request.replace(b"Key: ", b"Key: x"))],
    "no upgrade": lambda request: [upgrade(request).replace(b"Upgrade: websocket\r\n", b"")],
    "200": lambda request: [upgrade(request).replace(b"101", b"200")],
    "HTTP/1.0": lambda request: [upgrade(request).replace(b"HTTP/1.1", b"HTTP/1.0")],
    "a header line without end": lambda _: for_long(
        [b"HTTP/1.1 101 Switching\r\nX: ", *repeat(b"x" * 65536, 100_000)]
    ),
    "header lines without end": lambda _: for_long(
        [b"HTTP/1.1 101 Switching\r\n", *repeat(b"X: y\r\n" * 1000, 100_000)]
    ),
    "a body without end": lambda _: for_long(
        [b"HTTP/1.1 503 No\r\nContent-Length: 99999999999\r\n\r\n", *repeat(b"x" * 65536, 100_000)]
    ),
    "chunks without end": lambda _: for_long(
        [b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", *repeat(b"1\r\nx\r\n" * 1000, 100_000)]
    ),
    "garbage": lambda _: [b"\x00" * 1000 + b"\r\n\r\n"],
}


@CLIENTS
@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_bad_upgrade_is_refused(
    signer: Signer,
    cancel: Callable[[Signer, str], object],
    handshake: Callable[[bytes], Iterable[bytes]],
) -> None:
    before = resident()
    with serving(never, handshake) as url, pytest.raises(ConnectionFailed) as caught:
        cancel(signer, url)
    assert caught.value.stage in ("upgrade", "timeout")
    assert resident() - before < GROWTH_MAX


@pytest.mark.parametrize("text", ["k\r\nX: y", "k\ny", "k\0", "k y", "", "größe"])
def test_a_header_cannot_be_smuggled_in(signer: Signer, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^api_key: "):
        sync.connect(signer, url="wss://x/ws", api_key=text)
    for url in (f"wss://{text}\r\n/ws", f"wss://x/{text}\r\nX: y"):
        with pytest.raises(InvalidRequest, match=r"^url: "):
            sync.connect(signer, url=url)
