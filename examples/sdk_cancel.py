# SPDX-License-Identifier: MIT
"""A cancel in the manner of the official SDK, with one line changed: the import of sign_message.

The solders Keypair stays, and so does everything around the signature: header, payload, the
request put together by hand, the websocket. The bytes are the same, and there sooner. Most of
what is left is the connection, which this opens for a single cancel: see docs/asyncio.md.

    export PACIFICA_PRIVATE_KEY=...              # base58, 64 bytes, as the SDK has it
    python sdk_cancel.py BTC 42069 --account ADDRESS
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import time
import uuid
from typing import Any

from solders.keypair import Keypair
from websockets.asyncio.client import connect

from pacifica_fast.sdk import sign_message  # was: from common.utils import sign_message

TESTNET = "wss://test-ws.pacifica.fi/ws"


async def cancel(options: argparse.Namespace, keypair: Keypair) -> dict[str, Any]:
    """Sign, connect, send, and return the reply."""
    header = {"type": "cancel_order", "timestamp": int(time.time() * 1_000), "expiry_window": 5_000}
    payload = {"symbol": options.symbol, "order_id": options.order_id}
    _, signature = sign_message(header, payload, keypair)
    signer = str(keypair.pubkey())
    request = {
        "account": options.account or signer,
        "signature": signature,
        "timestamp": header["timestamp"],
        "expiry_window": header["expiry_window"],
        **payload,
    }
    if request["account"] != signer:
        request["agent_wallet"] = signer
    message = {"id": str(uuid.uuid4()), "params": {"cancel_order": request}}
    secure = options.url.startswith("wss:")
    trusted = ssl.create_default_context(cafile=options.ca_file) if secure else None
    async with connect(options.url, ssl=trusted) as websocket:
        await websocket.send(json.dumps(message))
        reply: dict[str, Any] = json.loads(await websocket.recv())
        return reply


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("symbol", help="BTC, say")
    parser.add_argument("order_id", type=int)
    parser.add_argument("--url", default=TESTNET, help="of the exchange (default: testnet, %(default)s)")
    parser.add_argument("--ca-file", help="whom to trust instead of the system's list, PEM")
    parser.add_argument("--account", help="if the key is an agent wallet's: whose order it is")
    options = parser.parse_args()
    if "PACIFICA_PRIVATE_KEY" not in os.environ:
        parser.error("PACIFICA_PRIVATE_KEY is not set")
    try:
        keypair = Keypair.from_base58_string(os.environ["PACIFICA_PRIVATE_KEY"])
    except ValueError:
        parser.error("PACIFICA_PRIVATE_KEY: expected the base58 of 64 bytes")  # and no word of what it holds
    print(json.dumps(asyncio.run(cancel(options, keypair))))


if __name__ == "__main__":
    main()
