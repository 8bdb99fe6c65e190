# SPDX-License-Identifier: MIT
"""The same cases under pytest-benchmark: ``pytest benchmarks``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .cases import GROUPS
from .sample import Case

CASES = [pytest.param(title, case, id=case.name) for title, make in GROUPS.items() for case in make()]


@pytest.mark.parametrize(("title", "case"), CASES)
def test_stage(benchmark: BenchmarkFixture, title: str, case: Case) -> None:
    """One case; its output is right, or the benchmark is worth nothing."""
    benchmark.group = title
    if case.ready is None:
        output = benchmark(case.run)
    else:
        pedantic: Callable[..., Any] = benchmark.pedantic
        output = pedantic(case.run, setup=case.ready, rounds=200)
    benchmark.extra_info["correct"] = case.is_right(output)
    benchmark.extra_info["units_per_call"] = case.work
    assert benchmark.extra_info["correct"]
