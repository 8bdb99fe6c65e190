# SPDX-License-Identifier: MIT
"""The blocking client: ``with connect(signer) as client: ...``."""

from pacifica_fast.sync.client import MAINNET_WS, TESTNET_WS, Client, Pending, connect

__all__ = ["MAINNET_WS", "TESTNET_WS", "Client", "Pending", "connect"]
