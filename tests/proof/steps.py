# SPDX-License-Identifier: MIT
"""What ``make prove`` consists of: commands, in an order that starts the long ones first."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from proof.evidence import Evidence

__all__ = ["STEPS", "Step"]

PYTHON = sys.executable


@dataclass(frozen=True, slots=True)
class Step:
    """A command that exits with 0 if it found nothing.

    ``short`` is its form for CI, None if it has no place there. ``needs`` are programs. It prints
    its rows (:mod:`proof.evidence`), or ``row`` makes one of its output.
    """

    name: str
    command: tuple[str, ...]
    short: tuple[str, ...] | None
    needs: tuple[str, ...] = ()
    row: Callable[[str], Evidence] | None = None


def _tests_passed(tried: str) -> Callable[[str], Evidence]:
    """A row of pytest's last line."""

    def row(output: str) -> Evidence:
        passed = [int(count) for count in re.findall(r"(\d+) passed", output)]
        if not passed:
            raise ValueError("no test passed")
        skipped = sum(int(count) for count in re.findall(r"(\d+) skipped", output))
        return Evidence(tried, f"{sum(passed):,} tests" + (f", {skipped} skipped" if skipped else ""))

    return row


def _models_explored(output: str) -> Evidence:
    holds, fails = (len(re.findall(rf"^{word} ", output, re.MULTILINE)) for word in ("holds", "fails"))
    states = sum(float(count) for count in re.findall(r"([\d.e+]+) states, stored", output))
    if not holds or not fails:
        raise ValueError("no model was explored")
    return Evidence(
        "a pool of nonces, every order of its steps; each safeguard taken out is missed",
        f"{holds + fails} models, {states:,.0f} states",
    )


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return PYTHON, "-m", name, *arguments


def _pytest(*arguments: str) -> tuple[str, ...]:
    return PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments


_COVERAGE = _module("fuzz.coverage")
_MODEL = ("csrc/tests/model/check",)
_SANITIZE = ("make", "--no-print-directory", "sanitize")
_MEMORY = _pytest("tests/test_memory.py")

STEPS = (
    Step(
        "analyse",
        _module("analyse.run"),
        _module("analyse.run", "--short", "--only", "compilers", "sanitizers", "memcheck"),
    ),
    Step(
        "sanitize",
        _SANITIZE,
        _SANITIZE,
        row=_tests_passed("C tests and Python tests under ASan and UBSan; gate, nonces, armed under TSan"),
    ),
    Step("fuzz", _module("fuzz.run", "--seconds", "45"), _module("fuzz.run", "--seconds", "2")),
    Step("wheels", _module("proof.wheels"), None),
    Step("races", _module("proof.races", "--seconds", "40"), _module("proof.races", "--seconds", "3")),
    Step(
        "differential",
        _module("proof.differential", "--requests", "1000000"),
        _module("proof.differential", "--requests", "20000"),
    ),
    Step("mutants", _module("mutants.run", "--seconds", "150", "--jobs", "1"), None),
    Step("pythons", _module("proof.pythons"), None),  # CI has a job for each
    Step(
        "nonces",
        _module("proof.nonces", "--signatures", "2000000"),
        _module("proof.nonces", "--signatures", "60000"),
    ),
    Step("dudect", _module("ctgrind.dudect"), _module("ctgrind.dudect", "--short")),
    Step("coverage", _COVERAGE, None),
    Step("model", _MODEL, None, needs=("spin",), row=_models_explored),  # two minutes
    Step(
        "ctgrind",
        _module("ctgrind.run"),
        _module("ctgrind.run", "--short"),
        needs=("valgrind",),
    ),
    Step("supply", _module("proof.supply"), _module("proof.supply", "--short")),
    Step(
        "memory",
        _MEMORY,
        None,  # among the tests
        row=_tests_passed("secrets looked for in the memory of another process, and in its core dump"),
    ),
)
