# SPDX-License-Identifier: MIT
"""A market maker: two ALO quotes around the mid price, pulled in one write when it moves.

Each quote is armed when it rests. When the price has moved by --move, both cancels, signed
long before, go out in one write, in the same step of the event loop that read the price; then
the fate of each is awaited, what it left filled is booked, and new quotes are placed. It quotes
only while prices and order updates arrive, and leaves nothing behind when it ends (Ctrl-C).

    export PACIFICA_PRIVATE_KEY=...              # of an agent wallet, or of the account itself
    python market_maker.py BTC --account ADDRESS --tick 1 --amount 0.001

Tick and lot size of a symbol are in GET /api/v1/info. Sources: docs.pacifica.fi, websocket,
"Best bid offer" and "Create limit order". It is an example of plumbing, not of a strategy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from functools import partial
from math import inf
from time import monotonic
from uuid import uuid4

from websockets.asyncio.client import connect as connect_feed
from websockets.exceptions import ConnectionClosed

from pacifica_fast import (
    CreditsReserved,
    Keypair,
    NotSent,
    OutcomeUnknown,
    PacificaError,
    Rejected,
    Signer,
)
from pacifica_fast.armed import Armed
from pacifica_fast.asyncio import TESTNET_WS, Client, Pending, connect
from pacifica_fast.orders import OrderTracker
from pacifica_fast.replies import CancelAck
from pacifica_fast.session import Truth

PING_EVERY = 30.0  # s; the exchange closes a connection after 60 s without a message from us
UPDATE_WITHIN = 1.0  # s after its acknowledgement an order is in the tracker, or rests no more

say = partial(print, flush=True)


@dataclass(slots=True)
class Quote:
    """An order of ours that rests, or did a moment ago."""

    side: str
    order_id: int
    armed: Armed[Pending[CancelAck]]
    since: float = field(default_factory=monotonic)


class Maker:
    """The quotes, and when to place and to pull them."""

    def __init__(self, client: Client, tracker: OrderTracker, options: argparse.Namespace) -> None:
        self.position = Decimal(0)
        self.quotes: list[Quote] = []
        self.mid: Decimal | None = None
        self._quoted = Decimal(0)  # the mid that the quotes are around
        self._not_before = 0.0
        self._client = client
        self._tracker = tracker
        self._options = options
        self._work: asyncio.Task[None] | None = None

    def on_price(self, mid: Decimal | None) -> None:
        """What to do about a price, or about none. Pulling happens before this returns."""
        self.mid = mid
        if self._work is not None:
            if not self._work.done():
                return  # it takes up the new price when it is through
            self._work.result()  # an error that nobody expected is not passed over
        if self.quotes and self._must_go(mid):
            self._work = asyncio.ensure_future(self._settle(self.pull()))
        elif not self.quotes and mid is not None and self._tracker.live and monotonic() >= self._not_before:
            self._work = asyncio.ensure_future(self._quote(mid))

    def pull(self) -> list[tuple[Quote, Pending[CancelAck]]]:
        """All quotes away: their cancels are with the kernel when this returns."""
        quotes, self.quotes = self.quotes, []
        try:
            return list(zip(quotes, self._client.pull([quote.armed for quote in quotes]), strict=True))
        except NotSent as error:  # no connection: they are still ours to pull
            self.quotes = quotes
            say(f"not pulled: {error}")
            return []

    async def stop(self) -> None:
        """Pull, wait for every fate, and have the exchange cancel whatever is left of the symbol."""
        pulled = self.pull()  # before anything is waited for
        if self._work is not None:
            await asyncio.wait([self._work])
        await self._settle(pulled + self.pull())
        try:
            ack = await self._client.cancel_all_orders(symbol=self._options.symbol)
            say(f"cancel all: {ack.cancelled_count} were left; position {self.position}")
        except (Rejected, OutcomeUnknown, NotSent) as error:
            say(f"cancel all: {error}; look at your open orders")

    def _must_go(self, mid: Decimal | None) -> bool:
        if mid is None or not self._tracker.live:
            return True  # whoever does not see does not quote
        if abs(mid - self._quoted) >= self._quoted * self._options.move:
            return True
        now = monotonic()
        return any(
            now - quote.since > UPDATE_WITHIN and self._tracker.find(quote.order_id) is None
            for quote in self.quotes
        )

    async def _settle(self, pulled: list[tuple[Quote, Pending[CancelAck]]]) -> None:
        """Wait until it is known what became of each order, and book what was filled."""
        for quote, pending in pulled:
            tracked = self._tracker.find(quote.order_id)  # kept up to date while we wait
            try:
                await pending
                truth = Truth.CANCELLED
            except (Rejected, OutcomeUnknown) as error:  # 420: it was filled, or gone already
                try:
                    truth = await self._client.truth(pending)
                except TimeoutError:
                    say(f"{quote.side} {quote.order_id}: {error}, and nobody knows more")
                    continue
            except NotSent as error:
                say(f"{quote.side} {quote.order_id}: {error}")
                self.quotes.append(quote)  # pulled again with the next price
                continue
            if truth is Truth.OPEN:
                self.quotes.append(quote)
                continue
            filled = Decimal(tracked.filled) if tracked is not None else Decimal(0)
            if truth is Truth.FILLED:
                filled = self._options.amount
            self.position += filled if quote.side == "bid" else -filled
            say(f"{quote.side} {quote.order_id}: {truth.name.lower()}, position {self.position}")

    async def _quote(self, mid: Decimal) -> None:
        """Place both sides at once, but for one that would take the position over its limit."""
        options = self._options
        self._quoted, self._not_before = mid, monotonic() + options.every
        away, tick = mid * options.spread / 2, options.tick
        bid = ((mid - away) / tick).to_integral_value(ROUND_FLOOR) * tick
        ask = ((mid + away) / tick).to_integral_value(ROUND_CEILING) * tick
        sides = []
        if self.position + options.amount <= options.max_position:
            sides.append(self._place("bid", bid))
        if self.position - options.amount >= -options.max_position:
            sides.append(self._place("ask", ask))
        await asyncio.gather(*sides)
        if self.quotes and self._must_go(self.mid):  # the price has moved on meanwhile
            await self._settle(self.pull())

    async def _place(self, side: str, price: Decimal) -> None:
        symbol, client_order_id = self._options.symbol, str(uuid4())
        order = {
            "symbol": symbol,
            "price": f"{price:f}",
            "amount": f"{self._options.amount:f}",
            "side": side,
            "tif": "ALO",  # rests or is refused: no speed bump, no taker's fee
            "reduce_only": False,
            "client_order_id": client_order_id,
        }
        try:
            ack = await self._client.request("create_order", order)
        except CreditsReserved as error:  # the rest is for cancels
            self._not_before = monotonic() + error.wait
            say(f"{side}: {error}")
        except (Rejected, NotSent) as error:
            say(f"{side}: {error}")
        except OutcomeUnknown as error:
            say(f"{side}: {error}: cancelling it, if it is there")
            try:
                await self._client.cancel_order(symbol, client_order_id=client_order_id)
            except (Rejected, NotSent, OutcomeUnknown) as other:
                say(f"{side}: {other}")
        else:
            order_id: int = ack.data["i"]
            self.quotes.append(Quote(side, order_id, self._client.arm(symbol, order_id=order_id)))
            say(f"{side} {order_id}: {self._options.amount} at {price}")


def trust(url: str, ca_file: str | None) -> ssl.SSLContext | None:
    """Whom to trust: those in the file, or the system's list; nobody is asked without TLS."""
    return ssl.create_default_context(cafile=ca_file) if url.startswith("wss:") else None


async def mids(options: argparse.Namespace) -> AsyncIterator[Decimal | None]:
    """Mid prices as they come; None if there was none for --stale seconds, or the feed is lost."""
    url, wanted = options.feed or options.url, {"source": "bbo", "symbol": options.symbol}
    async for feed in connect_feed(url, ssl=trust(url, options.ca_file)):
        try:
            await feed.send(json.dumps({"method": "subscribe", "params": wanted}))
            pinged = monotonic()
            while True:
                try:
                    async with asyncio.timeout(options.stale):
                        message = json.loads(await feed.recv())
                    if message.get("channel") == "bbo" and message["data"]["s"] == options.symbol:
                        yield (Decimal(message["data"]["b"]) + Decimal(message["data"]["a"])) / 2
                except TimeoutError:
                    yield None
                if monotonic() - pinged > PING_EVERY:
                    pinged = monotonic()
                    await feed.send('{"method":"ping"}')
        except ConnectionClosed as error:
            say(f"feed: {error}")
            yield None


async def trade(options: argparse.Namespace) -> None:
    """Make a market until SIGINT or SIGTERM."""
    with Keypair.from_file(options.key_file) if options.key_file else Keypair.from_env() as keypair:
        signer = Signer(keypair, account=options.account, prepared=64)
        async with connect(
            signer,
            url=options.url,
            ssl=trust(options.url, options.ca_file),
            api_key=os.environ.get("PACIFICA_API_KEY"),
            on_disconnect="retry",
        ) as client:
            maker = Maker(client, await client.track(), options)

            async def follow() -> None:
                async for mid in mids(options):
                    maker.on_price(mid)

            following = asyncio.ensure_future(follow())
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, following.cancel)
            say(f"quoting {options.symbol} for {signer.account}, until Ctrl-C")
            try:
                await following
            except asyncio.CancelledError:
                say("stopping")
            finally:
                await maker.stop()
        signer.close()


def seconds(text: str) -> float:
    """An argument: so many."""
    with suppress(ValueError):
        if 0 < float(text) < inf:
            return float(text)
    raise argparse.ArgumentTypeError("expected a positive number of seconds")


def number(text: str, below: Decimal = Decimal("inf")) -> Decimal:
    """An argument: a decimal above 0."""
    with suppress(InvalidOperation):  # neither is "5%" a number, nor is nan more or less than one
        if 0 < Decimal(text) < below:
            return Decimal(text)
    raise argparse.ArgumentTypeError("expected a positive number" + (", below 1" if below == 1 else ""))


share = partial(number, below=Decimal(1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("symbol", help="BTC, say")
    parser.add_argument("--url", default=TESTNET_WS, help="of the exchange (default: testnet, %(default)s)")
    parser.add_argument("--feed", help="where prices come from (default: the exchange)")
    parser.add_argument("--ca-file", help="whom to trust instead of the system's list, PEM")
    parser.add_argument("--key-file", help="id.json or base58 (default: $PACIFICA_PRIVATE_KEY)")
    parser.add_argument("--account", help="if the key is an agent wallet's: whose orders they are")
    parser.add_argument("--amount", type=number, default=Decimal("0.001"), help="of a quote (%(default)s)")
    parser.add_argument("--tick", type=number, default=Decimal(1), help="of prices (%(default)s)")
    parser.add_argument(
        "--spread", type=share, default=Decimal("0.001"), help="between bid and ask, of the mid (0.001)"
    )
    parser.add_argument(
        "--move", type=share, default=Decimal("0.0002"), help="of the mid that pulls the quotes (0.0002)"
    )
    parser.add_argument("--max-position", type=number, default=Decimal("0.01"), help="either way (0.01)")
    parser.add_argument("--every", type=seconds, default=3.0, help="s between two pairs of quotes (3)")
    parser.add_argument(
        "--stale", type=seconds, default=3.0, help="s without a price that pull the quotes (3)"
    )
    try:
        asyncio.run(trade(parser.parse_args()))
    except (PacificaError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
