# SPDX-License-Identifier: MIT
"""The status of a client: plain values, that cannot be changed and can be written down."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from observed import a_status, statuses

from pacifica_fast import Keypair, Rejected, Signer
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.status import Fates, Observable, OrderStatus, Status
from pacifica_fast.sync import connect


@given(statuses)
def test_plain_values(status: Status) -> None:
    assert json.loads(json.dumps(dataclasses.asdict(status)))["account"] == status.account
    assert hash(status) == hash(dataclasses.replace(status))


def test_nobody_changes_one() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_status().in_flight = 4  # type: ignore[misc]


def test_of_a_real_client() -> None:
    keypair = Keypair.generate()
    with MockExchange(tls=False).in_thread() as exchange:
        order = exchange.place(keypair.pubkey())
        with connect(Signer(keypair), url=exchange.url) as client:
            source: Observable = client
            found = client.cancel_order_nowait("BTC", order_id=order.order_id)
            missing = client.cancel_order_nowait("BTC", order_id=1)
            found.result()
            with pytest.raises(Rejected):
                missing.result()
            status = source.status()
            assert status.account == keypair.pubkey()
            assert status.fates == Fates(acked=1, rejected=1)
            assert [link.state for link in status.links] == ["open"]
            assert status.credits is not None
            assert status.credits.remaining == 124.0
            assert status.clock is not None
            assert abs(status.clock.offset) <= status.clock.error + 1
            assert (status.latency, status.orders) == (None, None)
            client.track()
            exchange.place(keypair.pubkey())
            while (orders := client.status().orders) != OrderStatus(1, 1):
                assert orders is not None
        assert [link.state for link in source.status().links] == ["closed"]
