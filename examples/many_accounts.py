# SPDX-License-Identifier: MIT
"""Many accounts in one process, each signed for by an agent wallet of its own.

A file says which; it holds paths of keys, and no key:

    {"credit_group": "desk 1",
     "accounts": [{"name": "maker", "account": "ADDRESS", "key_file": "maker.json"},
                  {"name": "hedge", "account": "ADDRESS", "key_file": "hedge.json"}]}

Every account has its own connection and its own order tracker, which arms each order as it
rests. An account and its subaccounts draw on one quota of credits: credit_group has their
clients count together. Commands come from standard input:

    status            a line for each account
    pull [SYMBOL]     cancel all that rests, or all of a symbol, on all accounts at once
    quit              or the end of input; orders stay where they are

    python many_accounts.py desk.json

An agent wallet is bound to one account (docs.pacifica.fi, "API agent keys"), so there are as
many keys as accounts. Keys are wiped when this ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacifica_fast import ConnectionFailed, Keypair, NotSent, OutcomeUnknown, PacificaError, Rejected, Signer
from pacifica_fast.asyncio import TESTNET_WS, Client, Pending, connect
from pacifica_fast.orders import OrderTracker


@dataclass(slots=True)
class Desk:
    """One account, connected."""

    name: str
    client: Client
    tracker: OrderTracker

    def status(self) -> str:
        """One line."""
        client, left = self.client, self.client.credits.remaining
        return (
            f"{self.name}: {client.state}, {len(self.tracker.orders)} orders rest, "
            f"credits {'not known' if left is None else f'{left:g}'}, "
            f"{client.fates.acked} acknowledged, {client.fates.unknown} unknown"
        )

    async def settle(self, pendings: list[Pending[Any]]) -> str:
        """What became of what was pulled."""
        cancelled, others = 0, []
        for pending in pendings:
            try:
                await pending
                cancelled += 1
            except (Rejected, OutcomeUnknown):
                try:
                    others.append((await self.client.truth(pending)).name.lower())
                except TimeoutError:
                    others.append("unknown")
            except NotSent:
                others.append("not sent")
        return f"{self.name}: " + ", ".join([f"{cancelled} cancelled", *others])


async def opened(entry: dict[str, Any], options: argparse.Namespace, stack: AsyncExitStack) -> Desk:
    """Connect one account, and follow its orders."""
    keypair = stack.enter_context(Keypair.from_file(options.config.parent / entry["key_file"]))
    signer = Signer(keypair, account=entry["account"])
    context = ssl.create_default_context(cafile=options.ca_file) if options.url.startswith("wss:") else None
    client = connect(
        signer, url=options.url, ssl=context, on_disconnect="retry", credit_group=options.credit_group
    )
    try:
        opened = await stack.enter_async_context(client)
        return Desk(entry["name"], opened, await opened.track())
    except ConnectionFailed as error:
        raise ConnectionFailed(error.stage, f"{entry['name']}: {error}") from None


async def pull(desks: list[Desk], symbol: str | None) -> list[str]:
    """All orders away, of all accounts: every write is done before any answer is awaited."""
    settling, lines = [], []
    for desk in desks:
        try:
            settling.append(desk.settle(desk.client.pull(symbol)))
        except NotSent as error:
            lines.append(f"{desk.name}: not sent: {error}")
    return lines + await asyncio.gather(*settling)


@asynccontextmanager
async def commands() -> AsyncIterator[asyncio.StreamReader]:
    """Standard input, a terminal or a pipe, line by line and without a thread."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        yield reader
    finally:
        transport.close()


async def run(options: argparse.Namespace) -> None:
    """Connect all accounts, and do as told."""
    config = json.loads(options.config.read_text())
    options.credit_group = config.get("credit_group")
    async with AsyncExitStack() as stack:
        desks = await asyncio.gather(*[opened(entry, options, stack) for entry in config["accounts"]])
        print(f"{len(desks)} accounts: status, pull [SYMBOL], quit", flush=True)
        lines = await stack.enter_async_context(commands())
        while line := (await lines.readline()).decode():
            match line.split():
                case ["status"]:
                    answers = [desk.status() for desk in desks]
                case ["pull", *symbol] if len(symbol) < 2:
                    answers = await pull(desks, symbol[0] if symbol else None)
                case ["quit"]:
                    return
                case _:
                    answers = ["status, pull [SYMBOL], quit"]
            print(*answers, sep="\n", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("config", type=Path, help="which accounts, JSON; key files are beside it")
    parser.add_argument("--url", default=TESTNET_WS, help="of the exchange (default: testnet, %(default)s)")
    parser.add_argument("--ca-file", help="whom to trust instead of the system's list, PEM")
    try:
        asyncio.run(run(parser.parse_args()))
    except (PacificaError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
