# SPDX-License-Identifier: MIT
"""Benchmarks: ``python -m benchmarks`` for the report, ``pytest benchmarks`` for pytest-benchmark.

In a wheel they are ``pacifica_fast._benchmarks``, for ``pacifica-fast bench``: hence relative imports.

``measure`` times, ``experiment`` says what an experiment is, ``results`` keeps what was measured
in a file; ``cases`` and ``peers`` are what is compared. Experiments are in ``building`` (no
network), ``wire`` (to an exchange in another process, ``server``), ``crowd`` (many orders, many
threads) and ``process`` (import, memory). ``goals`` judges them; ``tables``, ``draw`` and ``page`` show them.
"""
