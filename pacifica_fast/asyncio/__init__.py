# SPDX-License-Identifier: MIT
"""The client for asyncio: ``async with connect(signer) as client: ...``."""

from pacifica_fast.asyncio.client import MAINNET_WS, TESTNET_WS, Client, Pending, connect

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]
