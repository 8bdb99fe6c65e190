# SPDX-License-Identifier: MIT
"""Does the time that signing takes depend on the secret: measures ``csrc/tests/dudect.c``.

    PYTHONPATH=tests python -m ctgrind.dudect [--short]

Fixed against random inputs, Welch's t over the measured times, once with all of them and once
each with more of the slowest left out (Reparaz, Balasch, Verbauwhede, 2017). A |t| over 10 is a
leak for certain, over 4.5 perhaps one. Machines are noisy: the exit status is 1 only if |t| is
over 10 in every one of several batches, or if the control, a comparison that stops at the first
difference, is not found, or one is found between random inputs and random inputs.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import groupby
from math import inf, sqrt
from operator import itemgetter
from pathlib import Path

from proof.builds import CSRC
from proof.evidence import NOTHING, evidence
from proof.sodium import functions

CERTAIN = 10.0
PERHAPS = 4.5
BATCHES = 5
LEAK = "a leak for certain"
# The works of dudect.c, in their order.
CONTROL, *WORKS = (
    "a comparison that stops at the first difference",
    "decoding base58 of 64 secret bytes",
    "decoding base58 of 32 secret bytes",
    "opening a key",
    "signing deterministically, by key",
    "signing deterministically, by message",
    "signing with a prepared nonce, by key",
)
# Which share of the measurements, the fastest ones, is looked at; the slowest are interrupts.
SHARES = (1.0, *(1 - 0.5 ** (10 * i / 20) for i in range(1, 21)))


@dataclass(slots=True)
class Sums:
    """Of the times of one class."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, time: float) -> None:
        self.n += 1
        self.total += time
        self.squares += time * time

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def variance_of_mean(self) -> float:
        return (self.squares - self.total * self.mean) / (self.n - 1) / self.n


def welch(fixed: Sums, random: Sums) -> float:
    """|t|; 0 where there is nothing to compare."""
    if fixed.n < 2 or random.n < 2:
        return 0.0
    difference = abs(fixed.mean - random.mean)
    spread = fixed.variance_of_mean + random.variance_of_mean
    if spread <= 0.0:  # a clock so coarse that all times are the same
        return inf if difference else 0.0
    return difference / sqrt(spread)


def largest_t(measured: list[tuple[int, int]]) -> float:
    """The largest |t| of all shares of (time, 1 if fixed): one pass over the times, fastest first.

    Times come in steps: a share ends where a step does, or the order of the sort would part
    equal times by their class.
    """
    measured.sort()
    middle = measured[len(measured) // 2][0]  # differences to it keep the sums small
    ends = sorted(share * len(measured) for share in SHARES)
    classes = (Sums(), Sums())
    largest = 0.0
    for time, equal in groupby(measured, key=itemgetter(0)):
        for _, is_fixed in equal:
            classes[is_fixed].add(float(time - middle))
        count = classes[0].n + classes[1].n
        if count >= ends[0]:
            ends = [end for end in ends if end > count] or [inf]
            largest = max(largest, welch(classes[1], classes[0]))
    return largest


def build(directory: Path) -> ctypes.CDLL:
    """The core as it is shipped, with the harness, bound to PyNaCl's libsodium."""
    library = directory / "dudect.so"
    sources = [*sorted(CSRC.glob("pf_*.c")), CSRC / "tests" / "dudect.c"]
    subprocess.run(
        [
            *(os.environ.get("CC", "cc"), "-std=c11", "-O3", "-fPIC", "-shared", "-pthread", f"-I{CSRC}"),
            *(*map(str, sources), "-o", str(library)),
        ],
        check=True,
    )
    loaded = ctypes.CDLL(str(library))
    if loaded.pf_dudect_open((ctypes.c_void_p * 8)(*list(functions())[:8])) != 0:
        raise RuntimeError("the harness does not open")
    return loaded


def batch(library: ctypes.CDLL, work: int, size: int, *, alike: bool = False) -> float:
    is_fixed = (ctypes.c_uint8 * size)()
    times = (ctypes.c_uint64 * size)()
    if library.pf_dudect(work, int(alike), ctypes.c_size_t(size), is_fixed, times) != 0:
        raise MemoryError("no room for the inputs")
    return largest_t(list(zip(times, is_fixed, strict=True)))


def verdict(ts: list[float]) -> str:
    """What all batches agree on: one busy moment is not a leak."""
    if min(ts) > CERTAIN:
        return LEAK
    return "perhaps a leak" if min(ts) > PERHAPS else NOTHING


def row(tried: str, ts: list[float], size: int, *, planted: bool = False) -> bool:
    """True if there is no leak, or the planted one is seen."""
    found = verdict(ts)
    if planted:
        found = NOTHING if found == LEAK else "the planted leak was not seen"
    values = ", ".join(f"{t:.1f}" for t in ts)
    evidence(tried, f"{len(ts)} batches of {size} measurements, t {values}", found)
    return found == NOTHING


def check_controls(library: ctypes.CDLL, size: int) -> bool:
    """A leak is found; and nothing is, with both classes alike: t is worth something."""
    leaky = [batch(library, 0, size) for _ in range(BATCHES)]
    alike = [batch(library, 2, size, alike=True) for _ in range(BATCHES)]
    seen = row(f"Control: a planted leak in time is seen: {CONTROL}", leaky, size, planted=True)
    none = row(f"Control: none is seen between random and random: {WORKS[1]}", alike, size)
    return seen and none


def check_work(library: ctypes.CDLL, number: int, name: str, size: int) -> bool:
    ts = [batch(library, number, size) for _ in range(BATCHES)]
    return row(f"Does the time depend on the secret: {name}", ts, size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="10 000 measurements in a batch, not 200 000")
    size = 10_000 if parser.parse_args().short else 200_000
    if not shutil.which(os.environ.get("CC", "cc")):
        raise RuntimeError("no compiler")
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        good = check_controls(library, size)
        for number, work in enumerate(WORKS, 1):
            good = check_work(library, number, work, size) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
