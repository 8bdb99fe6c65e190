# SPDX-License-Identifier: MIT
"""The duplex stress, for a few seconds; ``python tests/sync/stress.py`` does it for longer."""

from __future__ import annotations

from stress import stress


def test_nothing_is_lost_in_either_direction() -> None:
    counts = stress(3.0)
    assert counts.complete, counts
