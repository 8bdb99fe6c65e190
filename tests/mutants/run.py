# SPDX-License-Identifier: MIT
"""Mutants, and whether the tests see them.

    PYTHONPATH=tests python -m mutants.run [--seconds 300 | --all] [--explained] [--only c python]

takes them in an order drawn from ``--seed`` until the time is up; ``--all`` takes every one (hours). What
survives must stand in ``survivors.toml`` with a reason, else the exit status is 1. What stands there meets
every test, which takes most of the time: it is tried only with ``--explained``. With that and ``--all`` what
stands there and does not survive is wrong too. Every fate goes to ``build/mutants/fates.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proof.builds import compiler
from proof.evidence import NOT_RUN, NOTHING, evidence

from mutants import c_source, python_source
from mutants.c_tests import CSRC, ROOT, CBench, Programs
from mutants.mutant import Fate, Mutant
from mutants.python_tests import PYTHON_TESTS, KnownTests, PythonBench

__all__ = ["Survivors", "all_mutants", "main"]

SURVIVORS = Path(__file__).with_name("survivors.toml")
FATES = ROOT / "build" / "mutants" / "fates.jsonl"
NOT_THE_CORE = ("pf_gil.h",)  # of the extension module alone: whether the GIL is given up, nothing else
Try = Callable[[Mutant], tuple[Fate, str]]


class Survivors:
    """Which mutants may survive, and why. A reason holds for all changes alike in lines alike of a file."""

    def __init__(self, path: Path = SURVIVORS) -> None:
        listed = tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", [])
        self._why = {
            (one["file"], one["line"], change): one["why"] for one in listed for change in one["changes"]
        }
        self._met: set[tuple[str, str, str]] = set()

    def explained(self, mutant: Mutant) -> bool:
        key = (mutant.file, mutant.line, mutant.change)
        self._met.add(key)
        return key in self._why

    def never_met(self) -> list[str]:
        return [": ".join(key) for key in self._why if key not in self._met]


def all_mutants(kind: str) -> list[Mutant]:
    """Every mutant there is: ``"c"`` or ``"python"``."""
    if kind == "c":
        files = sorted(path for path in CSRC.glob("pf_*.[ch]") if path.name not in NOT_THE_CORE)
        mutants_of = c_source.mutants_of
    else:
        files = [ROOT / name for name in PYTHON_TESTS]
        mutants_of = python_source.mutants_of
    names = [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in files]
    return [mutant for name, text in names for mutant in mutants_of(name, text)]


@dataclass
class Tally:
    """What became of them, and the survivors that nothing explains."""

    fates: Counter[Fate] = field(default_factory=Counter)
    explained: int = 0
    unexplained: list[Mutant] = field(default_factory=list)

    @property
    def times(self) -> str:
        killed, late = self.fates[Fate.KILLED], self.fates[Fate.LATE]
        return (
            f"{killed + late:,} mutants killed{f' ({late} by time)' if late else ''}, "
            f"{self.fates[Fate.SAME]} that the compiler makes the same code of, {self.explained} explained"
        )


def _entry(mutant: Mutant) -> dict[str, str | int]:
    return {"file": mutant.file, "start": mutant.start, "line": mutant.line, "change": mutant.change}


def settled(mutants: Sequence[Mutant]) -> dict[Mutant, Fate]:
    """What an interrupted run found out, but for survivors: other tests may see those."""
    found = {}
    for line in FATES.read_text(encoding="utf-8").splitlines() if FATES.exists() else ():
        entry = json.loads(line)
        found[tuple(entry[name] for name in ("file", "start", "line", "change"))] = Fate[entry["fate"]]
    fates = {mutant: found.get(tuple(_entry(mutant).values()), Fate.SURVIVED) for mutant in mutants}
    return {mutant: fate for mutant, fate in fates.items() if fate is not Fate.SURVIVED}


def try_all(mutants: Sequence[Mutant], benches: Sequence[Try], until: float, survivors: Survivors) -> Tally:
    """One after the other on each bench, as long as ``time.monotonic()`` is below ``until``."""
    tally, lock, left = Tally(), threading.Lock(), iter(mutants)
    FATES.parent.mkdir(parents=True, exist_ok=True)

    def work(try_mutant: Try) -> None:
        while time.monotonic() < until:
            with lock:
                mutant = next(left, None)
            if mutant is None:
                return
            fate, by = try_mutant(mutant)
            with lock, FATES.open("a", encoding="utf-8") as log:
                tally.fates[fate] += 1
                if fate is Fate.SURVIVED:
                    known = survivors.explained(mutant)
                    tally.explained += known
                    if not known:
                        tally.unexplained.append(mutant)
                        print(f"survived: {mutant.file}: {mutant.line}: {mutant.change}", flush=True)
                log.write(json.dumps(_entry(mutant) | {"fate": fate.name, "by": by}) + "\n")

    with ThreadPoolExecutor(len(benches)) as pool:
        list(pool.map(work, benches))
    return tally


def c_benches(home: Path, jobs: int, _files: Sequence[str]) -> list[Try]:
    first = CBench.built(home / "c0")
    programs = Programs(home, first.core)
    benches = [first, *(first.copied(home / f"c{number}") for number in range(1, jobs))]
    return [partial(bench.try_mutant, programs=programs) for bench in benches]


def python_benches(home: Path, jobs: int, files: Sequence[str]) -> list[Try]:
    tests = KnownTests()
    benches = [PythonBench(home / f"python{number}", tests) for number in range(jobs)]

    def look(number: int) -> None:
        for file in files[number::jobs]:
            tests.of(file, benches[number])

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(look, range(jobs)))
    return [bench.try_mutant for bench in benches]


KINDS = {
    "c": (c_benches, "Mutants of the C core, tried with the C tests and then with Python's"),
    "python": (python_benches, "Mutants of keys, signer, session and sdk"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants.run", description="Faults, and who sees them.")
    parser.add_argument("--seconds", type=float, default=300.0, help="for each kind (%(default)s)")
    parser.add_argument("--all", action="store_true", help="every mutant, however long it takes")
    parser.add_argument("--explained", action="store_true", help="those, too, that may survive")
    parser.add_argument("--resume", action="store_true", help="go on: what was killed before stays so")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default: another each day)")
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--file", nargs="+", default=[], metavar="NAME", help="as pf_frame.c or keys.py")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (%(default)s)")
    args = parser.parse_args(arguments)
    order = random.Random(args.seed or int(time.time() // 86_400))
    survivors, clean = Survivors(), True
    if not args.resume:
        FATES.unlink(missing_ok=True)
    for kind in args.only:
        benches_of, tried = KINDS[kind]
        if kind == "c" and compiler() is None:
            evidence(tried, "", f"{NOT_RUN}: needs a C compiler")
            continue
        mutants = [one for one in all_mutants(kind) if not args.file or Path(one.file).name in args.file]
        before = settled(mutants) if args.resume else {}
        left_out = set() if args.explained else {one for one in mutants if survivors.explained(one)}
        mutants = [one for one in mutants if one not in before and one not in left_out]
        order.shuffle(mutants)
        with tempfile.TemporaryDirectory() as home:
            benches = benches_of(Path(home), args.jobs, sorted({one.file for one in mutants}))
            until = float("inf") if args.all else time.monotonic() + args.seconds
            tally = try_all(mutants, benches, until, survivors)
        tally.fates.update(before.values())
        times = tally.times + (f", {len(left_out)} more not tried" if left_out else "")
        wrong = f"{len(tally.unexplained)} survive" if tally.unexplained else NOTHING
        evidence(tried, times, wrong if tally.fates[Fate.KILLED] else "none was killed")
        clean = clean and wrong == NOTHING and tally.fates[Fate.KILLED] > 0
    if args.all and args.explained and not args.file and len(args.only) == len(KINDS):
        for stale in survivors.never_met():
            print(f"explained, and does not survive: {stale}")
            clean = False
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
