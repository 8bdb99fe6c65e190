# SPDX-License-Identifier: MIT
"""The C tests under what ``make sanitize`` lacks: MSan, clang's further checks, TSan of both compilers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from proof.builds import CSRC, Change
from proof.evidence import NOTHING

from analyse.planted import CONVERSION, RACE, UNINITIALISED
from analyse.tools import Blind, compiles, copy_of_core, missing, report, run

__all__ = ["RUNS", "Sanitizer", "look"]

# Implicit conversions that change a value, unsigned shifts that lose bits, arrays whose size is only
# known inside a function, and NULL where it was promised that there is none.
FURTHER = "undefined,implicit-conversion,nullability,local-bounds,unsigned-shift-base"


@dataclass(frozen=True, slots=True)
class Sanitizer:
    """``seen_by`` is the test that runs into ``planted``, and says so in the words of ``says``.

    ``short`` are the tests of the short form, if it has one; those of the long form, if any, are not all
    there are.
    """

    name: str
    compiler: str
    sanitize: str
    planted: Change
    seen_by: str
    says: str
    short: tuple[str, ...]
    long: tuple[str, ...] = ()
    flags: str = "-O1 -g"


_QUICK = ("test_base58", "test_frame", "test_cancel", "test_gate")
_THREADS = ("test_gate", "test_nonce", "test_armed")
_THREADS_LONG = (*_THREADS, "test_nonce_interleaved", "test_armed_interleaved")

RUNS = (
    Sanitizer(
        "clang's MSan",
        *("clang", "memory", UNINITIALISED, "test_base58", "use-of-uninitialized-value"),
        short=_QUICK,
        flags="-O1 -g -fsanitize-memory-track-origins",
    ),
    Sanitizer(
        "clang's UBSan, further checks",
        *("clang", FURTHER, CONVERSION, "test_frame", "implicit conversion"),
        short=_QUICK,
    ),
    *(
        Sanitizer(
            f"{compiler}'s TSan",
            *(compiler, "thread", RACE, "test_gate", "data race"),
            short=("test_gate",) if compiler == "clang" else (),  # gcc's is part of `make sanitize`
            long=_THREADS_LONG,
        )
        for compiler in ("gcc", "clang")
    ),
)


def _make(csrc: Path, build: Path, sanitizer: Sanitizer, tests: tuple[str, ...]) -> tuple[int, str]:
    return run(
        [
            *("make", "--no-print-directory", "--silent", "-C", csrc / "tests", f"BUILD={build}"),
            *(f"CC={sanitizer.compiler}", f"SANITIZE={sanitizer.sanitize}"),
            # A planted fault may be one that the compiler warns of.
            f"CFLAGS={sanitizer.flags}{'' if csrc == CSRC else ' -Wno-error'}",
            *tests,
        ],
    )


def _sees_what_is_planted(sanitizer: Sanitizer, work: Path) -> None:
    csrc = copy_of_core(work, "planted", sanitizer.planted)
    status, output = _make(csrc, work / "planted_build", sanitizer, (sanitizer.seen_by,))
    if status == 0 or sanitizer.says not in output:
        raise Blind(f"{sanitizer.name} does not see {sanitizer.planted}:\n{output[-2000:]}")


def look(sanitizer: Sanitizer, work: Path, short: bool) -> bool:
    """True if nothing was found, or this is not for the short form."""
    if short and not sanitizer.short:
        return True
    tried = f"C tests under {sanitizer.name}; it saw a planted fault before"
    if missing(tried, sanitizer.compiler, "make"):
        return True
    if sanitizer.compiler == "clang" and not compiles(tried, work, [f"-fsanitize={sanitizer.sanitize}"]):
        return True
    _sees_what_is_planted(sanitizer, work)
    tests = sanitizer.short if short else sanitizer.long
    status, output = _make(CSRC, work / "build", sanitizer, tests)
    passed = len(re.findall(r": ok$", output, re.MULTILINE))
    found = NOTHING if status == 0 and passed else f"exit status {status}"
    return report(tried, f"{passed} test programs", found, output)
