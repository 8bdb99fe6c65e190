# SPDX-License-Identifier: MIT
"""What all tests have in common: patience, and what they do without the C core (docs/platforms.md)."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, settings

with warnings.catch_warnings():  # what it says without the core is tested, not an error here
    warnings.simplefilter("ignore", RuntimeWarning)
    from pacifica_fast._sodium import COMPILED

# hypothesis gives an example 200 ms, and complains; no test fails because a machine is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

collect_ignore = [] if COMPILED else ["test_native.py"]  # it imports the core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without the core, skip what looks into its memory, or cannot hold in Python."""
    if COMPILED:
        return
    for item in items:
        if item.get_closest_marker("core"):
            item.add_marker(pytest.mark.skip(reason="needs the C core"))
