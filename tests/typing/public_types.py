# SPDX-License-Identifier: MIT
"""For mypy and pyright, and never run: what the public calls return, and what they do not take.

Each ``type: ignore`` names an error that must be there: tests/test_typing.py.
"""

from __future__ import annotations

from typing import assert_type

from pacifica_fast import Keypair, Rejected, Request, Signed, Signer, b58decode, b58encode, canonicalize
from pacifica_fast import asyncio as aio
from pacifica_fast import sync as blocking
from pacifica_fast.armed import Armed
from pacifica_fast.replies import Ack, BatchAck, CancelAck, CancelAllAck
from pacifica_fast.sdk import sign_message


def keys(keypair: Keypair) -> None:
    assert_type(Keypair.generate(), Keypair)
    assert_type(Keypair.from_env("PACIFICA_PRIVATE_KEY"), Keypair)
    assert_type(keypair.pubkey(), str)
    assert_type(keypair.sign_message(b"text"), bytes)
    keypair.sign_message("text")  # type: ignore[arg-type]
    Keypair.from_seed("seed")  # type: ignore[arg-type]
    with keypair as same:
        assert_type(same, Keypair)


def text() -> None:
    assert_type(b58encode(b""), str)
    assert_type(b58decode(""), bytes)
    assert_type(canonicalize("{}"), bytes)


def signer(keypair: Keypair) -> None:
    with Signer(keypair, expiry_window=5_000, prepared=256) as signer:
        assert_type(signer, Signer)
    Signer(keypair, account=keypair)  # type: ignore[arg-type]
    Signer(keypair, None)  # type: ignore[call-arg]
    assert_type(signer.cancel_order("BTC", order_id=1), Request)
    assert_type(signer.cancel_all_orders(symbol=None), Request)
    assert_type(signer.batch_cancel([("BTC", 1), ("ETH", "79f948fd-0000-4000-8000-000000000000")]), Request)
    assert_type(signer.request("create_order", {}), Request)
    assert_type(signer.sign("create_order", {}), Signed)
    assert_type(signer.sign_many([b"message"], threads=2), list[str])
    assert_type(signer.cancel_order("BTC", order_id=1).text, bytes)
    assert_type(signer.cancel_order_text("BTC", 1, None), bytes)
    signer.batch_cancel(["BTC"])  # type: ignore[list-item]
    signer.cancel_all_orders("BTC")  # type: ignore[call-arg]


async def asyncio_client(signer: Signer) -> None:
    async with aio.connect(signer, timeout=5.0) as client:
        assert_type(client, aio.Client)
    assert_type(await aio.connect(signer), aio.Client)
    assert_type(await client.cancel_order("BTC", order_id=1), CancelAck)
    assert_type(client.cancel_order_nowait("BTC", order_id=1), aio.Pending[CancelAck])
    assert_type(await client.cancel_order_nowait("BTC", order_id=1), CancelAck)
    assert_type(await client.cancel_all_orders(), CancelAllAck)
    assert_type(await client.batch_cancel([("BTC", 1)]), BatchAck)
    assert_type(await client.request("create_order", {}), Ack)
    client.cancel_order_nowait("BTC", order_id=1).result()  # type: ignore[attr-defined]
    aio.connect(signer, timeout="5")  # type: ignore[arg-type]
    aio.connect(signer, time_out=5)  # type: ignore[call-arg]
    try:
        await client.arm("BTC", order_id=1).fire()
    except Rejected as error:
        assert_type(error.code, int)


def blocking_client(signer: Signer) -> None:
    with blocking.connect(signer, timeout=5.0) as client:
        assert_type(client, blocking.Client)
    assert_type(client.cancel_order("BTC", order_id=1), CancelAck)
    assert_type(client.cancel_order_nowait("BTC", order_id=1), blocking.Pending[CancelAck])
    assert_type(client.cancel_order_nowait("BTC", order_id=1).result(), CancelAck)
    assert_type(client.cancel_all_orders(), CancelAllAck)
    assert_type(client.batch_cancel([("BTC", 1)]), BatchAck)
    blocking.connect(signer, timeout="5")  # type: ignore[arg-type]


def drop_in(keypair: Keypair) -> None:
    assert_type(sign_message({"type": "cancel_order"}, {"symbol": "BTC"}, keypair), tuple[str, str])
    sign_message({}, {}, "a key")  # type: ignore[arg-type]


def armed(client: aio.Client) -> None:
    one = client.arm("BTC", order_id=1)
    assert_type(one.armed, bool)
    assert_type(one.disarm(), None)
    also: Armed[aio.Pending[CancelAck]] = one
    del also
