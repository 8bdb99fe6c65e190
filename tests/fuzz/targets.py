# SPDX-License-Identifier: MIT
"""The Python targets: each is a function of some bytes that checks what it can, and lets nothing escape.

``ESCAPES`` lists which exceptions a caller may meet. Anything else, and any check that fails, is a
finding. atheris calls them for hours (:mod:`fuzz.run`), ``tests/test_fuzz.py`` with the corpora.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import orjson
from websockets.uri import parse_uri
from websockets.utils import accept_key

from pacifica_fast import (
    InvalidJSON,
    InvalidRequest,
    Keypair,
    Signer,
    b58decode,
    b58encode,
    canonicalize,
    reference,
    sdk,
)
from pacifica_fast.endpoint import Endpoint
from pacifica_fast.errors import OutcomeUnknown, RateLimited, Rejected, SignatureRejected
from pacifica_fast.replies import Ack
from pacifica_fast.session import Pending, Session
from pacifica_fast.websocket import WebSocket

__all__ = ["ESCAPES", "TARGETS"]

KEY = Keypair.from_seed(bytes(range(32)))
SIGNER = Signer(KEY)
URI = parse_uri("wss://ws.example/ws")
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def must(*conditions: object) -> None:
    """Raises ``AssertionError``: a finding."""
    if not all(conditions):
        raise AssertionError


class Input:
    """Bytes, taken from their start; past the end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "big") << 8 * (size - len(piece))

    def rest(self) -> bytes:
        return self._data[self._at :]

    def text(self) -> str:
        return self.rest().decode("utf-8", "surrogatepass" if self.number(1) & 1 else "replace")

    def value(self, depth: int = 4) -> Any:
        """Anything a caller may pass: the right thing, the wrong type, too much of it."""
        kind = self.number(1) % (16 if depth else 12)
        if kind < 4:
            return (None, True, False, -1)[kind]
        if kind == 4:
            return self.number(self.number(1) % 12)
        if kind == 5:
            return -self.number(self.number(1) % 12)
        if kind == 6:
            return float(self.number(2)) / 7
        if kind == 7:
            return (float("nan"), float("inf"), 1e300, b"x", 1j, object, {1}, (1,))[self.number(1) % 8]
        if kind == 8:
            return uuid.UUID(int=self.number(16))
        if kind < 12:
            return self.string()
        if kind < 14:
            return [self.value(depth - 1) for _ in range(self.number(1) % 6)]
        return {self.string(): self.value(depth - 1) for _ in range(self.number(1) % 6)}

    def string(self) -> str:
        size = self.number(1) % 48
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece.decode("utf-8", "surrogateescape")


def on_replies(data: bytes) -> None:
    """Messages, a line each; ``ID0`` stands for a cancel in flight, ``ID1`` for a batch of two."""
    session: Session[Pending] = Session(Pending, timeout=5.0, heartbeat=30.0)
    lane = session.open_lane(0.0)
    waiting = []
    for operation, actions in (("cancel_order", 0), ("batch_orders", 2)):
        pending = session.take()
        pending.operation, pending.actions = operation, actions
        lane.sent(pending, 0.0)
        session.refill()
        waiting.append(pending)
    now = 0.0
    for line in data.split(b"\n"):
        for number, pending in enumerate(waiting):
            line = line.replace(b"ID%d" % number, pending.id.encode())
        now += 0.1
        undecided = [pending for pending in waiting if not pending.done]
        session.receive(lane, line, now)
        for pending in undecided:
            if pending.done:
                _check_fate(pending, line)
    session.tick(100.0)
    session.close("done", 101.0)
    must(all(pending.done for pending in waiting))
    must(session.in_flight() == [])


def _check_fate(pending: Pending, line: bytes) -> None:
    """It says what the reply says; read here by another parser."""
    reply = orjson.loads(line) if b"e" in line or b"E" in line else json.loads(line)
    must(reply["id"] == pending.id)
    code = reply.get("code")
    try:
        outcome = pending.outcome()
    except Rejected as error:
        must(type(code) is int, code != 200)
        must(isinstance(error, SignatureRejected) == (code in (401, 402)))
        must(isinstance(error, RateLimited) == (code == 429))
        return
    except OutcomeUnknown:
        return
    must(isinstance(outcome, Ack), type(code) is int, code == 200)
    must(reply.get("type") in (None, pending.operation))


def on_wire(data: bytes) -> None:
    """Bytes of the wire, in pieces: as the answer to the upgrade, or as frames after it."""
    steer = Input(data)
    upgraded = steer.number(1)
    websocket = WebSocket(URI, {}, max_size=4096)
    if upgraded & 1:
        websocket.receive(_upgrade(websocket.to_send()))
        must(websocket.open)
    elif upgraded & 2:
        websocket.receive(UPGRADED)
    rest = steer.rest()
    size = 1 + (upgraded >> 2)
    for start in range(0, len(rest), size):
        for message in websocket.receive(rest[start : start + size]):
            must(len(message) <= 4096)
        websocket.to_send()
        _ = (websocket.open, websocket.ending, websocket.refusal, websocket.why_over())
    websocket.receive_eof()
    websocket.close()
    websocket.to_send()
    must(not websocket.open)


def _upgrade(request: bytes) -> bytes:
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
    return UPGRADED + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()


def on_keys(data: bytes) -> None:
    """Refused, or a key whose public half is the seed's; the error has nothing of it."""
    loads: tuple[tuple[Callable[[Any], Keypair], Any], ...] = (
        (Keypair.from_bytes, data),
        (Keypair.from_seed, bytearray(data)),
        (Keypair.from_base58_string, data.decode("latin-1")),
        (Keypair.from_base58_string, reference.b58encode(data[:64])),
    )
    for load, secret in loads:
        try:
            with load(secret) as keypair:
                must(len(b58decode(keypair.pubkey())) == 32)
        except InvalidRequest as error:
            shown = str(error)
            must(len(data) < 8 or (data[:8].hex() not in shown and repr(data[:8])[2:-1] not in shown))


def on_canonical(data: bytes) -> None:
    """Refused, or what Python's own json makes of it."""
    for text in (data, data.decode("utf-8", "surrogatepass") if _decodes(data) else ""):
        try:
            made = canonicalize(text)
        except InvalidJSON as error:
            must(str(error))
            continue
        expected = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
        must(made == expected.encode())


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def on_requests(data: bytes) -> None:
    """Anything in every argument of the builders: an error that names the field, or JSON of that id."""
    steer = Input(data)
    common = {}
    for field in ("timestamp", "expiry_window", "request_id"):
        if steer.number(1) & 3 == 0:
            common[field] = steer.value(1)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: SIGNER.cancel_order(steer.value(1), order_id=steer.value(1), **common),
        lambda: SIGNER.cancel_order("BTC", client_order_id=steer.value(1), **common),
        lambda: SIGNER.cancel_all_orders(symbol=steer.value(1), exclude_reduce_only=steer.value(1), **common),
        lambda: SIGNER.batch_cancel(steer.value(), **common),
        lambda: SIGNER.batch_cancel([("BTC", steer.value(1))], **common),
        lambda: SIGNER.request(steer.value(1), steer.value(), **common),
        lambda: SIGNER.request("create_order", {"x": steer.value()}, **common),
    )
    call = calls[steer.number(1) % len(calls)]
    try:
        request = call()
    except InvalidRequest as error:
        must(":" in str(error) or " " in str(error))
        return
    parsed = json.loads(request.text)
    must(parsed["id"] == request.id)
    must(list(parsed["params"]) == [request.operation])


def on_endpoints(data: bytes) -> None:
    """A url and an API key: refused, or fit to be written into an upgrade without adding to it."""
    url, _, key = data.decode("utf-8", "replace").partition("|")
    try:
        endpoint = Endpoint.checked(url, api_key=key or None)
    except InvalidRequest as error:
        must(str(error).startswith(("url: ", "api_key: ")))
        return
    lines = endpoint.websocket().to_send().split(b"\r\n")
    must(lines[0].startswith(b"GET "), lines[0].endswith(b" HTTP/1.1"))
    must(lines[0].count(b" ") == 2, lines[-2:] == [b"", b""])
    names = [line.partition(b":")[0].lower() for line in lines[1:-2]]
    must(len(names) == len(set(names)), b"\n" not in b"".join(lines))
    host = endpoint.uri.host
    must(endpoint.uri.secure or host == "localhost" or ip_address(host).is_loopback)


def on_base58(data: bytes) -> None:
    must(b58decode(b58encode(data)) == data)
    text = data.decode("latin-1")
    try:
        decoded = b58decode(text)
    except ValueError:
        must(set(text) - set(reference._ALPHABET))
        return
    must(decoded == reference.b58decode(text))
    must(b58encode(decoded) == text)


def on_sdk(data: bytes) -> None:
    """The drop-in and the reference: the same answer, or the same error."""
    steer = Input(data)
    header, payload = steer.value(), steer.value()
    if isinstance(header, dict):
        header |= {"type": steer.string(), "timestamp": 1749223343149, "expiry_window": 5000}
    outcomes = []
    for sign in (sdk.sign_message, reference.sign_message):
        try:
            outcomes.append(repr(sign(header, payload, KEY)))
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    must(outcomes[0] == outcomes[1])


TARGETS: dict[str, Callable[[bytes], None]] = {
    "replies": on_replies,
    "wire": on_wire,
    "keys": on_keys,
    "canonical": on_canonical,
    "requests": on_requests,
    "endpoints": on_endpoints,
    "base58": on_base58,
    "sdk": on_sdk,
}

ESCAPES: dict[str, tuple[type[Exception], ...]] = {
    "replies": (),
    "wire": (),
    "keys": (InvalidRequest,),
    "canonical": (InvalidJSON,),
    "requests": (InvalidRequest,),
    "endpoints": (InvalidRequest,),
    "base58": (ValueError,),
    "sdk": (Exception,),  # the SDK's own: TypeError, ValueError, RecursionError, compared one by one
}
