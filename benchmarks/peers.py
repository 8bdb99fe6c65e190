# SPDX-License-Identifier: MIT
"""Other packages that sign Pacifica's cancels or send frames. Whoever is not installed is left out.

They are in the dependency group ``peers`` of pyproject.toml, never in the package or its extras.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Coroutine
from importlib import import_module, metadata
from time import time
from typing import Any

import orjson
from solders.keypair import Keypair as SoldersKeypair

from .sample import ACCOUNT, ORDER_ID, SEED, SYMBOL, Case, is_body, is_request

__all__ = ["CCXT", "MARKET", "NAMES", "REQUESTS", "ccxt_exchange", "load", "missing", "requests", "versions"]

CCXT, PYTHON_SDK, SDK = "ccxt", "pacifica-python-sdk", "pacifica-sdk"
REQUESTS = (CCXT, PYTHON_SDK, SDK)
NAMES = (*REQUESTS, "picows", "uvloop")
MARKET = "BTC/USDC:USDC"


def versions() -> dict[str, str]:
    """The peers that are installed."""
    found = {}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def missing() -> dict[str, str]:
    """The others, each with the reason for which it has no figures."""
    here = versions()
    return {name: "not installed" for name in NAMES if name not in here}


def load(module: str) -> Any:
    """A module, typed or not; raises ``ImportError``."""
    with warnings.catch_warnings():  # what others import is not for us to mend
        warnings.simplefilter("ignore")
        return import_module(module)


def requests() -> list[Case]:
    """From arguments to the body that each sends, by whom the key is kept and REST sends a body."""
    cases = []
    for name, make in ((CCXT, _ccxt), (SDK, _pacifica_sdk), (PYTHON_SDK, _pacifica_python_sdk)):
        if name in versions():
            run, is_right = make()
            cases.append(Case(name, run, is_right))
    return cases


def _private_key() -> str:
    return str(SoldersKeypair.from_seed(SEED))


def ccxt_exchange() -> Any:
    """ccxt's Pacifica with one market, which it would else ask for, and without waiting 50 ms after each."""
    exchange = load("ccxt.pro").pacifica(
        {"privateKey": _private_key(), "walletAddress": ACCOUNT, "enableRateLimit": False}
    )
    exchange.set_markets(
        [
            exchange.safe_market_structure(
                {
                    "id": SYMBOL,
                    "symbol": MARKET,
                    "base": SYMBOL,
                    "quote": "USDC",
                    "type": "swap",
                    "swap": True,
                }
            )
        ]
    )
    return exchange


def _ccxt() -> tuple[Callable[[], Any], Callable[[Any], bool]]:
    """What its ``cancel_order_ws`` does before it sends, and the JSON that its connection writes."""
    exchange = ccxt_exchange()

    def run() -> str:
        request = exchange.cancel_order_request(str(ORDER_ID), MARKET)
        return orjson.dumps(exchange.wrap_as_post_action("cancel_order", request)).decode()

    return run, is_request


def _pacifica_sdk() -> tuple[Callable[[], Any], Callable[[Any], bool]]:
    """What its ``cancel_order`` does before aiohttp's request."""
    keypair = SoldersKeypair.from_seed(SEED)
    build = load("pacifica_sdk.utils.tools").build_signer_request
    cancel_order = load("pacifica_sdk.models.requests").CancelOrder
    operation = load("pacifica_sdk.enums").OperationType.CANCEL_ORDER

    def run() -> str:
        payload = cancel_order(symbol=SYMBOL, order_id=ORDER_ID).model_dump(exclude_none=True)
        return json.dumps(build(keypair, operation, payload, 5_000, ACCOUNT, None))

    return run, lambda body: is_body(json.loads(body))


def _pacifica_python_sdk() -> tuple[Callable[[], Any], Callable[[Any], bool]]:
    """What its ``cancel_order`` does before httpx's request: it signs, and verifies the signature."""
    signing = load("pacifica.signing")
    signer = signing.LocalSigner(_private_key())

    def run() -> str:
        signed = signing.signed_request(
            "cancel_order",
            {"symbol": SYMBOL, "order_id": ORDER_ID},
            account=ACCOUNT,
            signer=signer,
            agent_wallet=None,
            timestamp=int(time() * 1000),
            expiry_window=5_000,
        )
        return json.dumps(_result_of(signed))

    return run, lambda body: is_body(json.loads(body))


def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing, without the cost of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise asyncio.InvalidStateError("it waited for something")
