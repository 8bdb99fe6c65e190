# SPDX-License-Identifier: MIT
"""The mock exchange's engine: markets, and the orders that rest on them.

There is nobody to trade with, so nothing matches: what may rest (``ALO``, ``GTC``,
``TOB``) rests until it is cancelled, edited, or filled by the owner of the mock
exchange; what may not (``IOC``, market orders) is accepted and ends unfilled.

Requests get here checked and with their signatures verified. What the engine refuses,
it refuses with :class:`Refusal`, and then nothing has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from pacifica_fast._mock_rules import Condition, Fields

__all__ = ["MARKETS", "Book", "Market", "Order"]

# Beyond 32 bits, as on the real exchange [HB].
FIRST_ORDER_ID: Final = 28_416_222_569


@dataclass(frozen=True, slots=True)
class Market:
    """What prices (``tick``) and amounts (``lot``) of one symbol are multiples of; decimal strings."""

    tick: str
    lot: str

    def fits(self, price: str | None, amount: str) -> bool:
        """Whether both are on the grid; a market order has no price."""
        on_tick = price is None or Fraction(price) % Fraction(self.tick) == 0
        return on_tick and Fraction(amount) % Fraction(self.lot) == 0


# BTC and ETH as in [K]'s sample of GET /info; the others are made up in their likeness.
MARKETS: Final[Mapping[str, Market]] = {
    "BTC": Market(tick="1", lot="0.00001"),
    "ETH": Market(tick="0.1", lot="0.0001"),
    "SOL": Market(tick="0.01", lot="0.01"),
    "kBONK": Market(tick="0.000001", lot="1"),
    "SOL-USDC": Market(tick="0.01", lot="0.01"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A resting order. Prices and amounts are decimal strings, ``created_at`` Unix milliseconds."""

    order_id: int
    client_order_id: str | None
    account: str
    symbol: str
    side: str
    price: str
    amount: str
    tif: str
    reduce_only: bool
    created_at: int


class Book:
    """All resting orders, and the updates that their owners have yet to hear of.

    ``updates`` holds what ``account_order_updates`` sends, oldest first, until
    :meth:`take_updates` hands them out.
    """

    def __init__(self, markets: Mapping[str, Market]) -> None:
        self.markets = dict(markets)
        self._orders: dict[str, dict[int, Order]] = {}  # by account, then order id
        self._by_client_id: dict[tuple[str, str], int] = {}
        self._order_ids = itertools.count(FIRST_ORDER_ID)
        self._sequence = itertools.count(1)
        self._updates: list[dict[str, Any]] = []

    def newest(self, account: str) -> Order:
        """The order that came last, of those that rest."""
        return next(reversed(self._orders[account].values()))

    def orders(self, account: str) -> list[Order]:
        """Return the resting orders of ``account``, oldest first."""
        return list(self._orders.get(account, {}).values())

    def take_updates(self) -> list[dict[str, Any]]:
        """Return the updates since the last call."""
        updates, self._updates = self._updates, []
        return updates

    def execute(self, operation: str, fields: Fields, now: int) -> dict[str, Any]:
        """Do what a verified request asks; return the ``data`` of its answer. ``now`` is Unix ms."""
        match operation:
            case "create_order":
                return self.create(fields, now)
            case "create_market_order":
                return self.create_market(fields, now)
            case "edit_order":
                return self.edit(fields, now)
            case "cancel_order":
                return self.cancel(fields, now)
            case _:
                return self.cancel_all(fields, now)

    def create(self, fields: Fields, now: int) -> dict[str, Any]:
        """A limit order: rests, unless it is IOC."""
        order = self._new_order(fields, fields["price"], fields["tif"], now)
        if order.tif == "IOC":
            self._report(order, "cancel", "cancelled", now)
        else:
            self._rest(order, now)
        return _placed(order)

    def create_market(self, fields: Fields, now: int) -> dict[str, Any]:
        """A market order: ends unfilled."""
        order = self._new_order(fields, None, "IOC", now)
        self._report(order, "cancel", "cancelled", now, order_type="market")
        return _placed(order)

    def edit(self, fields: Fields, now: int) -> dict[str, Any]:
        """Cancel an order and rest it anew as ALO: new id, same side, client id and reduce-only [K]."""
        old = self._find(fields)
        if old is None:
            raise Condition.EDIT_FAILED.refusal()
        self._check_grid(old.symbol, fields["price"], fields["amount"])
        self._end(old, "cancel", "cancelled", now)
        new = replace(
            old,
            order_id=next(self._order_ids),
            price=fields["price"],
            amount=fields["amount"],
            tif="ALO",
            created_at=now,
        )
        self._rest(new, now)
        return _placed(new)

    def cancel(self, fields: Fields, now: int) -> dict[str, Any]:
        """Cancel one order; the answer repeats the id that was sent, and no other [K]."""
        order = self._find(fields)
        if order is None:
            raise Condition.CANCEL_FAILED.refusal()
        self._end(order, "cancel", "cancelled", now)
        return {"I": fields.get("client_order_id"), "i": fields.get("order_id"), "s": order.symbol}

    def cancel_all(self, fields: Fields, now: int) -> dict[str, Any]:
        """Cancel what the account has resting; a symbol beside ``all_symbols`` is ignored [K]."""
        symbol = None if fields["all_symbols"] else fields["symbol"]
        if symbol is not None:
            self._market(symbol)
        doomed = [
            order
            for order in self.orders(fields["account"])
            if symbol in (None, order.symbol) and not (fields["exclude_reduce_only"] and order.reduce_only)
        ]
        for order in doomed:
            self._end(order, "cancel", "cancelled", now)
        return {"cancelled_count": len(doomed)}

    def fill(self, account: str, order_id: int, now: int) -> Order:
        """Fill a resting order completely, at its price. Raises :class:`KeyError` if it does not rest."""
        order = self._orders.get(account, {})[order_id]
        self._end(order, "fulfill_limit", "filled", now, filled=order.amount)
        return order

    def snapshot(self, account: str) -> list[dict[str, Any]]:
        """The resting orders with the fields of [D-new] account-orders."""
        return [
            {
                "i": order.order_id,
                "I": order.client_order_id,
                "s": order.symbol,
                "d": order.side,
                "p": order.price,
                "a": order.amount,
                "f": "0",
                "c": "0",
                "t": order.created_at,
                "st": None,
                "sp": None,
                "ot": "limit",
                "ro": order.reduce_only,
            }
            for order in self.orders(account)
        ]

    def _market(self, symbol: str) -> Market:
        market = self.markets.get(symbol)
        if market is None:
            raise Condition.UNKNOWN_SYMBOL.refusal("unknown symbol")
        return market

    def _check_grid(self, symbol: str, price: str | None, amount: str) -> None:
        if not self._market(symbol).fits(price, amount):
            raise Condition.OFF_THE_GRID.refusal()

    def _new_order(self, fields: Fields, price: str | None, tif: str, now: int) -> Order:
        self._check_grid(fields["symbol"], price, fields["amount"])
        client_order_id = fields.get("client_order_id")
        if (fields["account"], client_order_id) in self._by_client_id:
            raise Condition.DUPLICATE_CLIENT_ORDER_ID.refusal()
        return Order(
            order_id=next(self._order_ids),
            client_order_id=client_order_id,
            account=fields["account"],
            symbol=fields["symbol"],
            side=fields["side"],
            price="0" if price is None else price,
            amount=fields["amount"],
            tif=tif,
            reduce_only=fields["reduce_only"],
            created_at=now,
        )

    def _find(self, fields: Fields) -> Order | None:
        """The resting order that an edit or a cancel names, if it is the account's, on that symbol."""
        self._market(fields["symbol"])
        account, order_id = fields["account"], fields.get("order_id")
        if order_id is None:
            order_id = self._by_client_id.get((account, fields["client_order_id"]))
        order = None if order_id is None else self._orders.get(account, {}).get(order_id)
        return order if order is not None and order.symbol == fields["symbol"] else None

    def _rest(self, order: Order, now: int) -> None:
        self._orders.setdefault(order.account, {})[order.order_id] = order
        if order.client_order_id is not None:
            self._by_client_id[order.account, order.client_order_id] = order.order_id
        self._report(order, "make", "open", now)

    def _end(self, order: Order, event: str, status: str, now: int, filled: str = "0") -> None:
        del self._orders[order.account][order.order_id]
        if order.client_order_id is not None:
            del self._by_client_id[order.account, order.client_order_id]
        self._report(order, event, status, now, filled=filled)

    def _report(
        self,
        order: Order,
        event: str,
        status: str,
        now: int,
        *,
        filled: str = "0",
        order_type: str = "limit",
    ) -> None:
        """Note one update, with the fields of [K] account-order-updates and the later ``lp`` and ``li``."""
        self._updates.append(
            {
                "i": order.order_id,
                "I": order.client_order_id,
                "u": order.account,
                "s": order.symbol,
                "d": order.side,
                "p": order.price if filled != "0" else "0",
                "ip": order.price,
                "lp": order.price,
                "a": order.amount,
                "f": filled,
                "oe": event,
                "os": status,
                "ot": order_type,
                "sp": None,
                "si": None,
                "r": order.reduce_only,
                "ct": order.created_at,
                "ut": now,
                "li": next(self._sequence),
            }
        )


def _placed(order: Order) -> dict[str, Any]:
    return {"I": order.client_order_id, "i": order.order_id, "s": order.symbol}
