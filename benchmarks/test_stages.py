# SPDX-License-Identifier: MIT
"""The same cases under pytest-benchmark: ``pytest benchmarks``."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import GROUPS, Case

CASES = [pytest.param(title, case, id=case.name) for title, make in GROUPS.items() for case in make()]


@pytest.mark.parametrize(("title", "case"), CASES)
def test_stage(benchmark: BenchmarkFixture, title: str, case: Case) -> None:
    """One case; its output is right, or the benchmark is worth nothing."""
    benchmark.group = title
    output = benchmark(case.run)
    benchmark.extra_info["correct"] = case.is_right(output)
    benchmark.extra_info["units_per_call"] = case.work
    assert benchmark.extra_info["correct"]
