# SPDX-License-Identifier: MIT
"""pytest-benchmark's settings for ``pytest benchmarks``, where the command line has none."""

from __future__ import annotations

import pytest

# All of it takes well under a minute.
SETTINGS = {"benchmark_disable_gc": True, "benchmark_min_rounds": 100, "benchmark_warmup": True}


def pytest_configure(config: pytest.Config) -> None:
    """Runs before pytest-benchmark reads its options."""
    given = " ".join(config.invocation_params.args)
    for name, value in SETTINGS.items():
        if "--" + name.replace("_", "-") not in given:
            setattr(config.option, name, value)
    if "--benchmark-max-time" not in given:
        config.option.benchmark_max_time = 0.3  # s for each case
