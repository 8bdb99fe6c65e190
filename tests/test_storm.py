# SPDX-License-Identifier: MIT
"""Bad weather, shortly; ``python tests/storm.py`` for long. Not timed: machines are slow."""

from __future__ import annotations

import logging

import pytest
from storm import run


@pytest.mark.parametrize("links", [1, 2])
@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
def test_every_cancel_has_one_fate_and_a_true_one(
    kind: str, links: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    outcome = run(1500, kind=kind, links=links, retry=links == 1, seed=3)
    assert outcome.wrong == []
    assert sum(outcome.fates.values()) == 1500
    assert outcome.fates["CancelAck"] > 100
    assert len(outcome.met) > 5
