# SPDX-License-Identifier: MIT
"""What may be logged of the wire."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_fast import Keypair, Rejected, Signer, b58encode
from pacifica_fast.logs import shown
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.sync import connect


@given(st.binary(min_size=64, max_size=64), st.integers(0, 300))
def test_no_signature_wherever_it_stands(raw: bytes, before: int) -> None:
    signature = b58encode(raw)
    line = shown(" " * before + json.dumps({"err": "bad", "signature": signature}))
    # No part of it either, by which the rest might be found.
    assert all(signature[at : at + 30] not in line for at in range(len(signature) - 29))


@given(st.binary(max_size=1000) | st.text(max_size=1000))
def test_one_short_line_of_anything(text: bytes | str) -> None:
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= 203


def test_a_public_key_and_an_error_can_be_read() -> None:
    text = '{"code":420,"err":"no order","account":"42trU9A5hQzQmn1nCN8TwFS4qDsBhRFvK5kHkEVXcrQT"}'
    assert shown(text.encode()) == text


def test_a_client_logs_no_secret_and_no_signature(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seed = bytes(range(7, 39))
    keypair = Keypair.from_seed(seed)
    signatures = []

    def received(message: object) -> None:
        signatures.append(json.loads(message.text)["params"]["cancel_order"]["signature"])  # type: ignore[attr-defined]

    with MockExchange(tls=False, on_message=received).in_thread() as exchange:
        order = exchange.place(keypair.pubkey())
        with connect(Signer(keypair), url=exchange.url) as client:
            client.cancel_order("BTC", order_id=order.order_id)
            with pytest.raises(Rejected):
                client.cancel_order("BTC", order_id=1)
            armed = client.arm("BTC", order_id=2)
            with pytest.raises(Rejected):
                armed.fire().result()
    assert len(signatures) == 3
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    secrets = [b58encode(seed), seed.hex(), b58encode(seed + bytes(32))[:40], *signatures]
    assert not [secret for secret in secrets if secret in logged]
