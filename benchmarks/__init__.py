# SPDX-License-Identifier: MIT
"""Benchmarks: ``python -m benchmarks`` for the report, ``pytest benchmarks`` for pytest-benchmark."""
