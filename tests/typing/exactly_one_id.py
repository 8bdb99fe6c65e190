# SPDX-License-Identifier: MIT
"""For mypy and pyright, and never run: an order is named by one of two ids, and never by both or none.

Each ``type: ignore`` names an error that must be there: tests/test_typing.py.
"""

from __future__ import annotations

from uuid import UUID

from pacifica_fast import Signer
from pacifica_fast import asyncio as aio
from pacifica_fast import sync as blocking


def signer(signer: Signer, number: int, text: str, uuid: UUID, maybe: int | None) -> None:
    signer.cancel_order("BTC", order_id=number)
    signer.cancel_order("BTC", client_order_id=text)
    signer.cancel_order("BTC", client_order_id=uuid, timestamp=number, expiry_window=number, request_id=uuid)
    signer.cancel_order("BTC", order_id=number, client_order_id=None)
    signer.cancel_order("BTC", order_id=None, client_order_id=text)
    signer.cancel_order("BTC")  # type: ignore[call-overload]
    signer.cancel_order("BTC", order_id=None)  # type: ignore[call-overload]
    signer.cancel_order("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
    signer.cancel_order("BTC", order_id=maybe)  # type: ignore[arg-type]
    signer.cancel_order("BTC", order_id=text)  # type: ignore[call-overload]
    signer.cancel_order("BTC", client_order_id=number)  # type: ignore[call-overload]
    signer.cancel_order("BTC", number)  # type: ignore[call-overload]
    if maybe is not None:
        signer.cancel_order("BTC", order_id=maybe)


def frames(signer: Signer, number: int, text: str) -> None:
    signer.cancel_order_text("BTC", number, None)
    signer.cancel_order_text("BTC", None, text)
    signer.cancel_order_text("BTC", None, None)  # type: ignore[call-overload]
    signer.cancel_order_text("BTC", number, text)  # type: ignore[call-overload]
    signer.cancel_order_frame("BTC", number, None, None, None, number)
    signer.cancel_order_frame("BTC", None, text, None, None, number)
    signer.cancel_order_frame("BTC", None, None, None, None, number)  # type: ignore[call-overload]
    signer.cancel_order_frame("BTC", number, text, None, None, number)  # type: ignore[call-overload]


async def asyncio_client(client: aio.Client, number: int, text: str, uuid: UUID) -> None:
    await client.cancel_order("BTC", order_id=number)
    await client.cancel_order("BTC", client_order_id=uuid)
    await client.cancel_order("BTC")  # type: ignore[call-overload]
    await client.cancel_order("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
    client.cancel_order_nowait("BTC", order_id=number)
    client.cancel_order_nowait("BTC", client_order_id=text)
    client.cancel_order_nowait("BTC")  # type: ignore[call-overload]
    client.cancel_order_nowait("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
    client.arm("BTC", order_id=number)
    client.arm("BTC", client_order_id=uuid, arm_window=number)
    client.arm("BTC")  # type: ignore[call-overload]
    client.arm("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]


def blocking_client(client: blocking.Client, number: int, text: str, uuid: UUID) -> None:
    client.cancel_order("BTC", order_id=number)
    client.cancel_order("BTC", client_order_id=uuid)
    client.cancel_order("BTC")  # type: ignore[call-overload]
    client.cancel_order("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
    client.cancel_order_nowait("BTC", order_id=number)
    client.cancel_order_nowait("BTC", client_order_id=text)
    client.cancel_order_nowait("BTC")  # type: ignore[call-overload]
    client.cancel_order_nowait("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
    client.arm("BTC", order_id=number)
    client.arm("BTC", client_order_id=uuid)
    client.arm("BTC")  # type: ignore[call-overload]
    client.arm("BTC", order_id=number, client_order_id=text)  # type: ignore[call-overload]
