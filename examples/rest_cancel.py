# SPDX-License-Identifier: MIT
"""Cancel over REST with an HTTP client of your own: pacifica_fast only signs.

    export PACIFICA_PRIVATE_KEY=...
    python rest_cancel.py BTC 42069 42070 --account ADDRESS      # by order id or client order id
    python rest_cancel.py BTC                                    # all orders of the symbol
    python rest_cancel.py BTC 42069 --dry-run                    # show what would be sent

All cancels go over one connection, which http.client of the standard library keeps open; put
your own client in its place. Exit status, the worst of all: 0 done, 1 refused, 3 unknown, 4 not
sent; 2 if nothing was even tried: wrong usage, no key, no such file. Sources: docs.pacifica.fi,
REST, "Cancel order" and "Cancel all orders".
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import sys
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pacifica_fast import Keypair, PacificaError, Signer

TESTNET = "https://test-api.pacifica.fi/api/v1"
TIMEOUT = 5.0  # s
DONE, REFUSED, UNKNOWN, NOT_SENT = 0, 1, 3, 4
NOBODY_KNOWS = (500, 502, 503, 504)  # what a gateway says when it does not know either


def signed_body(signer: Signer, operation: str, data: dict[str, Any]) -> str:
    """What REST takes: the signature's fields and those of the operation, side by side."""
    signed = signer.sign(operation, data)
    body = {
        "account": signer.account,
        "signature": signed.signature,
        "timestamp": signed.timestamp,
        "expiry_window": signed.expiry_window,
        **data,
    }
    if signer.agent_wallet is not None:
        body["agent_wallet"] = signer.agent_wallet
    return json.dumps(body)


class Rest:
    """One connection, kept open."""

    def __init__(self, base: str, ca_file: str | None) -> None:
        url = urlsplit(base)
        host = url.hostname or ""
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, url.port, timeout=TIMEOUT, context=context
            )
        elif host in ("127.0.0.1", "::1", "localhost"):
            self._connection = http.client.HTTPConnection(host, url.port, timeout=TIMEOUT)
        else:
            raise ValueError("--url: http:// is only for this machine; use https://")
        self._path = url.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if api_key := os.environ.get("PACIFICA_API_KEY"):
            self._headers["PF-API-KEY"] = api_key

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def post(self, path: str, body: str) -> tuple[int, str]:
        """Send, and tell the fate: DONE, REFUSED, UNKNOWN or NOT_SENT, and the exchange's words."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError as error:
            return NOT_SENT, str(error)
        try:
            self._connection.request("POST", self._path + path, body, self._headers)
            reply = self._connection.getresponse()
            text = reply.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:  # it may have arrived all the same
            self._connection.close()
            return UNKNOWN, f"no reply: {error!r}"
        if reply.status == http.HTTPStatus.OK:
            return DONE, text
        return (UNKNOWN if reply.status in NOBODY_KNOWS else REFUSED), f"{reply.status} {text}"


def order(text: str) -> dict[str, Any]:
    """An argument: the field that says which order, by its number or by the UUID that you gave it.

    A wrong one is found before the others are sent.
    """
    return {"order_id": int(text)} if text.isdecimal() else {"client_order_id": str(UUID(text))}


def requests(symbol: str, orders: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, operation and fields of each cancel."""
    if not orders:
        data = {"all_symbols": False, "exclude_reduce_only": False, "symbol": symbol}
        return [("/orders/cancel_all", "cancel_all_orders", data)]
    return [("/orders/cancel", "cancel_order", {"symbol": symbol, **which}) for which in orders]


def cancel(options: argparse.Namespace, rest: Rest, signer: Signer) -> int:
    """Sign and send each; the exit status."""
    worst = DONE
    for path, operation, data in requests(options.symbol, options.orders):
        body = signed_body(signer, operation, data)
        if options.dry_run:
            print(f"POST {options.url}{path}\n{body}")
            continue
        fate, words = rest.post(path, body)
        print({DONE: "done", REFUSED: "refused", UNKNOWN: "unknown", NOT_SENT: "not sent"}[fate], words)
        worst = max(worst, fate)
    return worst


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("symbol", help="BTC, say")
    parser.add_argument(
        "orders",
        metavar="ID",
        nargs="*",
        type=order,
        help="order ids or client order ids; none: all of the symbol",
    )
    parser.add_argument("--url", default=TESTNET, help="of the exchange (default: testnet, %(default)s)")
    parser.add_argument("--ca-file", help="whom to trust instead of the system's list, PEM")
    parser.add_argument("--key-file", help="id.json or base58 (default: $PACIFICA_PRIVATE_KEY)")
    parser.add_argument("--account", help="if the key is an agent wallet's: whose orders they are")
    parser.add_argument("--dry-run", action="store_true", help="print the requests, and send nothing")
    options = parser.parse_args()
    with ExitStack() as stack:
        try:
            rest = stack.enter_context(closing(Rest(options.url, options.ca_file)))
            keypair = Keypair.from_file(options.key_file) if options.key_file else Keypair.from_env()
            signer = Signer(stack.enter_context(keypair), account=options.account)
        except (PacificaError, OSError, ValueError) as error:  # nothing is sent before this is over
            parser.exit(2, f"{parser.prog}: {error}\n")
        return cancel(options, rest, signer)


if __name__ == "__main__":
    sys.exit(main())
